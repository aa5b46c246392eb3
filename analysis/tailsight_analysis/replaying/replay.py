"""How long would requests have taken, had some of their spans been faster or slower? Their recorded traces, run again.

A span is its own work and waits for children. A child begins where it was recorded to begin: after all siblings that
had ended by then, and as much of the span's own work later as lay between; without such siblings, that much after the
span's beginning. The span ends when all its children have ended, and its own work behind the last of them is done. So a
branch that ran beside the critical path takes over where the path gets shorter than it, and no request gains more than
its traces allow. (Replay of a recorded dependency graph with changed costs: as in Ousterhout et al., "Making Sense of
Performance in Data Analytics Frameworks", NSDI 2015, and as the virtual speedups that Curtsinger and Berger, "Coz:
Finding Code that Counts with Causal Profiling", SOSP 2015, bring about at run time.)

Children are clipped, moved and left out as for the critical path (`critical_path`); also here, an overlap of at most a
tenth of a child's duration with a later sibling is none. Of a clipped child the same share stays clipped. A change of
nothing gives the recorded durations to the nanosecond, below 2⁵³ ns; less work never gives a longer request.

Spans are worked out bottom-up, the children of all spans of a level side by side, in the order in which they ended. All
changes are replayed at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailsight_analysis.requests.accounting import NO_PARENT, Floats, Ints, Spans, children, times_enclosed
from tailsight_analysis.requests.critical_path import OVERLAP


@dataclass(frozen=True, slots=True)
class Schedule:
    """What waits for what, in the order in which it can be worked out. Times are nanoseconds of recorded time.

    There is a step for each child that takes time of its parent: `child` and `above`, its parent, are rows of spans,
    `length` is for how long it lies in the parent, `shown` that part of it before a later sibling began, `lag` the
    parent's own work before it. `after` is the step of the sibling that ended last before it began, `before` that of
    the one that ended before it did; NO_PARENT where there is none. Steps of one round do not depend on each other;
    `rounds` are their bounds. After the rounds up to `levels[i].rounds` the parents of that level are complete.
    """

    duration_ns: Ints
    child: Ints
    above: Ints
    length: Ints
    shown: Ints
    lag: Ints
    after: Ints
    before: Ints
    rounds: Ints
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """Spans at one depth that have children: their rows, their own work behind the last child, rounds up to there."""

    spans: Ints
    rest: Ints
    rounds: int


def schedule(spans: Spans, parent: Ints) -> Schedule:
    """Work out what waits for what; `parent` comes from `accounting.parents`."""
    placed = children(spans, parent)
    room = spans.duration_ns[placed.above]
    begin, end = np.clip(placed.start, 0, room), np.clip(placed.end, 0, room)
    lasts = end > begin
    child, above, begin, end = placed.child[lasts], placed.above[lasts], begin[lasts], end[lasts]
    finished = end - (end - begin) // OVERLAP
    order = np.lexsort((end, finished, above))
    child, above, begin, end, finished = (column[order] for column in (child, above, begin, end, finished))
    count = len(child)
    place = np.arange(count, dtype=np.int64)
    fresh = np.append(True, above[1:] != above[:-1])[:count]
    first = np.maximum.accumulate(np.where(fresh, place, 0))

    after, shown = _neighbours(above, begin, end, finished, first)
    reached = _running_max(above, begin + shown)
    lag = begin - np.where(after != NO_PARENT, reached[after], 0)

    above_of = np.full(len(spans), NO_PARENT, dtype=np.int64)
    above_of[child] = above
    depth = times_enclosed(above_of, np.ones(len(spans))).astype(np.int64)[above]
    by_round = np.lexsort((place - first, -depth))
    step_of = np.append(np.empty(count, dtype=np.int64), NO_PARENT)  # the last is for NO_PARENT itself
    step_of[by_round] = place
    before = np.where(fresh, NO_PARENT, place - 1)
    ordered_depth, rank = depth[by_round], (place - first)[by_round]
    changes = np.flatnonzero((ordered_depth[1:] != ordered_depth[:-1]) | (rank[1:] != rank[:-1])) + 1
    rounds = np.concatenate(([0], changes, [count])) if count else np.zeros(1, dtype=np.int64)
    return Schedule(
        duration_ns=spans.duration_ns,
        child=child[by_round],
        above=above[by_round],
        length=(end - begin)[by_round],
        shown=shown[by_round],
        lag=lag[by_round],
        after=step_of[after[by_round]],
        before=step_of[before[by_round]],
        rounds=rounds,
        levels=_levels(spans, above, end, depth, ordered_depth, rounds),
    )


def replay(plan: Schedule, pace: Floats) -> Floats:
    """Duration of each span, in nanoseconds, if its own work took `pace` times as long: (spans, changes) both.

    A pace of 1 changes nothing; it may be 0, and must not be negative.
    """
    # how many times its recorded duration each span takes; of spans with children first the latest end among them
    ratio = pace.astype(np.float64, copy=True)
    ratio[plan.above] = 0.0
    latest = np.zeros(
        (len(plan.child) + 1, pace.shape[1])
    )  # up to each step, among its siblings; the last row is for none
    child, above, after, before = plan.child, plan.above, plan.after, plan.before
    length, shown, lag = (column.astype(np.float64)[:, None] for column in (plan.length, plan.shown, plan.lag))
    bounds = plan.rounds.tolist()
    done = 0
    for level in plan.levels:
        for at in range(done, level.rounds):
            these = slice(bounds[at], bounds[at + 1])
            parents = above[these]
            begin = latest[after[these]] + lag[these] * pace[parents]
            speed = ratio[child[these]]
            latest[these] = np.maximum(latest[before[these]], begin + shown[these] * speed)
            ratio[parents] = np.maximum(ratio[parents], begin + length[these] * speed)
        done = level.rounds
        own = level.rest[:, None] * pace[level.spans]
        ratio[level.spans] = (ratio[level.spans] + own) / plan.duration_ns[level.spans][:, None]
    ratio *= plan.duration_ns[:, None]
    return ratio


def _neighbours(above: Ints, begin: Ints, end: Ints, finished: Ints, first: Ints) -> tuple[Ints, Ints]:
    """For each child, the sibling that had finished last when it began; and how long it took until a later one began.

    Children are ordered by (above, finished).
    """
    count = len(above)
    if count == 0:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    # times as codes, and (above, time) as one number, so that neighbours are found by binary search
    _, codes = np.unique(np.concatenate((finished, begin)), return_inverse=True)
    width = np.int64(2 * count)
    ends, begins = above * width + codes[:count], above * width + codes[count:]
    after = np.searchsorted(ends, begins, side="right") - 1
    by_begin = np.argsort(begins, kind="stable")
    following = np.minimum(np.searchsorted(begins[by_begin], ends, side="left"), count - 1)
    next_one = by_begin[following]
    there = (above[next_one] == above) & (begins[next_one] >= ends)
    until = np.where(there, np.minimum(end, begin[next_one]), end)
    return np.where(after >= first, after, NO_PARENT), until - begin


def _running_max(group: Ints, values: Ints) -> Ints:
    """Greatest value so far within each group; groups ascend."""
    # values ranked by (group, value) grow from group to group, so a running maximum of ranks never looks back
    by_value = np.lexsort((values, group))
    rank = np.empty(len(values), dtype=np.int64)
    rank[by_value] = np.arange(len(values))
    return values[by_value][np.maximum.accumulate(rank)]


def _levels(spans: Spans, above: Ints, end: Ints, depth: Ints, ordered: Ints, rounds: Ints) -> tuple[Level, ...]:
    """Spans with children, deepest first, and after how many rounds they are complete. `ordered` are steps' depths."""
    if len(above) == 0:
        return ()
    first = np.flatnonzero(np.append(True, above[1:] != above[:-1]))
    rows = above[first]
    rest = spans.duration_ns[rows] - np.maximum.reduceat(end, first)
    deepest = np.argsort(-depth[first], kind="stable")
    rows, rest, depths = rows[deepest], rest[deepest], depth[first][deepest]
    bounds = np.concatenate((np.flatnonzero(np.append(True, depths[1:] != depths[:-1])), [len(depths)])).tolist()
    round_depth = ordered[rounds[:-1]]
    # rounds of a level: depths descend
    complete = np.searchsorted(-round_depth, -depths[bounds[:-1]], side="right").tolist()
    return tuple(
        Level(rows[low:high], rest[low:high], done)
        for low, high, done in zip(bounds[:-1], bounds[1:], complete, strict=True)
    )
