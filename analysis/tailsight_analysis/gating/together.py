"""How far may the greatest of many comparisons lie by chance? Critical values for all of them together.

Metrics of one run say much the same: where p95 is high by chance, p99 is, too, and a machine's bad mood makes every
stage slow. Holm's correction knows nothing of that and asks for far more than needed. Here the greatest of the
Student-t numbers is drawn, with the correlations that were found among the runs and within them, and with as few
degrees of freedom as there are (Hothorn, Bretz, Westfall 2008; single-step of Westfall and Young 1993). Correlations
from few runs are themselves uncertain, and so are mixed with those within runs, which are known well and are lower.

A metric that is so noisy that no change of interest could be found in it only makes it harder to find one in the
others. So each test gets as much of the error as it has prospects (weighted p-values: Genovese, Roeder, Wasserman
2006). The prospects come from the noise that is expected of it, not from what it shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtr
from scipy.stats import norm
from scipy.stats import t as student

from tailsight_analysis.gating.samples import Floats

DRAWS = 4000
WORTH_FINDING = 0.1  # logarithms beyond the tolerance: a change of 10 %
_FROM_WITHIN = 0.3  # of the correlation
_MOST_FREEDOM = 30  # beyond, Student's t is hardly another
_LEAST_VARIANCE = 1e-18
_LEAST_WEIGHT = 0.02
_USUAL_CRITICAL = 3.0


@dataclass(frozen=True, slots=True)
class Chance:
    """What the least p-value of unchanged metrics, each divided by its test's weight, comes to; `least` ascends."""

    least: Floats
    weight: Floats

    def each(self, error: float) -> Floats:
        """Return the p-value of each test up to which none, with this chance, comes by chance."""
        drawn = float(np.quantile(self.least, error))
        common = max(drawn, error / float(self.weight.sum()))
        result: Floats = common * self.weight
        return result

    def critical(self, error: float, freedom: Floats) -> Floats:
        """Beyond it, with this chance, any of the t numbers lies, each of so many degrees of freedom."""
        result: Floats = np.maximum(student.isf(np.minimum(self.each(error), 0.5), freedom), norm.isf(error))
        return result

    def p_value(self, test: int, alone: float) -> float:
        """Correct the p-value of one test."""
        scaled = alone / float(self.weight[test])
        below = int(np.searchsorted(self.least, scaled, side="right"))
        drawn = (below + 1) / (len(self.least) + 1)
        return min(1.0, drawn, scaled * float(self.weight.sum()))


def correlation(covariance: Floats) -> Floats:
    """Correlations of a covariance matrix."""
    deviation = np.sqrt(np.maximum(np.diag(covariance), _LEAST_VARIANCE))
    result: Floats = covariance / deviation / deviation[:, None]
    np.fill_diagonal(result, 1.0)
    return result


def prospects(expected_error: Floats) -> Floats:
    """Weigh each test by its chance to find what is worth finding, given the standard error that is expected of it."""
    found = ndtr(WORTH_FINDING / np.maximum(expected_error, 1e-9) - _USUAL_CRITICAL)
    weight: Floats = np.maximum(found / found.max(), _LEAST_WEIGHT)
    return weight


def chance_of(
    between: Floats,
    within: Floats,
    freedom: float,
    weight: Floats,
    least: Floats,
    *,
    one_spread: bool = False,
    seed: int = 0,
) -> Chance:
    """Draw it. `between` is the covariance of the tests' numbers among runs, `within` that within runs.

    `least` is, for each test, which share of the true variance what is taken for it is at least. With `one_spread` it
    is one number, of so many degrees of freedom, that says how much runs vary, for all tests alike.
    """
    alike = (1 - _FROM_WITHIN) * correlation(between) + _FROM_WITHIN * correlation(within)
    tests = len(alike)
    values, vectors = np.linalg.eigh(alike)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))).T.astype(np.float32)
    random = np.random.default_rng(seed)
    squares = max(1, min(_MOST_FREEDOM, round(freedom)))
    half = DRAWS // 2  # each draw serves twice: as it is, and with the sign changed
    number = random.standard_normal((half, tests), dtype=np.float32) @ root
    if one_spread:
        spread = random.chisquare(squares, (half, 1)).astype(np.float32)
    else:
        spread = np.zeros((half, tests), dtype=np.float32)
        for _ in range(squares):
            spread += (random.standard_normal((half, tests), dtype=np.float32) @ root) ** 2
    spread = np.maximum(spread / squares, least)
    alone = stdtr(squares, -np.abs(number / np.sqrt(spread)).astype(np.float64)) / weight
    lowest = [np.where(side, alone, np.inf).min(axis=1) for side in (number > 0, number <= 0)]
    drawn: Floats = np.sort(np.minimum(np.concatenate(lowest), 0.5 / weight.min()))
    return Chance(drawn, weight)
