"""How sure are the tail's means? They are taken again from blocks of time drawn anew."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tailsight_analysis.statistics.blocks import DRAWN_BLOCKS, Resampler, time_blocks

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LOWEST = 0.25  # of the tail, and of typical requests at either end: like those that would be in it, began it elsewhere


@dataclass(frozen=True, slots=True)
class Redraw:
    """Weights of tail and typical requests, each adding up to 1, of their lowest and highest ones, and the draws.

    A tail begins at a quantile, which is another in each draw. To first order, the mean over a tail that begins
    elsewhere changes by what the requests at its beginning differ from the mean (the influence function of an expected
    shortfall).
    """

    tail: Floats
    tail_start: Floats
    typical: Floats
    resampler: Resampler

    @classmethod
    def of(cls, start_ns: Ints, duration_ns: Ints, weight: Floats, in_tail: Bools, in_typical: Bools) -> Redraw:
        """Prepare the draws. All have an entry a request."""
        durations = duration_ns[in_tail]
        lowest = in_tail & (duration_ns <= (np.quantile(durations, _LOWEST) if len(durations) else 0))
        resampler = Resampler.of(time_blocks(start_ns, DRAWN_BLOCKS))
        return cls(normed(in_tail, weight), normed(lowest, weight), normed(in_typical, weight), resampler)

    def tail_means(self, values: Floats) -> Floats:
        """Mean of values, an entry a request, over the tail, in each draw."""
        at_start = float(self.tail_start @ values)
        return at_start + self.resampler.sums(self.tail * (values - at_start))

    def excesses(self, values: Floats) -> Floats:
        """Mean of values over the tail less that over typical requests, in each draw."""
        middle = float(self.typical @ values)
        return self.tail_means(values) - middle - self.resampler.sums(self.typical * (values - middle))


def normed(chosen: Bools, weight: Floats) -> Floats:
    """Weights of the chosen requests that add up to 1; 0 of others."""
    weights: Floats = np.where(chosen, weight, 0.0)
    return weights / max(float(weights.sum()), 1e-300)
