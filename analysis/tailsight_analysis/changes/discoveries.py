"""Which of many series' changes stand, when so many were looked at? Decided as they are found, and never taken back.

At each moment the changes that were found by then are tested together (Benjamini and Hochberg 1995), among as many
hypotheses as there are changes and series without one. What stood once, stands: a series that appears later cannot
take back what was said. So at no moment is more claimed than what was significant at that moment or an earlier one.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

FALSE_DISCOVERY_RATE = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """A change that one series shows by itself, since a moment (any order of time); later points made it surer.

    `moments` ascend; `p_values`, one each, hold from their moment on, and fall.
    """

    series: int
    moments: tuple[int, ...]
    p_values: tuple[float, ...]

    def at(self, moment: int) -> float:
        """Return the p-value that holds at a moment."""
        return self.p_values[bisect.bisect_right(self.moments, moment) - 1]


@dataclass(frozen=True, slots=True)
class Standing:
    """The moment from which a change stands, with its adjusted p-value then."""

    moment: int
    p_value: float


def standing(
    candidates: Sequence[Candidate], began: Sequence[int], rate: float = FALSE_DISCOVERY_RATE
) -> list[Standing | None]:
    """Say for each candidate since when it stands; None where it does not.

    `began` says of every series, with changes or without, when its first point came.
    """
    result: list[Standing | None] = [None] * len(candidates)
    for moment in sorted({moment for each in candidates for moment in each.moments}):
        known = [place for place, each in enumerate(candidates) if each.moments[0] <= moment]
        changed = {candidates[place].series for place in known}
        unchanged = sum(1 for series, at in enumerate(began) if at <= moment and series not in changed)
        known.sort(key=lambda place: candidates[place].at(moment))
        tests = len(known) + unchanged
        least = 1.0
        for rank in range(len(known), 0, -1):
            place = known[rank - 1]
            least = min(least, candidates[place].at(moment) * tests / rank)
            if least <= rate and result[place] is None:
                result[place] = Standing(moment, least)
    return result
