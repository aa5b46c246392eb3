"""The variance of a sum as the sum of its parts' variances and covariances, exactly, with intervals.

For parts x_i with T = Σ x_i:  Var(T) = Σ Var(x_i) + 2 Σ_{i<j} Cov(x_i, x_j). A part's share, its variance and half of
its covariances, is Cov(x_i, T) ÷ Var(T). It is the part's Shapley value in the game v(S) = Var(Σ_{i∈S} x_i)
(Colini-Baldeschi, Scarsini, Vaccari 2018, "Variance allocation and Shapley value"). Shares add up to 1; one may be
negative.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.linearised import LEAST_BLOCKS, block_sums, reach

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_COLUMNS_AT_ONCE = 256
_NOTHING_LEFT = 1e-9  # of the variance, without one block: then nobody can say how shares vary from block to block


@dataclass(frozen=True, slots=True)
class VarianceParts:
    """Parts of a variance. `covariance` is (parts, parts) and adds up to `variance`; of the population, not of n − 1.

    `share` is each part's Cov(x_i, T) ÷ Var(T), zeros where nothing varies. Intervals are of the shares: of the parts,
    (low, high) of each, and of the cells of `covariance`; None where there were too few blocks, nothing varies, or only
    one block does.
    """

    mean: Floats
    covariance: Floats
    variance: float
    share: Floats
    share_interval: tuple[Floats, Floats] | None
    cell_interval: tuple[Floats, Floats] | None


def variance_parts(values: Floats, weight: Floats, block: Ints) -> VarianceParts:
    """Split the variance of the rows' sums of `values` (observations, parts), each observation of some weight.

    `block` says which observations go together in the intervals (`linearised.blocks_in_time`).
    """
    total = float(weight.sum())
    mean: Floats = weight @ values / total
    centred = values - mean
    covariance: Floats = (centred * weight[:, None]).T @ centred / total
    whole = centred.sum(axis=1)
    # not covariance.sum(): where parts make up for each other, what that leaves is rounding
    variance = float(weight @ whole**2) / total
    parts = values.shape[1]
    # rounding alone leaves about this much of values that are all equal
    if variance <= (1e-12 * float(np.abs(mean).sum())) ** 2:
        return VarianceParts(mean, np.zeros((parts, parts)), 0.0, np.zeros(parts), None, None)
    share: Floats = (weight * whole) @ centred / (total * variance)
    cells = covariance / variance
    no_interval = VarianceParts(mean, covariance, variance, share, None, None)
    if len(np.unique(block)) < LEAST_BLOCKS:
        return no_interval
    without = _WithoutEach(weight, block)
    variances = without.covariances(whole[:, None], whole[:, None])
    if (variances <= _NOTHING_LEFT * variance).any():
        return no_interval
    width = without.reach(without.covariances(centred, whole[:, None]) / variances)
    if width is None:
        return no_interval
    first, second = np.triu_indices(parts)
    cell_width = np.empty((parts, parts))
    for at in range(0, len(first), _COLUMNS_AT_ONCE):  # so that the products of all pairs never stand in memory at once
        left, right = first[at : at + _COLUMNS_AT_ONCE], second[at : at + _COLUMNS_AT_ONCE]
        moved = without.covariances(centred[:, left], centred[:, right]) / variances
        cell_width[left, right] = cell_width[right, left] = without.reach(moved)
    return VarianceParts(
        mean, covariance, variance, share, (share - width, share + width), (cells - cell_width, cells + cell_width)
    )


@dataclass(frozen=True, slots=True)
class _WithoutEach:
    """Leaves out one block after the other (jackknife: Quenouille 1956, Tukey 1958).

    Of a ratio with few large terms, it shows how much one block moves it; its first derivative shows too little of it.
    """

    weight: Floats
    block: Ints

    def covariances(self, left: Floats, right: Floats) -> Floats:
        """Covariances of columns of `left` with those of `right`, without each block, (blocks, columns)."""
        weight = self.weight[:, None]
        total, of_left, of_right, product = (
            values.sum(axis=0) - block_sums(self.block, values)
            for values in (weight, weight * left, weight * right, weight * left * right)
        )
        result: Floats = product / total - of_left * of_right / total**2
        return result

    def reach(self, figures: Floats) -> Floats | None:
        """Half the width of the 95 % interval of figures that were taken without each block."""
        blocks = len(figures)
        return reach((figures - figures.mean(axis=0)) * ((blocks - 1) / blocks))


def share_of_slowest(total: Floats, weight: Floats, share: float = 0.01) -> tuple[float, npt.NDArray[np.bool_]]:
    """Share of the variance of `total` that its highest values have, a `share` of the weight; and which they are."""
    mean = float(weight @ total) / float(weight.sum())
    part = weight * (total - mean) ** 2
    order = np.argsort(total, kind="stable")
    above = np.cumsum(weight[order][::-1])[::-1]  # weight at or above each, in ascending order
    slowest = np.zeros(len(total), dtype=np.bool_)
    slowest[order[above <= share * weight.sum() * (1 + 1e-9)]] = True
    whole = float(part.sum())
    return (float(part[slowest].sum()) / whole if whole > 0 else 0.0), slowest
