"""How do latencies move over time? Quantiles per bucket of time, for each stage and for the requests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from tailsight_analysis.confidence import BLOCKS_A_BUCKET, Scale, intervals_ms, request_cells, span_cells
from tailsight_analysis.errors import QuestionError
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, scope_parameters
from tailsight_analysis.statistics.intervals import Cells, Interval
from tailsight_storage import Store

LEVELS = (0.5, 0.99)
MOST_POINTS = 4_000


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """One stage (or, with stage '', the requests) in one bucket, which begins at `time_ns` since 1970.

    The intervals are the quantiles', 95 %, in ms. Where requests were sampled the figures are estimates from `stored`
    spans; else that is None.
    """

    time_ns: int
    stage: str
    count: int
    p50_ms: float
    p99_ms: float
    error_rate: float
    p50_interval: Interval
    p99_interval: Interval
    stored: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        missing = {"p50": self.p50_interval.missing, "p99": self.p99_interval.missing}
        return {
            "time_ns": self.time_ns,
            "stage": self.stage,
            "count": self.count,
            **({} if self.stored is None else {"stored": self.stored}),
            "p50_ms": self.p50_ms,
            "p99_ms": self.p99_ms,
            "error_rate": self.error_rate,
            "p50_interval_ms": [self.p50_interval.low, self.p50_interval.high],
            "p99_interval_ms": [self.p99_interval.low, self.p99_interval.high],
            "missing": {name: more for name, more in missing.items() if more},
        }


@dataclass(frozen=True, slots=True)
class Timeline(Sequence[TimelinePoint]):
    """The stages' points in order of time, itself a sequence of them; `requests` are the requests' points.

    Buckets without spans have no point; spans without a stage are left out. `interval_accuracy` is how far the ends of
    intervals may lie off, as a share of them; `data` says what is not in the answer.
    """

    window: Window
    bucket_ns: int
    points: tuple[TimelinePoint, ...]
    requests: tuple[TimelinePoint, ...]
    interval_accuracy: float
    data: DataQuality

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
    if not 1 <= points <= MOST_POINTS:
        raise QuestionError(f"a timeline cannot have {points} points: use 1 to {MOST_POINTS:,}")
    block_ns = -(-(window.until_ns - window.since_ns) // (points * BLOCKS_A_BUCKET))
    bucket_ns = block_ns * BLOCKS_A_BUCKET
    parameters = request_parameters(store, window, filters)
    weighted = bool(parameters["weighted"])
    kind = "_weighted" if weighted else ""
    of_spans = scope_parameters(window, filters)
    stages = store.ask(query(f"stage_timeline{kind}"), **of_spans, bucket_ns=bucket_ns)
    requests = store.ask(query(f"request_timeline{kind}"), **parameters, bucket_ns=bucket_ns)

    stored = [sum(_stored(row) for row in rows) for rows in (stages, requests)]
    scale = Scale.in_buckets(max(stored), points, window.since_ns, bucket_ns)
    cells: dict[str, Cells] = {}
    if stages:
        found = span_cells(store, {**of_spans, "by": ["stage"], "weighted": weighted}, scale)
        cells = {stage: of_stage for (stage,), of_stage in found.items() if stage}
    if requests:
        cells[""] = request_cells(store, parameters, scale)

    def point(row: dict[str, Any], stage: str) -> TimelinePoint:
        return _point(row, window.since_ns + int(row["bucket"]) * bucket_ns, stage, cells.get(stage), scale)

    of_requests = tuple(point(row, "") for row in requests)
    return Timeline(
        window,
        bucket_ns,
        tuple(point(row, str(row["stage"])) for row in stages),
        of_requests,
        scale.accuracy,
        data_quality(store, parameters, stored=stored[1], estimated=sum(each.count for each in of_requests)),
    )


def _stored(row: dict[str, Any]) -> int:
    return int(row["stored"] if "estimated" in row else row["spans"])


def _point(row: dict[str, Any], time_ns: int, stage: str, cells: Cells | None, scale: Scale) -> TimelinePoint:
    quantiles_ns = [row["quantiles_ns"][at] for at in ((0, 1) if "spans" in row else (0, 3))]
    in_bucket = cells.within(int(row["bucket"]) * BLOCKS_A_BUCKET, BLOCKS_A_BUCKET) if cells else None
    p50_interval, p99_interval = intervals_ms(in_bucket, scale, quantiles_ns, _stored(row), LEVELS)
    weighted = "estimated" in row
    count = row["estimated"] if weighted else row["spans"]
    return TimelinePoint(
        time_ns=time_ns,
        stage=stage,
        count=round(count),
        p50_ms=float(quantiles_ns[0]) / NS_PER_MS,
        p99_ms=float(quantiles_ns[1]) / NS_PER_MS,
        error_rate=float(row["errors"]) / float(count),
        p50_interval=p50_interval,
        p99_interval=p99_interval,
        stored=int(row["stored"]) if weighted else None,
    )
