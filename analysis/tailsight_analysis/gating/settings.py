"""What a gate is asked to hold: how much slower is too much, of which stage and metric, and what is not compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.gating.samples import REQUEST, Series

METRICS = ("p50", "p95", "p99", "mean", "jitter")
OF_TAIL = ("p95", "p99", "jitter")
DecidedBy = Literal["request", "all"]
DECIDED_BY: tuple[DecidedBy, ...] = get_args(DecidedBy)
DEFAULT_TOLERANCE = 0.05
DEFAULT_CONFIDENCE = 0.98  # each end of an interval is wrong in at most 1 % of gates
DEFAULT_TAIL_MARGIN = 2.0
ANY = "*"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """Defaults are the tool's.

    `tolerance` is by how much slower, as a share, anything may be; `tolerances` and `limits_ms` are for a (stage,
    metric), where the stage may be `request` or `*`, the metric `*`. A limit is absolute, in ms, for the candidate
    alone. `confidence` is that of the whole gate: of all its intervals together.

    To pass, a metric is shown to lie within its margin (of non-inferiority): its tolerance; for p95, p99 and jitter,
    which need far more data, `tail_margin` times the general tolerance where none is set for them. `decided_by` says
    what must be shown: every metric of the requests, and what a tolerance or a limit names (`request`), or of stages as
    well (`all`). A regression is one wherever it is.
    """

    tolerance: float = DEFAULT_TOLERANCE
    tolerances: Mapping[tuple[str, str], float] = field(default_factory=dict)
    limits_ms: Mapping[tuple[str, str], float] = field(default_factory=dict)
    ignored_stages: tuple[str, ...] = ()
    metrics: tuple[str, ...] = METRICS
    confidence: float = DEFAULT_CONFIDENCE
    tail_margin: float = DEFAULT_TAIL_MARGIN
    decided_by: DecidedBy = "request"

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
        if not 1 <= self.tail_margin < 100:
            raise QuestionError(f"tail_margin {self.tail_margin} is not from 1: 2 means twice the tolerance")
        if self.decided_by not in DECIDED_BY:
            raise QuestionError(f"decided_by {self.decided_by!r} is none of {', '.join(DECIDED_BY)}")

    def is_ignored(self, series: Series) -> bool:
        """Whether a series is not compared."""
        return _name(series) in self.ignored_stages

    def tolerance_of(self, series: Series, metric: str) -> float:
        """By how much slower, as a share, a metric of a series may be: the most specific one counts."""
        found = _most_specific(self.tolerances, series, metric)
        return self.tolerance if found is None else found

    def margin_of(self, series: Series, metric: str) -> float:
        """Within which share of slower a metric must be shown to lie to pass: at least its tolerance."""
        found = _most_specific(self.tolerances, series, metric)
        if found is not None:
            return found
        return self.tolerance * (self.tail_margin if metric in OF_TAIL else 1.0)

    def must_pass(self, series: Series, metric: str) -> bool:
        """Whether a gate passes only if this metric is shown to lie within its margin."""
        if self.decided_by == "all" or series.is_request:
            return True
        named = ((series.stage, metric), (series.stage, ANY))
        return any(key in self.tolerances or key in self.limits_ms for key in named)

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
