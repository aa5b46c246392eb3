"""What a gate is asked to hold: how much slower is too much, of which stage and metric, and what is not compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.gating.samples import REQUEST, Series

METRICS = ("p50", "p95", "p99", "mean", "jitter")
DEFAULT_TOLERANCE = 0.05
DEFAULT_CONFIDENCE = 0.98  # each end of an interval is wrong in at most 1 % of gates
ANY = "*"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Defaults are the tool's.

    `tolerance` is by how much slower, as a share, anything may be; `tolerances` and `limits_ms` are for a (stage,
    metric), where the stage may be `request` or `*`, the metric `*`. A limit is absolute, in ms, for the candidate
    alone. `confidence` is that of the whole gate: of all its intervals together.
    """

    tolerance: float = DEFAULT_TOLERANCE
    tolerances: Mapping[tuple[str, str], float] = field(default_factory=dict)
    limits_ms: Mapping[tuple[str, str], float] = field(default_factory=dict)
    ignored_stages: tuple[str, ...] = ()
    metrics: tuple[str, ...] = METRICS
    confidence: float = DEFAULT_CONFIDENCE

    def __post_init__(self) -> None:
        for tolerance in (self.tolerance, *self.tolerances.values()):
            if not 0 <= tolerance < 100:
                raise QuestionError(f"tolerance {tolerance} is not a share from 0: 0.05 lets 5 % pass")
        for (stage, metric), limit in self.limits_ms.items():
            if not limit > 0:
                raise QuestionError(f"limit of {stage}.{metric}, {limit} ms, is not above 0")
        for metric in (*self.metrics, *(metric for _, metric in (*self.tolerances, *self.limits_ms))):
            if metric not in (*METRICS, ANY):
                raise QuestionError(f"metric {metric!r} is none of {', '.join(METRICS)}")
        if not 0.5 <= self.confidence < 1:
            raise QuestionError(f"confidence {self.confidence} is not between 0.5 and 1")

    def is_ignored(self, series: Series) -> bool:
        """Whether a series is not compared."""
        return _name(series) in self.ignored_stages

    def tolerance_of(self, series: Series, metric: str) -> float:
        """By how much slower, as a share, a metric of a series may be: the most specific one counts."""
        found = _most_specific(self.tolerances, series, metric)
        return self.tolerance if found is None else found

    def limit_ms_of(self, series: Series, metric: str) -> float | None:
        """Above which a metric of the candidate may not be; None without a limit."""
        return _most_specific(self.limits_ms, series, metric)


def _name(series: Series) -> str:
    return REQUEST if series.is_request else series.stage


def _most_specific(of: Mapping[tuple[str, str], float], series: Series, metric: str) -> float | None:
    for key in ((_name(series), metric), (_name(series), ANY), (ANY, metric), (ANY, ANY)):
        if key in of:
            return of[key]
    return None
