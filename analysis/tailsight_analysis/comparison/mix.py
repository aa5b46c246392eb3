"""How much of a change is mix, and how much is slowdown? Requests made comparable step by step; pure functions.

Requests of the candidate are reweighted until they were asked what the baseline's were (workload mix), and then until
they ran on the same hardware (hardware mix); what is left is the slowdown. Requests without a counterpart are left out
on both sides, and count to the mix (Ñopo, Review of Economics and Statistics 2008). See docs/analysis/compare.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.comparison.asked import Asked
from tailsight_analysis.comparison.balance import (
    MOST_KINDS,
    balancing_weights,
    effective_number,
    hardware_moments,
    workload_moments,
)
from tailsight_analysis.comparison.calls import Place
from tailsight_analysis.requests.accounting import Bools, Floats, Ints

LEAST_COMPARABLE = 30  # requests of a side that must have a counterpart
LEAST_TIME = 0.005  # of the requests' time, for a slot's hardware to be worth balancing


@dataclass(frozen=True, slots=True)
class Requests:
    """One side's requests, an entry each. Contributions and visits have a column for each of `places`.

    A contribution is time of the place on the request's critical path, in nanoseconds; each row adds up to
    `duration_ns`. A visit is a span of the place on it.
    """

    start_ns: Ints
    duration_ns: Ints
    weight: Floats
    contribution_ns: Floats
    visits: Floats
    asked: Asked

    def __len__(self) -> int:
        return len(self.duration_ns)


@dataclass(frozen=True, slots=True)
class Step:
    """Some requests of a side, on the way from candidate to baseline: which, how weighted, how long they took."""

    chosen: Bools
    weight: Floats
    duration_ns: Floats


@dataclass(frozen=True, slots=True)
class NotComparable:
    """Requests that have no counterpart: of which covariate, and the shares of both sides' requests."""

    covariate: str
    baseline_share: float
    candidate_share: float
    adjusted: bool  # False: the sides share no value of it, and differences due to it are in the slowdown

    def to_json(self) -> dict[str, str | float | bool]:
        """Plain data."""
        return {
            "covariate": self.covariate,
            "baseline_share": self.baseline_share,
            "candidate_share": self.candidate_share,
            "adjusted": self.adjusted,
        }


@dataclass(frozen=True, slots=True)
class Comparable:
    """Both sides, made comparable.

    Of the baseline: all its requests, those with counterparts in what was asked, and those with counterparts in
    hardware too. Of the candidate: all, reweighted to the baseline's workload, and to its hardware too. Its
    contributions and visits are as if slots that ran on quite other hardware had run on the baseline's (`mapped` has
    their columns). The two tables of what was asked have the columns that were balanced. `is_only_mix`: the sides were
    asked such different things that nothing is comparable; the change is all mix. `effective`: how many equally
    weighted requests the candidate's last step is worth.
    """

    baseline: tuple[Step, ...]
    candidate: tuple[Step, ...]
    contribution_ns: Floats
    visits: Floats
    baseline_asked: Floats
    candidate_asked: Floats
    not_comparable: tuple[NotComparable, ...]
    covariates: tuple[str, ...]
    mapped: tuple[int, ...]
    is_only_mix: bool
    effective: float


def comparable(baseline: Requests, candidate: Requests, places: Sequence[Place]) -> Comparable:
    """Make the candidate's requests comparable to the baseline's; columns of both are the same `places`."""
    of_candidate = np.repeat([False, True], [len(baseline), len(candidate)])
    weight = np.concatenate((baseline.weight, candidate.weight))
    duration = np.concatenate((baseline.duration_ns, candidate.duration_ns)).astype(np.float64)
    texts = _joined(baseline.asked.texts, candidate.asked.texts, baseline, candidate, "")
    numbers = _joined(baseline.asked.numbers, candidate.asked.numbers, baseline, candidate, np.nan)
    workload = workload_moments(texts, numbers, of_candidate)
    asked = workload.supported
    only_mix = bool(set(workload.apart) & set(numbers)) or not _enough(asked, of_candidate)
    first = _step(np.ones_like(asked), of_candidate, weight, duration, np.zeros((len(weight), 0)))
    if only_mix:
        asked = np.ones_like(asked)
        second = first
    else:
        second = _step(asked, of_candidate, weight, duration, workload.columns)

    kinds = _kinds(workload.columns[:, : 2 * MOST_KINDS])
    slots = _slots(places)
    contribution = np.concatenate((baseline.contribution_ns, candidate.contribution_ns))
    visits = np.concatenate((baseline.visits, candidate.visits))
    used = {
        slot: visits[:, columns] > 0
        for slot, columns in slots.items()
        if len(columns) > 1 and contribution[:, columns].sum() >= LEAST_TIME * contribution.sum()
    }
    hardware = hardware_moments({str(slot): table for slot, table in used.items()}, of_candidate, kinds, weight)
    both = asked & hardware.supported
    if not _enough(both, of_candidate):
        both = asked
    mapped: list[int] = []
    for slot in used:
        if str(slot) in hardware.apart:
            columns = slots[slot]
            _map_hardware(contribution, visits, columns, of_candidate, weight)
            mapped += columns
    duration = contribution.sum(axis=1) if mapped else duration
    everything = np.concatenate((workload.columns, hardware.columns), axis=1)
    as_before = not mapped and hardware.columns.shape[1] == 0 and np.array_equal(both, asked)
    third = second if only_mix or as_before else _step(both, of_candidate, weight, duration, everything)
    named = {str(slot): f"hardware of {_slot_name(slot)}" for slot in used}
    return Comparable(
        baseline=tuple(step[0] for step in (first, second, third)),
        candidate=tuple(step[1] for step in (first, second, third)),
        contribution_ns=contribution[of_candidate],
        visits=visits[of_candidate],
        baseline_asked=workload.columns[~of_candidate],
        candidate_asked=workload.columns[of_candidate],
        not_comparable=(
            *(
                NotComparable(name, *shares, adjusted=name not in workload.apart)
                for name, shares in sorted(workload.foreign.items())
            ),
            *(NotComparable(named[name], *shares, adjusted=True) for name, shares in sorted(hardware.foreign.items())),
        ),
        covariates=(*workload.used, *(named[str(slot)] for slot in used)),
        mapped=tuple(mapped),
        is_only_mix=only_mix,
        effective=effective_number(third[1].weight),
    )


def _step(chosen: Bools, of_candidate: Bools, weight: Floats, duration: Floats, columns: Floats) -> tuple[Step, Step]:
    """Take the chosen requests of both sides, the candidate's weighted to the baseline's means of the columns."""
    here, there = chosen & ~of_candidate, chosen & of_candidate
    balanced = balancing_weights(columns[here], weight[here], columns[there], weight[there])
    return (
        Step(chosen[~of_candidate], weight[here], duration[here]),
        Step(chosen[of_candidate], balanced, duration[there]),
    )


def _joined(
    here: Mapping[str, npt.NDArray[Any]],
    there: Mapping[str, npt.NDArray[Any]],
    baseline: Requests,
    candidate: Requests,
    missing: str | float,
) -> dict[str, npt.NDArray[Any]]:
    def side(values: Mapping[str, npt.NDArray[Any]], name: str, requests: Requests) -> npt.NDArray[Any]:
        if name in values:
            return values[name]
        return np.full(len(requests), missing, dtype=object if isinstance(missing, str) else np.float64)

    return {
        name: np.concatenate((side(here, name, baseline), side(there, name, candidate)))
        for name in dict.fromkeys((*here, *there))
    }


def _enough(chosen: Bools, of_candidate: Bools) -> bool:
    return min(int((chosen & of_candidate).sum()), int((chosen & ~of_candidate).sum())) >= LEAST_COMPARABLE


def _kinds(columns: Floats) -> Floats:
    """Find the most frequent kinds of requests, as columns."""
    is_kind = np.isin(columns, (0.0, 1.0)).all(axis=0) & (columns.mean(axis=0) >= 0.1)
    return columns[:, np.flatnonzero(is_kind)[:MOST_KINDS]]


def _slots(places: Sequence[Place]) -> dict[Place, list[int]]:
    """Places that differ by hardware only, under the place without any."""
    slots: dict[Place, list[int]] = {}
    for code, place in enumerate(places):
        slots.setdefault(replace(place, hardware=""), []).append(code)
    return slots


def _slot_name(slot: Place) -> str:
    name = f"{slot.service} {slot.name}".strip()
    return f"{name} ({slot.stage})" if slot.stage and slot.stage != slot.name else name


def _map_hardware(
    contribution: Floats, visits: Floats, columns: list[int], of_candidate: Bools, weight: Floats
) -> None:
    """Give the candidate's visits to a slot the times of the baseline's visits of equal rank, in place.

    For a slot that ran on quite other hardware: what of its change is hardware, and what slowdown, nothing in the data
    tells, so that all of it counts as hardware.
    """
    times = contribution[:, columns].sum(axis=1)
    here, there = ~of_candidate & (times > 0), of_candidate & (times > 0)
    if not here.any() or not there.any():
        return
    order = np.argsort(times[there], kind="stable")
    reached = np.cumsum(weight[there][order])
    level = np.empty(len(order))
    level[order] = (reached - weight[there][order] / 2) / reached[-1]
    ladder = np.sort(times[here])
    mapped = np.quantile(ladder, level)
    used = contribution[:, columns][~of_candidate].sum(axis=0)
    rows, column = np.flatnonzero(there), columns[int(np.argmax(used))]
    called = visits[:, columns][rows].sum(axis=1)
    for each in columns:
        contribution[rows, each], visits[rows, each] = 0.0, 0.0
    contribution[rows, column], visits[rows, column] = mapped, called
