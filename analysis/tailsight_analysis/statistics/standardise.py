"""Two kinds compared as if both had the same mix of work: direct standardisation over strata, with intervals.

Observations of both kinds are sorted into strata (same model, same batch size, about the same input length). Within a
stratum like is compared with like; the strata are then put together in the shares that they have in one population, the
same for both kinds. Strata that only one of them has are left out, and what share that is gets said. What ranges of
numbers leave uneven inside a stratum is evened out: weights are calibrated to equal means (Deville and Särndal 1992).

Intervals are of the logarithm of the ratio: the mean's by linearisation, sums over blocks of time taken as independent
(Särndal, Swensson, Wretman 1992, ch. 5); a quantile's by inverting the interval of its distribution function (Woodruff
1952), a ratio's from those of its two sides (MOVER: Zou and Donner 2008).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEAST_IN_CELL = 5  # observations of each kind in a stratum, for it to count
LEAST_TO_CALIBRATE = 12
LEAST_COMPARABLE = 30  # observations of each kind in strata that both have
LEAST_BEYOND = 5  # effective observations beyond a quantile, for it to have an interval
LEAST_BLOCKS = 10
_TWO_SIDED = 0.975
_ROUNDS = 3  # of calibration


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as long, with a 95 % interval: an end is None where the data leave it open."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class LikeWithLike:
    """A kind against the reference, both over the same mix: means and quantiles of both, and their ratios.

    `comparable_share` is the share of both kinds' weight that lies in strata that both have. `p_value` is of "the means
    are equal", None without an interval. Quantiles and their ratios (None: one is 0) are in the order asked for.
    """

    comparable_share: float
    mean: float
    reference_mean: float
    mean_ratio: Ratio
    quantiles: tuple[float, ...]
    reference_quantiles: tuple[float, ...]
    quantile_ratios: tuple[Ratio | None, ...]
    p_value: float | None


@dataclass(frozen=True, slots=True)
class _Side:
    """One kind's observations in common strata, and for which share `omega` of the standardised whole each stands."""

    rows: Ints
    cell: Ints
    omega: Floats


def compare_kinds(
    values: Floats,
    is_kind: Bools,
    stratum: Ints,
    weight: Floats,
    block: Ints,
    population: Floats,
    numbers: Sequence[Floats] = (),
    quantiles: Sequence[float] = (0.5, 0.99),
) -> LikeWithLike | float:
    """Compare one kind (`is_kind`) with the reference, which the other observations are.

    `population` is the weight of each stratum in the mix that both are put to; `numbers` are covariates, nan where one
    is not known, to be evened out within strata. Returns the comparable share alone where too little is comparable.
    """
    count = np.stack([np.bincount(stratum[side], minlength=len(population)) for side in (is_kind, ~is_kind)])
    common: Bools = np.all(count >= LEAST_IN_CELL, axis=0)
    rows = np.flatnonzero(common[stratum])
    whole = float(weight.sum())
    share = float(weight[rows].sum()) / whole if whole else 0.0
    if min(int(is_kind[rows].sum()), int((~is_kind)[rows].sum())) < LEAST_COMPARABLE:
        return share
    mix = np.where(common, population, 0.0)
    mix = mix / mix.sum()
    sides = [_side(rows[side[rows]], stratum, weight, mix, rows, numbers) for side in (is_kind, ~is_kind)]
    kind_mean, reference_mean = (float(side.omega @ values[side.rows]) for side in sides)
    if kind_mean <= 0 or reference_mean <= 0:
        return share
    blocks = np.unique(block[rows], return_inverse=True)[1]
    there = _Common(rows, stratum[rows], weight[rows] / float(weight[rows].sum()), blocks)
    parts = [
        _influence(there, side, values, mean, numbers) / mean
        for side, mean in zip(sides, (kind_mean, reference_mean), strict=True)
    ]
    mean_ratio, p_value = _ratio_of_means(kind_mean / reference_mean, parts[0] - parts[1])
    ends = [_quantiles(there, side, values, quantiles) for side in sides]
    return LikeWithLike(
        comparable_share=share,
        mean=kind_mean,
        reference_mean=reference_mean,
        mean_ratio=mean_ratio,
        quantiles=tuple(point for point, _, _ in ends[0]),
        reference_quantiles=tuple(point for point, _, _ in ends[1]),
        quantile_ratios=tuple(_mover(kind, reference) for kind, reference in zip(*ends, strict=True)),
        p_value=p_value,
    )


def standardised_ratio(
    values: Floats, is_kind: Bools, stratum: Ints, weight: Floats, population: Floats
) -> float | None:
    """Ratio of the means alone, without evening out within strata; None where too little is comparable."""
    sides = [side.astype(np.float64) * weight for side in (is_kind, ~is_kind)]
    counts = [np.bincount(stratum[side], minlength=len(population)) for side in (is_kind, ~is_kind)]
    mix = np.where((counts[0] >= LEAST_IN_CELL) & (counts[1] >= LEAST_IN_CELL), population, 0.0)
    if min(int(count[mix > 0].sum()) for count in counts) < LEAST_COMPARABLE:
        return None
    means = []
    for side in sides:
        weights = np.bincount(stratum, side, minlength=len(mix))
        sums = np.bincount(stratum, side * values, minlength=len(mix))
        means.append(float(mix @ np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)))
    return means[0] / means[1] if means[1] > 0 else None


# --- inside -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Common:
    """All observations in common strata, their shares of the weight, and their blocks."""

    rows: Ints
    stratum: Ints
    share: Floats
    block: Ints


def _side(rows: Ints, stratum: Ints, weight: Floats, mix: Floats, common: Ints, numbers: Sequence[Floats]) -> _Side:
    cell = stratum[rows]
    calibrated = weight[rows].copy()
    # again and again: factors are bounded, and one number's upset another's
    for number in (*numbers,) * _ROUNDS:
        target = _mean_by(stratum[common], weight[common], number[common], len(mix))
        calibrated *= _calibration(cell, calibrated, number[rows], target)
    sums = np.bincount(cell, calibrated, minlength=len(mix))
    return _Side(rows, cell, mix[cell] * calibrated / sums[cell])


def _calibration(cell: Ints, weight: Floats, number: Floats, target: Floats) -> Floats:
    """Give factors of the weights that bring each cell's mean of `number` to its stratum's, within bounds."""
    factor = np.ones(len(cell))
    known = np.isfinite(number)
    if not known.any():
        return factor
    own = _mean_by(cell, weight, number, len(target))
    deviation = np.where(known, number - own[cell], 0.0)
    spread = _mean_by(cell, weight, np.where(known, deviation**2, np.nan), len(target))
    enough = np.bincount(cell[known], minlength=len(target)) >= LEAST_TO_CALIBRATE
    shift = np.where(enough & (spread > 0), target - own, 0.0)
    lean = np.divide(shift, spread, out=np.zeros_like(shift), where=enough & (spread > 0))
    return np.where(known, np.clip(1 + lean[cell] * deviation, 0.1, 10.0), factor)


def _influence(there: _Common, side: _Side, values: Floats, mean: float, numbers: Sequence[Floats]) -> Floats:
    """How much each block moves the standardised mean: within cells, and by the mix of strata."""
    strata = int(there.stratum.max()) + 1
    y = values[side.rows]
    count = np.bincount(side.cell, minlength=strata)
    level = _mean_by(side.cell, side.omega, y, strata)
    residual = y - level[side.cell]
    for number in numbers:
        residual -= _slope_part(side, number[side.rows], residual, strata)
    lost = 1 + len(numbers)  # as many degrees of freedom a cell
    scale = np.sqrt(count / np.maximum(count - lost, 1))
    place = np.searchsorted(there.rows, side.rows)
    within: Any = np.bincount(
        there.block[place], side.omega * residual * scale[side.cell], minlength=there.block.max() + 1
    )
    mixing: Any = np.bincount(there.block, there.share * (level[there.stratum] - mean), minlength=len(within))
    moved: Floats = within + mixing
    return moved


def _slope_part(side: _Side, number: Floats, residual: Floats, strata: int) -> Floats:
    """Give what a cell's regression on the number explains of the residuals."""
    known = np.isfinite(number)
    own = _mean_by(side.cell, side.omega, number, strata)
    deviation = np.where(known, number - own[side.cell], 0.0)
    enough = np.bincount(side.cell[known], minlength=strata) >= LEAST_TO_CALIBRATE
    squares = np.bincount(side.cell, side.omega * deviation**2, minlength=strata)
    products = np.bincount(side.cell, side.omega * deviation * residual, minlength=strata)
    slope = np.divide(products, squares, out=np.zeros(strata), where=enough & (squares > 0))
    part: Floats = slope[side.cell] * deviation
    return part


def _ratio_of_means(value: float, moved: Floats) -> tuple[Ratio, float | None]:
    blocks = len(moved)
    if blocks < LEAST_BLOCKS:
        return Ratio(value, None, None), None
    error = _standard_error(moved)
    if error == 0:
        return Ratio(value, value, value), float(value == 1)
    reach = float(student.ppf(_TWO_SIDED, blocks - 1)) * error
    p_value = 2 * float(student.sf(abs(math.log(value)) / error, blocks - 1))
    return Ratio(value, value * math.exp(-reach), value * math.exp(reach)), p_value


def _quantiles(
    there: _Common, side: _Side, values: Floats, quantiles: Sequence[float]
) -> list[tuple[float, float | None, float | None]]:
    """Quantiles of one side, and the ends of their intervals, None where the data leave one open."""
    y = values[side.rows]
    ordered, middle = _curve(y, side.omega)
    blocks = int(there.block.max()) + 1
    effective = 1 / float((side.omega**2).sum())
    found = []
    for quantile in quantiles:
        point, low, high = float(np.interp(quantile, middle, ordered)), None, None
        if blocks >= LEAST_BLOCKS and effective * min(quantile, 1 - quantile) >= LEAST_BEYOND:
            below = np.zeros(len(values))
            below[side.rows] = y <= point
            at_most = float(side.omega @ below[side.rows])
            error = _standard_error(_influence(there, side, below, at_most, ()))
            reach = float(student.ppf(_TWO_SIDED, blocks - 1)) * error
            low = float(np.interp(quantile - reach, middle, ordered)) if quantile > reach else None
            high = float(np.interp(quantile + reach, middle, ordered)) if quantile + reach < 1 else None
        found.append((point, low, high))
    return found


def _curve(values: Floats, omega: Floats) -> tuple[Floats, Floats]:
    """Order the values, and say at which share of the weight the middle of each lies (Hazen 1914)."""
    order = np.argsort(values, kind="stable")
    shares = omega[order]
    return values[order], (np.cumsum(shares) - shares / 2) / shares.sum()


def _mover(
    kind: tuple[float, float | None, float | None], reference: tuple[float, float | None, float | None]
) -> Ratio | None:
    """Ratio of two quantiles, with an interval from those of both; None where one is 0."""
    (a, a_low, a_high), (b, b_low, b_high) = kind, reference
    if a <= 0 or b <= 0:
        return None
    value = a / b

    def end(near: float | None, far: float | None, sign: int) -> float | None:
        if not near or not far:
            return None
        return value * math.exp(sign * math.hypot(math.log(near / a), math.log(far / b)))

    return Ratio(value, end(a_low, b_high, -1), end(a_high, b_low, 1))


def _standard_error(moved: Floats) -> float:
    blocks = len(moved)
    return math.sqrt(blocks / (blocks - 1) * float(((moved - moved.mean()) ** 2).sum()))


def _mean_by(cell: Ints, weight: Floats, values: Floats, cells: int) -> Floats:
    """Weighted mean of the known values in each cell, 0 where there are none."""
    known = np.isfinite(values)
    sums = np.bincount(cell[known], (weight * values)[known], minlength=cells)
    weights = np.bincount(cell[known], weight[known], minlength=cells)
    return np.divide(sums, weights, out=np.zeros(cells), where=weights > 0)
