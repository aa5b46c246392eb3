"""Response time beside service time: from when a request should have started, and from when it did.

A load generator or a batch loop that waits for an answer before it asks again omits the requests that it did not send
(coordinated omission; Tene 2013). See docs/analysis/breakdown.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tailsight_analysis.confidence import Scale, request_intervals
from tailsight_analysis.latency import LatencySummary, latency_fields
from tailsight_analysis.queries import query
from tailsight_storage import Store

_TIMED = {"response": 1, "service": 2}  # in sql/request_cells.sql
_NAMES = ("p50", "p90", "p95", "p99", "p999")


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """The requests that say when they should have started, timed from there and from their actual start.

    Both are of the same requests, and None where none of them says something that can be. `ignored` counts those that
    say what cannot be: more than an hour before the actual start, or no number.
    """

    response: LatencySummary | None
    service: LatencySummary | None
    ignored: int

    @property
    def count(self) -> int:
        """How many requests say when they should have started."""
        return self.response.count if self.response else 0

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        stored = self.response.stored if self.response else None
        return {
            "count": self.count,
            **({} if stored is None else {"stored": stored}),
            "ignored": self.ignored,
            "service_ms": _quantiles(self.service),
            "response_ms": _quantiles(self.response),
            "service_intervals_ms": _intervals(self.service),
            "response_intervals_ms": _intervals(self.response),
        }


def response_times(store: Store, parameters: dict[str, Any], scale: Scale) -> ResponseTimes | None:
    """Time the requests of `parameters` (those of sql/requests.sql); None where none says anything about its start.

    Quantiles have bounds, counted by `scale`.
    """
    if not parameters["intended"]:
        return None
    weighted = bool(parameters["weighted"])
    found: dict[str, LatencySummary] = {}
    for row in store.ask(query("response"), **parameters):
        fields = latency_fields(row, "stored")
        counted = str(row["counted"])
        if counted in _TIMED:
            fields["intervals"] = request_intervals(
                store, parameters, scale, row["quantiles_ns"], int(row["stored"]), timed=_TIMED[counted]
            )
        found[counted] = LatencySummary(**fields if weighted else {**fields, "stored": None})
    if not found:
        return None
    ignored = found["ignored"].count if "ignored" in found else 0
    return ResponseTimes(found.get("response"), found.get("service"), ignored)


def _intervals(times: LatencySummary | None) -> dict[str, list[float | None]] | None:
    if times is None or times.intervals is None:
        return None
    return {name: [each.low, each.high] for name, each in zip(_NAMES, times.intervals, strict=True)}


def _quantiles(times: LatencySummary | None) -> dict[str, float] | None:
    if times is None:
        return None
    return {
        "p50": times.p50_ms,
        "p90": times.p90_ms,
        "p95": times.p95_ms,
        "p99": times.p99_ms,
        "p999": times.p999_ms,
        "max": times.max_ms,
    }
