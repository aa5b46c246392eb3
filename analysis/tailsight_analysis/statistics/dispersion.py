"""Say how much values vary: differences of quantiles and the coefficient of variation, with intervals.

Intervals of a difference are made of those of both quantiles (MOVER: Zou and Donner 2008), which are exact where values
are independent and wider where stretches of time are alike (see intervals.py). That of the coefficient of variation is
Student's, of its logarithm, with the variance of its influence function between stretches of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_analysis.statistics.linearised import block_sums, reach

Floats = npt.NDArray[np.float64]

BATCHES = 32
_LEAST_BATCHES = 8
_LEAST_SEVERAL = 300  # values that the variance rests on, by their parts of it: of fewer, the next one moves it
_LEVELS = (0.25, 0.5, 0.75, 0.99)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A figure and the interval that holds it with 95 % confidence; no bounds where there are too few values."""

    value: float
    low: float | None
    high: float | None

    def scaled(self, factor: float) -> Bounded:
        """Return it in another unit."""
        return Bounded(
            self.value * factor,
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
        )


@dataclass(frozen=True, slots=True)
class Dispersion:
    """What is known of one group's values, in their unit; `cv` has none.

    `missing` is how many more values it takes until p99 − p50 has an interval. `independent` is how many independent,
    equally weighted values tell as much about the median.
    """

    p50: float
    p99: float
    mean: float
    above_median: Bounded  # p99 − p50
    middle_half: Bounded  # p75 − p25
    cv: Bounded | None  # None where the mean is 0
    missing: int
    independent: float


def dispersion(cells: Cells) -> Dispersion:
    """Sum up counted values, of which there must be at least one."""
    order = np.argsort(cells.value, kind="stable")
    quantiles = [_quantile(cells.value[order], cells.width[order], cells.weight[order], level) for level in _LEVELS]
    bounds = quantile_intervals(cells, _LEVELS, quantiles)
    p25, p50, p75, p99 = quantiles
    mean, cv = _variation(cells)
    return Dispersion(
        p50=p50,
        p99=p99,
        mean=mean,
        above_median=_difference((p99, bounds[3]), (p50, bounds[1])),
        middle_half=_difference((p75, bounds[2]), (p25, bounds[0])),
        cv=cv,
        missing=max(bounds[1].missing, bounds[3].missing),
        independent=_independent(cells, p50),
    )


def _quantile(value: Floats, width: Floats, weight: Floats, level: float) -> float:
    """Type 7 of Hyndman and Fan (1996), each value repeated by its weight; within a cell, spread evenly."""
    reached = np.cumsum(weight)
    place = level * (reached[-1] - 1)
    at = min(int(np.searchsorted(reached, place, side="right")), len(value) - 1)
    if width[at]:
        inside = (place - (reached[at] - weight[at])) / weight[at]
        return float(value[at] + width[at] * min(max(inside, 0.0), 1.0))
    following = value[min(at + 1, len(value) - 1)]
    return float(value[at] + max(0.0, place - (reached[at] - 1)) * (following - value[at]))


def _difference(upper: tuple[float, Interval], lower: tuple[float, Interval]) -> Bounded:
    (high_value, high), (low_value, low) = upper, lower
    value = high_value - low_value
    from_ = to = None
    if high.low is not None and low.high is not None:
        from_ = max(0.0, value - math.hypot(high_value - high.low, low.high - low_value))
    if high.high is not None and low.low is not None:
        to = value + math.hypot(high.high - high_value, low_value - low.low)
    return Bounded(value, from_, to)


def _variation(cells: Cells) -> tuple[float, Bounded | None]:
    """Mean, and standard deviation over mean."""
    middle = cells.value + cells.width / 2
    weight = cells.weight / cells.weight.sum()
    mean = float(weight @ middle)
    if mean <= 0:
        return mean, None
    variance = float(weight @ (middle - mean) ** 2)
    cv = math.sqrt(variance) / mean
    if variance <= 0:
        return mean, Bounded(cv, None, None)
    # how much a value moves the logarithm of the coefficient
    influence = weight * (((middle - mean) ** 2 - variance) / (2 * variance) - (middle - mean) / mean)
    squares = cells.weight * (middle - mean) ** 2
    several = float(squares.sum()) ** 2 / max(float(squares @ (squares / np.maximum(cells.count, 1))), 1e-300)
    blocks, block = np.unique(cells.block, return_inverse=True)
    batch = np.arange(len(blocks)) * BATCHES // len(blocks) if len(blocks) > BATCHES else np.arange(len(blocks))
    batches = int(batch.max()) + 1
    width = None
    if cells.count.sum() >= 2 * batches and several >= _LEAST_SEVERAL:
        width = reach(block_sums(batch[block], influence[:, None]))
    if width is None:
        return mean, Bounded(cv, None, None)
    return mean, Bounded(cv, cv * math.exp(-float(width[0])), cv * math.exp(float(width[0])))


def _independent(cells: Cells, median: float) -> float:
    """How many independent values tell as much about the median: fewer where stretches of time are alike."""
    total = float(cells.weight.sum())
    kish = total**2 / float(cells.weight2.sum())
    blocks, block = np.unique(cells.block, return_inverse=True)
    if len(blocks) < _LEAST_BATCHES:
        return kish
    above = (cells.value + cells.width / 2) > median
    share = float(cells.weight[above].sum()) / total
    surplus = np.bincount(block, weights=cells.weight * (above - share), minlength=len(blocks)) / total
    between = float(surplus @ surplus) * len(blocks) / (len(blocks) - 1)
    if between <= 0:
        return kish
    return min(kish, share * (1 - share) / between)
