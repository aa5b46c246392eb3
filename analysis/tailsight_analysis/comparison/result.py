"""The answer of `compare`, as frozen data with stable keys. See docs/analysis/compare.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.comparison.mix import NotComparable
from tailsight_analysis.comparison.sides import Side
from tailsight_analysis.quality import DataQuality


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a difference, in milliseconds, and its 95 % interval: an end is None where the data leave it open."""

    ms: float
    low_ms: float | None
    high_ms: float | None

    def to_json(self, name: str) -> dict[str, Any]:
        """Plain data: `NAME_ms` and `NAME_interval_ms`."""
        return {f"{name}_ms": self.ms, f"{name}_interval_ms": [self.low_ms, self.high_ms]}


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of the requests on both sides, in milliseconds; workload, hardware and slowdown add up to `delta`."""

    baseline_ms: float
    candidate_ms: float
    delta: Part
    workload: Part
    hardware: Part
    slowdown: Part

    def to_json(self) -> dict[str, Any]:
        """Plain data: the figure itself."""
        return {"baseline_ms": self.baseline_ms, "candidate_ms": self.candidate_ms, **self.delta.to_json("delta")}

    def mix_to_json(self) -> dict[str, Any]:
        """Plain data: its parts."""
        return {
            **self.workload.to_json("workload"),
            **self.hardware.to_json("hardware"),
            **self.slowdown.to_json("slowdown"),
        }


@dataclass(frozen=True, slots=True)
class SlowdownCause:
    """An operation that takes longer, or less, in milliseconds per request, where mixes are the same.

    `hardware` is "" where the operation ran on several types and changed on all alike; `hardware_types` has them.
    `share` is of the slowdown (of the gain), `tail_share` of that of tail requests. `where` is `all`, or `tail` where
    only its long times changed. `time_share` is the least share of the candidate's time in which most (80 %) of the
    change came. `calls` are its spans on a request's critical path. Suspects are the same, with shares of all growth.
    """

    service: str
    name: str
    stage: str
    hardware: str
    hardware_types: tuple[str, ...]
    baseline_ms: float
    candidate_ms: float
    delta: Part
    share: float
    tail_baseline_ms: float
    tail_candidate_ms: float
    tail_share: float
    baseline_calls: float
    candidate_calls: float
    p_value: float
    where: str
    time_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "service": self.service,
            "name": self.name,
            "stage": self.stage,
            "hardware": self.hardware,
            "hardware_types": list(self.hardware_types),
            "baseline_ms": self.baseline_ms,
            "candidate_ms": self.candidate_ms,
            **self.delta.to_json("delta"),
            "share": self.share,
            "p_value": self.p_value,
            "where": self.where,
            "time_share": self.time_share,
            "tail_baseline_ms": self.tail_baseline_ms,
            "tail_candidate_ms": self.tail_candidate_ms,
            "tail_delta_ms": self.tail_candidate_ms - self.tail_baseline_ms,
            "tail_share": self.tail_share,
            "baseline_calls": self.baseline_calls,
            "candidate_calls": self.candidate_calls,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What the requests themselves tell, whatever they were fetched from.

    `differences` has `mean`, `p50` and `p99`. `effective` is how many equally weighted requests the reweighted
    candidate is worth; `is_only_mix` says that nothing could be compared. `suspects` hold a relevant part of the
    slowdown, but chance may explain them.
    """

    differences: Mapping[str, Difference]
    causes: tuple[SlowdownCause, ...]
    suspects: tuple[SlowdownCause, ...]
    improvements: tuple[SlowdownCause, ...]
    covariates: tuple[str, ...]
    not_comparable: tuple[NotComparable, ...]
    effective: float
    is_only_mix: bool


@dataclass(frozen=True, slots=True)
class SideCount:
    """How many requests a side has, and how many of them were looked at; `stored` only where they are a sample."""

    requests: int
    looked_at: int
    stored: int | None
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        kept = {} if self.stored is None else {"stored": self.stored}
        data = self.data.to_json() if self.data else None
        return {"requests": self.requests, **kept, "sampled_requests": self.looked_at, "data": data}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What changed from the baseline to the candidate, and why."""

    baseline: Side
    candidate: Side
    baseline_count: SideCount
    candidate_count: SideCount
    findings: Findings

    @property
    def weighted(self) -> bool:
        """Whether the SDK kept only some requests of a side, so that figures are estimates."""
        return self.baseline_count.stored is not None or self.candidate_count.stored is not None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/compare.md."""
        found = self.findings
        sides = (("baseline", self.baseline, self.baseline_count), ("candidate", self.candidate, self.candidate_count))
        return {
            **{
                name: {"window": side.window.to_json(), "filters": side.filters.to_json(), **count.to_json()}
                for name, side, count in sides
            },
            "weighted": self.weighted,
            "request": {name: each.to_json() for name, each in found.differences.items()},
            "mix": {
                **{name: each.mix_to_json() for name, each in found.differences.items()},
                "covariates": list(found.covariates),
                "not_comparable": [each.to_json() for each in found.not_comparable],
                "is_only_mix": found.is_only_mix,
                "effective_requests": found.effective,
            },
            "causes": [cause.to_json() for cause in found.causes],
            "suspects": [cause.to_json() for cause in found.suspects],
            "improvements": [cause.to_json() for cause in found.improvements],
        }
