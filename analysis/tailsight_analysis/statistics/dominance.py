"""Who is better at both of two things, and how sure is that? Pareto dominance of estimates with their errors.

Of variants a and b with independent estimates, a is better at something for certain where the 95 % interval of the
difference lies on its side. Dominance asks for both at once: it is certain where both are, probable where one is and
the other at least looks no worse, and otherwise open, whatever the estimates say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Certainty(StrEnum):
    """How sure it is that one variant is better than another at both."""

    CERTAIN = "certain"
    PROBABLE = "probable"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of which more is better or worse, and its 95 % interval; an end is None where the data leave it open."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Rated:
    """What a variant is judged by."""

    quality: Estimate
    latency: Estimate


def dominates(one: Rated, other: Rated, *, lower_quality_is_better: bool = False) -> Certainty | None:
    """Say how sure it is that `one` is better at both; None where it is open, or not so."""
    sign = -1 if lower_quality_is_better else 1
    gains = (
        difference(one.quality, other.quality) if sign > 0 else difference(other.quality, one.quality),
        difference(other.latency, one.latency),
    )
    if any(gain.value < 0 for gain in gains) or not any(gain.value > 0 for gain in gains):
        return None
    sure = [gain.low is not None and gain.low > 0 for gain in gains]
    if all(sure):
        return Certainty.CERTAIN
    return Certainty.PROBABLE if any(sure) else None


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One minus the other, with an interval from those of both (MOVER: Zou and Donner 2008)."""
    value = one.value - other.value
    low = high = None
    if one.low is not None and other.high is not None:
        low = value - math.hypot(one.value - one.low, other.high - other.value)
    if one.high is not None and other.low is not None:
        high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high)
