"""How often is the best split of a shuffled series as good as that of the series itself? A permutation test.

This assumes nothing about the values but that, without a change, any order of them is as likely (Matteson and James
2014 use it for E-divisive). Short series have few orders, and so no small p-value: three points after three cannot be
told from chance, whatever they are.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

SHUFFLES = 999
EVERY_ORDER_UP_TO = 8  # points: 40,320 orders
_TOLERANCE = 1e-9


def permutation_p_value(values: Floats, min_segment: int, shuffles: int = SHUFFLES) -> float:
    """Chance that the best split of the values in another order separates them as well; splits into two levels.

    All orders of up to eight values; else `shuffles` of them, the same for each number of values.
    """
    centred = values - values.mean()
    found = best_separation(centred, min_segment)
    if found == 0:
        return 1.0
    least = found * (1 - _TOLERANCE)
    if len(values) <= EVERY_ORDER_UP_TO:
        orders = np.array(list(itertools.permutations(centred.tolist())))
        return float(np.mean(best_separation(orders, min_segment) >= least))
    random = np.random.default_rng(len(values))
    shuffled = random.permuted(np.tile(centred, (shuffles, 1)), axis=1)
    return (1 + int(np.sum(best_separation(shuffled, min_segment) >= least))) / (shuffles + 1)


def best_separation(centred: Floats, min_segment: int) -> Floats:
    """Sum of squares between the two sides of the best split, of values with mean 0 along the last axis."""
    count = centred.shape[-1]
    sizes = np.arange(min_segment, count - min_segment + 1)
    sums = np.cumsum(centred, axis=-1)[..., min_segment - 1 : count - min_segment]
    separation: Floats = np.max(sums**2 * (count / (sizes * (count - sizes))), axis=-1)
    return separation
