"""How long things take, counted in buckets: what a Prometheus histogram is made of."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import ParamSpec

P = ParamSpec("P")

# From a fraction of a group commit to a disk that hardly answers any more.
ACKNOWLEDGEMENT_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# From a handful of spans to a segment that is loaded record by record.
INSERT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
QUERY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Durations:
    """A histogram of seconds, for one writing thread; a reader may see one observation half counted."""

    __slots__ = ("_bounds_s", "_counts", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds_s = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one that took so long."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield (bound, how many took no longer), as Prometheus has it; the last bound is +Inf."""
        total = 0
        for bound_s, count in zip((*self._bounds_s, float("inf")), tuple(self._counts), strict=True):
            total += count
            yield ("+Inf" if bound_s == float("inf") else str(float(bound_s))), total


def timed(work: Callable[P, None], durations: Durations) -> Callable[P, None]:
    """Observe how long some work takes whenever it succeeds."""

    def timing(*args: P.args, **kwargs: P.kwargs) -> None:
        began_s = time.perf_counter()
        work(*args, **kwargs)
        durations.observe(time.perf_counter() - began_s)

    return timing
