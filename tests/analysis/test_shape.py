"""What the traces are like decides how they are looked at, and never what is answered."""

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span

from tailsight_analysis import Filters, breakdown, reading, tail, whole_time
from tailsight_analysis.reading import Shape, request_parameters, shape_of
from tailsight_analysis.requests.ledger import fetch_ledger


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch):
    monkeypatch.setattr(reading, "_LEAST_TRACES", 5)


def requests(ids: list[int]) -> list[Span]:
    """A request a trace: one in fifty waits long in its queue."""
    random = np.random.default_rng(5)
    spans = []
    for number, trace in enumerate(ids):
        wait = int(random.integers(20, 40)) + (400 if number % 50 == 0 else 0)
        spans += [
            Span(trace, 1, 0, number, wait + 30),
            Span(trace, 2, 1, number, wait, stage="queue"),
            Span(trace, 3, 1, number + wait, 30, stage="compute"),
        ]
    return spans


def random_ids(count: int, seed: int = 1) -> list[int]:
    return [int.from_bytes(np.random.default_rng([seed, number]).bytes(16), "big") for number in range(count)]


def test_random_ids_are_recognised_and_others_are_not(store):
    brute_force.insert(store, requests(random_ids(2000)))
    assert shape_of(store, whole_time(store)) == Shape(random_ids=True, rootless=False, repeated_roots=False)


@pytest.mark.parametrize(
    "ids",
    [
        list(range(1, 2001)),  # a counter
        [0x1234_5678 << 96 | number for number in range(2000)],  # a prefix that is the same for all, like a time
        [(number % 7) << 120 | number + 1 for number in range(2000)],  # the first byte says something
    ],
    ids=["counter", "prefix", "shard"],
)
def test_ids_that_are_not_random_are_sampled_by_their_hash(store, ids):
    brute_force.insert(store, requests(ids))
    assert not shape_of(store, whole_time(store)).random_ids


def test_a_sample_by_id_is_fair_and_repeats_itself(store, monkeypatch):
    brute_force.insert(store, requests(random_ids(2000)))
    window = whole_time(store)
    whole = tail(store, window, quantile=0.98)
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_REQUESTS", 80)
    part = tail(store, window, quantile=0.98)
    assert part.is_sampled
    assert (part.tail_requests, part.typical_requests) == (whole.tail_requests, whole.typical_requests)
    assert part.tail_sampled == 20
    assert 0 < part.typical_sampled < whole.typical_sampled
    assert part.stages[0].stage == "queue"
    assert part.total.excess_ms == pytest.approx(whole.total.excess_ms, rel=0.2)
    assert part == tail(store, window, quantile=0.98)
    parameters = request_parameters(store, window, Filters())
    ledger = fetch_ledger(store, parameters)
    assert len(ledger) == 80
    assert max(ledger.trace_ids) < "10"  # the lowest ids: those that lie together on the disk
    assert ledger.trace_ids != fetch_ledger(store, parameters | {"by_id": 0}).trace_ids


def test_traces_without_a_root_and_roots_that_are_there_twice_are_seen_in_the_slices(store):
    spans = requests(random_ids(2000))
    lost = [Span(trace, 7, 6, 10_000 + n, 99) for n, trace in enumerate(random_ids(2000, seed=2))]
    brute_force.insert(store, [*spans, *lost])
    window = whole_time(store)
    assert shape_of(store, window) == Shape(random_ids=True, rootless=True, repeated_roots=False)
    assert breakdown(store, window).requests.count == 4000
    brute_force.insert(store, spans)  # all of them once more
    assert shape_of(store, window) == Shape(random_ids=True, rootless=True, repeated_roots=True)
    assert breakdown(store, window).requests.count == 4000


def test_filters_and_services_hold_in_a_sample_by_id(store, monkeypatch):
    spans = requests(random_ids(2000))
    other = [
        Span(trace, 4, 1, number, 5, service="back", stage="inside", hardware="T4")
        for number, trace in enumerate(dict.fromkeys(span.trace for span in spans))
        if number % 4 == 0
    ]
    brute_force.insert(store, [*spans, *other])
    window = whole_time(store)
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_REQUESTS", 100)
    for filters in (Filters(hardware=("T4",)), Filters(service=("back",))):
        parameters = request_parameters(store, window, filters)
        assert parameters["by_id"]
        ledger = fetch_ledger(store, parameters)
        assert len(ledger) == 100
        assert set(ledger.trace_ids) <= {f"{span.trace:032x}" for span in other}
