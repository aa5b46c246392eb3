"""Is it over-represented in the tail, or is it chance? Two tests.

Fisher's exact test, one-sided (Fisher 1935), and Benjamini and Hochberg's correction for many tests (1995). Requests
that stand for several are counted by what they tell, not by their weight (`effective_counts`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def fisher_over_represented(tail_with: Ints, typical_with: Ints, tail: int | Ints, typical: int | Ints) -> Floats:
    """Chance of at least `tail_with` of `tail` requests having a value that `tail_with + typical_with` of all have.

    The upper tail of the hypergeometric distribution, given both margins.
    """
    margins = (np.broadcast_to(tail, tail_with.shape), np.broadcast_to(tail + typical, tail_with.shape))
    columns = np.stack((tail_with, tail_with + typical_with, *margins), axis=1)
    tables, inverse = np.unique(columns, axis=0, return_inverse=True)
    chances = np.array([_upper_tail(*(int(number) for number in table)) for table in tables], dtype=float)
    return chances[np.ravel(inverse)] if len(chances) else np.empty(0)


def effective_counts(
    holders_weight: Floats, holders_weight2: Floats, requests: int, weight: float, unseen: float
) -> tuple[Floats, Floats]:
    """How many equally weighted requests with a value, of how many in all, tell as much as these weighted ones.

    `holders_weight` and `holders_weight2` are the sums of the weights, and of their squares, of the requests that have
    the value, `requests` and `weight` the number and sum of weights of all. Dividing a weighted count by Σw² / Σw makes
    its variance that of a Poisson count (Fay and Feuer 1997). `unseen` is a weight that one more holder could have:
    where few were seen, the ones that were not may have been heavier (0: take those that were seen as they are). Never
    more than `requests`; with equal weights exactly the plain counts.
    """
    sums, squares = holders_weight + unseen, holders_weight2 + unseen * unseen
    in_all = np.minimum(requests, weight * np.divide(sums, squares, out=np.zeros_like(sums), where=squares > 0))
    return in_all * np.minimum(holders_weight / weight, 1.0), in_all


def benjamini_hochberg(p_values: Floats, tests: int | None = None) -> Floats:
    """Adjust p-values so that they control the false discovery rate over `tests` tests.

    Tests beyond the given p-values count as having p = 1.
    """
    count = len(p_values)
    total = count if tests is None else tests
    if count == 0:
        return np.empty(0)
    order = np.argsort(p_values)
    scaled = p_values[order] * total / np.arange(1, count + 1)
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return adjusted


def _upper_tail(at_least: int, holders: int, draws: int, population: int) -> float:
    """P(X ≥ at_least) where `draws` are taken of a `population` that has `holders`; summed in logarithms."""
    most = min(holders, draws)
    least = max(0, holders + draws - population)
    if at_least <= least:
        return 1.0
    k = np.arange(at_least, most + 1)
    log_chances = (
        _log_choose(holders, k)
        + _log_choose(population - holders, draws - k)
        - _log_choose(population, np.array(draws))
    )
    peak = log_chances.max()
    return float(min(1.0, np.exp(peak) * np.exp(log_chances - peak).sum()))


def _log_choose(n: int, k: npt.NDArray[np.int64]) -> Floats:
    chosen: Floats = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return chosen
