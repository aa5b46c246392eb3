"""The accounting of one trace: its requests, their critical paths, its tree, and what is broken in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tailsight_analysis.requests.accounting import NO_PARENT, Bools, Ints, Spans, parents, self_times
from tailsight_analysis.requests.critical_path import critical_paths
from tailsight_analysis.tracing.tree import Tree, tree_of


@dataclass(frozen=True, slots=True)
class TraceAccount:
    """A trace's spans accounted for; times are nanoseconds, those of pieces count from `origin_ns`.

    `entry` are the rows of the requests' entry spans in the order of time. The pieces of their paths stand in
    `piece_…`: by request (an index into `entry`), then by time.
    """

    parent: Ints
    self_ns: Ints
    tree: Tree
    entry: Ints
    without_root: bool
    origin_ns: int
    piece_request: Ints
    piece_span: Ints
    piece_begin: Ints
    piece_end: Ints

    def start_ns(self, spans: Spans) -> Ints:
        """Where each span is placed."""
        return spans.start_ns + self.tree.moved_ns - self.origin_ns


def account_for(spans: Spans) -> TraceAccount:
    """Account for the spans of one trace, which stand in the order of sql/trace_order.sql; at least one."""
    parent = parents(spans)
    tree = tree_of(spans, parent)
    entry, without_root = _entries(spans)
    entry = entry[np.argsort((spans.start_ns + tree.moved_ns)[entry], kind="stable")]
    origin_ns = int((spans.start_ns + tree.moved_ns)[entry[0]])
    sections = critical_paths(spans, parent, entry)
    # a path is told on the clock of its entry span, which lies in another span where two halves share an id
    moved = tree.moved_ns[entry][sections.request] - origin_ns
    return TraceAccount(
        parent=parent,
        self_ns=self_times(spans, parent),
        tree=tree,
        entry=entry,
        without_root=without_root,
        origin_ns=origin_ns,
        piece_request=sections.request,
        piece_span=sections.span,
        piece_begin=sections.start_ns + moved,
        piece_end=sections.end_ns + moved,
    )


def _entries(spans: Spans) -> tuple[Ints, bool]:
    """Rows of the entry spans, as sql/requests.sql finds them, and whether there is no root.

    Spans stand in the order of sql/trace_order.sql, so that the first of an id is the one that counts.
    """
    roots = np.flatnonzero(spans.parent_id == 0)
    if len(roots):
        _, first = np.unique(spans.span_id[roots], return_index=True)
        return roots[np.sort(first)], False
    has_parent = (spans.parent_id != spans.span_id) & np.isin(spans.parent_id, spans.span_id)
    rows = np.arange(len(spans))
    return np.lexsort((rows, -spans.duration_ns, spans.start_ns, has_parent))[:1], True


def without_parent(spans: Spans, parent: Ints) -> tuple[Bools, Bools]:
    """Spans that name a parent and have none: because it is not there, or because it is their own descendant."""
    lost = (parent == NO_PARENT) & (spans.parent_id != 0)
    there = np.isin(spans.parent_id, spans.span_id)
    return lost & ~there, lost & there


def repeated(spans: Spans) -> Bools:
    """Spans with the id and the half of the one before them."""
    same = (spans.span_id[1:] == spans.span_id[:-1]) & (spans.half[1:] == spans.half[:-1])
    return np.append(False, same)[: len(spans)]


def outside(account: TraceAccount) -> int:
    """How many spans belong to no request."""
    inside = np.zeros(len(account.parent), dtype=np.bool_)
    inside[account.entry] = True
    above = account.parent
    for row in account.tree.order.tolist():  # parents come first
        inside[row] |= above[row] >= 0 and inside[above[row]]
    return int((~inside).sum())
