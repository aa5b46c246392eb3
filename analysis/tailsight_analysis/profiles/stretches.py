"""How long frames and spans agree by one offset: spans take their times from a clock that may be set meanwhile.

The profiler's clock is never set. So where the machine's is (by NTP, by hand, after sleep), frames and spans agree as
well as elsewhere up to that moment, and no better than by chance from then on: what lies beyond is not joined. The
moment is where the cumulated deviations from the mean are largest (Page 1954).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tailsight_analysis.profiles.agreement import Score

_LEAST = 40  # observations: of fewer nothing is concluded
_LEAST_BEYOND = 10
_LEAST_LIFT = 0.3  # of the agreement beyond chance on the other side
_UNSURE = 0.05  # of the observations, before and after that moment
_BY_CHANCE_MS = (-430.0, -310.0, -170.0, 170.0, 310.0, 430.0)


def agreeing_stretch(score: Score, offset_ns: float, telling: npt.NDArray[np.int64]) -> tuple[int, int] | None:
    """Return from when to when of the profiler's µs frames and spans agree; None where that is always.

    `telling` are the places of the score's observations that say something, in the order of time.
    """
    if len(telling) < _LEAST:
        return None
    values = score.values(offset_ns)[telling]
    chance = float(np.mean([score.values(offset_ns + shift * 1e6)[telling].mean() for shift in _BY_CHANCE_MS]))
    until = int(np.argmax(np.abs(np.cumsum(values - values.mean())))) + 1  # the first of the second part
    if not _LEAST_BEYOND <= until <= len(values) - _LEAST_BEYOND:
        return None
    before, after = float(values[:until].mean()) - chance, float(values[until:].mean()) - chance
    if min(before, after) >= _LEAST_LIFT * max(before, after):
        return None
    times_us = score.recording.times_us[score.chosen[telling]]
    unsure = max(1, int(_UNSURE * len(values)))
    if before > after:
        return 0, int(times_us[max(0, until - unsure)])
    return int(times_us[min(len(values) - 1, until + unsure)]), 1 << 62
