"""The pace of a stream: when its items were handed over, and what follows from it.

In the service an item costs one stamp. Gaps and their quantiles are computed where the record is encoded, which is in
another process if there is a sidecar. Memory is bounded: the first STAMPS_KEPT stamps travel as they are, and gaps
beyond are counted in a histogram whose buckets are less than 1 % wide.
"""

import math
import struct
import sys
from array import array
from collections import Counter
from collections.abc import Callable
from functools import partial
from operator import sub

from . import attributes as keys
from ._guard import caught
from ._values import Value

STAMPS_KEPT = 4096
BLOCK = 256
"""So many stamps wait as Python objects until they are packed or folded: 4 µs, or 40 µs in a long stream."""

_STAMP = struct.Struct("=q")
_pack_block = struct.Struct(f"={BLOCK}q").pack
_HIGH_HALF = slice(1, None, 2) if sys.byteorder == "little" else slice(0, None, 2)

Packed = tuple[int, bytes, dict[int, int], int]
"""What a stream leaves behind, as marshal takes it: items, the first stamps, bucket counts, longest folded gap."""


class Pace:
    """Collects the stamps of one stream. `fresh.append` is all that an item costs."""

    __slots__ = ("_buckets", "_kept", "_last", "_longest", "_packed_items", "fresh")

    def __init__(self) -> None:
        self.fresh: list[int] = []
        self._kept = bytearray()
        self._packed_items = 0
        self._last = 0
        self._buckets: Counter[int] = Counter()
        self._longest = 0

    def turn(self) -> None:
        """Make room: called once in BLOCK items."""
        try:
            if len(self.fresh) == BLOCK and self._packed_items < STAMPS_KEPT:
                self._kept += _pack_block(*self.fresh)
            else:
                self._put_away()
            self._last = self.fresh[-1]
            self._packed_items += len(self.fresh)
        except Exception as error:
            caught("collecting a stream's stamps", error)
        self.fresh.clear()

    def _put_away(self) -> None:
        if self._packed_items < STAMPS_KEPT:
            self._kept += struct.pack(f"={len(self.fresh)}q", *self.fresh)
            return
        # All of it in C: no Python code runs for each gap. The high half of a 32-bit float is its sign, its exponent
        # and 7 bits of its mantissa, so floats that share it differ by less than 1/128.
        gaps = list(map(sub, self.fresh, [self._last, *self.fresh]))
        self._longest = max(self._longest, *gaps)
        self._buckets.update(array("H", array("f", gaps).tobytes())[_HIGH_HALF])

    def packed(self) -> Packed:
        """Return everything, for the record."""
        if self.fresh:
            self.turn()
        return self._packed_items, bytes(self._kept), dict(self._buckets), self._longest


def summary(packed: Packed, start_ns: int) -> dict[str, Value]:
    """Return a stream's attributes. `start_ns` is when its span began.

    A gap is the time between the handovers of two consecutive items, so it includes what the consumer did in between.
    Quantiles are interpolated linearly between order statistics, as everywhere in tailsight.
    """
    items, kept, buckets, longest = packed
    found: dict[str, Value] = {keys.STREAM_ITEMS: items}
    if not kept:
        return found
    stamps = [stamp for (stamp,) in _STAMP.iter_unpack(kept)]
    found[keys.TIME_TO_FIRST_CHUNK] = (stamps[0] - start_ns) / 1e9
    gaps = sorted(map(sub, stamps[1:], stamps))
    if gaps:
        count = len(gaps) + sum(buckets.values())
        order_statistic: Callable[[int], float] = gaps.__getitem__
        if buckets:
            folded = [(_middle(code), times) for code, times in buckets.items()]
            order_statistic = partial(_order_statistic, sorted([*((float(gap), 1) for gap in gaps), *folded]))
        found[keys.STREAM_GAP_P50_MS] = _quantile(order_statistic, count, 0.5) / 1e6
        found[keys.STREAM_GAP_P99_MS] = _quantile(order_statistic, count, 0.99) / 1e6
        found[keys.STREAM_GAP_MAX_MS] = max(gaps[-1], longest) / 1e6
    return found


def _middle(code: int) -> float:
    """Return the middle of a bucket of the histogram, in nanoseconds."""
    if code == 0:
        return 0.0
    (middle,) = struct.unpack("=f", struct.pack("=I", code << 16 | 0x8000))
    return float(middle)


def _quantile(order_statistic: Callable[[int], float], values: int, q: float) -> float:
    """Interpolate linearly between the two order statistics beside the rank q·(n-1)."""
    rank = q * (values - 1)
    below, above = order_statistic(math.floor(rank)), order_statistic(math.ceil(rank))
    return below + (above - below) * (rank - math.floor(rank))


def _order_statistic(counted: list[tuple[float, int]], index: int) -> float:
    for value, count in counted:
        index -= count
        if index < 0:
            return value
    return counted[-1][0]
