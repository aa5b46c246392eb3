"""Which of some intervals is open at a time: the one that began last, or none for sure where they differ in group."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

NONE = -1
AMBIGUOUS = -2


class Timeline:
    """Answers for every time in O(log n), in 16 bytes an end of an interval.

    `rows`: the intervals' numbers in the order of their starts, the longer first; `group`: what each belongs to.
    """

    __slots__ = ("_owners", "_times")

    def __init__(self, rows: Iterable[int], starts: Sequence[int], ends: Sequence[int], group: Sequence[int]) -> None:
        self._times = array("q")
        self._owners = array("q")
        open_rows: dict[int, None] = {}  # in the order in which they began
        groups: dict[int, int] = {}  # how many of each are open
        closing: list[tuple[int, int]] = []
        for row in rows:
            self._close(closing, starts[row], open_rows, groups, group)
            open_rows[row] = None
            groups[group[row]] = groups.get(group[row], 0) + 1
            heapq.heappush(closing, (ends[row], row))
            self._change(starts[row], open_rows, groups)
        self._close(closing, None, open_rows, groups, group)

    def at(self, time_ns: int) -> int:
        """Return the innermost interval that is open then (it begins at its start, and has ended at its end).

        NONE where none is open, AMBIGUOUS where those that are open belong to several groups.
        """
        at = bisect_right(self._times, time_ns) - 1
        return self._owners[at] if at >= 0 else NONE

    def is_steady(self, start_ns: int, end_ns: int) -> bool:
        """Whether none begins or ends strictly between two times."""
        return bisect_right(self._times, start_ns) >= bisect_left(self._times, end_ns)

    def _close(
        self,
        closing: list[tuple[int, int]],
        until_ns: int | None,
        open_rows: dict[int, None],
        groups: dict[int, int],
        group: Sequence[int],
    ) -> None:
        while closing and (until_ns is None or closing[0][0] <= until_ns):
            end_ns, row = heapq.heappop(closing)
            del open_rows[row]
            groups[group[row]] -= 1
            if not groups[group[row]]:
                del groups[group[row]]
            self._change(end_ns, open_rows, groups)

    def _change(self, time_ns: int, open_rows: dict[int, None], groups: dict[int, int]) -> None:
        owner = NONE if not open_rows else AMBIGUOUS if len(groups) > 1 else next(reversed(open_rows))
        if self._times and self._times[-1] == time_ns:
            self._owners[-1] = owner
        else:
            self._times.append(time_ns)
            self._owners.append(owner)
