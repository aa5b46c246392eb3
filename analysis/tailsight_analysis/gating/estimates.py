"""The metrics of one run, as logarithms, and how much its own requests leave them uncertain: together, as a covariance.

How much a metric moves with each request (its influence) is summed over blocks of time; the blocks' sums vary by
chance, and their covariance is the metrics' (Särndal, Swensson, Wretman 1992, ch. 5). Neighbouring blocks may be
alike, so products with the next ones count as well, less with the distance (Newey and West 1987), which keeps the
matrix positive. A quantile's influence needs the density there, which is taken from the spacing of the values around it
(Woodruff 1952; Hall and Sheather 1988). Everything comes from the same blocks, so that it is known how far p95 and
p99, or a stage and the request, say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.gating.samples import Floats, Ints, RunSample, Series
from tailsight_analysis.statistics.intervals import Cells

QUANTILES: Mapping[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
LEAST_VALUES = 2
LEAST_MS = 0.001  # a microsecond: what clocks tell apart
BATCHES = 32
_LAGS = 3
_SPACING = 1.5  # standard errors of the share to either side, between which the density is taken
_MOST_OF_TAIL = 0.8
_ROUNDING = 1e-9

Key = tuple[Series, str]


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """Metrics of one run. `values` are natural logarithms of ms, an entry a key; nan where there is none.

    `covariance` is theirs from the run's own requests alone; `requests` is how many there were.
    """

    start_ns: int
    values: Floats
    covariance: Floats
    requests: int


def estimate(run: RunSample, keys: Sequence[Key]) -> RunEstimate:
    """Estimate the metrics in `keys` of a run, and their covariance."""
    values = np.full(len(keys), np.nan)
    place_of: dict[Series, list[int]] = {}
    for place, (series, _) in enumerate(keys):
        place_of.setdefault(series, []).append(place)
    first = min((int(cells.block.min()) for cells in run.series.values() if len(cells.block)), default=0)
    last = max((int(cells.block.max()) for cells in run.series.values() if len(cells.block)), default=0)
    batches = min(BATCHES, last - first + 1)
    influence = np.zeros((batches, len(keys)))
    for series, places in place_of.items():
        cells = run.series.get(series)
        if cells is None or int(cells.count.sum()) < LEAST_VALUES:
            continue
        batch = (cells.block - first) * batches // (last - first + 1)
        found = _metrics(cells, batch, batches, [keys[place][1] for place in places])
        for place, (value, moved) in zip(places, found, strict=True):
            values[place] = value
            influence[:, place] = moved
    return RunEstimate(run.start_ns, values, _covariance(influence), run.requests)


def _covariance(influence: Floats) -> Floats:
    """Covariance of figures, given how far each batch of time moved them (batches, figures)."""
    batches = len(influence)
    if batches < 2:
        return np.zeros((influence.shape[1], influence.shape[1]))
    rest = influence - influence.mean(axis=0)
    result = rest.T @ rest
    lags = min(_LAGS, batches // 4)
    for lag in range(1, lags + 1):
        product = rest[lag:].T @ rest[:-lag]
        result += (1 - lag / (lags + 1)) * (product + product.T)
    # the mean that was taken off, and the lags that count less
    matrix: Floats = result * batches / (batches - 1 - lags)
    return matrix


def _metrics(cells: Cells, batch: Ints, batches: int, metrics: Sequence[str]) -> list[tuple[float, Floats]]:
    """For each metric, its logarithm and how far each batch moved that."""
    order = np.argsort(cells.value, kind="stable")
    value, width, weight, batch = cells.value[order], cells.width[order], cells.weight[order], batch[order]
    reached = np.cumsum(weight)
    total = float(reached[-1])
    mass = np.bincount(batch, weight, batches)
    effective = total**2 / float(cells.weight2.sum())

    counts = np.cumsum(cells.count[order])
    stored = int(counts[-1])
    are_exact = not width.any()
    are_alike = are_exact and bool((weight == cells.count[order]).all())
    middle_of = (reached - weight / 2) / total * stored / (stored - 1) - 0.5 / (stored - 1)

    def at(share: float) -> float:
        """Return the value up to which this share of the weight lies: between two values, in proportion."""
        wanted = min(max(share, 0.0), 1.0)
        if are_alike:  # type 7 of Hyndman and Fan, as everywhere
            rank = wanted * (stored - 1)
            below = int(rank + _ROUNDING)
            low, high = value[np.searchsorted(counts, [below, min(below + 1, stored - 1)], side="right")]
            return float(low + (high - low) * max(0.0, rank - below))
        if are_exact:
            return float(np.interp(wanted, middle_of, value))
        place = min(int(np.searchsorted(reached, wanted * total * (1 - _ROUNDING))), len(value) - 1)
        inside = (wanted * total - (reached[place] - weight[place])) / weight[place]
        return float(value[place] + width[place] * min(max(inside, 0.0), 1.0))

    def quantile(level: float) -> tuple[float, Floats]:
        """Return a quantile, and how far each batch moved it, in ms."""
        here = at(level)
        apart = min(_SPACING * np.sqrt(level * (1 - level) / effective), _MOST_OF_TAIL * min(level, 1 - level))
        apart = max(apart, 1 / effective) if 1 / effective < min(level, 1 - level) else apart
        sparsity = (at(level + apart) - at(level - apart)) / (2 * apart)
        upto = int(np.searchsorted(value, here, side="right"))
        below = np.bincount(batch[:upto], weight[:upto], batches)
        share = float(below.sum()) / total
        return here, sparsity * (share * mass - below) / total

    def mean() -> tuple[float, Floats]:
        middle = value + width / 2
        found = float(weight @ middle) / total
        return found, (np.bincount(batch, weight * middle, batches) - found * mass) / total

    result = []
    known: dict[str, tuple[float, Floats]] = {}

    def known_quantile(name: str) -> tuple[float, Floats]:
        if name not in known:
            known[name] = quantile(QUANTILES[name])
        return known[name]

    for metric in metrics:
        if metric == "mean":
            found = mean()
        elif metric == "jitter":
            high, low = known_quantile("p99"), known_quantile("p50")
            found = high[0] - low[0], high[1] - low[1]
        else:
            found = known_quantile(metric)
        result.append(_relative(*found))
    return result


def _relative(value: float, moved: Floats) -> tuple[float, Floats]:
    """From ms to logarithms. What takes less than LEAST_MS takes that: from nothing to something is a change, too."""
    value = max(value, LEAST_MS)
    return float(np.log(value)), moved / value
