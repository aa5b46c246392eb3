"""A trace id as one number instead of two, so that a trace is found by one binary search."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Unsigned = npt.NDArray[np.uint64]
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def trace_number(first: Unsigned, last: Unsigned) -> Unsigned:
    """Make one number of the two halves of an id, as sql/trace_facts.sql does; as good as unique.

    Ids need not be random: products carry what differs upwards, and swapped bytes carry it downwards, so that counters
    in both halves do not cancel each other out.
    """
    with np.errstate(over="ignore"):
        number: Unsigned = (first * _FACTOR) ^ (last * _FACTOR).byteswap()
    return number
