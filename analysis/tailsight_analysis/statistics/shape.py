"""What a distribution looks like, and a period: counted values for charts, that no verdict rests on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.intervals import Cells

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 60
PHASES = 24
_AROUND_ONE = 1.05  # where all values are one, the bin reaches so many times as far up, and down


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of all values between one edge and the next, in the unit of the values; edges are evenly spaced in ln.

    Values of 0 count in the lowest bin.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


def histogram(cells: Cells, bins: int = BINS) -> Histogram | None:
    """Count values, of which there must be at least one; None where none is above 0. A cell counts at its middle."""
    middle = cells.value + cells.width / 2
    above = middle[middle > 0]
    if not len(above):
        return None
    low, high = float(above.min()), float(above.max())
    if high <= low * (1 + 1e-9):
        return Histogram((low / _AROUND_ONE, low * _AROUND_ONE), (1.0,))
    edges = np.geomspace(low, high, bins + 1)
    edges[0], edges[-1] = low, high
    counted, _ = np.histogram(np.clip(middle, low, high), edges, weights=cells.weight)
    return Histogram(tuple(edges.tolist()), tuple((counted / counted.sum()).tolist()))


def slow_by_phase(
    start_ns: Ints,
    duration_ns: Ints,
    weight: Floats,
    *,
    period_ns: float,
    middle_ns: float,
    slow_share: float,
    phases: int = PHASES,
) -> tuple[float | None, ...]:
    """Lay all periods over each other: the share of slow events in each part of one; None for a part without events.

    Parts are equally long, from half a period before the spike's middle to half a period after it. Slow is the slowest
    `slow_share` of the weight; `middle_ns` is when the middle of a spike is due, after the first start.
    """
    order = np.argsort(-duration_ns, kind="stable")
    beyond = np.cumsum(weight[order]) - weight[order]
    slow = np.zeros(len(start_ns))
    slow[order] = beyond < slow_share * float(weight.sum())
    turns = (start_ns - start_ns[0] - middle_ns) / period_ns + 0.5
    part = np.minimum(((turns - np.floor(turns)) * phases).astype(np.int64), phases - 1)
    of_all = np.bincount(part, weight, minlength=phases)
    of_slow = np.bincount(part, weight * slow, minlength=phases)
    return tuple(float(few / all_) if all_ else None for few, all_ in zip(of_slow, of_all, strict=True))
