"""One trace as a tree: in which order its spans are read, where they lie in time, and which are worth a line.

Pure functions over columns of spans, for any forest that `accounting.parents` gives; loops, but no recursion: a chain
may be 100,000 spans long.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailsight_analysis.requests.accounting import NO_PARENT, Bools, Ints, Spans, children


@dataclass(frozen=True, slots=True)
class Tree:
    """The reading order of a trace's spans, and where each lies.

    `order` has the rows, each parent before its children and siblings by time; `depth` counts the ancestors of each
    row. `moved_ns` is by how much each row was moved from where its own clock puts it: a span moves with its parent,
    and if it ran on another host, also by the smallest shift that puts it inside its parent.
    """

    order: Ints
    depth: Ints
    moved_ns: Ints


@dataclass(frozen=True, slots=True)
class Fold:
    """Which rows are shown, and what hangs from them.

    `shown` are the rows in reading order. `above` has the nearest shown ancestor of every row, or NO_PARENT; `hidden`
    how many rows that are not shown lie below each shown row and below no other shown one in between.
    """

    shown: Ints
    above: Ints
    hidden: Ints


def tree_of(spans: Spans, parent: Ints) -> Tree:
    """Put a forest in reading order, and its spans where their parents' clocks put them."""
    count = len(spans)
    placed = children(spans, parent)
    own_shift = np.zeros(count, dtype=np.int64)
    own_shift[placed.child] = placed.start - (spans.start_ns[placed.child] - spans.start_ns[placed.above])
    siblings = np.lexsort((spans.span_id, -spans.duration_ns, spans.start_ns + own_shift, parent))
    of_parent = parent[siblings]
    edges = np.searchsorted(of_parent, np.arange(NO_PARENT, count + 1)).tolist()  # of NO_PARENT, 0, 1, …
    following, shifts, above = siblings.tolist(), own_shift.tolist(), parent.tolist()

    order: list[int] = []
    depth, moved = [0] * count, shifts
    waiting = following[edges[0] : edges[1]][::-1]
    while waiting:
        row = waiting.pop()
        order.append(row)
        if (up := above[row]) >= 0:
            depth[row] = depth[up] + 1
            moved[row] += moved[up]
        waiting.extend(reversed(following[edges[row + 1] : edges[row + 2]]))
    return Tree(*(np.array(column, dtype=np.int64) for column in (order, depth, moved)))


def fold(tree: Tree, parent: Ints, worth: tuple[Ints, ...], limit: int | None) -> Fold:
    """Choose at most `limit` rows: those worth most, with their ancestors as far as these fit.

    `worth` are columns, the first of which counts most. Ancestors that do not fit are left out between the two that
    they connect, so that a chain deeper than the limit has its most worthwhile rows all the same.
    """
    count = len(parent)
    if limit is None or limit >= count:
        return Fold(tree.order, parent, np.zeros(count, dtype=np.int64))
    is_shown = _chosen(parent, np.lexsort((tree.order.argsort(), *(-column for column in reversed(worth)))), limit)
    above = np.full(count, NO_PARENT, dtype=np.int64)
    hidden = np.zeros(count, dtype=np.int64)
    for row in tree.order.tolist():  # parents come first
        up = int(parent[row])
        above[row] = up if up < 0 or is_shown[up] else above[up]
        if not is_shown[row] and above[row] >= 0:
            hidden[above[row]] += 1
    return Fold(tree.order[is_shown[tree.order]], above, hidden)


def _chosen(parent: Ints, best_first: Ints, limit: int) -> Bools:
    is_shown = np.zeros(len(parent), dtype=np.bool_)
    left = limit
    for row in best_first.tolist():
        if left == 0:
            break
        if is_shown[row]:
            continue
        chain, at = [row], int(parent[row])
        while at >= 0 and not is_shown[at] and len(chain) <= left:
            chain.append(at)
            at = int(parent[at])
        if len(chain) > left:
            chain = [row]
        is_shown[chain] = True
        left -= len(chain)
    return is_shown
