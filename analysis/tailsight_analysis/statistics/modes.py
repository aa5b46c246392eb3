"""Tell whether a distribution has more than one mode, and where the gap between them is.

Whether: the dip test (Hartigan and Hartigan 1985, "The dip test of unimodality"), on logarithms, with p-values from the
table of Maechler's R package diptest (1,000,001 simulations of the uniform distribution, which of all unimodal ones has
the largest dip: for log-normal or Pareto data the test errs towards "one mode"). It is taken of all values and of the
upper and lower ends of them, because what is cut out of a unimodal distribution is unimodal too, and a mode of two
percent shows there; Bonferroni's correction for so many tests. Where: the minima of a kernel density
estimate of the logarithms (bandwidth of Silverman 1986, equation 3.31). Both must say so.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

Floats = npt.NDArray[np.float64]

LEAST_VALUES = 200  # fewer show a gap only if it is as wide as the modes
MOST_POINTS = 4_000  # that a dip is taken of, of all values and of each end by itself
MOST_EFFECTIVE = 200_000  # values beyond which nothing is gained
SIGNIFICANCE = 0.01
ENDS = (0.5, 0.25, 0.1, 0.05, 0.02)  # shares of the values, at either end, that are tested by themselves
_LEAST_AT_END = 50
LEAST_SHARE = 0.005  # of a mode
DEEPEST_VALLEY = 0.6  # density of a gap, as a share of that of the lower mode beside it
_GRID = 2048
_FINEST_STEPS = 8  # a clock whose step is more than an eighth of the median is too coarse to tell modes from steps

# √n times the dip, at these probabilities, for these n (diptest's qDiptab)
_TABLE_N = (50, 100, 200, 500, 1000, 5000, 20000, 72000)
_TABLE_P = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)
_TABLE = np.array([
    (0.3454, 0.4159, 0.4590, 0.4969, 0.5424, 0.5742, 0.6031, 0.6398, 0.6653, 0.6894, 0.7402, 0.8028),
    (0.3546, 0.4273, 0.4715, 0.5113, 0.5580, 0.5902, 0.6204, 0.6580, 0.6845, 0.7092, 0.7626, 0.8330),
    (0.3618, 0.4356, 0.4808, 0.5210, 0.5695, 0.6037, 0.6358, 0.6755, 0.7031, 0.7299, 0.7901, 0.8593),
    (0.3679, 0.4431, 0.4892, 0.5306, 0.5796, 0.6138, 0.6462, 0.6861, 0.7159, 0.7434, 0.8046, 0.8929),
    (0.3714, 0.4471, 0.4938, 0.5355, 0.5854, 0.6201, 0.6530, 0.6934, 0.7232, 0.7507, 0.8099, 0.8994),
    (0.3756, 0.4519, 0.4989, 0.5410, 0.5917, 0.6267, 0.6606, 0.7023, 0.7318, 0.7621, 0.8296, 0.9155),
    (0.3774, 0.4540, 0.5011, 0.5435, 0.5943, 0.6304, 0.6639, 0.7063, 0.7367, 0.7642, 0.8209, 0.9291),
    (0.3785, 0.4552, 0.5026, 0.5452, 0.5966, 0.6327, 0.6664, 0.7090, 0.7386, 0.7676, 0.8300, 0.9105),
])  # fmt: skip
LEAST_P = 1 - _TABLE_P[-1]


@dataclass(frozen=True, slots=True)
class Cells:
    """A distribution as cells [low, high) of positive values that hold weights, ascending and without overlap.

    `effective` is how many equally weighted, independent values tell as much.
    """

    low: Floats
    high: Floats
    weight: Floats
    effective: float


@dataclass(frozen=True, slots=True)
class Mode:
    """A peak of the density: where it is, and the share of all values between the gaps beside it."""

    at: float
    share: float


@dataclass(frozen=True, slots=True)
class Modes:
    """`p_value` of "there is only one mode" (at least LEAST_P); the modes, ascending; the gaps between them.

    One mode where the test does not reject at SIGNIFICANCE, or no gap is to be seen. `share_above` has for each gap the
    share of all values above it.
    """

    p_value: float
    modes: tuple[Mode, ...]
    gaps: tuple[float, ...]
    share_above: tuple[float, ...]


def cells_of(values: npt.NDArray[Any], weights: Floats | None = None) -> Cells:
    """Make cells of single values: each as wide as the clock's step, so that a coarse clock makes no modes.

    The step is the largest power of ten that (nearly) all values are multiples of; values are whole numbers (of
    nanoseconds, say).
    """
    distinct, at = np.unique(values, return_inverse=True)
    weight = np.bincount(at, weights=weights, minlength=len(distinct)).astype(np.float64)
    effective = float(len(values)) if weights is None else float(weights.sum() ** 2 / (weights**2).sum())
    step = _clock_step(distinct, weight)
    if step > 1:
        distinct, again = np.unique(np.round(distinct / step).astype(np.int64) * step, return_inverse=True)
        weight = np.bincount(again, weights=weight, minlength=len(distinct)).astype(np.float64)
    middle = distinct.astype(np.float64)
    low = np.maximum(middle - step / 2, step / 4)
    return Cells(low, np.maximum(middle + step / 2, low + step / 4), weight, effective)


def find_modes(cells: Cells) -> Modes | None:
    """Test for more than one mode, and find them; None where there are too few values, or too coarse ones."""
    if cells.effective < LEAST_VALUES or len(cells.weight) < 3:
        return None
    reached = np.concatenate(([0.0], np.cumsum(cells.weight)))
    reached /= reached[-1]
    middle = int(np.searchsorted(reached, 0.5)) - 1
    if cells.high[middle] - cells.low[middle] > cells.low[middle] / _FINEST_STEPS:
        return None
    effective = int(min(MOST_EFFECTIVE, cells.effective))
    p_value = _p_value(cells, reached, effective)
    logs = _logs_between(cells, reached, 0.0, 1.0, min(MOST_POINTS, effective))
    modes, valleys = _peaks(cells, logs, effective) if p_value <= SIGNIFICANCE else ([], [])
    if len(modes) < 2:
        peak = _peaks(cells, logs, effective, only_highest=True)[0]
        return Modes(p_value, (Mode(peak[0], 1.0),), (), ())
    below = [float(_share_below(cells, reached, valley)) for valley in valleys]
    shares = np.diff([0.0, *below, 1.0]).tolist()
    found = tuple(Mode(at, share) for at, share in zip(modes, shares, strict=True))
    return Modes(p_value, found, tuple(valleys), tuple(1 - share for share in below))


def dip(values: Sequence[float] | Floats) -> float:
    """Hartigan's dip of ascending values: the largest distance to the nearest unimodal distribution.

    Their algorithm AS 217, with the corrections of R's diptest: greatest convex minorant and least concave majorant of
    the empirical distribution, within an interval that shrinks to the modal one. O(n).
    """
    x = np.asarray(values, dtype=np.float64)
    count = len(x)
    if count < 2 or x[0] == x[-1]:
        return 0.5 / max(1, count)
    points = x.tolist()
    minorant, majorant = _minorant(points), _majorant(points)
    low, high, best = 0, count - 1, 1.0
    while True:
        gcm, lcm = _chain(minorant, high, low), _chain(majorant, low, high)
        distance, at_gcm, at_lcm = _widest(points, gcm, lcm)
        if distance < best:
            break
        best = max(best, _farthest(x, gcm[at_gcm:], 1), _farthest(x, lcm[at_lcm:], -1))
        if (low, high) == (gcm[at_gcm], lcm[at_lcm]):
            break
        low, high = gcm[at_gcm], lcm[at_lcm]
    return best / (2 * count)


def dip_p_value(value: float, count: int) -> float:
    """Chance of such a dip, or a larger one, of `count` uniform values; at least LEAST_P, 1 where over a half."""
    scaled = value * np.sqrt(count)
    row = np.array([np.interp(np.log(count), np.log(_TABLE_N), column) for column in _TABLE.T])
    if scaled < row[0]:
        return 1.0
    # logarithms of the upper probabilities are nearly linear in the dip
    return float(np.exp(np.interp(scaled, row, np.log1p(-np.array(_TABLE_P)))))


def _p_value(cells: Cells, reached: Floats, effective: int) -> float:
    """Of "one mode": the smallest of the tests of all values and of their ends, corrected for their number."""
    ends = [share for share in ENDS if share * effective >= _LEAST_AT_END]
    parts = [(0.0, 1.0), *((0.0, share) for share in ends), *((1 - share, 1.0) for share in ends)]
    least = 1.0
    for begin, end in parts:
        points = min(MOST_POINTS, int((end - begin) * effective + 0.5))
        least = min(least, dip_p_value(dip(_logs_between(cells, reached, begin, end, points)), points))
    return min(1.0, len(parts) * least)


def _logs_between(cells: Cells, reached: Floats, begin: float, end: float, points: int) -> Floats:
    """Logarithms of so many values evenly spread over the shares from `begin` to `end`: a sample without its chance."""
    levels = begin + (np.arange(points) + 0.5) / points * (end - begin)
    logs: Floats = np.log(_quantiles(cells, reached, levels))
    return logs


# --- the dip ----------------------------------------------------------------------------------------------------------


def _minorant(x: list[float]) -> list[int]:
    """For each point the one before it on the greatest convex minorant of what lies up to it."""
    before = [0] * len(x)
    for j in range(1, len(x)):
        k = j - 1
        while k and (x[j] - x[k]) * (k - before[k]) >= (x[k] - x[before[k]]) * (j - k):
            k = before[k]
        before[j] = k
    return before


def _majorant(x: list[float]) -> list[int]:
    """For each point the one after it on the least concave majorant of what lies from it on."""
    last = len(x) - 1
    after = [last] * len(x)
    for j in range(last - 1, -1, -1):
        k = j + 1
        while k != last and (x[j] - x[k]) * (k - after[k]) >= (x[k] - x[after[k]]) * (j - k):
            k = after[k]
        after[j] = k
    return after


def _chain(links: list[int], start: int, end: int) -> list[int]:
    chain = [start]
    while (chain[-1] > end) if start > end else (chain[-1] < end):
        chain.append(links[chain[-1]])
    return chain


def _widest(x: list[float], gcm: list[int], lcm: list[int]) -> tuple[float, int, int]:
    """Greatest distance between both curves, in counts, and the places on them where it is."""
    if len(gcm) == 2 and len(lcm) == 2:
        return 1.0, len(gcm) - 1, len(lcm) - 1
    widest, at_gcm, at_lcm = 0.0, len(gcm) - 1, len(lcm) - 1
    ix, iv = len(gcm) - 2, 1
    while True:
        left, right = gcm[ix], lcm[iv]
        if left > right:
            base = gcm[ix + 1]
            distance = (right - base + 1) - (x[right] - x[base]) * (left - base) / (x[left] - x[base])
            iv += 1
            if distance >= widest:
                widest, at_gcm, at_lcm = distance, ix + 1, iv - 1
        else:
            base = lcm[iv - 1]
            distance = (x[left] - x[base]) * (right - base) / (x[right] - x[base]) - (left - base - 1)
            ix -= 1
            if distance >= widest:
                widest, at_gcm, at_lcm = distance, ix + 1, iv
        ix, iv = max(ix, 0), min(iv, len(lcm) - 1)
        if gcm[ix] == lcm[iv]:
            return widest, at_gcm, at_lcm


def _farthest(x: Floats, chain: list[int], side: int) -> float:
    """How far the distribution is from a curve through `chain`: above a minorant (1), below a majorant (−1)."""
    farthest = 0.0
    for first, second in itertools.pairwise(chain):
        begin, end = min(first, second), max(first, second)
        if end - begin > 1 and x[end] != x[begin]:
            steps = np.arange(end - begin + 1)
            line = (x[begin : end + 1] - x[begin]) * ((end - begin) / (x[end] - x[begin]))
            farthest = max(farthest, float((side * (steps - line)).max()) + 1)
        else:
            farthest = max(farthest, 1.0)
    return farthest


# --- where the modes are ----------------------------------------------------------------------------------------------


def _peaks(cells: Cells, logs: Floats, points: int, *, only_highest: bool = False) -> tuple[list[float], list[float]]:
    """Peaks of the density of logarithms, and the valleys between them, as values; faint ones merged."""
    low, high = np.log(cells.low[0]), np.log(cells.high[-1])
    spread = min(float(logs.std()), float(np.subtract(*np.quantile(logs, [0.75, 0.25]))) / 1.34) or float(logs.std())
    bandwidth = max(0.9 * spread * points**-0.2, (high - low) / _GRID)
    edges = np.linspace(low - 4 * bandwidth, high + 4 * bandwidth, _GRID + 1)
    cumulative = np.concatenate(([0.0], np.cumsum(cells.weight)))
    bounds = np.log(np.stack((cells.low, cells.high), axis=1)).ravel()
    reached = np.stack((cumulative[:-1], cumulative[1:]), axis=1).ravel() / cumulative[-1]
    mass = np.diff(np.interp(edges, bounds, reached)) * points
    width = edges[1] - edges[0]
    density = gaussian_filter1d(mass, bandwidth / width, mode="constant", truncate=4)
    centres = (edges[1:] + edges[:-1]) / 2
    if only_highest:
        return [float(np.exp(centres[int(density.argmax())]))], []
    # values within one kernel's reach: the noise of a density is that of this count
    counts = density * (bandwidth * 2 * np.sqrt(np.pi) / width)
    peaks, valleys = _merged(density, counts, np.cumsum(mass) / points)
    return [float(np.exp(centres[at])) for at in peaks], [float(np.exp(centres[at])) for at in valleys]


def _merged(density: Floats, counts: Floats, reached: Floats) -> tuple[list[int], list[int]]:
    """Peaks and the valleys between them, after the shallowest valleys were filled one after another."""
    rising = np.diff(density) > 0
    turns = np.flatnonzero(rising[1:] != rising[:-1]) + 1
    peaks = [int(at) for at in turns if rising[at - 1]]
    valleys = [first + int(density[first:second].argmin()) for first, second in itertools.pairwise(peaks)]
    while valleys:
        bounds = [0.0, *(float(reached[at]) for at in valleys), 1.0]
        faint = []
        for number, at in enumerate(valleys):
            lower = min(peaks[number], peaks[number + 1], key=lambda peak: density[peak])
            share = min(bounds[number + 1] - bounds[number], bounds[number + 2] - bounds[number + 1])
            clear = counts[lower] - counts[at] > 4 * np.sqrt(counts[lower])
            depth = density[at] / density[lower]
            if share < LEAST_SHARE or depth > DEEPEST_VALLEY or not clear:
                faint.append((-depth, number))
        if not faint:
            break
        _, number = min(faint)
        peaks.remove(min(peaks[number], peaks[number + 1], key=lambda peak: density[peak]))
        del valleys[number]
    return peaks, valleys


def _quantiles(cells: Cells, reached: Floats, levels: Floats) -> Floats:
    """Values at these shares of all, evenly spread within a cell."""
    at = np.clip(np.searchsorted(reached, levels, side="right") - 1, 0, len(cells.weight) - 1)
    inside = (levels - reached[at]) / np.maximum(reached[at + 1] - reached[at], 1e-300)
    values: Floats = cells.low[at] + inside * (cells.high[at] - cells.low[at])
    return values


def _share_below(cells: Cells, reached: Floats, value: float) -> float:
    at = int(np.clip(np.searchsorted(cells.low, value, side="right") - 1, 0, len(cells.weight) - 1))
    inside = np.clip((value - cells.low[at]) / (cells.high[at] - cells.low[at]), 0, 1)
    return float(reached[at] + inside * (reached[at + 1] - reached[at]))


def _clock_step(distinct: npt.NDArray[Any], weight: Floats) -> int:
    step = 1
    while step < 10**9:
        off = distinct % (step * 10) != 0
        if weight[off].sum() > 0.01 * weight.sum():
            return step
        step *= 10
    return step
