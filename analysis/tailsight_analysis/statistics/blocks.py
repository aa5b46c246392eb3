"""Statements about requests that are not independent: stretches of time are, more or less, and so they are the units.

A burst makes many requests slow together, and a version holds for hours. So shares are compared with a variance that
comes from blocks of time (cluster-robust: Liang and Zeger 1986), and intervals by drawing whole blocks anew (block
bootstrap: Künsch 1989). Where neighbouring blocks are still alike, there are as many fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata
from scipy.stats import t as student

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MOST_BLOCKS = 200
DRAWN_BLOCKS = 25  # an interval has to hold also where what happens lasts
_LEAST_IN_A_BLOCK = 20
_REPLICATES = 400
_MEANS = 2  # that are taken off: where a condition holds, and where not
_AS_IF_DRAWN = 0.1  # correlation of neighbouring requests, up to which a condition is as good as drawn for each
_STEPS = 40  # of a bisection


def time_blocks(start_ns: Ints, most: int = MOST_BLOCKS) -> Ints:
    """Divide requests into blocks of time, about as many in each: the number of each one's.

    Requests that start at one moment share a block.
    """
    count = max(1, min(most, len(start_ns) // _LEAST_IN_A_BLOCK))
    ends = np.quantile(start_ns, np.arange(1, count) / count) if len(start_ns) else np.empty(0)
    blocks: Ints = np.searchsorted(ends, start_ns, side="right").astype(np.int64)
    return blocks


def chance_in_time(is_case: Bools, holds: Bools, block: Ints) -> float:
    """Return a one-sided p-value: cases meet a condition more often than chance allows, whatever time does to both.

    The three have an entry a request, in the order of time. Conditions are judged between blocks of time, and one that
    requests meet as if it were drawn for each of them anew also within: there no trend and no burst of slow requests
    can feign anything. Of the two tests one will do, for twice the p-value.
    """
    between = chance_of_difference(is_case, holds, block)
    if _neighbours_alike(holds, block) > _AS_IF_DRAWN:
        return between
    return min(1.0, 2 * min(between, chance_within(is_case, holds, block)))


def chance_within(is_case: Bools, holds: Bools, block: Ints) -> float:
    """Return a one-sided p-value, had each block's cases been drawn from it at random: a bound (Chernoff 1952).

    The null hypothesis of Mantel and Haenszel (1959). The number of cases that meet the condition is, but for drawing
    without replacement, which varies less, a sum of independent draws with the block's share s: the bound is
    min over t ≥ 0 of exp(Σ ln(1 − s + s·eᵗ) − t·met).
    """
    blocks = int(block.max(initial=-1)) + 1
    share = np.bincount(block[holds], minlength=blocks) / np.maximum(np.bincount(block, minlength=blocks), 1)
    cases = np.bincount(block[is_case], minlength=blocks)
    met = int((is_case & holds).sum())
    some = cases > 0
    share, cases = share[some], cases[some]
    if met <= float(cases @ share):
        return 1.0
    low, high = 0.0, 60.0
    for _ in range(_STEPS):  # the exponent is convex in t: where its slope is 0, it is least
        middle = (low + high) / 2
        odds = share * np.exp(middle)
        if float(cases @ (odds / (1 - share + odds))) < met:
            low = middle
        else:
            high = middle
    exponent = float(cases @ np.log1p(share * np.expm1(low))) - low * met
    return float(np.exp(min(0.0, exponent)))


def _neighbours_alike(holds: Bools, block: Ints) -> float:
    """Correlation of requests that follow each other in a block, less what the block's share makes alike."""
    blocks = int(block.max(initial=-1)) + 1
    sizes = np.maximum(np.bincount(block, minlength=blocks), 1)
    share = np.bincount(block[holds], minlength=blocks) / sizes
    rest = holds - share[block]
    squares = float((rest**2).sum())
    if squares == 0:
        return 1.0  # whole blocks meet it, or do not
    together = block[1:] == block[:-1]
    # a block's own mean was taken off, which makes its neighbours unlike by 1 / size
    expected = -float((np.where(together, (share * (1 - share))[block[1:]], 0.0)).sum())
    expected = expected / float(np.mean(sizes))
    return (float((rest[1:] * rest[:-1])[together].sum()) - expected) / squares


def chance_of_difference(is_case: Bools, holds: Bools, block: Ints) -> float:
    """Return a one-sided p-value: cases are more where a condition holds, by more than blocks of time differ anyway.

    The three have an entry a request. The difference of the shares is divided by its cluster-robust error and compared
    with Student's t; the degrees of freedom are one less than the effective number of blocks, Σ(n)² / Σ(n²), in which
    the condition holds, or does not, whichever is fewer, without those that only repeat their neighbours. 1 where one
    stretch of time is all there is.
    """
    blocks = int(block.max(initial=-1)) + 1
    inside, outside = np.bincount(block[holds], minlength=blocks), np.bincount(block[~holds], minlength=blocks)
    if not inside.any() or not outside.any():
        return 1.0
    cases_in = np.bincount(block[holds & is_case], minlength=blocks)
    cases_out = np.bincount(block[~holds & is_case], minlength=blocks)
    share_in, share_out = cases_in.sum() / inside.sum(), cases_out.sum() / outside.sum()
    if share_in <= share_out:
        return 1.0
    rest = (cases_in - share_in * inside) / inside.sum() - (cases_out - share_out * outside) / outside.sum()
    sizes = np.maximum(inside + outside, 1)
    unexplained = (cases_in + cases_out - share_in * inside - share_out * outside) / sizes
    repeats = _repeats(inside / sizes, unexplained)
    freedom = min(inside.sum() ** 2 / (inside**2).sum(), outside.sum() ** 2 / (outside**2).sum()) / repeats - 1
    if freedom < 1:
        return 1.0
    # a block with one request that is a case cannot vary: never less than what independent requests would
    spread = share_in * (1 - share_in) / inside.sum() + share_out * (1 - share_out) / outside.sum()
    variance = max(float((rest**2).sum()) * blocks / max(1, blocks - 1), float(spread)) * repeats
    if variance <= 0:
        return 0.0
    return float(student.sf((share_in - share_out) / np.sqrt(variance), freedom))


def chance_of_rising(cause: Floats, effect: Floats, block: Ints) -> float:
    """Return a one-sided p-value: one number rises with another, by more than blocks of time do anyway.

    Both have an entry a request. The slope between their ranks (Spearman 1904) is divided by its cluster-robust error
    and compared with Student's t, with degrees of freedom as in `chance_of_difference`.
    """
    if len(cause) < 3:
        return 1.0
    ranks = rankdata(np.stack((cause, effect)), axis=1)
    x, y = ranks - ranks.mean(axis=1, keepdims=True)
    squares = np.bincount(block, weights=x * x)
    whole = float(squares.sum())
    slope = float(x @ y) / whole if whole else 0.0
    if slope <= 0:
        return 1.0
    rest = np.bincount(block, weights=x * (y - slope * x)) / whole
    sizes = np.maximum(np.bincount(block), 1)
    means = (np.bincount(block, weights=values) / sizes for values in (x, y - slope * x))
    repeats = _repeats(*means)
    freedom = whole**2 / float((squares**2).sum()) / repeats - 1
    if freedom < 1:
        return 1.0
    variance = float((rest**2).sum()) * len(rest) / max(1, len(rest) - 1) * repeats
    return float(student.sf(slope / np.sqrt(variance), freedom)) if variance > 0 else 0.0


def _repeats(cause: Floats, rest: Floats) -> float:
    """By how much fewer independent blocks there are than blocks: 1 + 2 · Σ r(cause) · r(rest) over the distances.

    Both have an entry a block; r is the correlation of blocks at a distance (Bartlett 1935). The sum ends where the
    rest's is no longer positive (Geyer 1992). A correlation comes out too low by about the result ÷ blocks for each
    mean that was taken off.
    """
    blocks = len(rest)
    of_cause, of_rest = (_correlations(values)[: blocks // 4] for values in (cause, rest))
    if len(of_rest) < 2 or len(of_cause) < 2:  # one of them never changes
        return 1.0
    lost = _MEANS * (1 + 2 * _positive(of_rest).sum()) / blocks
    of_rest = _positive(of_rest + lost if of_rest[0] > 2 / np.sqrt(blocks) else of_rest)
    return max(1.0, 1 + 2 * float(np.maximum(of_cause[: len(of_rest)], 0.0) @ of_rest))


def _positive(correlations: Floats) -> Floats:
    """Keep correlations up to the first that is not positive."""
    ends = np.flatnonzero(correlations <= 0)
    return correlations[: int(ends[0])] if len(ends) else correlations


def _correlations(values: Floats) -> Floats:
    """Correlations of entries at distances 1, 2, …; none where all are equal."""
    centered = values - values.mean()
    squares = float(centered @ centered)
    if squares <= 0:
        return np.empty(0)
    products: Floats = np.correlate(centered, centered, "full")[len(values) :]
    return products / squares


@dataclass(frozen=True, slots=True)
class Resampler:
    """Draws blocks anew, the same draws for every figure, so that ratios of figures keep together."""

    block: Ints
    draws: Floats  # (replicates, blocks): how often each block was drawn

    @classmethod
    def of(cls, block: Ints, seed: int = 0) -> Resampler:
        """Prepare the draws; the same blocks give the same draws."""
        blocks = int(block.max(initial=0)) + 1
        draws = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), size=_REPLICATES)
        return cls(block, draws.astype(np.float64))

    def sums(self, values: Floats) -> Floats:
        """Sum values, an entry a request, in each replicate."""
        total: Floats = self.draws @ np.bincount(self.block, weights=values, minlength=self.draws.shape[1])
        return total


def interval(estimate: float, replicates: Floats) -> tuple[float, float]:
    """Bound an estimate with 95 % confidence by its replicates' quantiles, which must not exclude the estimate.

    The quantiles lie as much further out as Student's t does for DRAWN_BLOCKS (expanded percentiles: Hesterberg 2015).
    """
    finite = replicates[np.isfinite(replicates)]
    if len(finite) == 0:
        return estimate, estimate
    outside = norm.sf(np.sqrt(DRAWN_BLOCKS / (DRAWN_BLOCKS - 1)) * student.isf(0.025, DRAWN_BLOCKS - 1))
    low, high = np.quantile(finite, [outside, 1 - outside])
    return min(float(low), estimate), max(float(high), estimate)
