"""How do latencies move over time? Quantiles per bucket of time, for each stage and for the requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, scope_parameters
from tailsight_storage import Store


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """One stage (or, with stage '', the requests) in one bucket, which begins at `time_ns` since 1970.

    Where requests were sampled the figures are estimates from `stored` spans; else that is None.
    """

    time_ns: int
    stage: str
    count: int
    p50_ms: float
    p99_ms: float
    error_rate: float
    stored: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "time_ns": self.time_ns,
            "stage": self.stage,
            "count": self.count,
            **({} if self.stored is None else {"stored": self.stored}),
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "error_rate": self.error_rate,
        }


@dataclass(frozen=True, slots=True)
class Timeline(Sequence[TimelinePoint]):
    """The stages' points in order of time, itself a sequence of them; `requests` are the requests' points.

    Buckets without spans have no point; spans without a stage are left out.
    """

    window: Window
    bucket_ns: int
    points: tuple[TimelinePoint, ...]
    requests: tuple[TimelinePoint, ...]

    @overload
    def __getitem__(self, index: int) -> TimelinePoint: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[TimelinePoint, ...]: ...
    def __getitem__(self, index: int | slice) -> TimelinePoint | tuple[TimelinePoint, ...]:
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[TimelinePoint]:
        return iter(self.points)


def timeline(store: Store, window: Window, filters: Filters = NO_FILTERS, points: int = 60) -> Timeline:
    """Latency over time in at most `points` buckets of equal length. Empty where nothing matches."""
    if points < 1:
        raise QuestionError(f"a timeline of {points} points shows nothing: use 1 or more")
    bucket_ns = -(-(window.until_ns - window.since_ns) // points)
    parameters = request_parameters(store, window, filters)
    kind = "_weighted" if parameters["weighted"] else ""
    stages = store.ask(query(f"stage_timeline{kind}"), **scope_parameters(window, filters), bucket_ns=bucket_ns)
    requests = store.ask(query(f"request_timeline{kind}"), **parameters, bucket_ns=bucket_ns)
    return Timeline(
        window,
        bucket_ns,
        tuple(_point(row, window, bucket_ns, str(row["stage"])) for row in stages),
        tuple(_point(row, window, bucket_ns, "") for row in requests),
    )


def _point(row: dict[str, Any], window: Window, bucket_ns: int, stage: str) -> TimelinePoint:
    p50_ns, p99_ns = (row["quantiles_ns"][at] for at in ((0, 1) if "spans" in row else (0, 3)))
    weighted = "estimated" in row
    return TimelinePoint(
        time_ns=window.since_ns + int(row["bucket"]) * bucket_ns,
        stage=stage,
        count=round(row["estimated"] if weighted else row["spans"]),
        p50_ms=float(p50_ns) / NS_PER_MS,
        p99_ms=float(p99_ns) / NS_PER_MS,
        error_rate=float(row["errors"]) / float(row["estimated"])
        if weighted
        else int(row["errors"]) / int(row["spans"]),
        stored=int(row["stored"]) if weighted else None,
    )
