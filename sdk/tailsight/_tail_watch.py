"""Is the tail of the last minute above what is usual? Asked in the sidecar, which sees every request that is sent.

Two histograms of how long requests took: of the last minute, in slots, and of what was before it, which forgets half
of itself in half an hour. As `tailsight profile --on-tail` compares them, without a store to ask.
"""

from collections import deque

SLOT_S = 10.0
RECENT_SLOTS = 6
LEAST_RECENT = 20
LEAST_USUAL = 200
_HALF_LIFE_S = 1800.0
_FORGOTTEN = 0.01  # a bucket that weighs less is gone
_SUB_BITS = 5  # 32 buckets for each doubling: bounds are at most 3 % apart

Histogram = dict[int, float]


class TailWatch:
    """Takes durations, and tells whether the recent p99 is above `factor` times the usual one. Bounded memory."""

    def __init__(self, factor: float, now: float) -> None:
        """`now`: monotonic seconds, as at each look."""
        self._factor = factor
        self._slot: Histogram = {}
        self._slots: deque[Histogram] = deque([self._slot])
        self._usual: Histogram = {}
        self._next_slot_at = now + SLOT_S

    def add(self, duration_ns: int) -> None:
        """Take a request into account."""
        bucket = _bucket(max(0, duration_ns))
        self._slot[bucket] = self._slot.get(bucket, 0.0) + 1.0

    def look(self, now: float) -> tuple[float, float] | None:
        """Return the recent and the usual p99 in ms where the recent one is too high, else None."""
        while now >= self._next_slot_at:
            self._turn()
        recent: Histogram = {}
        for slot in self._slots:
            _add(recent, slot)
        high, usual = _p99_ns(recent, LEAST_RECENT), _p99_ns(self._usual, LEAST_USUAL)
        if high is None or usual is None or high <= self._factor * usual:
            return None
        return high / 1e6, usual / 1e6

    def _turn(self) -> None:
        """Begin the next slot; the oldest becomes part of what is usual."""
        self._next_slot_at += SLOT_S
        kept = 0.5 ** (SLOT_S / _HALF_LIFE_S)
        self._usual = {bucket: count * kept for bucket, count in self._usual.items() if count * kept >= _FORGOTTEN}
        if len(self._slots) >= RECENT_SLOTS:
            _add(self._usual, self._slots.popleft())
        self._slot = {}
        self._slots.append(self._slot)


def _bucket(duration_ns: int) -> int:
    shift = max(0, duration_ns.bit_length() - _SUB_BITS - 1)
    return (shift << (_SUB_BITS + 1)) + (duration_ns >> shift)


def _add(to: Histogram, more: Histogram) -> None:
    for bucket, count in more.items():
        to[bucket] = to.get(bucket, 0.0) + count


def _p99_ns(counts: Histogram, least: int) -> float | None:
    """Return the upper end of the bucket with the 99th percentile; None where there are too few to tell."""
    total = sum(counts.values())
    if total < least:
        return None
    above = total / 100
    for bucket in sorted(counts, reverse=True):
        above -= counts[bucket]
        if above <= 0:
            shift = bucket >> (_SUB_BITS + 1)
            return float(((bucket & (2 ** (_SUB_BITS + 1) - 1)) + 1) << shift)
    return None
