"""Where questions look, what filters mean, what is refused, and the shape of the answers."""

import json

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span, window

from tailsight_analysis import (
    DIMENSIONS,
    Filters,
    NoSpansError,
    NotEnoughDataError,
    QuestionError,
    StoreUnavailableError,
    Window,
    breakdown,
    choices,
    connect,
    tail,
    timeline,
    whole_time,
)

HOUR = 3_600_000_000  # ticks


def two_services() -> list[Span]:
    """Ten requests: `gateway` calls `ranker` on other hardware, which calls itself, and a store."""
    spans = []
    for trace in range(1, 11):
        spans += [
            Span(trace, 1, 0, 0, 100 + trace, service="gateway", hardware="CPU"),
            Span(trace, 2, 1, 10, 60, stage="compute", service="ranker", hardware="L4" if trace % 2 else "T4"),
            Span(trace, 3, 2, 20, 30, stage="queue", service="ranker", hardware="L4", run="r1" if trace < 4 else ""),
            Span(trace, 4, 3, 25, 10, service="db", hardware="CPU"),
        ]
    return spans


def test_with_a_service_a_request_is_what_enters_it(store):
    brute_force.insert(store, two_services())
    result = breakdown(store, window(0, 100), Filters(service=("ranker",)))
    assert result.requests.count == 10
    assert result.requests.max_ms == pytest.approx(0.06)
    # 60 − 30 of compute, 30 − 10 of queue; the rest of the 60 was spent in the store
    assert {row.group["stage"]: row.self_share for row in result.rows} == {
        "compute": pytest.approx(0.5),
        "queue": pytest.approx(20 / 60),
    }


def test_other_filters_pick_the_requests_that_have_such_a_span(store):
    brute_force.insert(store, two_services())
    assert breakdown(store, window(0, 100), Filters(hardware=("T4",))).requests.count == 5
    assert tail(store, window(0, 100), Filters(hardware=("T4",)), 0.8).requests == 5
    with pytest.raises(NoSpansError, match="hardware=T4, run=r1"):
        tail(store, window(0, 100), Filters(hardware=("T4",), run=("r1",)), 0.8)


def test_filters_of_a_breakdown_pick_spans_but_self_times_see_all_children(store):
    brute_force.insert(store, two_services())
    (row,) = breakdown(store, window(0, 100), Filters(stage=("compute",)), by=("stage", "hardware")).rows[:1]
    assert row.group == {"stage": "compute", "hardware": "L4"}
    assert row.self_share == pytest.approx(5 * 30 / sum(100 + n for n in range(1, 11)))


@pytest.mark.parametrize(
    ("spans", "duration"),
    [
        (
            [Span(1, 2, 9, 5, 70), Span(1, 3, 9, 3, 60), Span(1, 4, 2, 0, 50)],
            60,
        ),  # the earliest whose parent is missing
        ([Span(1, 2, 2, 5, 70), Span(1, 3, 2, 3, 60)], 70),  # the one that is its own parent
        ([Span(1, 2, 3, 5, 70), Span(1, 3, 2, 3, 60)], 60),  # in a cycle, the earliest
        ([Span(1, 2, 9, 5, 70), Span(1, 3, 0, 6, 60)], 60),  # where there is a root, it
        ([Span(1, 2, 0, 5, 70, kind=2), Span(1, 2, 0, 3, 80, kind=3)], 80),  # both halves of one id are one request
    ],
)
def test_one_request_even_of_a_broken_trace(store, spans, duration):
    brute_force.insert(store, spans)
    result = breakdown(store, window(0, 100))
    assert (result.requests.count, result.requests.max_ms) == (1, pytest.approx(duration / 1000))


def test_a_service_is_entered_by_spans_that_are_their_own_parents_too(store):
    brute_force.insert(store, [Span(1, 1), Span(1, 2, 2, 5, 70, service="s"), Span(1, 3, 2, 6, 7, service="s")])
    assert breakdown(store, window(0, 100), Filters(service=("s",))).requests.max_ms == pytest.approx(0.07)


def test_requests_of_rootless_traces_are_in_the_tail_too(store):
    brute_force.insert(store, [Span(n, 1, 9, 0, 100 + n, stage="a") for n in range(1, 21)])
    result = tail(store, window(0, 100), quantile=0.9)
    assert (result.tail_requests, result.tail_sampled) == (2, 2)
    assert result.stages[0].tail_ms == pytest.approx(0.1195)


def test_spans_beyond_an_hour_of_the_window_are_not_looked_for(store):
    request = Span(1, 1, 0, 0, 10 * HOUR)
    near, far = Span(1, 2, 1, HOUR // 2, 100, stage="near"), Span(1, 3, 1, HOUR + 10, 100, stage="far")
    brute_force.insert(store, [request, near, far])
    result = breakdown(store, window(0, 1))
    assert [row.group["stage"] for row in result.rows] == [""]
    assert result.rows[0].self_share == pytest.approx(1 - 100 / (10 * HOUR), abs=1e-15)


def test_a_trace_whose_root_lies_before_the_window_is_no_request_of_it(store):
    brute_force.insert(store, [Span(1, 1, 0, 0, 100), Span(1, 2, 1, 50, 10, stage="compute")])
    result = breakdown(store, window(40, 60))
    assert result.requests is None
    assert result.rows[0].self_share is None
    with pytest.raises(NoSpansError):
        tail(store, window(40, 60))


def test_too_few_requests_say_how_many_are_missing(store):
    brute_force.insert(store, [Span(n, 1) for n in range(1, 8)])
    with pytest.raises(
        NotEnoughDataError, match=r"7 requests.*too few for a tail above p99: 93 more are needed"
    ) as error:
        tail(store, window(0, 10))
    assert error.value.missing == 93


def test_equal_requests_have_no_excess(store):
    brute_force.insert(store, [Span(n, 1, stage="compute") for n in range(1, 21)])
    result = tail(store, window(0, 10), quantile=0.9)
    assert (result.tail_requests, result.typical_requests) == (20, 20)
    assert result.stages[0].excess_share == result.unaccounted.excess_share == 0
    json.dumps(result.to_json(), allow_nan=False)


def test_answers_have_the_promised_keys(store):
    brute_force.insert(store, two_services())
    answer = breakdown(store, window(0, 100), by=("stage", "hardware")).to_json()
    assert {"window", "rows", "requests"} <= answer.keys()
    figures = [
        "count",
        "p50_ms",
        "p90_ms",
        "p95_ms",
        "p99_ms",
        "p999_ms",
        "max_ms",
        "jitter_ms",
        "error_rate",
        "p50_interval_ms",
        "p90_interval_ms",
        "p95_interval_ms",
        "p99_interval_ms",
        "p999_interval_ms",
        "missing",
        "path_share",
        "self_share",
    ]
    assert list(answer["rows"][0]) == ["stage", "hardware", *figures]
    answer = tail(store, window(0, 100), quantile=0.9).to_json()
    counts = {"quantile", "threshold_ms", "tail_requests", "typical_requests"}
    assert counts | {"causes", "stages", "unaccounted", "attributes", "examples", "window"} <= answer.keys()
    excess = {"tail_ms", "typical_ms", "excess_ms", "excess_share", "excess_interval_ms"}
    excess |= {"tail_path_share", "typical_path_share"}
    assert answer["unaccounted"].keys() == excess
    assert answer["stages"][0].keys() == excess | {"stage"}
    json.dumps(answer, allow_nan=False)


def test_stages_are_ordered_by_excess_and_the_limit_holds(store):
    colored = [("k", "slow"), ("l", "slow"), ("m", "slow")]
    spans = []
    for n in range(1, 101):
        slow = n > 80
        spans += [
            Span(n, 1, 0, 0, 200 if slow else 100, attributes=tuple(colored) if slow else ()),
            Span(n, 2, 1, 0, 90 if slow else 40, stage="a"),
            Span(n, 3, 1, 90 if slow else 40, 80 if slow else 50, stage="b"),
        ]
    brute_force.insert(store, spans)
    result = tail(store, window(0, 10), quantile=0.85, limit=2)
    assert [stage.stage for stage in result.stages] == ["a", "b"]
    assert len(result.attributes) == 2


def test_promoted_keys_are_listed_once_under_their_columns_name(store):
    # slow ones come every now and then: in one stretch of time they would prove nothing
    spans = [
        Span(
            n,
            1,
            0,
            n,
            100 if n % 11 else 200,
            host="good" if n % 11 else "bad",
            resource=(("process.pid", str(n % 3)),),
        )
        for n in range(1, 101)
    ]
    brute_force.insert(store, spans)
    assert [(a.key, a.value) for a in tail(store, window(0, 200), quantile=0.91).attributes] == [("host", "bad")]


def test_a_request_has_a_value_once_however_many_of_its_spans_have_it(store):
    spans = []
    for n in range(1, 101):
        color = (("color", "red"),) if n > 80 or n % 4 == 0 else ()
        spans += [Span(n, k, k - 1, 0, 200 if n > 80 else 100, attributes=color) for k in range(1, 6)]
    brute_force.insert(store, spans)
    (red,) = tail(store, window(0, 10), quantile=0.81).attributes
    assert (red.tail_share, red.typical_share, red.lift) == (1.0, 0.25, 4.0)


@pytest.mark.parametrize("quantile", [0, 0.5, 0.6, 1, 99, float("nan")])
def test_a_quantile_that_is_no_tail_is_refused(store, quantile):
    with pytest.raises(QuestionError, match="is no tail"):
        tail(store, window(0, 1), quantile=quantile)


@pytest.mark.parametrize("by", [(), ("stage", "colour"), ("kind",)])
def test_dimensions_that_do_not_exist_are_refused(store, by):
    with pytest.raises(QuestionError, match="use stage, hardware"):
        breakdown(store, window(0, 1), by=by)


def test_every_dimension_can_be_broken_down_by(store):
    brute_force.insert(store, [Span(1, 1, stage="s", region="r", run="n", model="m")])
    row = breakdown(store, window(0, 1), by=DIMENSIONS).rows[0]
    assert tuple(row.group.items()) == tuple(
        zip(DIMENSIONS, ("s", "L4", "front", "work", "1", "m", "r", "h1", "n"), strict=True)
    )


def test_whole_time_is_of_all_or_of_a_run(store):
    assert whole_time(store) is None
    brute_force.insert(store, [Span(1, 1, start=5), Span(2, 1, start=9, run="r1"), Span(3, 1, start=12, run="r2")])
    assert whole_time(store) == Window(BASE_NS + 5 * TICK_NS, BASE_NS + 12 * TICK_NS + 1)
    assert whole_time(store, "r1") == Window(BASE_NS + 9 * TICK_NS, BASE_NS + 9 * TICK_NS + 1)
    assert whole_time(store, ("r1", "r2")).until_ns == BASE_NS + 12 * TICK_NS + 1
    assert whole_time(store, "none") is None


def test_choices_are_what_the_window_holds(store):
    brute_force.insert(store, two_services())
    found = choices(store, window(0, 100))
    assert found["service"] == ["db", "gateway", "ranker"]
    assert found["stage"] == ["compute", "queue"]
    assert found["model"] == []
    assert choices(store, window(200, 300))["service"] == []


def test_a_timeline_has_a_point_per_bucket_and_stage(store):
    brute_force.insert(store, two_services())
    result = timeline(store, window(0, 40), points=2)
    assert [(p.time_ns, p.stage, p.count) for p in result] == [
        (BASE_NS, "compute", 10),
        (BASE_NS + 20 * TICK_NS, "queue", 10),
    ]
    assert [(p.time_ns, p.count) for p in result.requests] == [(BASE_NS, 10)]
    assert result.requests[0].p50_ms == pytest.approx(0.1055)
    assert list(timeline(store, window(200, 300))) == []


def test_windows_read_well():
    day_ns = 1_795_305_600_000_000_000
    assert Window(day_ns, day_ns + 3600 * 10**9).label == "2026-11-22 00:00:00 – 01:00:00 UTC (1 h)"
    assert Window(day_ns, day_ns + 86400 * 10**9).label == "2026-11-22 00:00:00 – 2026-11-23 00:00:00 UTC (1 d)"
    assert Window(day_ns, day_ns + 1_500_000_000).label == "2026-11-22 00:00:00.000 – 00:00:01.500 UTC (1.5 s)"
    assert Window(day_ns, day_ns + 1).to_json()["since"] == "2026-11-22T00:00:00.000000000Z"
    assert Window.last(60, now_ns=day_ns) == Window(day_ns - 60 * 10**9, day_ns)
    with pytest.raises(QuestionError, match="its end must come after its start"):
        Window(5, 5)


def test_connect_says_when_nobody_answers(monkeypatch):
    monkeypatch.setenv("TAILSIGHT_STORE", "clickhouse://127.0.0.1:1/tailsight")
    with pytest.raises(StoreUnavailableError, match="does not answer"):
        connect()


def test_a_tail_begins_within_the_bounds_that_breakdown_gives_its_quantile(store):
    random = np.random.default_rng(1)
    brute_force.insert(store, [Span(n, 1, 0, n * 100, int(random.lognormal(8, 1))) for n in range(1, 1001)])
    whole = breakdown(store, window(0, 200_000)).requests
    found = tail(store, window(0, 200_000), quantile=0.9)
    assert found.threshold_interval == whole.intervals[1]
    assert found.threshold_interval.low < found.threshold_ms < found.threshold_interval.high
