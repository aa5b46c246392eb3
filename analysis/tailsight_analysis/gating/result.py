"""What a gate answers: three verdicts, the figures they follow from, and how often such gates are wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

GateVerdict = Literal["regression", "pass", "inconclusive"]
MetricVerdict = Literal["regression", "pass", "inconclusive", "improvement"]


@dataclass(frozen=True, slots=True)
class Needed:
    """What would decide, a side, beside what there is: so many more requests, or so many more runs.

    None where more of that kind alone cannot decide, or not within reason. Of both, either one will do.
    """

    requests: int | None
    runs: int | None

    def to_json(self) -> dict[str, int | None]:
        """Plain data."""
        return {"requests": self.requests, "runs": self.runs}


@dataclass(frozen=True, slots=True)
class Compared:
    """One metric of one series (`stage` and `hardware` empty: the requests).

    `ratio` is candidate ÷ baseline: with several runs a side, that of the typical run. Its interval and p-value (that
    it is at most 1 + `tolerance`) hold for all comparisons of the gate together; None where there is too little.
    It passes below 1 + `margin`; `decides` says whether the gate passes only if it does.
    With `limit_ms`, the verdict is also about `candidate_ms`, whose bounds are `candidate_interval_ms`.
    """

    stage: str
    hardware: str
    metric: str
    baseline_ms: float
    candidate_ms: float
    ratio: float
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    verdict: MetricVerdict
    needed: Needed | None
    tolerance: float
    margin: float
    decides: bool = True
    limit_ms: float | None = None
    candidate_interval_ms: tuple[float | None, float | None] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "stage": self.stage,
            "hardware": self.hardware,
            "metric": self.metric,
            "baseline_ms": self.baseline_ms,
            "candidate_ms": self.candidate_ms,
            "ratio": self.ratio,
            "ci_low": self.ci_low,
            "ci_high": self.ci_high,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "needed": self.needed.to_json() if self.needed else None,
            "tolerance": self.tolerance,
            "margin": self.margin,
            "decides": self.decides,
            "limit_ms": self.limit_ms,
            "candidate_interval_ms": list(self.candidate_interval_ms) if self.candidate_interval_ms else None,
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """What earlier runs of unchanged code say about gates on this machine.

    `runs` runs were compared with each other in `gates` gates; `false_alarm_rate` is the share that found a regression,
    `false_alarm_interval` where the true one lies (95 %). `smallest_change` is the least change of a metric that such
    gates find with 95 % power, as a share of it, None where none does. `between_runs` is how much runs differ beside
    what their own requests make them differ: the standard deviation of the metric's logarithm, by metric (`p99`), and
    for series by `stage|hardware|metric`. `smallest_changes` are the least changes by metric of the requests.
    """

    runs: int
    gates: int
    false_alarm_rate: float
    false_alarm_interval: tuple[float, float]
    smallest_change: float | None
    between_runs: Mapping[str, float] = field(default_factory=dict)
    smallest_changes: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys: `of_json` reads it."""
        return {
            "runs": self.runs,
            "gates": self.gates,
            "false_alarm_rate": self.false_alarm_rate,
            "false_alarm_interval": list(self.false_alarm_interval),
            "smallest_change": self.smallest_change,
            "between_runs": dict(self.between_runs),
            "smallest_changes": dict(self.smallest_changes),
        }

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError where it is something else."""
        low, high = data["false_alarm_interval"]
        smallest = data["smallest_change"]
        return cls(
            runs=int(data["runs"]),
            gates=int(data["gates"]),
            false_alarm_rate=float(data["false_alarm_rate"]),
            false_alarm_interval=(float(low), float(high)),
            smallest_change=None if smallest is None else float(smallest),
            between_runs={str(key): float(value) for key, value in dict(data["between_runs"]).items()},
            smallest_changes={str(key): float(value) for key, value in dict(data.get("smallest_changes", {})).items()},
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gate's answer. `reasons` are sentences, the decisive first; `differences` what makes both sides unlike.

    `needed` is what would decide an inconclusive gate.
    """

    verdict: GateVerdict
    calibration: Calibration | None
    comparisons: tuple[Compared, ...]
    reasons: tuple[str, ...]
    differences: tuple[str, ...]
    baseline_runs: int
    candidate_runs: int
    needed: Needed | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/gate.md."""
        return {
            "verdict": self.verdict,
            "calibration": self.calibration.to_json() if self.calibration else None,
            "comparisons": [each.to_json() for each in self.comparisons],
            "reasons": list(self.reasons),
            "differences": list(self.differences),
            "baseline_runs": self.baseline_runs,
            "candidate_runs": self.candidate_runs,
            "needed": self.needed.to_json() if self.needed else None,
        }
