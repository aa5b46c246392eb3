"""The changes of many series over versions, runs or time: found one by one, kept only if all together are surely true.

Latencies are compared as logarithms: a ratio is what a change is. See docs/analysis/regressions.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.changes.discoveries import Candidate, Standing, standing
from tailsight_analysis.changes.mix import MixShift, mix_shifts
from tailsight_analysis.changes.search import Change, change_points, growing_evidence
from tailsight_analysis.changes.settings import ChangeSettings
from tailsight_analysis.changes.units import Line, Mix, Unit

LEAST_CHANGE = 0.05
SLOWER, FASTER = "slower", "faster"


@dataclass(frozen=True, slots=True)
class HistoryChange:
    """From `last_before` to `first_after` a metric went from one level to another (geometric means over units, in ms).

    Units are places in the history. The levels held from `first_before`, and up to `last_after`; the change was known
    when `found_at` had come. `ratio_interval` is 95 %. `p_value` is of the series by itself when it was first seen
    there; `adjusted_p_value` among all series, at `found_at`.
    """

    stage: str
    hardware: str
    metric: str
    before_ms: float
    after_ms: float
    ratio_interval: tuple[float, float]
    p_value: float
    adjusted_p_value: float
    first_before: int
    last_before: int
    first_after: int
    last_after: int
    found_at: int
    mix: tuple[MixShift, ...] = ()

    @property
    def ratio(self) -> float:
        """How many times the level before the new one is."""
        return self.after_ms / self.before_ms

    @property
    def direction(self) -> str:
        """SLOWER or FASTER."""
        return SLOWER if self.after_ms > self.before_ms else FASTER

    def to_json(self, units: Sequence[Unit]) -> dict[str, Any]:
        """Plain data; units by their names."""
        before, after = units[self.last_before], units[self.first_after]
        return {
            "stage": self.stage,
            "hardware": self.hardware,
            "metric": self.metric,
            "direction": self.direction,
            "before_ms": self.before_ms,
            "after_ms": self.after_ms,
            "ratio": self.ratio,
            "ratio_interval": list(self.ratio_interval),
            "p_value": self.p_value,
            "adjusted_p_value": self.adjusted_p_value,
            "last_before": before.name,
            "first_after": after.name,
            "last_after": units[self.last_after].name,
            "found_at": units[self.found_at].name,
            "version_range": [_last(before.versions), _first(after.versions)],
            "run_range": [_last(before.runs), _first(after.runs)],
            "mix_moved": bool(self.mix),
            "mix": [shift.to_json() for shift in self.mix],
        }


def history_changes(lines: Sequence[Line], least_change: float = LEAST_CHANGE) -> tuple[HistoryChange, ...]:
    """Find the changes of all lines that stand together, the latest first, then the largest; without their mixes."""
    # the floor is one of a ratio, the series are logarithms
    settings = ChangeSettings(least_change=0.0, least_difference=math.log1p(least_change))
    found: list[tuple[Line, int, tuple[Change, ...]]] = []
    candidates: list[Candidate] = []
    for number, line in enumerate(lines):
        values = np.log([point.value_ms for point in line.points])
        errors = np.array([point.error for point in line.points])
        changes = change_points(values, errors, settings)
        for place, change in enumerate(changes):
            first = changes[place - 1].index if place else 0
            end = changes[place + 1].found_at if place + 1 < len(changes) else len(values)
            evidence = growing_evidence(values, errors, first, change.index, change.found_at, end)
            found.append((line, place, changes))
            moments = tuple(line.points[at].unit for at, _ in evidence)
            candidates.append(Candidate(number, moments, tuple(p_value for _, p_value in evidence)))
    began = [line.points[0].unit for line in lines]
    result = [
        _described(line, place, changes, stands)
        for (line, place, changes), stands in zip(found, standing(candidates, began), strict=True)
        if stands is not None
    ]
    return tuple(
        sorted(
            result,
            key=lambda change: (
                -change.first_after,
                -abs(math.log(change.ratio)),
                change.stage,
                change.hardware,
                change.metric,
            ),
        )
    )


def with_mixes(changes: Sequence[HistoryChange], mixes: Sequence[Mix]) -> tuple[HistoryChange, ...]:
    """Say of each change what moved in the workload; `mixes` has one a unit."""
    result = []
    for each in changes:
        before = mixes[each.first_before : each.last_before + 1]
        after = mixes[each.first_after : each.last_after + 1]
        result.append(replace(each, mix=mix_shifts(before, after)))
    return tuple(result)


def _described(line: Line, place: int, changes: tuple[Change, ...], stands: Standing) -> HistoryChange:
    change = changes[place]
    first = changes[place - 1].index if place else 0
    end = changes[place + 1].index if place + 1 < len(changes) else len(line.points)
    before, after = line.points[first : change.index], line.points[change.index : end]
    return HistoryChange(
        stage=line.stage,
        hardware=line.hardware,
        metric=line.metric,
        before_ms=math.exp(change.before),
        after_ms=math.exp(change.after),
        ratio_interval=(math.exp(change.low), math.exp(change.high)),
        p_value=change.p_value,
        adjusted_p_value=stands.p_value,
        first_before=before[0].unit,
        last_before=before[-1].unit,
        first_after=after[0].unit,
        last_after=after[-1].unit,
        found_at=stands.moment,
    )


def _first(names: Sequence[str]) -> str:
    return names[0] if names else ""


def _last(names: Sequence[str]) -> str:
    return names[-1] if names else ""
