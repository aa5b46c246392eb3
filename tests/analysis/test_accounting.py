"""Laws and cases of the time accounting, on columns alone."""

import time

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span
from hypothesis import given, settings
from hypothesis import strategies as st

from tailsight_analysis.requests.accounting import NO_PARENT, Spans, parents, self_times, times_enclosed

HOSTS = {"h1": 0, "h2": 1, "h3": 2}


def columns(spans: list[Span]) -> Spans:
    return Spans(
        trace=np.array([s.trace for s in spans], dtype=np.int64),
        span_id=np.array([s.id for s in spans], dtype=np.uint64),
        parent_id=np.array([s.parent for s in spans], dtype=np.uint64),
        start_ns=np.array([s.start for s in spans], dtype=np.int64),
        duration_ns=np.array([s.duration for s in spans], dtype=np.int64),
        host=np.array([HOSTS[s.host] for s in spans], dtype=np.int64),
        half=np.array([brute_force.HALF[s.kind] for s in spans], dtype=np.int64),
        blocks=np.array([s.kind != brute_force.CONSUMER for s in spans], dtype=np.bool_),
    )


def own_times(*spans: Span) -> list[int]:
    table = columns(list(spans))
    return self_times(table, parents(table)).tolist()


messy_spans = st.lists(
    st.builds(
        Span,
        trace=st.integers(1, 3),
        id=st.integers(1, 6),
        parent=st.integers(0, 7),
        start=st.integers(0, 30),
        duration=st.integers(0, 40),
        host=st.sampled_from(sorted(HOSTS)),
        kind=st.sampled_from([1, 2, 3, 5]),
    ),
    max_size=30,
)


@given(messy_spans)
@settings(deadline=None, max_examples=300)
def test_parents_and_self_times_equal_loops(spans):
    spans.sort(key=lambda span: (span.trace, span.id, span.order))
    table = columns(spans)
    parent = parents(table)
    expected = brute_force.parent_of(spans)
    assert [spans[p] if p != NO_PARENT else None for p in parent] == [expected[span] for span in spans]
    own = brute_force.self_ticks(spans, expected)
    assert self_times(table, parent).tolist() == [own[span] for span in spans]


@given(messy_spans)
@settings(deadline=None)
def test_following_parents_ends_and_self_times_stay_within_durations(spans):
    table = columns(spans)
    parent = parents(table)
    for _ in range(len(spans) + 1):
        parent_of_parent = np.where(parent == NO_PARENT, NO_PARENT, parents(table)[parent])
        parent = parent_of_parent
    assert (parent == NO_PARENT).all()
    own = self_times(table, parents(table))
    assert ((own >= 0) & (own <= table.duration_ns)).all()


@st.composite
def nested_requests(draw):
    """A request in which every child lies in its parent and no two siblings overlap."""
    spans, room = [Span(1, 1, 0, 0, draw(st.integers(1, 1000)))], []
    room.append((1, 0, spans[0].duration))
    while room and len(spans) < 30:
        parent, start, end = room.pop()
        for _ in range(draw(st.integers(0, 3))):
            if end - start < 2:
                break
            first = draw(st.integers(start, end - 1))
            last = draw(st.integers(first, end))
            spans.append(
                Span(1, len(spans) + 1, parent, first, last - first, stage=draw(st.sampled_from(["", "a", "b"])))
            )
            room.append((len(spans), first, last))
            start = last
    return spans


@given(nested_requests())
@settings(deadline=None)
def test_self_times_of_a_sequential_request_add_up_to_its_duration(spans):
    assert sum(own_times(*spans)) == spans[0].duration


@given(messy_spans, st.integers(-(10**15), 10**15))
@settings(deadline=None)
def test_moving_all_clocks_changes_nothing(spans, shift):
    table = columns(spans)
    moved = Spans(**{name: getattr(table, name) for name in Spans.__slots__} | {"start_ns": table.start_ns + shift})
    assert (self_times(table, parents(table)) == self_times(moved, parents(moved))).all()


@pytest.mark.parametrize("skew", [-(10**12), -3, 0, 3, 10**12])
def test_a_client_span_keeps_the_network_however_wrong_the_servers_clock_is(skew):
    client = Span(1, 1, 0, 0, 100, kind=3)
    server = Span(1, 2, 1, 20 + skew, 60, kind=2, host="h2")
    assert own_times(client, server) == [40, 60]


def test_spans_of_one_foreign_host_move_together_and_keep_their_gaps():
    # 10–30 and 50–70 on the other clock: together they overlap nothing, and leave the gap between them to the parent
    client, *server = Span(1, 1, 0, 0, 100), Span(1, 2, 1, 1010, 20, host="h2"), Span(1, 3, 1, 1050, 20, host="h2")
    assert own_times(client, *server) == [60, 20, 20]


def test_a_foreign_child_longer_than_its_parent_covers_it_whole():
    assert own_times(Span(1, 1, 0, 0, 50), Span(1, 2, 1, 500, 80, host="h2")) == [0, 80]


def test_foreign_children_that_span_more_than_their_parent_begin_with_it():
    children = [
        Span(1, 2, 1, 10, 20, host="h2"),
        Span(1, 3, 1, 90, 60, host="h2"),
    ]  # 10–30, 90–150: moved to 0–20, 80–140
    assert own_times(Span(1, 1, 0, 0, 100), *children)[0] == 60


def test_a_child_that_outlives_its_parent_is_clipped_to_it():
    assert own_times(Span(1, 1, 0, 0, 50), Span(1, 2, 1, 40, 30)) == [40, 30]


def test_overlapping_children_are_counted_once():
    assert own_times(Span(1, 1, 0, 0, 100), Span(1, 2, 1, 10, 50), Span(1, 3, 1, 40, 30), Span(1, 4, 1, 20, 5))[0] == 40


def test_the_servers_half_of_a_zipkin_span_lies_in_the_clients_half():
    client, server = Span(1, 7, 0, 0, 100, kind=3, host="h1"), Span(1, 7, 0, 900, 70, kind=2, host="h2")
    work = Span(1, 8, 7, 910, 30, host="h2")
    assert own_times(work, server, client) == [30, 40, 30]


def test_a_span_stored_twice_takes_its_time_once():
    once = [Span(1, 1, 0, 0, 100), Span(1, 2, 1, 10, 40)]
    twice = [*once, Span(1, 2, 1, 10, 40)]
    assert sum(own_times(*once)) == sum(own_times(*twice)) == 100


def test_nested_requests_both_contain_the_inner_ones_spans():
    table = columns([Span(1, 1), Span(1, 2, 1), Span(1, 3, 2), Span(1, 4, 1)])
    enclosed = times_enclosed(parents(table), np.array([1.0, 1.0, 0.0, 0.0]))
    assert enclosed.tolist() == [1, 2, 2, 1]


def test_no_spans_give_no_times():
    table = columns([])
    assert len(parents(table)) == len(self_times(table, parents(table))) == 0


@pytest.mark.parametrize("shape", ["chain", "fan", "cycle", "one id", "fan on another host"])
def test_a_trace_of_100_000_spans_takes_little_time(shape):
    n = 100_000
    ids = np.arange(1, n + 1, dtype=np.uint64)
    parent_ids = ids - 1 if shape == "chain" else (ids > 1).astype(np.uint64)
    if shape == "cycle":
        parent_ids = np.roll(ids, 1)
    if shape == "one id":
        ids = np.ones(n, dtype=np.uint64)
    durations = np.full(n, 10, dtype=np.int64)
    durations[0] = 2 * n
    hosts = np.zeros(n, dtype=np.int64)
    if shape == "fan on another host":
        hosts[1:] = 1
    table = Spans(
        trace=np.zeros(n, dtype=np.int64),
        span_id=ids,
        parent_id=parent_ids,
        start_ns=np.arange(n, dtype=np.int64),
        duration_ns=durations,
        host=hosts,
        half=np.ones(n, dtype=np.int64),
        blocks=np.ones(n, dtype=np.bool_),
    )
    started = time.process_time()
    parent = parents(table)
    self_times(table, parent)
    times_enclosed(parent, (parent == NO_PARENT).astype(float))
    assert time.process_time() - started < 3
