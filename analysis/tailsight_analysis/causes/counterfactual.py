"""What would the quantile be if a condition made no difference? An estimate; `whatif` replays the traces instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from tailsight_analysis.causes.causes import Requests

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def quantile_without(requests: Requests, place: int, holds: Bools, quantile: float) -> float:
    """Return the quantile of all durations, in nanoseconds, if a stage took no longer where a condition holds.

    Each request that meets the condition gets the contribution of the same rank among those that do not (quantile
    matching), unless its own is lower; its duration shrinks by the difference. Whatever else sets these requests
    apart stays as it is.
    """
    weight = population_weights(requests)
    own = requests.contribution_ns[:, place]
    durations = requests.duration_ns.astype(np.float64)
    others = ~holds & (weight > 0)
    if others.any() and holds.any():
        rank = _ranks(own[holds], weight[holds])
        matched = _weighted_quantiles(own[others], weight[others], rank)
        durations[holds] -= np.maximum(own[holds] - matched, 0.0)
    return float(_weighted_quantiles(durations, weight, np.array([quantile]))[0])


def population_weights(requests: Requests) -> Floats:
    """For what part of all requests each stands, where the tail was sampled more densely than the rest."""
    rest = _scaled(requests.everyone & ~requests.in_tail, requests.weight, 1 - requests.tail_part)
    return rest + _scaled(requests.in_tail, requests.weight, requests.tail_part)


def _scaled(chosen: Bools, weight: Floats, total: float) -> Floats:
    weights: Floats = np.where(chosen, weight, 0.0)
    return weights * (total / max(float(weights.sum()), 1e-300))


def _ranks(values: Floats, weight: Floats) -> Floats:
    """Return where each value stands among all, from 0 to 1: the middle of the weight that it takes up."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order])
    ranks = np.empty(len(values))
    ranks[order] = (reached - weight[order] / 2) / max(reached[-1], 1e-300)
    return ranks


def _weighted_quantiles(values: Floats, weight: Floats, levels: Floats) -> Floats:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) - weight[order] / 2
    quantiles: Floats = np.interp(levels * float(weight.sum()), reached, values[order])
    return quantiles
