"""Whose work is what: annotations nested into requests, and calls, operators and GPU work given to them.

A `ProfilerStep` is a request, and everything in the process that begins while it is open belongs to it. Any other
annotation that lies in none is a request. What a thread without annotations does belongs to the only request that is
open then, in its process (in the file, where that process has none); where several are open nobody can say whose it is,
and it stays outside, as does what is in none.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tailsight_collector.importing.kineto_events import STEP, Thread
from tailsight_collector.importing.kineto_intervals import AMBIGUOUS, NONE, Timeline

OUTSIDE = NONE
# Old files have whole microseconds, cut off in start and duration: a child may seem to end so much after its parent.
ROUNDING_NS = 2_000
MOST_OPEN = 1_000


@dataclass(slots=True)
class Intervals:
    """Rows of one kind, packed. `thread` counts the threads of the file."""

    thread: array[int] = field(default_factory=lambda: array("q"))
    start_ns: array[int] = field(default_factory=lambda: array("q"))
    end_ns: array[int] = field(default_factory=lambda: array("q"))

    def add(self, thread: int, start_ns: int, end_ns: int) -> None:
        """Add a row."""
        self.thread.append(thread)
        self.start_ns.append(start_ns)
        self.end_ns.append(end_ns)

    def holds_half(self, row: int, start_ns: int, end_ns: int) -> bool:
        """Whether at least half of a time lies in a row."""
        overlap_ns = min(end_ns, self.end_ns[row]) - max(start_ns, self.start_ns[row])
        return 2 * overlap_ns >= end_ns - start_ns

    def __len__(self) -> int:
        return len(self.thread)

    def in_order(self) -> list[int]:
        """Return the rows thread by thread, by start, the longer first."""
        return sorted(self.by_start(range(len(self))), key=self.thread.__getitem__)

    def by_start(self, rows: Iterable[int]) -> list[int]:
        """Return the rows by start, the longer first, whatever their thread."""
        # one after the other: a key of several parts would take ten times the memory
        return sorted(sorted(rows, key=lambda row: -self.end_ns[row]), key=self.start_ns.__getitem__)


class Requests:
    """The annotations of a file as requests. `of[row]` is a row's request, itself or another row, or OUTSIDE.

    `parent[row]` is the annotation that it lies in, or NONE. `twin[row]` counts rows before it that say just the same;
    it is 0 where it is missing. `left_out` are rows where too many were open at once.
    """

    def __init__(self, spans: Intervals, names: list[str], name_of: array[int], threads: list[Thread]) -> None:
        self._spans = spans
        self._threads = threads
        self._is_step = [STEP.fullmatch(name) is not None for name in names]
        self._name_of = name_of
        self.of = array("q", [NONE]) * len(spans)
        self.parent = array("q", [NONE]) * len(spans)
        self.left_out: set[int] = set()
        self.twin: dict[int, int] = {}
        order, holds_steps = self._nest()
        self._choose(order, holds_steps)
        self._timelines = {
            thread: Timeline(rows, spans.start_ns, spans.end_ns, self.of)
            for thread, rows in _grouped(order, spans.thread).items()
        }
        self._find_parents_elsewhere(order)
        self._open = self._requests_by_process(order)

    def is_step(self, row: int) -> bool:
        """Whether a row is a ProfilerStep."""
        return self._is_step[self._name_of[row]]

    def is_request(self, row: int) -> bool:
        """Whether a row is a request itself."""
        return self.of[row] == row

    def of_work(self, thread: int, start_ns: int, end_ns: int) -> tuple[int, int, bool]:
        """Return the request of what a thread began then, the annotation that it lies in, and whether that is sure.

        The request is OUTSIDE where there is none; not sure where there are several.
        """
        timeline = self._timelines.get(thread)
        own = timeline.at(start_ns) if timeline else NONE
        if own >= 0:
            return self.of[own], own, True
        if own == AMBIGUOUS:
            return OUTSIDE, NONE, False
        process = self._threads[thread][0]
        request = self._open.get(process, self._open[None]).at(start_ns)
        if request < 0:
            return OUTSIDE, NONE, request == NONE
        return request, self.place(request, start_ns, end_ns), True

    def place(self, request: int, start_ns: int, end_ns: int) -> int:
        """Return the innermost annotation on a request's own thread in which half of a time lies; else the request."""
        row = self._timelines[self._spans.thread[request]].at((start_ns + end_ns) // 2)
        if row < 0 or self.of[row] != request:
            return request
        while row not in (request, NONE) and not self._spans.holds_half(row, start_ns, end_ns):
            row = self.parent[row]
        return request if row == NONE else row

    def is_between_annotations(self, thread: int, start_ns: int, end_ns: int) -> bool:
        """Whether no annotation of a thread begins or ends in a time."""
        timeline = self._timelines.get(thread)
        return timeline is None or timeline.is_steady(start_ns, end_ns)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _nest(self) -> tuple[list[int], set[int]]:
        """Find each row's parent on its thread; returns the rows in order, and those that hold a step."""
        order: list[int] = []
        holds_steps: set[int] = set()
        thread, open_rows = NONE, list[int]()
        bounds, twins = (NONE, NONE), Counter[int]()
        ends = self._spans.end_ns
        for row in self._spans.in_order():
            if self._spans.thread[row] != thread:
                thread, open_rows, bounds = self._spans.thread[row], [], (NONE, NONE)
            if bounds != (self._spans.start_ns[row], ends[row]):
                bounds, twins = (self._spans.start_ns[row], ends[row]), Counter()
            if twins[self._name_of[row]]:
                self.twin[row] = twins[self._name_of[row]]
            twins[self._name_of[row]] += 1
            open_rows = [each for each in open_rows if ends[each] > self._spans.start_ns[row]]
            if len(open_rows) >= MOST_OPEN:
                self.left_out.add(row)
                continue
            order.append(row)
            within = (each for each in reversed(open_rows) if ends[each] + ROUNDING_NS >= ends[row])
            above = self.parent[row] = next(within, NONE)
            open_rows.append(row)
            if self.is_step(row):
                while above != NONE and above not in holds_steps:
                    holds_steps.add(above)
                    above = self.parent[above]
        return order, holds_steps

    def _choose(self, order: list[int], holds_steps: set[int]) -> None:
        spans = self._spans
        rows = range(len(spans))
        steps = Timeline(spans.by_start(row for row in order if self.is_step(row)), spans.start_ns, spans.end_ns, rows)
        for row in order:
            if self.is_step(row):
                self.of[row], self.parent[row] = row, NONE
            elif self.parent[row] != NONE:
                self.of[row] = self.of[self.parent[row]]
            elif row in holds_steps:
                self.of[row] = OUTSIDE
            else:
                step = steps.at(spans.start_ns[row])
                self.of[row] = step if step >= 0 else row
                if step >= 0 and spans.thread[step] == spans.thread[row]:  # it outlives the step
                    self.parent[row] = step

    def _find_parents_elsewhere(self, order: list[int]) -> None:
        """Put annotations that lie in a step of another thread into what that thread was doing."""
        for row in order:
            request = self.of[row]
            if request not in (row, OUTSIDE) and self.parent[row] == NONE:
                self.parent[row] = self.place(request, self._spans.start_ns[row], self._spans.end_ns[row])

    def _requests_by_process(self, order: list[int]) -> dict[int | str | None, Timeline]:
        spans = self._spans
        rows = spans.by_start(row for row in order if self.is_request(row))
        found: dict[int | str | None, list[int]] = {None: rows}
        for row in rows:
            found.setdefault(self._threads[spans.thread[row]][0], []).append(row)
        return {process: Timeline(rows, spans.start_ns, spans.end_ns, self.of) for process, rows in found.items()}


def _grouped(rows: list[int], key: array[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for row in rows:
        found.setdefault(key[row], []).append(row)
    return found
