"""Whose child is each span, where does it lie in its parent, and how much of its time is its own? As pure functions.

What a request waited for is in `critical_path`, which stands on this.

All functions take any forest, however broken: missing parents, spans that are their own parents, cycles, several spans
with one id, children longer than their parents. All run in O(n log n): pointer doubling (Wyllie 1979) instead of walks,
sorted sweeps instead of pairs. Times are whole nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

NO_PARENT = -1


@dataclass(frozen=True, slots=True)
class Spans:
    """Columns of spans, one entry each, in any order.

    `trace` and `host` are codes that mean something only by being equal. `half` orders spans that share one id: 0 the
    caller's (CLIENT, PRODUCER), 2 the callee's (SERVER, CONSUMER), 1 any other. `blocks` is False for spans that their
    parent does not wait for (CONSUMER, FOLLOWS_FROM). Ids are 8 bytes as a number, 0: none.
    """

    trace: Ints
    span_id: npt.NDArray[np.uint64]
    parent_id: npt.NDArray[np.uint64]
    start_ns: Ints
    duration_ns: Ints
    host: Ints
    half: Ints
    blocks: Bools

    def __len__(self) -> int:
        return len(self.trace)


@dataclass(frozen=True, slots=True)
class Children:
    """The children that spans wait for, those of one parent together, with their places in it.

    `start` and `end` are nanoseconds after the parent's start, not clipped to it. The children of span s are the
    `count[s]` entries from `first[s]` on.
    """

    child: Ints
    above: Ints
    start: Ints
    end: Ints
    first: Ints
    count: Ints


def parents(spans: Spans) -> Ints:
    """Index of each span's parent, or NO_PARENT; following it from any span ends.

    Of several spans with one id in one trace, each is the child of the one before it in the order (half, start, longer
    first, as given), the first has the parent that it names, and spans that name this id are children of the last. So
    Zipkin's server half lies in its client half, and a span stored twice takes no time twice. Of a cycle, the span that
    starts first has no parent.
    """
    count = len(spans)
    if count == 0:
        return np.empty(0, dtype=np.int64)
    # ids as small codes, and (trace, id) as one number, so that a parent is found by one binary search
    _, codes = np.unique(np.concatenate((spans.span_id, spans.parent_id)), return_inverse=True)
    width = np.int64(codes.max()) + 1
    own = spans.trace * width + codes[:count]
    named = spans.trace * width + codes[count:]

    order = np.lexsort((-spans.duration_ns, spans.start_ns, spans.half, own))
    keys = own[order]
    last_of_id = np.flatnonzero(np.append(keys[1:] != keys[:-1], True))
    first_of_id = np.append(0, last_of_id[:-1] + 1)

    parent = np.full(count, NO_PARENT, dtype=np.int64)
    parent[order[1:]] = order[:-1]  # the one before it with the same id …
    heads = order[first_of_id]  # … but the first of an id asks for the parent that it names
    place = np.minimum(np.searchsorted(keys[last_of_id], named[heads]), len(last_of_id) - 1)
    found = keys[last_of_id][place] == named[heads]
    found &= (spans.parent_id[heads] != 0) & (spans.parent_id[heads] != spans.span_id[heads])
    parent[heads] = np.where(found, order[last_of_id[place]], NO_PARENT)
    return _without_cycles(spans, parent)


def children(spans: Spans, parent: Ints) -> Children:
    """Place the children that each span waits for.

    A child from another host counts by its duration: all children that one span has on one other host are moved
    together, by the smallest shift that puts them inside it, because hosts' clocks disagree. Where they span more than
    their parent they begin with it.
    """
    child = np.flatnonzero((parent >= 0) & spans.blocks)
    child = child[np.argsort(parent[child], kind="stable")]
    above = parent[child]
    start = spans.start_ns[child] - spans.start_ns[above]
    end = start + spans.duration_ns[child]
    foreign = spans.host[child] != spans.host[above]
    if foreign.any():
        room = spans.duration_ns[above[foreign]]
        shift = _shifts(above[foreign], spans.host[child[foreign]], start[foreign], end[foreign], room)
        start[foreign] += shift
        end[foreign] += shift
    count = np.bincount(above, minlength=len(spans)).astype(np.int64)
    return Children(child, above, start, end, np.cumsum(count) - count, count)


def self_times(spans: Spans, parent: Ints) -> Ints:
    """Each span's duration minus the union of its children's intervals clipped to it, in nanoseconds."""
    placed = children(spans, parent)
    result = spans.duration_ns.copy()
    if len(placed.child) == 0:
        return result
    room = spans.duration_ns[placed.above]
    above, covered = _union_lengths(placed.above, np.clip(placed.start, 0, room), np.clip(placed.end, 0, room))
    result[above] -= covered
    return result


def times_enclosed(parent: Ints, chosen: Floats) -> Floats:
    """Weight of the chosen spans above each span, itself included: of how many chosen requests it is a part.

    More than one request's where requests nest, as when a service is entered again further down: the inner request's
    time is also time of the outer one. `chosen` has a weight for each span, 0 for those that are not chosen.
    """
    count = chosen.astype(np.float64)
    jump = parent.copy()
    moving = np.flatnonzero(jump >= 0)
    while len(moving):
        target = jump[moving]
        added, further = count[target], jump[target]
        count[moving] += added
        jump[moving] = further
        moving = moving[further >= 0]
    return count


def _without_cycles(spans: Spans, parent: Ints) -> Ints:
    """Cut every cycle above the span in it that starts first."""
    steps = len(parent).bit_length()
    jump = parent.copy()
    moving = np.flatnonzero(jump >= 0)
    for _ in range(steps):
        jump[moving] = jump[jump[moving]]
        moving = moving[jump[moving] >= 0]
        if len(moving) == 0:
            return parent
    # after as many steps as there are spans, whoever is still on the way is on a cycle
    cycle = np.unique(jump[moving])
    position = np.full(len(parent), NO_PARENT, dtype=np.int64)
    position[cycle] = np.arange(len(cycle))
    following = position[parent[cycle]]
    rank = np.empty(len(cycle), dtype=np.int64)
    rank[np.lexsort((cycle, -spans.duration_ns[cycle], spans.start_ns[cycle]))] = np.arange(len(cycle))
    lowest, ahead = rank.copy(), following
    for _ in range(steps):
        lowest = np.minimum(lowest, lowest[ahead])
        ahead = ahead[ahead]
    result = parent.copy()
    result[cycle[rank == lowest]] = NO_PARENT
    return result


def _shifts(above: Ints, host: Ints, start: Ints, end: Ints, room: Ints) -> Ints:
    """By how much children from other hosts move, all of one parent and host alike."""
    order = np.lexsort((host, above))
    ordered_above, ordered_host = above[order], host[order]
    fresh = np.append(True, (ordered_above[1:] != ordered_above[:-1]) | (ordered_host[1:] != ordered_host[:-1]))
    first = np.flatnonzero(fresh)
    earliest = np.minimum.reduceat(start[order], first)
    latest = np.maximum.reduceat(end[order], first)
    space = room[order][first]
    shift = np.where(
        (latest - earliest > space) | (earliest < 0), -earliest, np.where(latest > space, space - latest, 0)
    )
    result = np.empty(len(above), dtype=np.int64)
    result[order] = shift[np.cumsum(fresh) - 1]
    return result


def _union_lengths(group: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Length of the union of the intervals of each group: the groups, and their lengths."""
    order = np.lexsort((start, group))
    group, start, end = group[order], start[order], end[order]
    fresh = np.append(True, group[1:] != group[:-1])
    # The latest end so far within the group, without a loop: ends ranked by (group, end) grow from group to group, so a
    # running maximum of ranks never looks back into another group.
    by_end = np.lexsort((end, group))
    rank = np.empty(len(group), dtype=np.int64)
    rank[by_end] = np.arange(len(group))
    reached = end[by_end][np.maximum.accumulate(rank)]
    before = np.where(fresh, start, np.append(0, reached[:-1]))
    gained = np.maximum(end - np.maximum(start, before), 0)
    first = np.flatnonzero(fresh)
    lengths: Any = np.add.reduceat(gained, first)
    return group[first], lengths
