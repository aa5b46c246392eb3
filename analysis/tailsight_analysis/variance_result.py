"""What the variance ledger says, as plain data: `variance.py` computes it. See docs/analysis/variance.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.quality import DataQuality
from tailsight_analysis.scope import Filters, Window

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class VarianceTerm:
    """One term of the sum: a stage's variance, or a pair's covariance, twice; `""` is unaccounted.

    `ms2` is in ms², `share` of the requests' variance. `correlation` is a pair's, None of a variance.
    """

    stages: tuple[str, ...]
    ms2: float
    share: float
    share_interval: Interval | None
    correlation: float | None

    @property
    def kind(self) -> str:
        """`variance` or `covariance`."""
        return "variance" if len(self.stages) == 1 else "covariance"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": self.kind,
            "stages": list(self.stages),
            "ms2": self.ms2,
            "share": self.share,
            "share_interval": _json(self.share_interval),
            "correlation": self.correlation,
        }


@dataclass(frozen=True, slots=True)
class StageVariance:
    """A stage's part of the requests' variance: its own and half of what it shares with others. `""` is unaccounted.

    `share` is `own_share` (its variance) plus `joint_share` (half of its covariances). `usual_share` is its share where
    the slowest hundredth of the requests is left out.
    """

    stage: str
    mean_ms: float
    sd_ms: float
    share: float
    share_interval: Interval | None
    own_share: float
    joint_share: float
    usual_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "stage": self.stage,
            "mean_ms": self.mean_ms,
            "sd_ms": self.sd_ms,
            "share": self.share,
            "share_interval": _json(self.share_interval),
            "own_share": self.own_share,
            "joint_share": self.joint_share,
            "usual_share": self.usual_share,
        }


@dataclass(frozen=True, slots=True)
class VarianceLedger:
    """A variance as the sum of `terms`, largest first; and the same as the sum of the stages' shares, largest first.

    Both add up to 1 (all are 0 where nothing varies). `slowest_share` is the share that the slowest hundredth of the
    requests has.
    """

    requests: int
    mean_ms: float
    sd_ms: float
    stages: tuple[StageVariance, ...]
    terms: tuple[VarianceTerm, ...]
    slowest_share: float

    @property
    def variance_ms2(self) -> float:
        """In ms²."""
        return self.sd_ms**2

    @property
    def cv(self) -> float:
        """Coefficient of variation: standard deviation ÷ mean."""
        return self.sd_ms / self.mean_ms if self.mean_ms else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "requests": self.requests,
            "mean_ms": self.mean_ms,
            "sd_ms": self.sd_ms,
            "cv": self.cv,
            "variance_ms2": self.variance_ms2,
            "slowest_share": self.slowest_share,
            "stages": [stage.to_json() for stage in self.stages],
            "terms": [term.to_json() for term in self.terms],
        }


@dataclass(frozen=True, slots=True)
class HardwareVariance:
    """The requests of one hardware type (`""`: none is known) and their ledger, None where they are too few for one.

    Of the variance of all requests, `within_share` is what lies among these, `between_share` what their mean's distance
    from the mean of all adds. Over all types, both together add up to 1.
    """

    hardware: str
    requests: int
    request_share: float
    mean_ms: float
    sd_ms: float
    within_share: float
    between_share: float
    ledger: VarianceLedger | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "hardware": self.hardware,
            "requests": self.requests,
            "request_share": self.request_share,
            "mean_ms": self.mean_ms,
            "sd_ms": self.sd_ms,
            "within_share": self.within_share,
            "between_share": self.between_share,
            "ledger": self.ledger.to_json() if self.ledger else None,
        }


@dataclass(frozen=True, slots=True)
class Variance:
    """The answer: the ledger of all requests, and what lies within each hardware type and between them.

    `requests` are all, an estimate where `weighted`; the store has `stored` of them, and figures come from `sampled`.
    """

    window: Window
    filters: Filters
    requests: int
    stored: int
    sampled: int
    weighted: bool
    total: VarianceLedger
    hardware: tuple[HardwareVariance, ...]
    between_share: float
    between_interval: Interval | None
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/variance.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "data": self.data.to_json() if self.data else None,
            "requests": self.requests,
            "weighted": self.weighted,
            "stored_requests": self.stored,
            "sampled_requests": self.sampled,
            "total": self.total.to_json(),
            "between_hardware": {"share": self.between_share, "share_interval": _json(self.between_interval)},
            "hardware": [part.to_json() for part in self.hardware],
        }


def _json(interval: Interval | None) -> list[float] | None:
    return list(interval) if interval else None
