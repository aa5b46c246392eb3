"""The background of a spectrum: what noise that remembers has at each frequency, so that lines can be told from it."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROUNDS = 3
_LEAST_AROUND = 12  # ordinates for a point of the background


def whitened(power: Floats, spacing: float) -> tuple[Floats, Floats] | None:
    """Powers over their background on the scale of an exponential of mean 1, and the plain ratios.

    `spacing` is how many of the frequencies lie within 1/T: those at its multiples are independent. The background is
    linear between logarithms of medians, in bands that widen in proportion up to a 64th of the spectrum; steep as it
    may be within a band, after a few rounds the medians are those of what it leaves.
    """
    independent = power[np.round(np.arange(1, int((len(power) - 1) / spacing) + 1) * spacing).astype(np.int64)]
    count = len(independent)
    if count < 4 * _LEAST_AROUND:
        return None
    edges = [0]
    while edges[-1] < count:
        edges.append(edges[-1] + int(max(_LEAST_AROUND, min(edges[-1] * 0.3, count / 64))))
    edges[-1] = count
    if edges[-1] - edges[-2] < _LEAST_AROUND:
        del edges[-2]
    sizes = np.diff(edges)
    # the median of n exponentials of mean 1 is ln 2 on average only for many
    typical = np.array([_mean_median(int(size)) for size in sizes])
    own = np.log(np.arange(1, count + 1))
    centres = np.log((np.array(edges[:-1]) + 1 + np.array(edges[1:])) / 2)
    heights = np.zeros(len(sizes))
    for _ in range(_ROUNDS):
        left = independent / np.exp(_line(own, centres, heights))
        medians = np.array([_median(left[begin:end]) for begin, end in itertools.pairwise(edges)]) / typical
        if medians.min() <= 0:
            return None
        heights += np.log(medians)
    at = np.log(np.maximum(np.arange(len(power)) / spacing, 0.5))
    ratios = power / np.exp(_line(at, centres, heights))
    # a median of n tells as much of the mean as 0.48 n values would: the ratio has the tail of an F distribution
    known = np.interp(at, centres, sizes) * 0.48
    levels: Floats = known * np.log1p(ratios / known)
    levels[0] = 0.0
    return levels, ratios


def _line(at: Floats, centres: Floats, heights: Floats) -> Floats:
    """Lines between points, going on as they begin below the first."""
    inside = np.interp(at, centres, heights)
    slope = (heights[1] - heights[0]) / (centres[1] - centres[0])
    line: Floats = np.where(at < centres[0], heights[0] + slope * (at - centres[0]), inside)
    return line


def _median(values: Floats) -> float:
    """As np.median, which takes longer to ask for NaN than for the median of a dozen."""
    middle = len(values) // 2
    halved = np.partition(values, (middle - 1, middle) if len(values) % 2 == 0 else middle)
    return float(halved[middle] if len(values) % 2 else (halved[middle - 1] + halved[middle]) / 2)


def _mean_median(count: int) -> float:
    """Mean of the median of so many exponentials of mean 1."""
    upper = np.arange(count // 2 + 1, count + 1)
    if count % 2:
        return float((1 / upper).sum())
    return float((1 / upper).sum() + 1 / count)
