"""How does a quantile move when every request changes, and how sure is that? Paired resampling of weighted requests.

The bootstrap (Efron 1979) draws the requests anew, many times, and looks at the quantile before and after in the same
draws: so that what the two have in common is no part of their difference. Draws are Poisson weights of mean 1 (Chamandy
et al. 2012, "Estimating uncertainty for massive data streams"), one a cluster: requests of one stretch of time come
together.

Where strata were sampled at different rates, the draws say what chance did to each stratum's size as well as to the
choice from it: the size as if all its requests had been drawn, and the choice scaled to that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import poisson

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

DRAWS = 1000
_SPARE = 16
# Poisson numbers of mean 1 by their share of 65,536: a look into a table takes a tenth of the time of numpy's generator
_POISSON: Floats32 = poisson.ppf((np.arange(1 << 16) + 0.5) / (1 << 16), 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Population:
    """Requests that stand for others, an entry each.

    `weight` is for how many of the population one stands, `stratum` and `cluster` number what was sampled at one rate,
    and what comes together. `size` has, for each stratum, how many requests it had before it was sampled.
    """

    weight: Floats
    stratum: Ints
    cluster: Ints
    size: Floats


@dataclass(frozen=True, slots=True)
class Draws:
    """Resampled masses: a row a request, a column a draw."""

    weight: Floats
    mass: Floats32
    total: Floats

    def quantile(self, values: Floats, level: float) -> Floats:
        """Quantile of the values in each draw."""
        return _drawn_quantile(values, self, level)


def weighted_quantile(values: Floats, weight: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles of the population in which each value is there as often as its weight says (docs/analysis/sampling.md).

    Linearly interpolated, type 7 of Hyndman and Fan (1996). Values without weight do not count; at least one must.
    """
    there = weight > 0
    order = np.argsort(values[there], kind="stable")
    value, reached = values[there][order], np.cumsum(weight[there][order])
    position = np.asarray(levels, dtype=np.float64) * max(reached[-1] - 1, 0)
    place = np.minimum(np.searchsorted(reached, position, side="right"), len(value) - 1)
    following = value[np.minimum(place + 1, len(value) - 1)]
    inside = np.clip(position - (reached[place] - 1), 0.0, 1.0)
    result: Floats = value[place] + inside * (following - value[place])
    return result


def draw(population: Population, draws: int = DRAWS, seed: int = 0) -> Draws:
    """Resample the population, always in the same way."""
    random = np.random.default_rng(seed)
    clusters = int(population.cluster.max()) + 1
    times = _POISSON[random.integers(0, len(_POISSON), (clusters, draws), dtype=np.uint16)]
    mass: Floats32 = times[population.cluster] * population.weight.astype(np.float32)[:, None]
    stored = np.bincount(population.stratum, minlength=len(population.size))
    for number, size in enumerate(population.size.tolist()):
        if stored[number] >= size:  # nothing was left out: what was drawn is how many there are
            continue
        members = population.stratum == number
        weight = population.weight[members]
        expected = float(weight.sum())
        equal = max(1.0, size * expected**2 / (stored[number] * float(weight @ weight)))  # Kish's effective size
        wanted = expected * random.poisson(equal, draws) / equal
        mass[members] *= (wanted / np.maximum(mass[members].sum(axis=0), 1e-9)).astype(np.float32)
    return Draws(population.weight, mass, mass.sum(axis=0, dtype=np.float64))


def _drawn_quantile(values: Floats, draws: Draws, level: float) -> Floats:
    """Quantile in each draw: only requests near the quantile are looked at one by one."""
    order = np.argsort(values, kind="stable")
    value = values[order]
    reached = np.cumsum(draws.weight[order])
    position = level * np.maximum(draws.total - 1, 0)
    half = _SPARE + 4 * int(np.sqrt(len(value)))
    centre = int(np.searchsorted(reached, level * reached[-1]))
    while True:
        low, high = max(0, centre - half), min(len(value), centre + half)
        near = np.cumsum(draws.mass[order[low:high]], axis=0, dtype=np.float64)
        if low <= len(value) - high:  # what lies below, from the shorter side
            below = draws.mass[order[:low]].sum(axis=0, dtype=np.float64)
        else:
            below = draws.total - near[-1] - draws.mass[order[high:]].sum(axis=0, dtype=np.float64)
        near += below
        inside = (low == 0 or bool((below <= position).all())) and (
            high == len(value) or bool((near[-1] > position).all())
        )
        if inside:
            break
        half *= 2
    place = np.minimum((near <= position).sum(axis=0), high - low - 1)
    columns = np.arange(near.shape[1])
    # the next one that was drawn at all
    following = np.minimum((near <= near[place, columns]).sum(axis=0), high - low - 1)
    share = np.clip(position - (near[place, columns] - 1), 0.0, 1.0)
    first, second = value[low + place], value[low + following]
    result: Floats = first + share * (second - first)
    return result
