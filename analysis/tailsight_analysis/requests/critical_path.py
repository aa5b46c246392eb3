"""Which work did a request wait for? Its critical path: at each moment the one span that held the request up.

Walk back from a span's end: the child that finished last is what it waited for; before that child began, the child
that had finished last by then; and so on. Between them the span itself was at work. The same holds within each of
these children. So the pieces of a path follow each other without gap or overlap, and add up to the request's duration,
always. (Jaeger's definition; also Zhang et al., "CRISP: Critical Path Analysis of Large-Scale Microservice
Architectures", USENIX ATC 2022.)

Children that overflow their parent or start before it are clipped to it; those outside it, and those that it does not
wait for (`Spans.blocks`), are left out; those of other hosts are moved into it first (`accounting.children`). A child
that overlaps with what came after it did not hold that up, unless by at most a tenth of its own duration: as much as
clocks and rounding may put it wrong; it is clipped then.

Paths are found level by level, all spans of a level at once, or one by one where a level has few: a chain of 100,000
spans is 100,000 levels.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.errors import AnalysisError
from tailsight_analysis.requests.accounting import Bools, Children, Ints, Spans, children

OVERLAP = 10  # one part of so many
MAX_SECTIONS = 20_000_000  # about 1 GB; requests that nest in each other repeat each other's paths
_FEW = 64


@dataclass(frozen=True, slots=True)
class Sections:
    """Pieces of critical paths, ordered by request and time: which span held which request up, from when until when.

    `request` is an index into the entries asked for, `span` a row of the spans. Times are in nanoseconds, on the clock
    of the request's entry span.
    """

    request: Ints
    span: Ints
    start_ns: Ints
    end_ns: Ints

    @property
    def duration_ns(self) -> Ints:
        """Length of each piece."""
        return self.end_ns - self.start_ns


@dataclass(frozen=True, slots=True)
class _Level:
    """Spans on the path, one level below the last: from `low` to `high` after a span's start, which is `at`."""

    request: Ints
    span: Ints
    at: Ints
    low: Ints
    high: Ints

    def __len__(self) -> int:
        return len(self.span)


@dataclass(frozen=True, slots=True)
class _Links:
    """The children on the path: whose (`owner`, an entry of the level), which (`child`), and when, after its start.

    `until` is where the child ends to hold its owner up, `then` where what came after it began. `is_first`: before it
    the owner was at work from its own beginning.
    """

    owner: Ints
    child: Ints  # an index into Children
    begin: Ints
    until: Ints
    then: Ints
    is_first: Bools


def critical_paths(spans: Spans, parent: Ints, entries: Ints) -> Sections:
    """Critical path of each request, given the rows of their entry spans; `parent` comes from `accounting.parents`.

    The pieces of a request add up to the duration of its entry span. Raises AnalysisError above MAX_SECTIONS.
    """
    below = children(spans, parent)
    level = _Level(
        request=np.arange(len(entries), dtype=np.int64),
        span=np.asarray(entries, dtype=np.int64),
        at=spans.start_ns[entries],
        low=np.zeros(len(entries), dtype=np.int64),
        high=spans.duration_ns[entries].copy(),
    )
    pieces: list[tuple[Ints, Ints, Ints, Ints]] = []
    found = 0
    while len(level):
        several = int(below.count[level.span].sum()) > _FEW
        links = _links_of_many(level, below) if several else _links_of_few(level, below)
        has_none = np.ones(len(level), dtype=np.bool_)
        has_none[links.owner] = False
        first = links.owner[links.is_first]
        # the owners themselves: behind each child, before the first, and all the time where there is none
        owner = np.concatenate((links.owner, first, np.flatnonzero(has_none)))
        begin = np.concatenate((links.until, level.low[first], level.low[has_none]))
        end = np.concatenate((links.then, links.begin[links.is_first], level.high[has_none]))
        lasts = end > begin
        owner, begin, end = owner[lasts], begin[lasts], end[lasts]
        pieces.append((level.request[owner], level.span[owner], level.at[owner] + begin, level.at[owner] + end))
        found += len(owner)
        if found > MAX_SECTIONS:
            raise AnalysisError(
                f"the critical paths of {len(entries):,} requests have more than {MAX_SECTIONS:,} pieces: "
                "narrow the question"
            )
        start = below.start[links.child]
        level = _Level(
            request=level.request[links.owner],
            span=below.child[links.child],
            at=level.at[links.owner] + start,
            low=links.begin - start,
            high=links.until - start,
        )
    if not pieces:
        nothing = np.empty(0, dtype=np.int64)
        return Sections(nothing, nothing, nothing, nothing)
    request, span, begin, end = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    order = np.lexsort((begin, request))
    return Sections(request[order], span[order], begin[order], end[order])


def _links_of_many(level: _Level, below: Children) -> _Links:
    """Find the children on the path of all spans of a level at once."""
    count = below.count[level.span]
    owner = np.repeat(np.arange(len(level), dtype=np.int64), count)
    child = np.arange(len(owner), dtype=np.int64) + np.repeat(below.first[level.span] - np.cumsum(count) + count, count)
    begin = np.maximum(below.start[child], level.low[owner])
    end = np.minimum(below.end[child], level.high[owner])
    takes_time = end > begin
    owner, child, begin, end = owner[takes_time], child[takes_time], begin[takes_time], end[takes_time]
    before = _latest_before(owner, begin, end)
    by_end = np.lexsort((-begin, end, owner))
    last = by_end[np.flatnonzero(np.append(owner[by_end][1:] != owner[by_end][:-1], True)[: len(owner)])]
    chosen = _followed(last, before)

    then = np.full(len(owner), -1, dtype=np.int64)
    then[last] = level.high[owner[last]]
    following = chosen[before[chosen] >= 0]
    then[before[following]] = begin[following]
    return _Links(
        owner=owner[chosen],
        child=child[chosen],
        begin=begin[chosen],
        until=np.minimum(end, then)[chosen],
        then=then[chosen],
        is_first=before[chosen] < 0,
    )


def _latest_before(owner: Ints, begin: Ints, end: Ints) -> Ints:
    """For each child, the sibling that had finished last when it began, or -1."""
    count = len(owner)
    finished = end - (end - begin) // OVERLAP
    # ends and begins of all children in one order; at equal times ends first, of equal ends the longest child last
    order = np.lexsort((
        np.concatenate((-begin, begin)),
        np.repeat(np.array([0, 1], dtype=np.int8), count),
        np.concatenate((finished, begin)),
        np.concatenate((owner, owner)),
    ))  # fmt: skip
    is_end = order < count
    latest = np.maximum.accumulate(np.where(is_end, np.arange(2 * count), -1))
    of_begin = np.flatnonzero(~is_end)
    child = order[of_begin] - count
    candidate = np.where(latest[of_begin] >= 0, order[latest[of_begin]], -1)
    result = np.full(count, -1, dtype=np.int64)
    result[child] = np.where((candidate >= 0) & (owner[candidate] == owner[child]), candidate, -1)
    return result


def _followed(heads: Ints, before: Ints) -> Ints:
    """Everything that is reached from the heads by following `before`, by pointer doubling."""
    count = len(before)
    reached = np.zeros(count + 1, dtype=np.bool_)
    reached[heads] = True
    jump = np.append(np.where(before >= 0, before, count), count)
    while (jump != count).any():
        reached[jump[reached]] = True
        jump = jump[jump]
    return np.flatnonzero(reached[:count])


def _links_of_few(level: _Level, below: Children) -> _Links:
    """Find the children on the path of spans of a level one by one: the same as `_links_of_many`, as a loop."""
    found: list[tuple[int, int, int, int, int, bool]] = []
    parents = np.flatnonzero(below.count[level.span])
    columns = (parents, *(column[parents] for column in (level.span, level.low, level.high)))
    for owner, span, low, high in zip(*(column.tolist() for column in columns), strict=True):
        first, count = int(below.first[span]), int(below.count[span])
        inside = slice(first, first + count)
        starts, ends = below.start[inside].tolist(), below.end[inside].tolist()
        clipped = [
            (max(start, low), min(end, high), first + at)
            for at, (start, end) in enumerate(zip(starts, ends, strict=True))
        ]
        there = [(begin, end, child) for begin, end, child in clipped if end > begin]
        if not there:
            continue
        by_finish = sorted((end - (end - begin) // OVERLAP, -begin, begin, end, child) for begin, end, child in there)
        finishes = [finish for finish, *_ in by_finish]
        begin, end, child = max(there, key=lambda each: (each[1], -each[0], each[2]))
        then = high
        while True:
            at = bisect_right(finishes, begin)
            found.append((owner, child, begin, min(end, then), then, at == 0))
            if at == 0:
                break
            then = begin
            _, _, begin, end, child = by_finish[at - 1]
    if not found:
        nothing = np.empty(0, dtype=np.int64)
        return _Links(nothing, nothing, nothing, nothing, nothing, np.empty(0, dtype=np.bool_))
    owners, children_, begins, untils, thens, firsts = np.array(found, dtype=np.int64).T
    return _Links(owners, children_, begins, untils, thens, firsts.astype(np.bool_))
