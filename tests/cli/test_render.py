"""How numbers, bars and verdicts look."""

import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tailsight_analysis import (
    Breakdown,
    BreakdownRow,
    Cause,
    Condition,
    DataQuality,
    Examples,
    Excess,
    Filters,
    Interval,
    LatencySummary,
    OverRepresented,
    Place,
    ResponseTimes,
    StageExcess,
    StoredRequests,
    Tail,
    Window,
)
from tailsight_cli.render.breakdown import render_breakdown
from tailsight_cli.render.tail import render_tail, verdict
from tailsight_cli.render.text import bar, percent, percent_range, significant

WINDOW = Window(1_795_305_600_000_000_000, 1_795_309_200_000_000_000)


def latency(**changes) -> dict[str, float]:
    names = ("p50_ms", "p90_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms", "jitter_ms")
    return {"count": 1_234_567, **dict.fromkeys(names, 1234.5), "error_rate": 0.0123} | changes


def a_breakdown(*names: str, **changes) -> Breakdown:
    row = BreakdownRow(
        group={name: f"a long value of {name}" for name in names}, self_share=0.4, path_share=0.5, **latency(**changes)
    )
    return Breakdown(WINDOW, Filters(), names, LatencySummary(**latency(**changes)), (row, row), 1_234_567)


def a_tail(*stages: tuple[str, float], unaccounted: float = 0.0, attributes=()) -> Tail:
    return Tail(
        window=WINDOW, filters=Filters(model=("m",)), quantile=0.99, threshold_ms=41.23,
        requests=10_000, tail_requests=100, typical_requests=2_000, total=Excess(45.0, 17.0, 28.0, 1.0),
        stages=tuple(StageExcess(28 * share, 0.0, 28 * share, share, stage=name) for name, share in stages),
        unaccounted=Excess(28 * unaccounted, 0.0, 28 * unaccounted, unaccounted), attributes=tuple(attributes),
        attributes_tested=7, tail_sampled=100, typical_sampled=2_000,
    )  # fmt: skip


def a_sampled_breakdown(*names: str) -> Breakdown:
    """Of requests that stand for several, with response times."""
    row = BreakdownRow(
        group={name: f"a long value of {name}" for name in names},
        self_share=0.4,
        path_share=0.5,
        **latency(stored=98_765),
    )
    whole = LatencySummary(**latency(stored=98_765, beyond_p999=3.2))
    times = ResponseTimes(LatencySummary(**latency(p99_ms=4321.0)), LatencySummary(**latency()), ignored=7)
    return Breakdown(WINDOW, Filters(), names, whole, (row, row), 20_000, weighted=True, response=times)


def text_of(renderable: object, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(renderable)
    return output.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("names", [("stage",), ("stage", "hardware"), ("stage", "hardware", "service")])
def test_a_breakdown_fits_any_width_without_cutting_figures(width, names):
    text = text_of(render_breakdown(a_breakdown(*names)), width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    assert text.count("1,234,567") == 3


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("names", [("stage",), ("stage", "hardware", "service")])
def test_a_sampled_breakdown_fits_too_and_says_what_it_rests_on(width, names):
    text = text_of(render_breakdown(a_sampled_breakdown(*names)), width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    assert "98,765 requests that were kept stand for 1,234,567" in words
    assert "“share” comes from 20,000 of 98,765 requests" in words
    assert "Left out: 7 requests whose intended start" in words


def test_a_breakdown_shows_what_is_stored_and_the_response_time():
    lines = text_of(render_breakdown(a_sampled_breakdown("stage")), 140).splitlines()
    assert lines[2].split()[:3] == ["stage", "count", "stored"]
    assert next(line for line in lines if line.startswith("requests")).split()[1:3] == ["1,234,567", "98,765"]
    assert next(line for line in lines if line.startswith("response")).split()[-4:] == [
        "1,234",
        "1,234",
        "4,321",
        "1,234",
    ]
    assert next(line for line in lines if line.startswith("service")).split()[-4:] == ["1,234"] * 4


def test_without_weights_or_intended_starts_nothing_is_said_of_them():
    text = text_of(render_breakdown(a_breakdown("stage")), 140)
    assert not any(word in text for word in ("stored", "Estimates", "intended", "response", "~"))


def test_a_p999_with_too_few_beyond_it_is_marked():
    answer = a_breakdown("stage")
    few = replace(answer, requests=replace(answer.requests, count=9_999))
    text = text_of(render_breakdown(few), 140)
    assert text.count("~") == 2
    assert "~ fewer than 10 lie beyond this p99.9" in text
    assert "~" not in text_of(render_breakdown(replace(answer, requests=replace(answer.requests, count=10_000))), 140)


def test_a_wide_breakdown_has_all_columns():
    heading = text_of(render_breakdown(a_breakdown("stage")), 140).splitlines()[2]
    assert heading.split() == [
        "stage",
        "count",
        "p50",
        "p90",
        "p95",
        "p99",
        "p99.9",
        "max",
        "jitter",
        "errors",
        "share",
    ]


def test_values_that_look_like_markup_stay_as_they_are():
    pair = OverRepresented("prompt[bold]", "[red]x[/red]", 0.5, 0.0, 1000.0, 1e-9)
    text = text_of(render_tail(a_tail(("[queue]", 1.0), attributes=[pair])), 100)
    assert "prompt[bold] = [red]x[/red]" in text
    assert "[queue]" in text
    assert "≥ 1,000×" in text


def test_values_cannot_drive_the_terminal_nor_flood_it():
    pairs = [OverRepresented("k", value, 0.5, 0.1, 5.0, 0.01) for value in ("\x1b[2J\r", "x" * 10_000)]
    text = text_of(render_tail(a_tail(("queue", 1.0), attributes=pairs)), 100)
    assert "k = �[2J�" in text
    assert len(text) < 3000


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (a_tail(("queue", 0.61), ("compute", 0.3)), "61 % of the tail's extra 28.0 ms is queue, 30 % is compute."),
        (a_tail(("queue", 0.97), ("compute", 0.03)), "97 % of the tail's extra 28.0 ms is queue."),
        (a_tail(("a", 0.1), unaccounted=0.9), "90 % of the tail's extra 28.0 ms is time that no stage accounts for."),
        (a_tail(("queue", -0.2)), "no stage explains the tail's extra 28.0 ms."),
    ],
)
def test_the_verdict_says_what_the_excess_is(result, says):
    assert verdict(result) == f"p99 is 41.2 ms; {says}"


def a_cause(*conditions: Condition, share: float = 0.61, without_ms: float | None = 29.04) -> Cause:
    return Cause(
        stage="queue", service="ranker", conditions=conditions, tail_share=0.8, typical_share=0.1, lift=8.0,
        excess_ms=28 * share, excess_share=share, excess_share_interval=(share - 0.09, share + 0.09),
        p_value=1e-6 if conditions else None, without_ms=without_ms if conditions else None, examples=("ab" * 16,),
    )  # fmt: skip


QUEUE = Place("ranker", "queue")
BATCH = Condition(QUEUE, "tailsight.batch.size", None, 24.0, None)
L4 = Condition(QUEUE, "hardware", "NVIDIA L4", same_as=(
    Condition(Place("ranker", "compute"), "hardware", "NVIDIA L4"), Condition(QUEUE, "host", "node-1")))  # fmt: skip


def test_the_verdict_names_the_first_cause_with_its_interval_and_what_would_be_without_it():
    result = replace(a_tail(("queue", 0.61), ("compute", 0.3)), causes=(a_cause(L4, BATCH), a_cause(share=0.2)))
    assert verdict(result) == (
        "p99 is 41.2 ms; 61 % of the tail's extra 28.0 ms is queue of ranker where hardware = NVIDIA L4 and "
        "tailsight.batch.size ≥ 24 [52–70 %]; without it p99 would be about 29.0 ms."
    )
    elsewhere = replace(L4, on=Place("front", ""), same_as=())
    faster = replace(result, causes=(a_cause(elsewhere, without_ms=50.0),))
    assert verdict(faster).endswith("is queue of ranker where hardware = NVIDIA L4 (front) [52–70 %].")
    unsure = replace(result, causes=(a_cause(L4, share=0.05, without_ms=50.0),))
    assert verdict(unsure).endswith(
        "is queue of ranker where hardware = NVIDIA L4 [−4.0 to 14 %], which could be chance."
    )


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_causes_fit_any_width_without_cutting_figures(width):
    long = replace(BATCH, key="a.very.long.key.that.somebody.thought.of", same_as=())
    result = replace(
        a_tail(("queue", 0.61)), causes=(a_cause(L4, long), a_cause(share=0.2)), examples=Examples((), ("cd" * 16,))
    )
    text = text_of(render_tail(result), width)
    assert all(len(line) <= width for line in text.splitlines())
    words = " ".join(text.split())
    for figure in ("61 %", "52–70 %", "80 %", "10 %", "29.0 ms"):
        assert figure in words, figure
    for name in ("node-1", "apart"):  # words of a cell may be on several lines
        assert name in text, name
    assert f"tailsight trace {'ab' * 16}" in words
    assert f"tailsight trace {'cd' * 16}" in words
    assert "also hardware" not in words


def test_without_any_condition_this_is_said_plainly():
    result = replace(a_tail(("queue", 0.61)), causes=(a_cause(),))
    text = " ".join(text_of(render_tail(result), 100).split())
    assert "No condition explains it" in text
    assert "61 % of the tail's extra 28.0 ms is queue." in text


def test_names_in_causes_cannot_drive_the_terminal():
    odd = Condition(Place("[red]s", "q\x1b[2J"), "k[bold]", "\x1b]0;x")
    cause = replace(a_cause(odd), stage="[dim]q\x1b", service="[red]s")
    text = text_of(render_tail(replace(a_tail(("queue", 1.0)), causes=(cause,))), 100)
    assert "\x1b" not in text
    assert "[dim]q� of [red]s" in text


def test_a_tail_of_few_requests_says_so_in_its_verdict():
    few = replace(a_tail(("queue", 0.97)), quantile=0.999, tail_requests=9)
    assert verdict(few).startswith("p99.9 is 41.2 ms (roughly: the tail is 9 requests); 97 %")
    # what is stored counts, not what it stands for
    sampled = replace(a_tail(("queue", 0.97)), tail_requests=100, stored=StoredRequests(800, 5, 100))
    assert "(roughly: the tail is 5 requests)" in verdict(sampled)


def test_a_sampled_tail_says_what_it_rests_on():
    sampled = replace(
        a_tail(("queue", 0.97)), stored=StoredRequests(800, 90, 100), tail_sampled=90, typical_sampled=100
    )
    text = " ".join(text_of(render_tail(sampled), 80).split())
    assert "90 of the tail and 100 typical ones are stored, of 800 requests that were kept" in text
    assert "Means come from" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (41.23, "41.2"), (9.9998, "10.0"), (999.6, "1,000"), (123456.7, "123,457"), (1.005, "1.00"),
     (0.0421, "0.0421"), (0.00001, "<0.0001"), (-0.00001, "0"), (-0.5, "−0.500"), (-28.26, "−28.3"), (99.96, "100")],
)  # fmt: skip
def test_numbers_have_three_significant_digits(value, text):
    assert significant(value) == text


@given(st.floats(-1e12, 1e12))
def test_a_number_as_written_is_near_the_number(value):
    text = significant(value)
    if "<" not in text and ">" not in text:
        assert float(text.replace(",", "").replace("−", "-")) == pytest.approx(value, rel=0.006, abs=0.00005)


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.614, "61 %"),
        (0.0412, "4.1 %"),
        (0.0996, "10 %"),
        (1e-6, "<0.1 %"),
        (-0.02, "−2.0 %"),
        (-1e-6, "0 %"),
    ],
)
def test_percent(share, text):
    assert percent(share) == text


@pytest.mark.parametrize(
    ("low", "high", "text"), [(0.17, 0.64, "17–64 %"), (-0.063, 0.36, "−6.3 to 36 %"), (0, 1.02, "0–102 %")]
)
def test_a_range_of_shares_shows_a_minus_that_is_no_dash(low, high, text):
    assert percent_range(low, high) == text


@given(st.floats(-10, 10))
def test_bars_stay_in_their_column(share):
    assert len(bar(share, 12)) <= 12


def test_bars_grow_by_eighths():
    assert [bar(share, 1) for share in (0, 0.125, 0.5, 1)] == ["", "▏", "▌", "█"]


# --- how sure -------------------------------------------------------------------------------------------------------

BOUNDED = tuple(Interval(1111.1, 1333.3) for _ in range(5))


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("names", [("stage",), ("stage", "hardware", "service")])
def test_a_breakdown_with_intervals_fits_and_says_where_the_p99_lies(width, names):
    text = text_of(render_breakdown(a_breakdown(*names, intervals=BOUNDED)), width)
    assert "…" not in text
    assert all(len(line) <= width for line in text.splitlines())
    assert "1,111–1,333" in text
    assert "Not enough data" not in text


def test_bounds_that_too_few_requests_leave_open_say_how_many_more_it_takes():
    open_above = (*BOUNDED[:3], Interval(1111.1, None, 118), Interval(None, None, 3438))
    text = text_of(render_breakdown(a_breakdown("stage", intervals=open_above)), 140)
    assert text.count("≥ 1,111") == 3
    assert "Not enough data for both bounds of p99 (118 more requests), p99.9 (3,438 more requests)." in text


def test_what_is_not_in_the_data_is_said_under_the_table():
    answer = a_breakdown("stage")
    data = DataQuality(90, 90, dropped_spans=1200, missing_spans=30, rejected_spans=4, spans=100, late_spans=5)
    text = " ".join(text_of(render_breakdown(replace(answer, data=data)), 140).split())
    assert (
        "Spans of this window: 1,200 dropped by their senders, 30 sent and not here, 4 rejected, "
        "5 (5.0 %) more than a minute late. See `tailsight store senders`." in text
    )


@pytest.mark.parametrize("late", [0, 51, 100])
def test_nothing_is_said_of_data_that_is_whole_or_was_imported(late):
    data = DataQuality(90, 90, 0, 0, 0, spans=100, late_spans=late)
    answer = replace(a_breakdown("stage"), data=data)
    assert text_of(render_breakdown(answer), 140) == text_of(render_breakdown(a_breakdown("stage")), 140)
