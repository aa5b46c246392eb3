"""Response time beside service time: what a load generator that waits for answers does not see."""

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span, window

from tailsight_analysis import Filters, breakdown

HOUR = 3_600_000_000  # ticks


def test_a_stall_is_in_the_response_times_of_all_who_should_have_come_meanwhile(store):
    """Tene's example: a request every 10 ms, each served in 1 ms, but once all stands still for a second."""
    spans, free = [], 0
    intended = np.arange(1_000) * 10_000
    service = np.full(1_000, 1_000)
    service[200] = 1_000_000
    ends = []
    for number, (should, takes) in enumerate(zip(intended.tolist(), service.tolist(), strict=True), 1):
        start = max(should, free)
        free = start + takes
        ends.append(free)
        spans.append(Span(number, 1, 0, start, takes, intended=should))
    brute_force.insert(store, spans)
    times = breakdown(store, window(0, HOUR)).response
    response_ms = (np.array(ends) - intended) / 1000
    assert (times.count, times.ignored) == (1_000, 0)
    assert times.service.p99_ms == pytest.approx(1)
    for name, level in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99), ("p999_ms", 0.999)):
        assert getattr(times.response, name) == pytest.approx(np.quantile(response_ms, level))
    assert times.response.p99_ms > 800


def test_what_cannot_be_is_left_out_and_counted(store):
    spans = [
        Span(1, 1, 0, HOUR, 100, intended=0),  # an hour before: still believed
        Span(2, 1, 0, HOUR, 100, intended=-1),
        Span(3, 1, 0, HOUR, 100, intended="soon"),
        Span(4, 1, 0, HOUR, 100, intended=HOUR + 50),  # clocks: not before its time
        Span(5, 1, 0, HOUR, 100),
        Span(5, 2, 1, HOUR, 100, intended=0),  # says it of a span that is no request
    ]
    brute_force.insert(store, spans)
    answer = breakdown(store, window(HOUR, HOUR + 1))
    assert answer.requests.count == 5
    assert (answer.response.count, answer.response.ignored) == (2, 2)
    assert answer.response.response.max_ms == pytest.approx(3_600_000.1)
    assert answer.response.service.max_ms == pytest.approx(0.1)
    assert answer.response.response.p50_ms == pytest.approx((0.1 + 3_600_000.1) / 2)


def test_the_json_keys(store):
    def bounds(low: float) -> dict[str, list[float | None]]:
        none = {name: [None, None] for name in ("p50", "p90", "p95")}
        return {**none, "p99": [pytest.approx(low), None], "p999": [pytest.approx(low), None]}

    brute_force.insert(store, [Span(1, 1, 0, 20, 100, intended=0), Span(2, 1, 0, 20, 100)])
    assert breakdown(store, window(0, 30)).to_json()["response"] == {
        "count": 1,
        "ignored": 0,
        "service_ms": pytest.approx(dict.fromkeys(("p50", "p90", "p95", "p99", "p999", "max"), 0.1)),
        "response_ms": pytest.approx(dict.fromkeys(("p50", "p90", "p95", "p99", "p999", "max"), 0.12)),
        # one request says nothing, but that p99 and p99.9 are hardly below it
        "service_intervals_ms": bounds(0.1),
        "response_intervals_ms": bounds(0.12),
    }


def test_response_times_have_bounds_of_their_own(store):
    random = np.random.default_rng(3)
    delays, times = random.integers(0, 5_000, 600), random.integers(100, 300, 600)
    spans = [
        Span(n, 1, 0, 20_000 + 10 * n, int(took), intended=20_000 + 10 * n - int(delay))
        for n, (delay, took) in enumerate(zip(delays, times, strict=True), 1)
    ]
    brute_force.insert(store, [*spans, *(Span(n, 1, 0, 20_000 + n, 9_000_000) for n in range(1001, 1200))])
    answer = breakdown(store, window(0, 30_000)).response.to_json()
    for name, values in (("service", times), ("response", times + delays)):
        ordered = np.sort(values) / 1000
        low, high = answer[f"{name}_intervals_ms"]["p50"]
        assert low <= answer[f"{name}_ms"]["p50"] <= high
        # the ranks of a binomial with n = 600, and not far from them: blocks of time may widen them
        assert ordered[240] <= low <= ordered[279]
        assert ordered[320] <= high <= ordered[360]
        assert answer[f"{name}_intervals_ms"]["p999"][1] is None


def test_where_no_request_says_when_it_should_have_started_there_is_no_response_time(store):
    brute_force.insert(store, [Span(1, 1, 0, 20, 100, service="a"), Span(2, 1, 0, 20, 100, service="b", intended=0)])
    assert breakdown(store, window(0, 30), Filters(service=("a",))).response is None
    assert breakdown(store, window(0, 30), Filters(service=("b",))).response.count == 1
    store.run("TRUNCATE TABLE spans")
    brute_force.insert(store, [Span(1, 1, 0, 20, 100)])
    assert breakdown(store, window(0, 30)).to_json()["response"] is None


def test_only_nonsense_is_counted_without_figures(store):
    brute_force.insert(store, [Span(1, 1, 0, 20, 100, intended="soon")])
    assert breakdown(store, window(0, 30)).to_json()["response"] == {
        "count": 0, "ignored": 1, "service_ms": None, "response_ms": None,
        "service_intervals_ms": None, "response_intervals_ms": None,
    }  # fmt: skip


def test_requests_that_stand_for_several_count_so_often(store):
    spans = [Span(n, 1, 0, 1_000, 100 + n, intended=900, weight=20, decided=True) for n in range(1, 11)]
    spans += [Span(n, 1, 0, 1_000, 500 + n, intended=500, decided=True) for n in range(11, 21)]
    brute_force.insert(store, spans)
    found = breakdown(store, window(0, 2_000)).response
    population = np.concatenate([np.repeat(np.arange(201, 211), 20), np.arange(1_011, 1_021)]) / 1000
    assert (found.count, found.response.stored) == (210, 20)
    assert found.response.p90_ms == pytest.approx(np.quantile(population, 0.9))
    assert found.response.p99_ms == pytest.approx(np.quantile(population, 0.99))
    assert found.to_json()["stored"] == 20
