"""Recorded traces run again: nothing changes where nothing is changed, and else just what has to."""

import time

import numpy as np
import pytest
from analysis.brute_force import CONSUMER, Span
from analysis.test_accounting import columns, messy_spans, nested_requests
from hypothesis import given, settings
from hypothesis import strategies as st

from tailsight_analysis.replaying.replay import replay, schedule
from tailsight_analysis.requests.accounting import NO_PARENT, Spans, children, parents
from tailsight_analysis.requests.critical_path import OVERLAP, critical_paths


def replayed(spans: Spans, pace: np.ndarray) -> np.ndarray:
    """Durations under one pace a span."""
    return replay(schedule(spans, parents(spans)), np.asarray(pace, dtype=np.float64)[:, None])[:, 0]


def durations(*spans: Span, pace: list[float]) -> list[float]:
    return replayed(columns(list(spans)), np.array(pace)).tolist()


def slow_replay(spans: Spans, pace: np.ndarray) -> list[float]:
    """The definition of docs/analysis/whatif.md, span by span and child by child."""
    parent = parents(spans)
    placed = children(spans, parent)
    recorded = spans.duration_ns.tolist()
    mine: dict[int, list[tuple[int, int, int, int]]] = {row: [] for row in range(len(spans))}
    for child, above, start, stop in zip(placed.child, placed.above, placed.start, placed.end, strict=True):
        begin, end = max(int(start), 0), min(int(stop), recorded[above])
        if end > begin:
            mine[above].append((end - (end - begin) // OVERLAP, begin, end, int(child)))
    known: dict[int, float] = {}

    def duration(row: int) -> float:
        if row in known:
            return known[row]
        seen: list[tuple[int, int, float]] = []  # of each child: when later siblings may begin, recorded and replayed
        ends = [0.0]
        for finished, begin, end, child in sorted(mine[row]):
            speed = duration(child) / recorded[child]
            later = [other[1] for other in mine[row] if other[1] >= finished]
            shown = min([end, *later]) - begin
            over = [entry for entry in seen if entry[0] <= begin]
            lag = begin - max([entry[1] for entry in over], default=0)
            starts = max([entry[2] for entry in over], default=0.0) + lag * pace[row]
            seen.append((finished, begin + shown, starts + shown * speed))
            ends.append(starts + (end - begin) * speed)
        rest = recorded[row] - max([entry[2] for entry in mine[row]], default=0)
        known[row] = max(ends) + rest * pace[row]
        return known[row]

    return [duration(row) for row in range(len(spans))]


def paces(spans: Spans, seed: int, most: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, most, len(spans))


@given(messy_spans)
@settings(deadline=None, max_examples=300)
def test_no_change_gives_the_recorded_durations_to_the_nanosecond(spans):
    table = columns(spans)
    assert replayed(table, np.ones(len(table))).tolist() == table.duration_ns.tolist()


@given(messy_spans, st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_any_change_equals_loops(spans, seed):
    table = columns(spans)
    pace = paces(table, seed)
    assert replayed(table, pace) == pytest.approx(slow_replay(table, pace), rel=1e-9, abs=1e-9)


@given(messy_spans, st.floats(0, 10))
@settings(deadline=None)
def test_all_work_scaled_alike_scales_requests_alike(spans, times):
    table = columns(spans)
    assert replayed(table, np.full(len(table), times)) == pytest.approx(times * table.duration_ns, rel=1e-9, abs=1e-9)


@given(messy_spans, st.integers(0, 2**32))
@settings(deadline=None, max_examples=300)
def test_less_work_never_takes_longer(spans, seed):
    table = columns(spans)
    more = paces(table, seed)
    less = more * paces(table, seed + 1, most=1.0)
    assert (replayed(table, less) <= replayed(table, more) + 1e-9).all()


@given(nested_requests(), st.floats(0, 3))
@settings(deadline=None, max_examples=200)
def test_a_sequential_request_changes_by_just_its_contribution(spans, times):
    table = columns(spans)
    is_a = np.array([span.stage == "a" for span in spans])
    sections = critical_paths(table, parents(table), np.array([0]))
    contribution = int(sections.duration_ns[is_a[sections.span]].sum())
    changed = replayed(table, np.where(is_a, times, 1.0))[0]
    assert changed == pytest.approx(table.duration_ns[0] + (times - 1) * contribution)


parallel_spans = st.lists(
    st.builds(Span, trace=st.just(1), id=st.just(0), parent=st.just(1), start=st.integers(0, 90),
              duration=st.integers(1, 60), stage=st.sampled_from(["a", "b"])),
    max_size=8,
)  # fmt: skip


@given(parallel_spans, st.floats(0, 1))
@settings(deadline=None, max_examples=200)
def test_nobody_gains_more_than_the_critical_path_holds(spans, times):
    # ends clipped, so that no child outlives its parent; ids given one after the other
    root = Span(1, 1, 0, 0, 100)
    inside = [Span(1, 2 + at, 1, s.start, min(s.duration, 100 - s.start), s.stage) for at, s in enumerate(spans)]
    members = [root, *inside]
    table = columns(members)
    is_a = np.array([span.stage == "a" for span in members])
    sections = critical_paths(table, parents(table), np.array([0]))
    contribution = int(sections.duration_ns[is_a[sections.span]].sum())
    changed = replayed(table, np.where(is_a, times, 1.0))[0]
    overlaps = 6 * len(inside)  # what is taken for wrong clocks belongs to two spans at once
    assert 100 - (1 - times) * (contribution + overlaps) - 1e-9 <= changed <= 100


def test_a_branch_that_ran_beside_takes_over():
    root, short, long = Span(1, 1, 0, 0, 100), Span(1, 2, 1, 10, 50), Span(1, 3, 1, 10, 70)
    # 10 before, 20 behind; the longer branch halved takes 35: now the other one with 50 is waited for
    assert durations(root, short, long, pace=[1, 1, 0.5])[0] == 80
    assert durations(root, short, long, pace=[1, 0.5, 1])[0] == 100
    assert durations(root, short, long, pace=[1, 2, 1])[0] == 130


def test_what_begins_after_several_have_ended_waits_for_all_of_them():
    root = Span(1, 1, 0, 0, 100)
    first, second, then = Span(1, 2, 1, 0, 40), Span(1, 3, 1, 0, 30), Span(1, 4, 1, 50, 50)
    # 40 and 30 side by side, 10 of its own work, 50: the first in no time leaves the second's 30
    assert durations(root, first, second, then, pace=[1, 0, 1, 1])[0] == 90
    assert durations(root, first, second, then, pace=[1, 1, 2, 1])[0] == 120
    assert durations(root, first, second, then, pace=[0, 1, 1, 1])[0] == 90


def test_an_overlap_of_clocks_is_no_branch():
    root, first, then = Span(1, 1, 0, 0, 100), Span(1, 2, 1, 0, 52), Span(1, 3, 1, 50, 50)
    assert durations(root, first, then, pace=[1, 0.5, 1])[0] == 75
    assert durations(root, first, then, pace=[1, 0, 1])[0] == 50


@pytest.mark.parametrize("skew", [-(10**9), 0, 10**9])
def test_a_faster_server_shortens_its_clients_span_however_wrong_its_clock_is(skew):
    client = Span(1, 1, 0, 0, 100, kind=3)
    server = Span(1, 2, 1, 20 + skew, 60, kind=2, host="h2")
    assert durations(client, server, pace=[1, 0.5]) == [70, 30]


def test_nobody_gains_from_what_is_not_waited_for():
    root = Span(1, 1, 0, 0, 100)
    consumer, outside = Span(1, 2, 1, 10, 60, kind=CONSUMER), Span(1, 3, 1, 100, 50)
    assert durations(root, consumer, outside, pace=[1, 0, 0]) == [100, 0, 0]


def test_of_a_child_that_outlives_its_parent_counts_what_lies_in_it():
    assert durations(Span(1, 1, 0, 0, 100), Span(1, 2, 1, 60, 80), pace=[1, 0.5])[0] == 80


def test_changes_are_replayed_side_by_side():
    table = columns([Span(1, 1, 0, 0, 100), Span(1, 2, 1, 10, 50)])
    pace = np.array([[1, 1, 0.5], [1, 0.5, 1]])
    assert replay(schedule(table, parents(table)), pace).tolist() == [[100, 75, 75], [50, 25, 50]]


def test_no_spans_take_no_time():
    table = columns([])
    assert replay(schedule(table, parents(table)), np.ones((0, 2))).shape == (0, 2)


@pytest.mark.parametrize("shape", ["chain", "one after the other", "side by side", "steps"])
def test_a_trace_of_100_000_spans_takes_little_time(shape):
    n = 100_000
    ids = np.arange(1, n + 1, dtype=np.uint64)
    number = np.arange(n, dtype=np.int64)
    duration = np.full(n, 10, dtype=np.int64)
    duration[0] = 20 * n
    start = {"chain": number, "one after the other": 11 * number, "side by side": 0 * number, "steps": number}[shape]
    if shape == "chain":
        duration = 4 * n - 2 * number
    table = Spans(
        trace=np.zeros(n, dtype=np.int64),
        span_id=ids,
        parent_id=ids - 1 if shape == "chain" else (ids > 1).astype(np.uint64),
        start_ns=start,
        duration_ns=duration,
        host=np.zeros(n, dtype=np.int64),
        half=np.ones(n, dtype=np.int64),
        blocks=np.ones(n, dtype=np.bool_),
    )
    parent = parents(table)
    assert (parent != NO_PARENT).sum() == n - 1
    started = time.process_time()
    result = replay(schedule(table, parent), np.full((n, 2), [1.0, 0.5]))
    assert time.process_time() - started < 8
    assert (result == duration[:, None] * [1, 0.5]).all()
