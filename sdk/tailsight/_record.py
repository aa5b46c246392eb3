"""What a finished span leaves behind, between the application's thread and the sender.

A batch of spans of one trace becomes one bytes object at once: a backlog of Python objects would make every garbage
collection slower, and with it the application. `marshal` is the fastest way there; its format changes between Python
versions, which does not matter inside one process.
"""

import marshal
from typing import NamedTuple

from ._values import Value

KIND_INTERNAL = 1
KIND_SERVER = 2

STATUS_UNSET = 0
STATUS_OK = 1
STATUS_ERROR = 2


class EventRecord(NamedTuple):
    """Something that happened at one moment of a span."""

    time_ns: int  # monotonic
    name: str
    attributes: dict[str, Value]


class LinkRecord(NamedTuple):
    """A pointer to a span of any trace."""

    trace_id: int
    span_id: int
    trace_state: str
    flags: int
    attributes: dict[str, Value]


class Extra(NamedTuple):
    """What most spans do not have."""

    status: int = STATUS_UNSET
    status_message: str = ""
    events: tuple[EventRecord, ...] = ()
    links: tuple[LinkRecord, ...] = ()
    dropped_attributes: int = 0
    dropped_events: int = 0
    dropped_links: int = 0


class SpanRecord(NamedTuple):
    """A finished span. The hot path writes a plain tuple in this order."""

    name: str
    stage: str | None  # None for a request
    kind: int
    parent_is_remote: bool
    span_id: int
    parent_id: int  # 0 for a root
    start_ns: int  # monotonic
    end_ns: int
    thread_id: int
    attributes: dict[str, Value]
    extra: Extra | None


class TraceBatch(NamedTuple):
    """Finished spans of one trace that are sent together."""

    trace_id: int
    trace_state: str
    flags: int
    anchor_ns: int  # adds up with a monotonic stamp to Unix time
    spans: list[SpanRecord]


def dump(trace_id: int, trace_state: str, flags: int, anchor_ns: int, spans: list[tuple[object, ...]]) -> bytes:
    """Pack a batch. NamedTuples must have become plain tuples: marshal refuses subclasses."""
    return marshal.dumps((trace_id, trace_state, flags, anchor_ns, spans))


def load(packed: bytes) -> TraceBatch:
    """Unpack what dump() packed, in the same process or in one that was forked from it."""
    trace_id, trace_state, flags, anchor_ns, spans = marshal.loads(packed)  # noqa: S302  our own bytes
    return TraceBatch(trace_id, trace_state, flags, anchor_ns, [_span(fields) for fields in spans])


def _span(fields: tuple[object, ...]) -> SpanRecord:
    span = SpanRecord._make(fields)
    if span.extra is None:
        return span
    extra = Extra._make(span.extra)
    return span._replace(
        extra=extra._replace(
            events=tuple(EventRecord._make(event) for event in extra.events),
            links=tuple(LinkRecord._make(link) for link in extra.links),
        )
    )
