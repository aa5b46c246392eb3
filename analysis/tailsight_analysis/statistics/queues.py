"""Waits in a queue with c servers: by formula, and by replaying what was recorded.

Erlang C (Erlang 1917): the chance of waiting in M/M/c. Allen and Cunneen (Allen 1990, "Probability, Statistics, and
Queueing Theory", section 5.3): the mean wait of M/M/c, times the mean of both squared coefficients of variation, for
G/G/c; exact for M/G/1 (Pollaczek and Khinchine), and for M/M/c. Its tail is taken as exponential, as it is in M/M/c.
Replay: first come first served, by the recursion of Kiefer and Wolfowitz (1955), for one server Lindley's (1952).
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_analysis.statistics.linearised import mean_interval

Floats = npt.NDArray[np.float64]

BLOCKS = 40  # stretches of time


@dataclass(frozen=True, slots=True)
class Waits:
    """Mean and p99 of waiting times, in the unit of the times; intervals where they come from recorded ones.

    An end of the p99's is None where the data leave it open.
    """

    mean: float
    p99: float
    mean_interval: tuple[float, float] | None = None
    p99_interval: Interval | None = None


def erlang_c(servers: int, offered: float) -> float:
    """Chance of waiting in M/M/c with `offered` load λ/μ in Erlang; 1 from `servers` on. By Erlang B's recursion."""
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def expected_waits(rate: float, service: float, arrival_scv: float, service_scv: float, servers: int) -> Waits | None:
    """Approximate G/G/c by Allen and Cunneen: `rate` arrivals a unit of time, mean `service`; None from ρ = 1 on."""
    offered = rate * service
    if offered >= servers:
        return None
    if offered <= 0:
        return Waits(0.0, 0.0)
    waiting = erlang_c(servers, offered)
    among_waiting = service / (servers - offered) * (arrival_scv + service_scv) / 2
    p99 = among_waiting * math.log(waiting / 0.01) if waiting > 0.01 else 0.0
    return Waits(waiting * among_waiting, p99)


def replay(arrival: Floats, service: Floats, servers: int) -> Floats:
    """Return the waits of recorded arrivals, ascending, with their service times: first come, first served."""
    if servers == 1:
        # when the server would be free: the largest, over all that came before, of arrival plus all service since
        work = np.concatenate(([0.0], np.cumsum(service)))
        waits: Floats = np.maximum.accumulate(arrival - work[:-1]) + work[:-1] - arrival
        return np.maximum(waits, 0.0)
    free = [-math.inf] * servers
    begun = []
    for at, length in zip(arrival.tolist(), service.tolist(), strict=True):
        start = max(at, free[0])
        heapq.heapreplace(free, start + length)
        begun.append(start)
    return np.array(begun) - arrival


def sum_up(waits: Floats, weight: Floats | None = None) -> Waits:
    """Mean and p99 of waits in their order in time, with intervals from stretches of it.

    Waits that follow each other are alike: the mean's interval is that of its logarithm (linearised.py), the p99's of
    as few independent waits as tell as much (intervals.py).
    """
    weights = np.ones(len(waits)) if weight is None else weight
    mean = float(waits @ weights / weights.sum())
    order = np.argsort(waits)
    reached = np.cumsum(weights[order])
    p99 = float(waits[order][min(int(np.searchsorted(reached, 0.99 * reached[-1])), len(waits) - 1)])
    if len(waits) < 5 * BLOCKS:
        return Waits(mean, p99)
    block = np.arange(len(waits), dtype=np.int64) * BLOCKS // len(waits)
    (of_p99,) = quantile_intervals(Cells.of_values(waits, block, weights), (0.99,), (p99,))
    return Waits(mean, p99, _of_mean(mean, mean_interval(waits, weights, block)), of_p99)


def _of_mean(mean: float, ends: tuple[float, float] | None) -> tuple[float, float] | None:
    """Take an interval as one of the logarithm; None where the mean might as well be anything."""
    if ends is None or mean <= 0:
        return ends
    relative = (ends[1] - mean) / mean
    return None if relative > 1 else (mean * math.exp(-relative), mean * math.exp(relative))


def most_at_once(begin: Floats, end: Floats) -> int:
    """How many of these intervals lie over one another at most, but for a thousandth of the time that any lasts.

    A span that was stored twice, or ends late once, makes no worker.
    """
    lasts = end > begin
    if not lasts.any():
        return 1
    begin, end = begin[lasts], end[lasts]
    times = np.concatenate((begin, end))
    order = np.lexsort((np.repeat([1, 0], len(begin)), times))  # what ends makes room first
    level = np.cumsum(np.repeat([1, -1], len(begin))[order])[:-1]
    lasting = np.bincount(level, weights=np.diff(times[order]))
    lasting[0] = 0
    longer = np.cumsum(lasting[::-1])[::-1]  # time with so many or more
    return int(np.flatnonzero(longer > 0.001 * longer[0]).max(initial=1))


def variability(values: Floats, weight: Floats | None = None) -> float:
    """Squared coefficient of variation; 0 where the mean is 0."""
    weights = np.ones(len(values)) if weight is None else weight
    mean = float(values @ weights / weights.sum())
    return float(((values - mean) ** 2) @ weights / weights.sum()) / mean**2 if mean > 0 else 0.0
