"""What accuracy against speed says, as plain data: `pareto.py` computes it. See docs/analysis/pareto.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.quality import DataQuality
from tailsight_analysis.scope import Filters, Window
from tailsight_analysis.statistics.dominance import Certainty, Estimate


@dataclass(frozen=True, slots=True)
class Dominated:
    """A variant that is better at both quality and latency, and how sure that is."""

    by: dict[str, str]
    certainty: Certainty

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"by": self.by, "certainty": str(self.certainty)}


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant's figures. `group` names it by the dimensions asked for.

    `requests` is an estimate where only a part was looked at, `sampled`; `rated` of these carry the quality attribute.
    `quality` is None where none does. `on_front`: no other is certainly or probably better at both;
    `on_front_by_estimate`: no other's estimates are. `cost` is the price of a request's busy time, None without prices.
    """

    group: dict[str, str]
    requests: int
    sampled: int
    rated: int
    quality: Estimate | None
    p50_ms: Estimate
    p99_ms: Estimate
    cost: float | None
    on_front: bool
    on_front_by_estimate: bool
    dominated_by: tuple[Dominated, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **self.group,
            "requests": self.requests,
            "sampled": self.sampled,
            "rated": self.rated,
            "quality": self.quality.value if self.quality else None,
            "quality_interval": _interval(self.quality),
            "p50_ms": self.p50_ms.value,
            "p50_interval_ms": _interval(self.p50_ms),
            "p99_ms": self.p99_ms.value,
            "p99_interval_ms": _interval(self.p99_ms),
            "cost": self.cost,
            "on_front": self.on_front,
            "on_front_by_estimate": self.on_front_by_estimate,
            "dominated_by": [each.to_json() for each in self.dominated_by],
        }


@dataclass(frozen=True, slots=True)
class Pareto:
    """The answer: variants, the best quality first, those without any last.

    `latency` is the figure that quality is weighed against, `p50_ms` or `p99_ms`. `candidates` are other keys whose
    names speak of quality. `unnamed_share` is the share of requests that are of no variant.
    """

    window: Window
    filters: Filters
    by: tuple[str, ...]
    quality_key: str
    lower_is_better: bool
    latency: str
    candidates: tuple[str, ...]
    requests: int
    stored: int
    sampled: int
    weighted: bool
    unnamed_share: float
    variants: tuple[Variant, ...]
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/pareto.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "data": self.data.to_json() if self.data else None,
            "by": list(self.by),
            "quality_key": self.quality_key,
            "lower_is_better": self.lower_is_better,
            "latency": self.latency,
            "candidates": list(self.candidates),
            "requests": self.requests,
            "weighted": self.weighted,
            "stored_requests": self.stored,
            "sampled_requests": self.sampled,
            "unnamed_share": self.unnamed_share,
            "variants": [variant.to_json() for variant in self.variants],
        }


def _interval(estimate: Estimate | None) -> list[float | None] | None:
    if estimate is None or (estimate.low is None and estimate.high is None):
        return None
    return [estimate.low, estimate.high]
