"""How long frames and spans agree by one offset: spans take their times from a clock that may be set meanwhile.

The profiler's clock is never set. So where the machine's is (by NTP, by hand, after sleep), frames and spans agree as
well as elsewhere up to that moment, and no better than by chance from then on: what lies beyond is not joined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tailsight_analysis.profiles.agreement import Score

_BLOCKS = 10
_LEAST_IN_BLOCK = 25  # observations: of fewer nothing is concluded
_LEAST_LIFT = 0.3  # of the whole recording's agreement beyond chance
_BY_CHANCE_MS = (-430.0, -310.0, -170.0, 170.0, 310.0, 430.0)


def agreeing_stretch(score: Score, offset_ns: float, telling: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """Return from when to when of the profiler's µs frames and spans agree; None where that is always.

    `telling` are the places of the score's observations that say something. A clock that was set once leaves an
    agreement at one end only: where several stretches agree badly it is something else.
    """
    if len(telling) < _BLOCKS * _LEAST_IN_BLOCK:
        return None
    block = np.arange(len(telling)) * _BLOCKS // len(telling)
    values = score.values(offset_ns)[telling]
    found = np.bincount(block, weights=values) / np.bincount(block)
    chance = float(np.mean([score.values(offset_ns + shift * 1e6)[telling].mean() for shift in _BY_CHANCE_MS]))
    bad = found - chance < _LEAST_LIFT * (float(values.mean()) - chance)
    changes = np.flatnonzero(np.diff(bad.astype(int)))
    if len(changes) != 1:
        return None
    times_us = score.recording.times_us[score.chosen[telling]]
    # it was set within the last good one or the first bad one: the block beside is left out as well
    if bad[0]:
        return int(times_us[np.searchsorted(block, min(int(changes[0]) + 2, _BLOCKS - 1))]), 1 << 62
    return 0, int(times_us[np.searchsorted(block, max(int(changes[0]), 0))])
