"""The waterfall and the what-if chart, from answers made by hand: nothing lost, nothing cut off, nothing executed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tailsight_analysis import (
    Cause,
    Condition,
    Filters,
    Outcome,
    Place,
    Scenario,
    Shift,
    Trace,
    TraceContribution,
    TraceInterval,
    TraceMoved,
    TraceRequest,
    TraceSection,
    TraceSpan,
    WhatIf,
    Window,
)
from tailsight_dashboard import (
    charts_trace,
    charts_whatif,
    links,
    tables_trace,
    tables_whatif,
    wording_causes,
    wording_trace,
    wording_whatif,
)
from tailsight_dashboard.colours import NEUTRAL, STAGES


def a_span(
    number: int, start_ms: float, end_ms: float, *path: tuple[float, float], stage: str = "", parent: int | None = 0
) -> TraceSpan:
    return TraceSpan(
        span_id=f"{number:016x}", parent_span_id="", parent=parent if number else None, depth=min(number, 1), left_out=0,
        name=f"part {number}", kind="INTERNAL", service="ranker", stage=stage, hardware="", host="node-0", version="",
        model="", region="", environment="", run="", status="OK", status_message="", start_ns=0, start_ms=start_ms,
        moved_ms=0.0, duration_ms=end_ms - start_ms, self_ms=1.0, path_ms=sum(end - begin for begin, end in path),
        path=tuple(TraceInterval(*piece) for piece in path), is_request=not number, is_orphan=False, in_cycle=False,
        is_repeated=False, is_waited_for=True, attributes={}, events=(), links=(),
    )  # fmt: skip


def a_trace(*children: TraceSpan, rest: tuple[tuple[float, float], ...] = ((0, 10), (90, 100))) -> Trace:
    spans = (a_span(0, 0, 100, *rest), *children)
    unaccounted = sum(end - begin for begin, end in rest)
    request = TraceRequest(
        span_id=spans[0].span_id,
        start_ms=0.0,
        duration_ms=100.0,
        failed=False,
        stages=(TraceContribution("queue", 100 - unaccounted, 1 - unaccounted / 100),),
        unaccounted_ms=unaccounted,
        unaccounted=tuple(TraceInterval(*gap) for gap in rest),
        critical_path=tuple(TraceSection(span.span_id, *piece) for span in spans for piece in [(0.0, 1.0)]),
    )
    return Trace(
        trace_id="ab" * 16, start_ns=0, begin_ms=min(span.start_ms for span in spans),
        end_ms=max(span.end_ms for span in spans), span_count=len(spans), requests=(request,), spans=spans,
        without_root=False, outside=0, orphans=0, cycles=0, repeated=0, moved=(),
    )  # fmt: skip


def texts(trace: Trace) -> list[str]:
    return [str(each.text).replace("\u00a0", " ").strip() for each in charts_trace.waterfall(trace).layout.annotations]


def test_strong_bars_are_the_critical_path_and_light_ones_the_spans() -> None:
    trace = a_trace(a_span(1, 10, 90, (10, 90), stage="queue"), a_span(2, 20, 60, stage="compute"))
    light, *strong = charts_trace.waterfall(trace).data
    assert list(zip(light.base, light.x, strict=True)) == [(0, 100), (10, 80), (20, 40)]
    assert light.opacity < 0.5
    by_name = {bars.name: list(zip(bars.base, bars.x, strict=True)) for bars in strong}
    assert by_name["queue"] == [(10, 80)]
    assert by_name["unaccounted"] == [(0, 10), (90, 10)] * 2  # in its own line, and on the span that it is of
    assert "compute" not in by_name
    paint = next(bars.marker for bars in strong if bars.name == "queue").color
    assert paint == STAGES["queue"]
    assert next(bars.marker for bars in strong if bars.name == "unaccounted").pattern.shape == "/"


def test_lines_do_not_overlap_and_labels_are_whole() -> None:
    long = replace(a_span(1, 10, 90, stage="queue"), name="a name that goes on and on, " * 4 + "to its end")
    figure = charts_trace.waterfall(a_trace(long, a_span(2, 20, 60)))
    label = next(text for text in texts(a_trace(long)) if text.startswith("a name"))
    assert label.replace("<br>", " ").replace("   ", "").endswith("to its end [queue]")
    assert max(map(len, label.split("<br>"))) <= 31
    middles = [each.y for each in figure.layout.annotations if each.xanchor == "left" and each.yref == "y"]
    heights = [15 * (each.text.count("<br>") + 1) for each in figure.layout.annotations if each.xshift and each.x == 0]
    lines = list(zip(middles, heights[1:], strict=True))
    assert all(above + tall / 2 < below - high / 2 for (above, tall), (below, high) in pairwise(lines))
    assert figure.layout.yaxis.range[0] == figure.layout.height - 40 - 44


def test_a_hundred_thousand_pieces_are_joined_where_the_eye_cannot_tell() -> None:
    pieces = [(at / 1000, at / 1000 + 0.0005) for at in range(100_000)]
    trace = a_trace(a_span(1, 0, 100, *pieces, stage="compute"), rest=())
    bars = next(each for each in charts_trace.waterfall(trace).data if each.name == "compute")
    assert len(bars.x) == 1
    assert bars.x[0] == pytest.approx(100, abs=0.01)
    assert bars.marker.opacity[0] == pytest.approx(0.5, abs=0.01)  # it shows that most of it is not on the path


def test_a_span_of_a_clock_far_away_is_pointed_at() -> None:
    trace = a_trace(a_span(1, 50_000, 50_001, parent=None), a_span(2, -9_000, -8_000, parent=None))
    assert charts_trace.drawn_range(trace) == (0.0, 100.0)
    assert "50.0 s ›" in texts(trace)
    assert "‹ −9,000 ms" in texts(trace)


def test_names_of_others_stay_text() -> None:
    evil = replace(a_span(1, 0, 50, stage="<i>s</i>"), name="<b>x</b> [a](http://such.example) $y$", service="<u>z</u>")
    trace = a_trace(evil)
    figure = charts_trace.waterfall(trace)
    said = "".join(texts(trace)) + "".join(hover for bars in figure.data for hover in bars.hovertext)
    assert not any(tag in said for tag in ("<b>x", "<i>s", "<u>"))
    entry = replace(trace.spans[0], name="[a](http://such.example)")
    headline = wording_trace.headline(replace(trace, spans=(entry,)))
    assert "](" not in headline


def test_an_instant_request_is_drawn() -> None:
    trace = a_trace(rest=())
    instant = replace(trace.requests[0], duration_ms=0.0, stages=())
    trace = replace(trace, requests=(instant,), spans=(a_span(0, 0, 0),), begin_ms=0.0, end_ms=0.0)
    low, high = charts_trace.waterfall(trace).layout.xaxis.range
    assert low < high
    assert wording_trace.headline(trace).endswith("took **0 ms**.")
    assert list(tables_trace.contributions(instant).data["Share"]) == [0.0, 1.0]


def test_of_several_requests_the_longest_is_named() -> None:
    trace = a_trace(a_span(1, 10, 90, (10, 90), stage="queue"))
    short = replace(trace.requests[0], span_id="f" * 16, start_ms=120.0, duration_ms=5.0, stages=(), unaccounted_ms=5.0)
    trace = replace(trace, requests=(*trace.requests, short))
    said = wording_trace.headline(trace).replace("\\", "")
    assert said == "2 requests; the longest, ranker: part 0, took **100 ms**; **80 %** of it is **queue**."
    assert wording_trace.request_title(trace, short) == f"request {'f' * 16}, 120 ms after the first"


def test_hosts_with_other_clocks_are_named_up_to_three() -> None:
    moved = tuple(TraceMoved(f"host{number}", 2, -5.0, -4.0 if number else -5.0) for number in range(5))
    said = " ".join(wording_trace.remarks(replace(a_trace(), moved=moved, without_root=True, cycles=1, repeated=2)))
    assert "2 spans of host0 by −5.00 ms; 2 spans of host1 by −5.00 ms to −4.00 ms" in said
    assert "2 more hosts" in said
    assert "host3" not in said
    assert "No span is a root" in said
    assert "1 span (marked @) names a parent that is among its own descendants" in said
    assert "2 spans (marked =) have the id of another span" in said


def an_outcome(stage: str, delta_ms: float, spread_ms: float | None = 1.0) -> Outcome:
    bounds = None if spread_ms is None else (40 + delta_ms - spread_ms, 40 + delta_ms + spread_ms)
    delta_bounds = None if spread_ms is None else (delta_ms - spread_ms, delta_ms + spread_ms)
    shift = Shift(40.0, 40.0 + delta_ms, bounds, delta_ms, delta_bounds)
    return Outcome(Scenario((stage,), at=0.5), Shift(10.0, 9.0, None, -1.0, None), shift)


def a_whatif(*found: Outcome, missing: int = 0) -> WhatIf:
    return WhatIf(Window(0, 10**9), Filters(), 0.99, 10.0, 40.0, 2000, 2000, found, missing)


def test_changes_that_could_be_chance_are_grey() -> None:
    answer = a_whatif(an_outcome("queue", -12.0), an_outcome("compute", -0.5), an_outcome("network", -0.1, None))
    markers = next(each for each in charts_whatif.outcomes(answer).data if each.mode == "markers")
    assert list(markers.x) == [-12.0, -0.5, -0.1]
    assert list(markers.marker.color) == [STAGES["queue"], NEUTRAL, NEUTRAL]
    frame = tables_whatif.outcomes(answer).data
    assert list(frame["95 %"]) == ["27.0 to 29.0", "38.5 to 40.5", "—"]
    assert frame["95 % of the change"][0] == "−13.0 to −11.0"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((an_outcome("queue", -12.0),), "If **queue** never took longer than its p50, p99 would fall from 40.0 ms to"),
        ((an_outcome("queue", -0.5),), "p99 is **40.0 ms**, and no change here moves it by more than chance."),
        ((an_outcome("queue", 0.0, None),), "p99 is **40.0 ms**, and no change here lowers it."),
        ((), "p99 is **40.0 ms**."),
    ],
)
def test_the_best_change_is_said_only_where_there_is_one(found: tuple[Outcome, ...], said: str) -> None:
    assert wording_whatif.headline(a_whatif(*found)).startswith(said)
    assert charts_whatif.outcomes(a_whatif(*found)).layout.height >= 64


def test_missing_requests_for_intervals_are_said() -> None:
    assert "Not enough data for intervals: 300 more" in wording_whatif.notes(a_whatif(missing=300))


def test_other_names_of_a_cause_are_said_once_and_never_its_own() -> None:
    here = Place("ranker", "queue")
    elsewhere = [Place("ranker", stage) for stage in ("compute", "postprocess")]
    same = tuple(
        Condition(place, key, value) for key, value in (("hardware", "L4"), ("host", "h4")) for place in elsewhere
    )
    conditions = (Condition(here, "hardware", "L4", same_as=same),)
    cause = Cause("queue", "ranker", conditions, 1.0, 0.4, 2.5, 17.0, 0.83, (0.76, 0.87), 0.01, 58.0, ())
    said = wording_causes.same_as(cause).replace("\\", "")
    assert said == "(Almost) the same requests have: host = h4 (compute of ranker)."
    only_own = replace(cause, conditions=(replace(conditions[0], same_as=same[:2]),))
    assert wording_causes.same_as(only_own) == ""


@pytest.mark.parametrize(
    ("trace_id", "text"),
    [("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f35"), ("0000000000000000a3ce929d0e0e4736", "a3ce929d")],
    ids=["of-128-bits", "of-64-bits"],
)
def test_links_to_traces_can_be_told_apart(trace_id: str, text: str) -> None:
    assert links.shown(trace_id) == text


def test_a_cause_says_where_its_condition_was_seen_unless_it_is_there() -> None:
    here, elsewhere = Place("ranker", "queue"), Place("ranker", "compute")
    same = Condition(here, "host", "node-*")
    conditions = (Condition(here, "batch.size", low=24.0, same_as=(same,)), Condition(elsewhere, "hardware", "L4"))
    cause = Cause("queue", "ranker", conditions, 0.9, 0.0, 360.0, 17.0, 0.61, (0.52, 0.7), 0.0004, 29.0, ())
    assert wording_causes.headline(cause).replace("\\", "") == (
        "**61 %** of the extra time [52 to 70 %]: **queue** of ranker where "
        "**batch.size ≥ 24** and **hardware = L4 (compute of ranker)**"
    )
    assert wording_causes.same_as(cause) == "(Almost) the same requests have: host = node\\-\\*."
    unknown = replace(cause, conditions=(), stage="", p_value=None, without_ms=None, excess_share_interval=(-0.1, 0.3))
    assert "time that no stage accounts for" in wording_causes.headline(unknown)
