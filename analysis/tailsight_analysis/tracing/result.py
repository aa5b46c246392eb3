"""The answer of `trace`, as plain frozen data."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from tailsight_analysis.scope import iso
from tailsight_analysis.tracing.rows import Attributes


@dataclass(frozen=True, slots=True)
class TraceInterval:
    """From when until when, in milliseconds after the start of the trace's first request."""

    start_ms: float
    end_ms: float

    def to_json(self) -> dict[str, float]:
        """Plain data."""
        return {"start_ms": self.start_ms, "end_ms": self.end_ms}


@dataclass(frozen=True, slots=True)
class TraceSection:
    """A piece of a critical path: which span held the request up, from when until when; times as in TraceInterval."""

    span_id: str
    start_ms: float
    end_ms: float

    def to_json(self) -> dict[str, str | float]:
        """Plain data."""
        return {"span_id": self.span_id, "start_ms": self.start_ms, "end_ms": self.end_ms}


@dataclass(frozen=True, slots=True)
class TraceContribution:
    """A stage's time on a request's critical path, and its share of the request's duration."""

    stage: str
    contribution_ms: float
    share: float

    def to_json(self) -> dict[str, str | float]:
        """Plain data."""
        return {"stage": self.stage, "contribution_ms": self.contribution_ms, "share": self.share}


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request of the trace. `stages` (longest first) and `unaccounted_ms` add up to `duration_ms`, always.

    `unaccounted` are the times on the critical path that no stage explains, in order.
    """

    span_id: str
    start_ms: float
    duration_ms: float
    failed: bool
    stages: tuple[TraceContribution, ...]
    unaccounted_ms: float
    unaccounted: tuple[TraceInterval, ...]
    critical_path: tuple[TraceSection, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "span_id": self.span_id,
            "start_ms": self.start_ms,
            "duration_ms": self.duration_ms,
            "failed": self.failed,
            "stages": [stage.to_json() for stage in self.stages],
            "unaccounted_ms": self.unaccounted_ms,
            "unaccounted": [gap.to_json() for gap in self.unaccounted],
            "critical_path": [section.to_json() for section in self.critical_path],
        }


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """Something that happened during a span: `time_ns` as its clock said, `offset_ms` as TraceInterval's times."""

    name: str
    time_ns: int
    offset_ms: float
    attributes: Attributes

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "name": self.name,
            "time_ns": self.time_ns,
            "offset_ms": self.offset_ms,
            "attributes": dict(self.attributes),
        }


@dataclass(frozen=True, slots=True)
class TraceLink:
    """Another span, mostly of another trace, that a span refers to."""

    trace_id: str
    span_id: str
    attributes: Attributes

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"trace_id": self.trace_id, "span_id": self.span_id, "attributes": dict(self.attributes)}


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """One span in its tree.

    `start_ns` is what its clock said. `start_ms` is where it is placed, in milliseconds after the start of the
    trace's first request, and `moved_ms` by how much that differs from its clock. `parent` is the index of its parent
    among the trace's spans, or of its nearest ancestor there, or None; `depth` counts all ancestors; `left_out` the
    spans below it that are not there. `path` is its part of the critical path, `path_ms` its length. `is_request`: a
    request begins with it; `is_orphan`: its parent is not in the trace; `in_cycle`: its parent is, but only as its
    own descendant; `is_repeated`: the trace has another span before it with this id and side (caller's, callee's, or
    neither); `is_waited_for`: its parent waits for it.
    """

    span_id: str
    parent_span_id: str
    parent: int | None
    depth: int
    left_out: int
    name: str
    kind: str
    service: str
    stage: str
    hardware: str
    host: str
    version: str
    model: str
    region: str
    environment: str
    run: str
    status: str
    status_message: str
    start_ns: int
    start_ms: float
    moved_ms: float
    duration_ms: float
    self_ms: float
    path_ms: float
    path: tuple[TraceInterval, ...]
    is_request: bool
    is_orphan: bool
    in_cycle: bool
    is_repeated: bool
    is_waited_for: bool
    attributes: Attributes
    events: tuple[TraceEvent, ...]
    links: tuple[TraceLink, ...]

    @property
    def end_ms(self) -> float:
        """Where its end is placed."""
        return self.start_ms + self.duration_ms

    def to_json(self) -> dict[str, Any]:
        """Plain data; its part of the critical path stands with the trace."""
        return {
            **{name: getattr(self, name) for name in _SCALARS},
            "attributes": dict(self.attributes),
            "events": [event.to_json() for event in self.events],
            "links": [link.to_json() for link in self.links],
        }


_SCALARS = tuple(
    field.name for field in fields(TraceSpan) if field.name not in ("path", "attributes", "events", "links")
)


@dataclass(frozen=True, slots=True)
class TraceMoved:
    """Spans of one host that were moved, and by how much at least and at most: clocks that disagree."""

    host: str
    spans: int
    least_ms: float
    most_ms: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"host": self.host, "spans": self.spans, "least_ms": self.least_ms, "most_ms": self.most_ms}


@dataclass(frozen=True, slots=True)
class Trace:
    """The answer of `trace`. Times in milliseconds count from `start_ns`, where its first request starts.

    `spans` stand in the order of their tree, and are all `span_count` of them unless a limit was asked for;
    everything else is of the whole trace. `begin_ms` and `end_ms` enclose all spans. `without_root`: no span is a
    root, and the earliest without a parent counts as the request; `outside` counts spans that belong to no request,
    such as orphans beside a root.
    """

    trace_id: str
    start_ns: int
    begin_ms: float
    end_ms: float
    span_count: int
    requests: tuple[TraceRequest, ...]
    spans: tuple[TraceSpan, ...]
    without_root: bool
    outside: int
    orphans: int
    cycles: int
    repeated: int
    moved: tuple[TraceMoved, ...]

    @property
    def start_text(self) -> str:
        """When its first request started, as ISO 8601 text in UTC."""
        return iso(self.start_ns)

    @property
    def critical_path(self) -> tuple[TraceSection, ...]:
        """The critical paths of all requests, in the order of time."""
        sections = [section for request in self.requests for section in request.critical_path]
        return tuple(sorted(sections, key=lambda section: section.start_ms))

    @property
    def unaccounted(self) -> tuple[TraceInterval, ...]:
        """The times on critical paths that no stage explains, of all requests, in the order of time."""
        gaps = [gap for request in self.requests for gap in request.unaccounted]
        return tuple(sorted(gaps, key=lambda gap: gap.start_ms))

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/trace.md."""
        return {
            "trace_id": self.trace_id,
            "start": self.start_text,
            "start_ns": self.start_ns,
            "begin_ms": self.begin_ms,
            "end_ms": self.end_ms,
            "span_count": self.span_count,
            "left_out": self.span_count - len(self.spans),
            "requests": [request.to_json() for request in self.requests],
            "critical_path": [section.to_json() for section in self.critical_path],
            "unaccounted": [gap.to_json() for gap in self.unaccounted],
            "spans": [span.to_json() for span in self.spans],
            "without_root": self.without_root,
            "outside": self.outside,
            "orphans": self.orphans,
            "cycles": self.cycles,
            "repeated": self.repeated,
            "moved": [moved.to_json() for moved in self.moved],
        }
