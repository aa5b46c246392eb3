"""What a history is made of: units in order of time, series with a point a unit, and what the units' requests were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailsight_analysis.scope import iso


@dataclass(frozen=True, slots=True)
class Unit:
    """One step of a history: a version, a run, or a stretch of time. `versions` and `runs` were seen in it."""

    name: str
    first_ns: int
    last_ns: int
    spans: int
    versions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "first": iso(self.first_ns),
            "last": iso(self.last_ns),
            "spans": self.spans,
            "versions": list(self.versions),
            "runs": list(self.runs),
        }


@dataclass(frozen=True, slots=True)
class Point:
    """One metric of one series in one unit (its place in the history), from `count` durations.

    `error` is the standard error of the value's logarithm.
    """

    unit: int
    value_ms: float
    error: float
    count: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"unit": self.unit, "value_ms": self.value_ms, "standard_error": self.error, "count": self.count}


@dataclass(frozen=True, slots=True)
class Line:
    """One metric of a stage on a hardware type, or of the requests (both empty), over the units that tell it."""

    stage: str
    hardware: str
    metric: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Mix:
    """What a unit's requests were: shares by kind (model, operation, hardware) and value, and the mean input length.

    `input_length` is the mean of logarithms; None where nobody says how long inputs are.
    """

    shares: Mapping[tuple[str, str], float] = field(default_factory=dict)
    input_length: float | None = None
