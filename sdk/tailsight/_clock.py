"""Time stamps that never run backwards, and the anchor that places them on the wall clock.

Spans are stamped with a monotonic clock, so that a step of the wall clock never makes a negative or absurd duration.
One anchor (wall minus monotonic) turns stamps into Unix time. It is renewed now and then, because the two clocks drift
apart; each trace keeps the anchor it began with, so that its spans stay consistent with each other.
"""

import time
from collections.abc import Callable

ANCHOR_RENEWAL_NS = 30_000_000_000
_ANCHOR_ATTEMPTS = 5


class Clock:
    """A monotonic clock with an anchor on the wall clock. All values are nanoseconds."""

    __slots__ = ("_renewed_at", "_renewed_at_wall", "_wall", "anchor_ns", "now")

    def __init__(self, now: Callable[[], int] = time.perf_counter_ns, wall: Callable[[], int] = time.time_ns) -> None:
        self.now = now
        self._wall = wall
        self.anchor_ns = 0
        self._renewed_at = self._renewed_at_wall = 0
        self.renew()

    def renew(self) -> None:
        """Read both clocks again. The reading that took the least time is the one least disturbed by the scheduler."""
        best_width, anchor, wall = None, 0, 0
        for _ in range(_ANCHOR_ATTEMPTS):
            before = self.now()
            wall = self._wall()
            after = self.now()
            if best_width is None or after - before < best_width:
                best_width, anchor = after - before, wall - (before + after) // 2
        self.anchor_ns = anchor
        self._renewed_at, self._renewed_at_wall = self.now(), wall

    def renew_if_due(self) -> None:
        """Renew an anchor older than ANCHOR_RENEWAL_NS. The sender calls this, never the hot path.

        By the wall clock as well: the monotonic one may stand still while the machine sleeps.
        """
        by_wall = abs(self._wall() - self._renewed_at_wall)
        if max(self.now() - self._renewed_at, by_wall) >= ANCHOR_RENEWAL_NS:
            self.renew()
