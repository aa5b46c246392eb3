"""Did the mean change between two stretches of time? Permutation tests of blocks, many quantities at once.

Requests that follow each other are alike, and durations have heavy tails: neither is what a t-test assumes. So values
are averaged over blocks of time, of as many requests on both sides, and the blocks are what is exchanged between the
sides. The distribution of that is not drawn but computed: the first three moments of the mean of a sample without
replacement are known, and a Pearson III curve has them too (as in Josse, Pagès, Husson 2008). Where neighbouring blocks
are still alike, the variance is inflated for it.

How long a block must be is found for each quantity: from BLOCKS on, blocks are halved as long as neighbours are not
alike. Short blocks see what comes in many short stretches; long ones are for what lasts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import pearson3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BLOCKS = 24  # of the side that has fewer requests, at least
HALVINGS = 3
LEAST_IN_BLOCK = 8  # requests
MOST_BLOCKS = 600  # of the longest
ALIKE = 1.0  # standard errors above zero from which on neighbouring blocks count as alike
_MOST_ALIKE = 0.9
_LEAST_OF_LONGER = 0.9  # an error is at least this part of what longer blocks say
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True)
class Shift:
    """Differences of means, candidate − baseline, with their standard errors and one-sided p-values; one a column."""

    difference: Floats
    error: Floats
    p_more: Floats
    p_less: Floats


def block_counts(baseline: int, candidate: int) -> tuple[int, int]:
    """Into how many blocks to cut each side, at least, so that those of both sides hold about as many requests."""
    size = max(1.0, min(baseline, candidate) / BLOCKS, max(baseline, candidate) / MOST_BLOCKS)
    return max(1, round(baseline / size)), max(1, round(candidate / size))


def halvings(baseline: int, candidate: int) -> int:
    """How often blocks may be halved until they hold too few requests."""
    blocks = block_counts(baseline, candidate)
    size = min(baseline / blocks[0], candidate / blocks[1])
    return int(np.clip(np.log2(max(size, 1) / LEAST_IN_BLOCK), 0, HALVINGS))


def block_means(ordered: Floats, blocks: int) -> Floats:
    """Means over blocks of time, (blocks, columns), of values (requests, columns) that are in the order of time."""
    edges = np.linspace(0, len(ordered), blocks + 1).astype(np.int64)
    means: Floats = np.add.reduceat(ordered, edges[:-1], axis=0) / np.diff(edges)[:, None]
    return means


def shift(baseline: Floats, candidate: Floats, halved: int = 0) -> Shift:
    """Test whether means over blocks differ; both are (blocks, columns). Fewer than two blocks a side: p is 1.

    The blocks are `halved` times shorter than they must be: neighbours are put together again where they are alike.
    """
    levels = [(baseline, candidate)]
    for _ in range(halved):
        levels.append((_pairs(levels[-1][0]), _pairs(levels[-1][1])))
    found, alike = _tested(*levels.pop())
    going = ~alike
    while levels and going.any():
        finer, alike = _tested(*levels.pop(), least=_LEAST_OF_LONGER * found.error)
        going &= ~alike
        found = Shift(
            found.difference,
            np.where(going, finer.error, found.error),
            np.where(going, finer.p_more, found.p_more),
            np.where(going, finer.p_less, found.p_less),
        )
    return found


def _pairs(blocks: Floats) -> Floats:
    means: Floats = (blocks[0::2] + blocks[1::2]) / 2
    return means


def _tested(baseline: Floats, candidate: Floats, least: Floats | float = 0.0) -> tuple[Shift, npt.NDArray[np.bool_]]:
    """Test blocks of one length, with an error of at least `least`; and say where neighbours are alike."""
    few, more = len(baseline), len(candidate)
    count = few + more
    difference: Floats = candidate.mean(axis=0) - baseline.mean(axis=0)
    if few < 2 or more < 2:
        nothing = np.ones_like(difference)
        never = Shift(difference, np.full_like(difference, np.inf), nothing, nothing.copy())
        return never, np.ones(len(difference), dtype=np.bool_)
    together = np.concatenate((baseline, candidate))
    centred = together - together.mean(axis=0)
    second = (centred**2).mean(axis=0)
    variance = second * count / (count - 1) * (1 / few + 1 / more)
    # blocks of the two sides may scatter differently: never less than what each of them says for itself
    apart = baseline.var(axis=0, ddof=1) / few + candidate.var(axis=0, ddof=1) / more
    correlation = _neighbours_alike(baseline, candidate)
    alike = np.clip(correlation, 0.0, _MOST_ALIKE)
    inflated = (1 + alike) / (1 - alike)
    error = np.sqrt(np.maximum(variance, apart) * inflated)
    own = np.maximum(np.sqrt(apart * inflated), least)
    error = np.maximum(error, least)
    spread = np.where(second > 0, second, 1.0)
    skew = ((centred / np.sqrt(spread)) ** 3).mean(axis=0)
    skew *= (count - 2 * more) * np.sqrt(count - 1) / (np.sqrt(few * more) * max(count - 2, 1))
    z = np.divide(difference, error, out=np.zeros_like(difference), where=error > 0)
    found = Shift(difference, own, _tail(z, skew), _tail(-z, -skew))
    return found, correlation * np.sqrt(count) > ALIKE


def _neighbours_alike(baseline: Floats, candidate: Floats) -> Floats:
    """Autocorrelation of neighbouring blocks within the sides, corrected for its bias."""
    products, squares = np.zeros(baseline.shape[1]), np.zeros(baseline.shape[1])
    for side in (baseline, candidate):
        residual = side - side.mean(axis=0)
        products += (residual[1:] * residual[:-1]).sum(axis=0)
        squares += (residual**2).sum(axis=0)
    raw = products / np.maximum(squares, _SMALLEST)
    corrected: Floats = raw + 2 / (len(baseline) + len(candidate))
    return corrected


def _tail(z: Floats, skewness: Floats) -> Floats:
    """P(Z ≥ z) of a standardised Pearson III; a normal one where it is not skewed."""
    bounded = np.where(np.abs(skewness) < 1e-4, 0.0, np.clip(skewness, -4.0, 4.0))
    return np.clip(np.asarray(pearson3.sf(z, bounded), dtype=np.float64), 0.0, 1.0)
