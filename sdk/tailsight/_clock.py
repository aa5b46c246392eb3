"""Time stamps that never run backwards, and the anchor that places them on the wall clock.

Spans are stamped with a monotonic clock, so that a step of the wall clock never makes a negative or absurd duration.
One anchor (wall minus monotonic) turns stamps into Unix time. Each trace begins with a look at it, and renews it if the
clocks have moved apart; each trace keeps the anchor it began with, so that its spans stay consistent with each other.
"""

import time
from collections.abc import Callable

ANCHOR_TOLERANCE_NS = 100_000
_ANCHOR_ATTEMPTS = 5


class Clock:
    """A monotonic clock with an anchor on the wall clock. All values are nanoseconds."""

    __slots__ = ("_wall", "anchor_ns", "now")

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns, wall: Callable[[], int] = time.time_ns) -> None:
        self.now = now
        self._wall = wall
        self.anchor_ns = 0
        self.renew()

    def renew(self) -> None:
        """Read both clocks again. The reading that took the least time is the one least disturbed by the scheduler."""
        best_width, anchor = None, 0
        for _ in range(_ANCHOR_ATTEMPTS):
            before = self.now()
            wall = self._wall()
            after = self.now()
            if best_width is None or after - before < best_width:
                best_width, anchor = after - before, wall - (before + after) // 2
        self.anchor_ns = anchor

    def fresh_anchor_ns(self) -> int:
        """Return the anchor, renewed if it is off by more than ANCHOR_TOLERANCE_NS.

        The wall clock was set, or slewed, or the machine slept; or this thread was interrupted between two readings.
        """
        off = self._wall() - self.now() - self.anchor_ns
        if not -ANCHOR_TOLERANCE_NS < off < ANCHOR_TOLERANCE_NS:
            self.renew()
        return self.anchor_ns
