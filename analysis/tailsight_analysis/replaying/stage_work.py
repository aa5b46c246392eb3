"""How much work does a stage do each time, and how much would it be if the stage were another? Paces for `replay`.

A stage's span and all below it that belongs to it are one unit: descendants of the same service, in an unbroken line,
that have the same stage or none. Its work is the sum of their self times; a change of the stage scales them all alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.requests.accounting import Bools, Floats, Ints, Spans, self_times, times_enclosed
from tailsight_analysis.statistics.paired import weighted_quantile

NO_STAGE = -1
LEAST_UNITS = 30  # of a kind on the other hardware, for their distribution to say what a unit would take there


@dataclass(frozen=True, slots=True)
class StageWork:
    """Columns of spans: whose work each is.

    `stage` is the code of the stage that a span belongs to, or NO_STAGE; `unit` the row of its unit's topmost span.
    `work_ns` is the unit's work in nanoseconds, in the row of its topmost span, 0 in all others; `weight` for how many
    requests a span stands: the weights of all that it is a part of.
    """

    stage: Ints
    unit: Ints
    work_ns: Floats
    weight: Floats

    def units(self, stage: int) -> Ints:
        """Rows of the topmost spans of the stage's units that do any work in the requests."""
        return np.flatnonzero((self.stage == stage) & (self.work_ns > 0) & (self.weight > 0))

    def totals_ns(self, stages: int) -> Floats:
        """Weighted work of each of so many stages, in nanoseconds."""
        there = self.stage != NO_STAGE
        return np.bincount(self.stage[there], (self.work_ns * self.weight)[there], stages).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Kinds:
    """Columns of spans: what makes units comparable.

    `stratum` numbers what they worked on, `hardware` what they ran on.
    """

    stratum: Ints
    hardware: Ints


def stage_work(spans: Spans, parent: Ints, stage: Ints, service: Ints, entry: Ints, weight: Floats) -> StageWork:
    """Divide spans into units. `stage` (NO_STAGE: none) and `service` are their codes, `weight` is of the entries."""
    above = np.maximum(parent, 0)
    rows = np.arange(len(spans), dtype=np.int64)
    ours = (parent >= 0) & (service == service[above])
    belongs_to = stage[_followed(np.where(ours & (stage == NO_STAGE), parent, rows))]
    unit = _followed(np.where(ours & (belongs_to == belongs_to[above]), parent, rows))
    chosen = np.zeros(len(spans))
    chosen[entry] = weight
    work = np.bincount(unit, self_times(spans, parent), len(spans)).astype(np.float64)
    return StageWork(belongs_to, unit, work, times_enclosed(parent, chosen))


def scaled(work: StageWork, stages: Sequence[int], times: float) -> Floats:
    """Pace of each span if everything that these stages do took `times` as long."""
    return np.where(np.isin(work.stage, stages), times, 1.0)


def capped(work: StageWork, stages: Sequence[int], level: float, errors: float = 0.0) -> Floats:
    """Pace of each span if no unit of these stages took more work than their quantile `level`, each stage its own.

    The quantile is raised by so many standard `errors` of its own.
    """
    pace = np.ones(len(work.stage))
    for stage in stages:
        units = work.units(stage)
        if len(units):
            taken, weight = work.work_ns[units], work.weight[units]
            several = weight.sum() ** 2 / float(weight @ weight)
            at = min(max(level + errors * (level * (1 - level) / several) ** 0.5, 0.0), 1.0)
            pace[units] = np.minimum(1.0, weighted_quantile(taken, weight, [at])[0] / taken)
    return pace[work.unit]


def moved(
    work: StageWork, stages: Sequence[int], kinds: Kinds, hardware: int, times: Floats | None = None
) -> tuple[Floats, Bools]:
    """Pace of each span if these stages ran on `hardware`; and which units (rows) found nothing there to compare with.

    A unit that does more work than a share q of its own stage, stratum and hardware does as much as the quantile q of
    stage and stratum on the other hardware. Without LEAST_UNITS there, it is left as it is. `times` is how often each
    span was drawn where the sample is resampled.
    """
    pace, alone = np.ones(len(work.stage)), np.zeros(len(work.stage), dtype=np.bool_)
    drawn = work.weight if times is None else work.weight * times
    for stage in stages:
        units = work.units(stage)
        there = kinds.hardware[units] == hardware
        for stratum in np.unique(kinds.stratum[units]).tolist():
            same = kinds.stratum[units] == stratum
            theirs = units[same & there]
            for own in np.unique(kinds.hardware[units[same & ~there]]).tolist():
                ours = units[same & (kinds.hardware[units] == own)]
                if len(theirs) < LEAST_UNITS:
                    alone[ours] = True
                elif drawn[ours].any() and drawn[theirs].any():
                    levels = _middle_ranks(work.work_ns[ours], drawn[ours])
                    pace[ours] = _quantiles_at(work.work_ns[theirs], drawn[theirs], levels) / work.work_ns[ours]
    return pace[work.unit], alone


def _followed(link: Ints) -> Ints:
    """Where each ends by following `link`, which ends at what links to itself; by pointer doubling."""
    while True:
        further = link[link]
        if (further == link).all():
            return link
        link = further


def _middle_ranks(values: Floats, weight: Floats) -> Floats:
    """Share of the weight below each value, and half of that at it."""
    distinct, code = np.unique(values, return_inverse=True)
    at = np.bincount(code, weight, len(distinct))
    shares: Floats = ((np.cumsum(at) - at / 2) / at.sum())[code]
    return shares


def _quantiles_at(values: Floats, weight: Floats, levels: Floats) -> Floats:
    """Values at middle ranks, interpolated; the inverse of `_middle_ranks`: equal distributions change nothing."""
    distinct, code = np.unique(values, return_inverse=True)
    at = np.bincount(code, weight, len(distinct))
    kept = at > 0
    middle = (np.cumsum(at) - at / 2) / at.sum()
    return np.interp(levels, middle[kept], distinct[kept])
