"""Between which bounds does a quantile lie? Intervals without an assumption about the distribution.

Of independent values, two of them in ascending order are the bounds: the number of values below the true quantile is
binomial (Hahn and Meeker 1991, section 5.2). Requests are not independent: a burst makes many slow together. So the
variance of the share beyond the quantile is also taken from batches of time (batch means: Conway 1963; for quantiles
Seila 1982), and where that is greater, there are as many fewer independent ones. Requests that stand for others count
by what they tell about this share: Woodruff's interval (1952) with the effective size of its weighted estimate.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, chi2

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
BATCHES = (32, 16, 8)  # long batches see what lasts long, short ones are many: the worst of them counts
_LEAST_BATCHES = 4
_BY_CHANCE = 0.9  # of batches of independent values, so many differ by no more than is taken for chance
_NEAR = 10  # cells below a quantile that show how heavy values there are
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Cells:
    """Values of one group, counted: a cell has how many `count` of one `block` of time lie in [value, value + width].

    A width of 0 means that they are `value` exactly. `weight` and `weight2` are the sums over them of for how many each
    stands, and of its square: both `count` where nothing was sampled. Blocks are numbers that ascend with time.
    """

    value: Floats
    width: Floats
    block: Ints
    count: Ints
    weight: Floats
    weight2: Floats

    @classmethod
    def of_values(cls, values: Floats, block: Ints, weight: Floats) -> Cells:
        """Give each value a cell of its own."""
        ones = np.ones(len(values), dtype=np.int64)
        return cls(values, np.zeros(len(values)), block, ones, weight, weight**2)

    def within(self, first_block: int, blocks: int) -> Cells:
        """Keep those of so many blocks in a row."""
        kept = (self.block >= first_block) & (self.block < first_block + blocks)
        return Cells(
            self.value[kept],
            self.width[kept],
            self.block[kept],
            self.count[kept],
            self.weight[kept],
            self.weight2[kept],
        )


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a quantile, in the unit of the values; None on a side where there are too few values for one.

    `missing` is how many more it takes until both sides have one, 0 where they have.
    """

    low: float | None
    high: float | None
    missing: int = 0


def values_needed(level: float, confidence: float = CONFIDENCE) -> int:
    """How many independent values it takes until a quantile has a bound on both sides: 368 for p99, 3,688 for p99.9."""
    rarer = max(level, 1 - level)
    return math.ceil(math.log((1 - confidence) / 2) / math.log(rarer))


def ranks(count: int, level: float, confidence: float = CONFIDENCE) -> tuple[int | None, int | None]:
    """Which of `count` independent values in ascending order, from 1, bound a quantile; None where none does.

    Each bound is wrong with a chance of at most (1 − confidence) / 2.
    """
    chance = (1 - confidence) / 2
    # the value of rank r lies above the quantile if fewer than r of them lie below it
    low = int(binom.ppf(chance, count, level))
    if low and binom.cdf(low - 1, count, level) > chance:
        low -= 1
    high = int(binom.ppf(1 - chance, count, level)) + 1
    return (low if low >= 1 else None), (high if high <= count else None)


def quantile_intervals(
    cells: Cells,
    levels: Sequence[float],
    quantiles: Sequence[float],
    confidence: float = CONFIDENCE,
    *,
    part: float = 1.0,
) -> tuple[Interval, ...]:
    """Bound each of the `quantiles`, which are those at `levels` of the values that `cells` count.

    Ends in cells with a width are interpolated within it. Where `cells` count a `part` of the values only, the
    quantiles are of all, and bounds are as far from them as the cells say.
    """
    if len(cells.value) == 0:
        return tuple(Interval(None, None, values_needed(level, confidence)) for level in levels)
    order = np.lexsort((cells.block, cells.value))  # the store tells them in any order
    value, width = cells.value[order], cells.width[order]
    count, weight, weight2 = cells.count[order], cells.weight[order], cells.weight2[order]
    stored = int(cells.count.sum())
    total = float(weight.sum())
    # one cell of several blocks is one place: within it, a bound lies where all of its values say
    first = np.flatnonzero(np.diff(value, prepend=-np.inf) > 0)
    begins, wide, held = value[first], width[first], np.add.reduceat(weight, first)
    reached = np.cumsum(held)
    batches = _batches(cells)
    batch_of = [batch[order] for batch in batches]

    def at(share: float) -> float:
        """Return the value up to which this share of the weight lies."""
        wanted = min(max(share, 0.0), 1.0) * total
        place = min(int(np.searchsorted(reached, wanted * (1 - _ROUNDING))), len(begins) - 1)
        inside = (wanted - (reached[place] - held[place])) / held[place]
        return float(begins[place] + wide[place] * min(max(inside, 0.0), 1.0))

    def up_to(limit: float) -> float:
        """Return the share of the weight that lies up to this value."""
        place = int(np.searchsorted(begins, limit, side="right")) - 1
        if place < 0:
            return 0.0
        inside = (limit - begins[place]) / wide[place] if wide[place] else 1.0
        return float(reached[place] - held[place] * (1 - min(inside, 1.0))) / total

    result = []
    for level, quantile in zip(levels, quantiles, strict=True):
        first_beyond = int(np.searchsorted(value, quantile, side="right"))
        independent = _independent(first_beyond, count, weight, weight2, batch_of) / part
        counted = max(1, math.floor(independent + _ROUNDING))
        low, high = ranks(counted, level, confidence)
        needed = values_needed(level, confidence)
        missing = 0 if low and high else max(1, math.ceil((needed - counted) * stored / part / independent - _ROUNDING))
        moved = 0.0 if part == 1 else up_to(quantile) - level
        result.append(
            Interval(
                None if low is None else min(at(low / counted + moved), quantile),
                None if high is None else max(at(high / counted + moved), quantile),
                missing,
            )
        )
    return tuple(result)


def _independent(first_beyond: int, count: Ints, weight: Floats, weight2: Floats, batch_of: Sequence[Ints]) -> float:
    """How many independent values tell as much about the share of them beyond a quantile, as these do.

    The variance of that share follows from the weights; it is greater where batches of time, of any length, differ by
    more than chance makes independent values differ. Where all weights are alike, at most as many as are stored; more
    where those beyond are all kept, and others stand for many.
    """
    total = float(weight.sum())
    beyond = float(weight[first_beyond:].sum()) / total
    if not 0 < beyond < 1:  # all values are equal, or the quantile is the highest: the share tells nothing
        return total * total / float(weight2.sum())
    light, heavy = weight2[:first_beyond], weight2[first_beyond:]
    # one more as heavy as any near may be beyond and not have been kept: where all weights are alike, this adds nothing
    mean_weight = weight / count
    near = float(mean_weight[max(0, first_beyond - _NEAR) :].max())
    unseen = max(0.0, near**2 - float(heavy.sum()) / float(count[first_beyond:].sum()))
    squares = beyond**2 * float(light.sum()) + (1 - beyond) ** 2 * (float(heavy.sum()) + unseen)
    variance = as_independent = squares / total**2
    for batch in batch_of:
        number = int(batch.max()) + 1
        surplus = np.bincount(batch[first_beyond:], weight[first_beyond:], number) - beyond * np.bincount(
            batch, weight, number
        )
        of_batches = float(surplus @ surplus) / total**2 * number / (number - 1)
        if of_batches > as_independent * _by_chance(number):
            variance = max(variance, of_batches)
    return beyond * (1 - beyond) / variance


@functools.cache
def _by_chance(batches: int) -> float:
    """How many times its expectation the variance between batches may be, where values are independent."""
    return float(chi2.ppf(_BY_CHANCE, batches - 1)) / (batches - 1)


def _batches(cells: Cells) -> list[Ints]:
    """Give every cell the number of its batch, for each of BATCHES: blocks in a row, about as many values in each."""
    blocks, block = np.unique(cells.block, return_inverse=True)
    counts = np.bincount(block, cells.count, len(blocks))
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    result = []
    for wanted in BATCHES:
        _, batch = np.unique((middle * wanted).astype(np.int64), return_inverse=True)
        if batch.max() + 1 >= _LEAST_BATCHES:
            result.append(batch[block])
    return result
