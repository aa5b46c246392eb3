"""`tailsight whatif`: what it says, how it looks, and what it refuses."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from analysis import brute_force
from analysis.brute_force import Span
from rich.console import Console

from tailsight_analysis import Filters, Outcome, Scenario, Shift, WhatIf, Window
from tailsight_cli import main
from tailsight_cli.render.whatif import render_whatif, verdict
from tailsight_storage import open_store

H100 = "NVIDIA H100 80GB HBM3"
WINDOW = Window(1_795_305_600_000_000_000, 1_795_309_200_000_000_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[str]:
    """A store with 1,200 requests that queue for 1 to 2.2 ms and compute for 5 ms, or 2 on every other, an H100."""
    folder = f"chdb://{tmp_path_factory.mktemp('whatif')}"
    with open_store(folder, create=True) as store:
        spans = []
        for n in range(1, 1201):
            # in no order of time: a trend would be one long burst, of which bounds know little
            wait, work = 1_001 + (613 * n - 1) % 1200, 2_000 if n % 2 else 5_000
            spans += [
                Span(n, 1, 0, n, wait + work + 1_000),
                Span(n, 2, 1, n, wait, stage="queue"),
                Span(n, 3, 1, n + wait, work, stage="compute", hardware=H100 if n % 2 else "NVIDIA L4"),
            ]
        brute_force.insert(store, spans)
        yield folder


@pytest.fixture
def tailsight(capsys, monkeypatch, data):
    """Run `whatif` over the whole store in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(["whatif", "--all-time", "--store", data, *arguments])
        return code, *capsys.readouterr()

    return call


def test_the_ranking_begins_with_what_brings_most(tailsight):
    code, out, err = tailsight()
    assert (code, err) == (0, "Replaying the requests\n")
    assert "if compute were 20 % faster, it would fall to 7.18 ms" in out
    lines = out.splitlines()
    assert lines.index(next(line for line in lines if line.startswith("compute 20 % faster"))) < lines.index(
        next(line for line in lines if line.startswith("queue at its p50"))
    )
    assert "as recorded" in out
    assert "`tailsight queue`" in out
    assert all(len(line) <= 80 for line in lines)


def test_one_change_in_json(tailsight):
    code, out, _ = tailsight("--stage", "compute", "--on", H100, "--quantile", "p90", "--json")
    assert code == 0
    answer = json.loads(out)
    (outcome,) = answer["outcomes"]
    assert (outcome["stages"], outcome["on"], outcome["times"], outcome["at"]) == (["compute"], H100, None, None)
    assert outcome["tail"]["recorded_ms"] == answer["quantile_ms"] == pytest.approx(7.96, abs=0.01)
    assert outcome["tail"]["replayed_ms"] == pytest.approx(5.08, abs=0.01)
    assert outcome["tail"]["bounds_ms"][0] < outcome["tail"]["replayed_ms"] < outcome["tail"]["bounds_ms"][1]
    assert answer["filters"] == {}


def test_several_stages_are_changed_alone_and_together(tailsight):
    _, out, _ = tailsight("--stage", "queue", "--stage", "compute", "--faster", "50%", "--json")
    deltas = {outcome["label"]: outcome["tail"]["delta_ms"] for outcome in json.loads(out)["outcomes"]}
    assert list(deltas) == ["queue + compute 50 % faster", "compute 50 % faster", "queue 50 % faster"]
    assert deltas["queue + compute 50 % faster"] == pytest.approx(-3.58, abs=0.02)


def test_a_stage_without_a_change_limits_the_ranking(tailsight):
    _, out, _ = tailsight("--stage", "queue", "--json")
    assert [outcome["stages"] for outcome in json.loads(out)["outcomes"]] == [["queue"], ["queue"]]


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--faster", "20%", {"times": 0.8}),
        ("--faster", "20 %", {"times": 0.8}),
        ("--slower", "150", {"times": 2.5}),
        ("--at", "p50", {"at": 0.5}),
        ("--at", "0.9", {"at": 0.9}),
        ("--at", "p99.9", {"at": 0.999}),
        ("--at", "p1", {"at": 0.01}),
    ],
)
def test_changes_are_read_as_people_write_them(tailsight, option, text, expected):
    _, out, _ = tailsight("--stage", "queue", option, text, "--json")
    (outcome,) = json.loads(out)["outcomes"]
    assert {name: outcome[name] for name in ("times", "at") if outcome[name] is not None} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--faster", "20%"], 2, "--stage NAME"),
        (["--stage", "queue", "--faster", "20%", "--at", "p50"], 2, "choose one"),
        (["--stage", "queue", "--faster", "0"], 2, "'0' is no share of time"),
        (["--stage", "queue", "--faster", "fast"], 2, "'fast' is no share"),
        (["--stage", "queue", "--faster", "120%"], 2, "at most 100 %"),
        (["--stage", "queue", "--at", "p200"], 2, "'p200' is no quantile"),
        (["--quantile", "p50"], 2, "'p50' is no tail"),
        (["--stage", "queu", "--faster", "20%"], 3, "there are: compute, queue"),
        (["--stage", "compute", "--on", "B200"], 3, "it ran on: NVIDIA H100 80GB HBM3, NVIDIA L4"),
        (["--stage", "compute", "--on", ""], 3, "no compute ran on ''"),
        (["--quantile", "p99.99"], 3, "8,800 more are needed"),
        (["--service", "none"], 3, "service=none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line_and_an_exit_code(tailsight, arguments, code, says):
    given, out, err = tailsight(*arguments)
    assert (given, out) == (code, "")
    line = err.splitlines()[-1]
    assert line.startswith("tailsight: ")
    assert says in line
    assert err.removeprefix("Replaying the requests\n").count("\n") == 1


def an_outcome(scenario: Scenario, delta_ms: float, *, sure: bool = True, bounded: bool = True) -> Outcome:
    apart = 1.5 if sure else 3 * abs(delta_ms) + 1
    bounds = (41.2 + delta_ms - 1.5, 41.2 + delta_ms + 1.5) if bounded else None
    tail = Shift(41.2, 41.2 + delta_ms, bounds, delta_ms, (delta_ms - apart, delta_ms + apart) if bounded else None)
    return Outcome(scenario, Shift(9.1, 8.8, (8.7, 8.9), -0.3, (-0.35, -0.25)), tail)


def an_answer(*outcomes: Outcome) -> WhatIf:
    return WhatIf(WINDOW, Filters(model=("m",)), 0.99, 9.1, 41.2, 10_000, 10_000, outcomes)


def text_of(renderable: object, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(renderable)
    return output.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_answers_fit_any_width_without_cutting_figures(width):
    outcomes = (
        an_outcome(Scenario(("queue", "compute"), on=H100), -11.84),
        replace(an_outcome(Scenario(("compute",), on=H100), -8.0), matched_share=0.93),
        an_outcome(Scenario(("postprocess",), times=0.8), -0.02, sure=False),
        an_outcome(Scenario(("a stage\x1b[31m of somebody else",), times=1.2), 12.5),
    )
    text = text_of(render_whatif(an_answer(*outcomes)), width)
    assert "…" not in text
    assert "\x1b[31m" not in text
    assert all(len(line) <= width for line in text.splitlines())
    assert "−11.84  −13.34 – −10.34" in text
    assert "+12.50" in text
    assert "93 % of the work has comparable cases there" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (an_outcome(Scenario(("queue",), at=0.5), -11.8), "never took longer than its p50, it would fall to 29.4 ms [27.9"),
        (an_outcome(Scenario(("queue", "a"), at=0.9), -11.8), "if queue and a never took longer than their p90, it"),
        (an_outcome(Scenario(("queue",), on=H100), -11.8), f"if queue ran on {H100}, it would fall to"),
        (an_outcome(Scenario(("queue",), times=1.2), 10), "if queue were 20 % slower, it would rise to 51.2 ms"),
        (an_outcome(Scenario(("queue",), times=0.8), -1, sure=False), "no change here moves it by more than chance."),
        (an_outcome(Scenario(("queue",), times=0.8), -1, bounded=False), "to 40.2 ms, but nobody can say how sure that is."),
    ],
    ids=["at", "several", "on", "slower", "chance", "no bounds"],
)  # fmt: skip
def test_the_verdict_is_a_sentence(outcome, says):
    assert verdict(an_answer(outcome)).startswith("p99 is 41.2 ms")
    assert says in verdict(an_answer(outcome))


def test_what_is_missing_and_what_is_estimated_is_said():
    answer = replace(an_answer(an_outcome(Scenario(("queue",), times=0.8), -1, bounded=False)), missing=700)
    text = text_of(render_whatif(answer), 120)
    assert "Not enough data for bounds: 700 requests more are needed." in text
    assert "–" in text
    answer = replace(answer, missing=0, stored=5_000, sampled=4_000)
    text = text_of(render_whatif(answer), 120)
    assert "4,000 of 10,000 requests replayed" in text
    assert "5,000 requests are stored" in text
    assert "too few cases ran on that hardware: for p99 it takes 1,000 of them." in " ".join(text.split())
    assert verdict(answer).endswith(", but nobody can say how sure that is.")
