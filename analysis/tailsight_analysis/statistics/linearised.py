"""Intervals of ratios, shares and means by linearisation, with stretches of time as the units of chance.

How much a figure moves with each observation (its influence) is summed over blocks of time; the blocks' sums vary by
chance, and their variance is the figure's (Särndal, Swensson, Wretman 1992, ch. 5; for clusters Liang, Zeger 1986).
What follows each other is alike, so it stands in one block: that is what keeps intervals honest for bursts. Where
neighbouring blocks are still alike, there are as many fewer of them (Bartlett 1935). Of independent observations
hardly anything is lost.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_BLOCKS, FEW_BLOCKS = 100, 20
LEAST_BLOCKS = 10  # of fewer, the variance between them says too little
_OBSERVATIONS_A_BLOCK = 20
_TWO_SIDED = 0.975
_MOST_ALIKE = 0.9


def blocks_in_time(start_ns: Ints) -> Ints:
    """Block of each observation, in the order of their starts and as many in each.

    About twenty observations make a block, at most MOST_BLOCKS; few observations still make FEW_BLOCKS, or one each.
    """
    count = len(start_ns)
    blocks = min(count, max(FEW_BLOCKS, min(count // _OBSERVATIONS_A_BLOCK, MOST_BLOCKS)))
    number = np.empty(count, dtype=np.int64)
    number[np.argsort(start_ns, kind="stable")] = np.arange(count, dtype=np.int64) * blocks // max(count, 1)
    return number


def block_sums(block: Ints, values: Floats) -> Floats:
    """Sum the rows of `values` (observations, columns) block by block, (blocks, columns), but for empty ones."""
    if len(block) == 0:
        return np.zeros((0, values.shape[1]))
    order = np.argsort(block, kind="stable")
    first = np.flatnonzero(np.diff(block[order], prepend=-1))
    sums: Floats = np.add.reduceat(values[order], first, axis=0)
    return sums


def reach(influence: Floats) -> Floats | None:
    """Half the width of the 95 % interval of each column's figure, given the blocks' influence (blocks, columns).

    Blocks follow each other in time. None where there are too few.
    """
    blocks = len(influence)
    if blocks < LEAST_BLOCKS:
        return None
    rest = influence - influence.mean(axis=0)
    squares = (rest**2).sum(axis=0)
    products = (rest[1:] * rest[:-1]).sum(axis=0)
    # the mean that was taken off makes neighbours look unlike by 1 / blocks
    correlation = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0) + 1 / blocks
    alike = np.clip(correlation, 0.0, _MOST_ALIKE)
    repeats = (1 + alike) / (1 - alike)
    freedom = np.maximum(blocks / repeats - 1, 1.0)
    width: Floats = student.ppf(_TWO_SIDED, freedom) * np.sqrt(blocks / (blocks - 1) * squares * repeats)
    return width


def mean_interval(values: Floats, weight: Floats, block: Ints) -> tuple[float, float] | None:
    """Bound the weighted mean of some values; None where there are too few blocks."""
    total = float(weight.sum())
    mean = float(weight @ values) / total
    width = reach(block_sums(block, (weight * (values - mean) / total)[:, None]))
    return None if width is None else (mean - float(width[0]), mean + float(width[0]))
