"""How a set of durations is summed up, everywhere the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.scope import NS_PER_MS

QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySummary:
    """Count, exact quantiles (linearly interpolated) and maximum in milliseconds, jitter, share of errors.

    `jitter_ms` is p99 − p50. `error_rate` is the share whose status is ERROR.
    """

    count: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    jitter_ms: float
    error_rate: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order in which one reads it."""
        return {
            "count": self.count,
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "p999_ms": self.p999_ms,
            "max_ms": self.max_ms,
            "jitter_ms": self.jitter_ms,
            "error_rate": self.error_rate,
        }


def latency_fields(row: dict[str, Any], count: str) -> dict[str, Any]:
    """Fields of a LatencySummary from a query's row: `count`, `quantiles_ns` as in QUANTILES, `max_ns`, `errors`."""
    quantiles = [float(value) / NS_PER_MS for value in row["quantiles_ns"]]
    spans = int(row[count])
    return {
        "count": spans,
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "max_ms": int(row["max_ns"]) / NS_PER_MS,
        "jitter_ms": quantiles[3] - quantiles[0],
        "error_rate": int(row["errors"]) / spans,
    }
