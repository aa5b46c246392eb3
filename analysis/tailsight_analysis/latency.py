"""How a set of durations is summed up, everywhere the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.intervals import Interval

LEAST_BEYOND = 10  # of fewer requests beyond it, a quantile moves by itself
QUANTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySummary:
    """Count, exact quantiles (linearly interpolated) and maximum in milliseconds, jitter, share of errors.

    `jitter_ms` is p99 − p50. `error_rate` is the share whose status is ERROR. Where requests were sampled, all figures
    but `max_ms` are estimates, and `stored` is how many they come from; else it is None. `beyond_p999` is how many tell
    what lies beyond p99.9, None where it follows from the count. `intervals` are the quantiles' (95 %, in ms), in their
    order; None where nobody asked.
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
    stored: int | None = None
    beyond_p999: float | None = None
    intervals: tuple[Interval, ...] | None = None

    @property
    def stored_count(self) -> int:
        """How many the store has, for as many or more in truth."""
        return self.count if self.stored is None else self.stored

    @property
    def p999_is_rough(self) -> bool:
        """Whether p99.9 rests on so few that another window could give quite another one."""
        beyond = round(self.count * 0.001, 6) if self.beyond_p999 is None else self.beyond_p999
        return beyond < LEAST_BEYOND

    @property
    def p99_interval(self) -> Interval | None:
        """Where p99 lies, with 95 % confidence."""
        return None if self.intervals is None else self.intervals[3]

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order in which one reads it; see docs/analysis/confidence.md for the intervals."""
        return {
            "count": self.count,
            **({} if self.stored is None else {"stored": self.stored}),
            "p50_ms": self.p50_ms,
            "p90_ms": self.p90_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
            "p999_ms": self.p999_ms,
            "max_ms": self.max_ms,
            "jitter_ms": self.jitter_ms,
            "error_rate": self.error_rate,
            **(_intervals_json(self.intervals) if self.intervals else {}),
        }


def _intervals_json(intervals: tuple[Interval, ...]) -> dict[str, Any]:
    """`p99_interval_ms: [low, high]` and so on, null for an end that is not known, and how many more that takes."""
    names = [name.removesuffix("_ms") for name in QUANTILES]
    named = dict(zip(names, intervals, strict=True))
    return {
        **{f"{name}_interval_ms": [each.low, each.high] for name, each in named.items()},
        "missing": {name: each.missing for name, each in named.items() if each.missing},
    }


def latency_fields(row: dict[str, Any], count: str) -> dict[str, Any]:
    """Fields of a LatencySummary from a query's row: `count`, `quantiles_ns` as in QUANTILES, `max_ns`, `errors`.

    A row of a weighted query has `estimated`, `stored` and `beyond` instead of a count.
    """
    quantiles = [float(value) / NS_PER_MS for value in row["quantiles_ns"]]
    if "estimated" in row:
        counts = {
            "count": round(row["estimated"]),
            "error_rate": float(row["errors"]) / float(row["estimated"]),
            "stored": int(row["stored"]),
            "beyond_p999": float(row["beyond"]),
        }
    else:
        counts = {"count": int(row[count]), "error_rate": int(row["errors"]) / int(row[count])}
    return {
        **counts,
        **dict(zip(QUANTILES, quantiles, strict=True)),
        "max_ms": int(row["max_ns"]) / NS_PER_MS,
        "jitter_ms": quantiles[3] - quantiles[0],
    }
