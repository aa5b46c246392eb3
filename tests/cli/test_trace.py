"""`tailsight trace`: the waterfall, what it says of broken traces, and how it ends."""

import json
import re
import time
from collections.abc import Iterator

import pytest
from analysis import brute_force
from analysis.brute_force import Span
from rich.console import Console

from tailsight_analysis import TraceInterval, trace
from tailsight_cli import main
from tailsight_cli.render.trace import Scale, render_trace
from tailsight_storage import open_store

PLAIN, BROKEN, LONG, FAR, WEIRD, MANY = (int(digit * 32, 16) for digit in "abcdef")
BESIDE_EACH_OTHER = 300


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Iterator[str]:
    folder = f"chdb://{tmp_path_factory.mktemp('traces')}"
    with open_store(folder, create=True) as store:
        brute_force.insert(store, [
            Span(PLAIN, 1, 0, 0, 40_000), Span(PLAIN, 2, 1, 1_000, 20_000, stage="queue"),
            Span(PLAIN, 3, 1, 20_500, 15_000, stage="compute", service="back", error=True),
            Span(PLAIN, 4, 1, 2_000, 3_000, stage="serialize"),

            Span(BROKEN, 1, 0, 0, 1_000), Span(BROKEN, 2, 1, 50_000, 400, stage="compute", host="h2", service="back"),
            Span(BROKEN, 3, 77, 100, 10), Span(BROKEN, 4, 5, 300, 20), Span(BROKEN, 5, 4, 305, 10),
            *[Span(BROKEN, 6, 1, 700, 100, stage="queue")] * 2,

            Span(LONG, 1, 0, 0, BESIDE_EACH_OTHER * 100),
            *[Span(LONG, n, 1, n * 100 - 200, 50 + n % 11, stage="compute") for n in range(2, BESIDE_EACH_OTHER + 2)],

            Span(FAR, 1, 0, 0, 1_000), Span(FAR, 2, 99, 60_000_000, 5), Span(FAR, 3, 98, -60_000_000, 5),

            Span(WEIRD, 1, 0, 0, 100, service="日本語のサービス" * 4, stage="\x1b[31mred\x07" + "x" * 300),

            *[Span(MANY, n, 0, n * 100, n * 10, stage="compute") for n in range(1, 31)],
        ])  # fmt: skip
    return folder


@pytest.fixture
def tailsight(capsys, monkeypatch):
    """Run the command in this process; gives exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        return code, *capsys.readouterr()

    return call


def test_the_waterfall_shows_path_gaps_and_what_ran_beside(tailsight, data):
    code, out, err = tailsight("trace", "aaaa", "--store", data)
    assert (code, err) == (0, "")
    assert re.match(rf"Trace {'a' * 32}  \d{{4}}-\d\d-\d\dT.*Z\n4 spans, 2 services\n", out)
    waterfall = out[: out.index("on the critical path")]
    lines = {line.split("  ")[0].strip(): line for line in waterfall.splitlines()}
    assert re.search(r"▒ +▒+ +5\.50 *$", lines["unaccounted"])
    assert re.search(r"▒─+▒+ +40\.0 +5\.50$", lines["front: work"])
    assert re.search(r" █+ +20\.0 +20\.0$", lines["work [queue]"])
    assert re.search(r" █+ +15\.0 +15\.0$", lines["back: work [compute] !"])
    assert re.search(r" ─+ +3\.00 +3\.00$", lines["work [serialize]"])
    assert re.search(r"queue +19\.5 +49 %\n", out)
    assert re.search(r"compute +15\.0 +38 %\n", out)
    assert re.search(r"unaccounted +5\.50 +14 %\n", out)
    assert re.search(r"request +40\.0 +100 %", out)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("digit", list("abcdef"))
def test_no_line_is_wider_than_the_terminal(data, digit, width):
    with open_store(data) as store:
        answer = trace(store, digit * 32, limit=60)
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.capture() as captured:
        console.print(render_trace(answer))
    console.file.close()
    assert max(Console().measure(line).maximum for line in captured.get().splitlines()) <= width


def test_what_is_broken_is_marked_and_told(tailsight, data):
    code, out, _ = tailsight("trace", "b" * 32, "--store", data)
    assert code == 0
    text = " ".join(out.split())
    for told in (
        "1 span (marked ?) names a parent that is not in the trace.",
        "1 span (marked @) names a parent that is among its own descendants: cut there.",
        "1 span (marked =) has the id of another span; time counts once.",
        "3 spans belong to no request.",
        "1 span of h2 by −49.4 ms. Stored times are unchanged.",
    ):
        assert told in text
    for marked in ("\n?front: work ", "\n@front: work ", "\n  =work [queue] "):
        assert marked in out


def test_a_long_trace_is_folded_to_the_spans_that_matter(tailsight, data):
    _, out, _ = tailsight("trace", "cccc", "--store", data)
    assert f"+{BESIDE_EACH_OTHER - 59}" in out
    assert f"{BESIDE_EACH_OTHER - 59} of {BESIDE_EACH_OTHER + 1} spans are left out" in out
    assert sum("work [compute]" in line for line in out.splitlines()) == 59
    _, out, _ = tailsight("trace", "cccc", "--limit", "5", "--store", data)
    assert sum("work [compute]" in line for line in out.splitlines()) == 4
    _, out, _ = tailsight("trace", "cccc", "--all", "--store", data)
    assert sum("work [compute]" in line for line in out.splitlines()) == BESIDE_EACH_OTHER
    assert "left out" not in out


def test_json_has_all_spans_unless_a_limit_is_given(tailsight, data):
    code, out, _ = tailsight("trace", "cccc", "--json", "--store", data)
    whole = json.loads(out)
    assert code == 0
    assert len(whole["spans"]) == BESIDE_EACH_OTHER + 1
    _, out, _ = tailsight("trace", "cccc", "--json", "--limit", "7", "--store", data)
    some = json.loads(out)
    assert (len(some["spans"]), some["left_out"]) == (7, BESIDE_EACH_OTHER - 6)
    assert (some["requests"], some["critical_path"]) == (whole["requests"], whole["critical_path"])


def test_the_keys_of_json(tailsight, data):
    _, out, _ = tailsight("trace", "aaaa", "--json", "--store", data)
    answer = json.loads(out)
    assert list(answer) == [
        "trace_id", "start", "start_ns", "begin_ms", "end_ms", "span_count", "left_out", "requests", "critical_path",
        "unaccounted", "spans", "without_root", "outside", "orphans", "cycles", "repeated", "moved",
    ]  # fmt: skip
    assert answer["critical_path"] == [
        {"span_id": f"{number:016x}", "start_ms": start, "end_ms": end}
        for number, start, end in ((1, 0.0, 1.0), (2, 1.0, 20.5), (3, 20.5, 35.5), (1, 35.5, 40.0))
    ]
    assert answer["unaccounted"] == [{"start_ms": 0.0, "end_ms": 1.0}, {"start_ms": 35.5, "end_ms": 40.0}]
    for name in ("span_id", "self_ms", "stage", "service", "hardware", "host", "name", "kind", "status", "start_ms",
                 "duration_ms", "attributes", "events"):  # fmt: skip
        assert all(name in span for span in answer["spans"])


def test_a_span_far_away_does_not_shrink_all_others(tailsight, data):
    _, out, _ = tailsight("trace", "dddd", "--store", data)
    lines = out.splitlines()
    [request] = [line for line in lines if line.startswith("front: work")]
    assert request.count("▒") > 30
    assert [mark for line in lines if line.startswith("?") for mark in "‹›" if mark in line] == ["‹", "›"]


def test_names_of_foreign_origin_cannot_drive_the_terminal(tailsight, data):
    _, out, _ = tailsight("trace", "eeee", "--store", data)
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "日本語" in out


def test_of_many_requests_the_longest_are_accounted_for(tailsight, data):
    _, out, _ = tailsight("trace", "ffff", "--store", data)
    assert "30 spans, 30 requests" in out
    assert re.findall(r"request 0+(\w+) ", out) == ["1a", "1b", "1c", "1d", "1e"]
    assert "The longest 5 of 30 requests; --json has the 25 others." in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "ID"),
        (["xyz!"], 2, "'xyz!' is no trace id"),
        (["ab"], 2, "'ab' has 2 digits"),
        (["a" * 33], 2, "33 digits"),
        (["aaaa", "--limit", "0"], 2, "--limit"),
        (["aaaa", "--limit", "3", "--all"], 2, "--all leaves no choice of --limit"),
        (["1234"], 3, "no trace id begins with 1234"),
        (["1" * 32], 3, f"no trace {'1' * 32}"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(tailsight, data, arguments, code, says):
    given, out, err = tailsight("trace", *arguments, "--store", data)
    assert (given, out) == (code, "")
    assert err.startswith("tailsight: ")
    assert err.count("\n") == 1
    assert says in err


def test_a_store_that_is_not_there_is_unreadable(tailsight):
    assert tailsight("trace", "aaaa", "--store", "chdb:///no/such/folder")[0] == 4


@pytest.mark.parametrize(
    ("whole", "path", "drawn"),
    [
        ((0, 10), [(0, 10)], "██████████"),
        ((0, 10), [], "──────────"),
        ((0, 10), [(0, 3), (7, 10)], "███────███"),
        ((0, 10), [(0, 0.4), (5, 5.6)], "─────█────"),  # less than half of the first cell, more than half of another
        ((0, 10), [(2.1, 2.3), (4.1, 4.2)], "──█───────"),  # too short everywhere: where it is longest
        ((4.2, 4.3), [(4.2, 4.3)], "    █     "),
        ((4.2, 4.2), [], "    ─     "),
        ((10, 10), [], "         ─"),
        ((-5, 3), [(-5, 3)], "███       "),
        ((-5, -3), [], "‹         "),
        ((12, 13), [(12, 13)], "         ›"),
    ],
)
def test_bars_are_drawn_cell_by_cell(whole, path, drawn):
    scale = Scale(0.0, 10.0, 10)
    assert scale.cells([TraceInterval(*whole)], [TraceInterval(*piece) for piece in path], "█") == drawn


def test_a_trace_of_thousands_of_spans_is_answered_in_seconds(tailsight, tmp_path):
    folder = f"chdb://{tmp_path}/store"
    with open_store(folder, create=True) as store:
        brute_force.insert(store, [
            Span(PLAIN, 1, 0, 0, 10**6),
            *[Span(PLAIN, n, n // 3, n, 10, stage="compute", host=f"h{n % 3}") for n in range(2, 10_000)],
        ])  # fmt: skip
    started = time.process_time()
    code, out, _ = tailsight("trace", "aaaa", "--store", folder)
    assert (code, len(out.splitlines()) < 100) == (0, True)
    assert time.process_time() - started < 10
