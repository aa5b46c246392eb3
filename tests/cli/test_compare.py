"""`tailsight compare`: what a side is, what is refused, and how the answer looks."""

import io
import json
import re

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span
from rich.console import Console

from tailsight_analysis import Filters, Window
from tailsight_analysis.compare import Comparison, Requests, Side, SideCount, compare_requests
from tailsight_analysis.comparison.asked import Asked
from tailsight_analysis.comparison.calls import Place
from tailsight_cli import main
from tailsight_cli.render.compare import render_comparison
from tailsight_storage import open_store


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    """Two runs of 250 requests an hour apart; in the second the compute of `ranker` takes half as long again."""
    folder = f"chdb://{tmp_path_factory.mktemp('compare')}"
    random = np.random.default_rng(1)
    with open_store(folder, create=True) as store:
        spans = []
        for n in range(1, 501):
            run, version = ("a", "1") if n <= 250 else ("b, c", "2")
            at = n * 1000 + (0 if n <= 250 else 1_800_000_000)
            wait, work = (int(1000 * each) for each in random.lognormal(0, 0.3, 2))
            work = int(5 * work * (1 if n <= 250 else 1.5))
            spans += [
                Span(n, 1, 0, at, wait + work + 100, run=run, version=version),
                Span(n, 2, 1, at, wait, stage="queue", run=run, version=version),
                Span(n, 3, 1, at + wait, work, stage="compute", service="ranker", host="h1", run=run, version=version),
            ]
        brute_force.insert(store, spans)
    return folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(("compare", *arguments))
        return code, *capsys.readouterr()

    return call


def test_it_names_the_cause_and_fits_a_narrow_terminal(tailsight, data):
    code, out, _ = tailsight("--store", data, "--baseline", "run=a", "--candidate", "run=b, c")
    assert code == 0
    assert "Slower first of all: ranker work (compute)" in " ".join(out.split())
    for text in ("run=a", "run=b, c", "workload mix", "hardware mix", "slowdown", "p50", "p99", "95 %"):
        assert text in out
    assert all(len(line) <= 80 for line in out.splitlines())


def test_json_has_the_documented_keys(tailsight, data):
    code, out, err = tailsight("--store", data, "--baseline", "run=a", "--candidate", "run=b, c", "--json")
    answer = json.loads(out)
    assert code == 0
    assert err.splitlines() == [
        "Reading the baseline's requests …",
        "Reading the candidate's requests …",
        "Reading what was asked …",
        "Comparing …",
    ]
    (cause,) = answer["causes"]
    assert (cause["service"], cause["stage"], cause["hardware"]) == ("ranker", "compute", "L4")
    assert cause["share"] > 0.9
    assert answer["baseline"]["filters"] == {"run": ["a"]}
    for name in ("mean", "p50", "p99"):
        parts = answer["mix"][name]
        total = parts["workload_ms"] + parts["hardware_ms"] + parts["slowdown_ms"]
        assert total == pytest.approx(answer["request"][name]["delta_ms"])


def test_too_few_requests_are_answered_with_options_that_it_has(tailsight, data):
    since, until = brute_force.BASE_NS // 10**9 - 60, brute_force.BASE_NS / 1e9 + 0.05
    few = f"since={np.datetime64(since, 's')}Z,until={np.datetime64(int(until * 1000), 'ms')}Z"
    code, _, err = tailsight("--store", data, "--baseline", few, "--candidate", "run=b, c")
    assert code == 3
    assert "baseline:" in err
    assert "more are needed; widen that side's window with since=" in err
    assert "quantile" not in err


def test_what_may_be_chance_is_in_a_table_of_its_own_and_said_as_not_proven():
    random = np.random.default_rng(1)
    sides = []
    for late in (0.0, 60.0):
        times = np.exp(random.normal(0, 0.3, (600, 3)))
        times[500:, 1] += late
        contribution = np.round(times * 1e6)
        sides.append(
            Requests(
                np.arange(600) * 10**7, contribution.sum(axis=1).astype(np.int64), np.ones(600), contribution,
                np.ones((600, 3)), Asked({}, {}),
            )
        )  # fmt: skip
    places = [Place("api", "handle", "", ""), Place("vision", "queue", "queue", ""), Place("db", "get", "", "")]
    findings = compare_requests(*sides, places)
    side = Side(Window(0, 10**10), Filters(run=("a",)))
    count = SideCount(600, 600, None)
    screen = Console(width=80, record=True, file=io.StringIO())
    screen.print(render_comparison(Comparison(side, side, count, count, findings)))
    text = " ".join(screen.export_text().split())
    assert re.search(
        r"Nothing is proven\. Requests took [\d.]+ ms longer for the same work; \d+ % of that is vision queue, in few "
        r"stretches of time: could be chance \(p = 0\.\d+\)\.",
        text,
    )
    assert "not proven: could be chance" in text
    assert "slower baseline" not in text


def test_a_side_may_be_any_filters_and_may_come_in_parts(tailsight, data):
    sides = ("--baseline", "version=1", "--baseline", "hardware=L4", "--candidate", "version=2,host=h1")
    code, out, _ = tailsight("--store", data, *sides, "--all-time", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["baseline"]["filters"] == {"hardware": ["L4"], "version": ["1"]}
    assert answer["candidate"]["filters"] == {"version": ["2"], "host": ["h1"]}
    assert answer["baseline"]["window"] == answer["candidate"]["window"]
    assert (answer["baseline"]["requests"], answer["candidate"]["requests"]) == (250, 250)


def test_windows_of_their_own_tell_sides_apart(tailsight, data):
    since, until = (brute_force.BASE_NS // 10**9 + seconds for seconds in (1, 1700))
    since, until = (f"{np.datetime64(each, 's')}Z" for each in (since - 60, until))
    sides = ("--baseline", f"since={since},until={until}", "--candidate", f"since={until},until=now")
    code, out, _ = tailsight("--store", data, *sides, "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["baseline"]["requests"], answer["candidate"]["requests"]) == (250, 250)
    assert answer["causes"][0]["service"] == "ranker"


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        (("run=a", "color=red"), r"'color=red' is no KEY=VALUE of a side: keys are service, .*until, like run=nightly"),
        (("run=a", "nightly"), "'nightly' is no KEY=VALUE"),
        (("run=", "run=a"), "run= has no value"),
        (("run=a", "run=a"), "are the same requests: name two runs, versions or windows"),
        (("run=a", "since=1h,since=2h"), "since is given twice for --candidate"),
        (("run=a", "since=yesterdayish"), "Invalid value for '--candidate': since='yesterdayish' is no time"),
        (("since=1h,until=2h", "run=a"), "'--baseline': the window is empty: since=1h is not before until=2h"),
    ],
    ids=["key", "no key", "no value", "same", "twice", "time", "empty window"],
)
def test_wrong_use_is_said_in_one_line(tailsight, data, sides, message):
    code, out, err = tailsight("--store", data, "--baseline", sides[0], "--candidate", sides[1])
    assert (code, out) == (2, "")
    assert re.search(message, err)
    assert len(err.strip().splitlines()) == 1


def test_a_run_that_is_not_there_is_named_with_those_that_are(tailsight, data):
    code, _, err = tailsight("--store", data, "--baseline", "run=a", "--candidate", "run=z")
    assert code == 3
    assert "no spans of run z" in err
    assert "there are: a, b, c" in err
    code, _, err = tailsight("--store", data, "--baseline", "run=a,hardware=T4", "--candidate", "run=b, c")
    assert code == 3
    assert "baseline: no requests" in err
    assert "no span has hardware=T4; there are: L4" in err
