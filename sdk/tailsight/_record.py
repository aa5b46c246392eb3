"""What a finished span leaves behind, between the application's thread and the sender.

A batch of spans of one trace becomes one bytes object at once: a backlog of Python objects would make every garbage
collection slower, and with it the application. `marshal` is the fastest way there; its format changes between Python
versions, which does not matter inside one process.
"""

import marshal
from typing import Any, NamedTuple

from . import attributes as keys
from ._accelerator import native
from ._pace import Packed, summary
from ._values import Value

_dumps = marshal.dumps if native is None else native.dumps

KIND_INTERNAL = 1
KIND_SERVER = 2
KIND_CLIENT = 3

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
    kind: int = 0  # OTLP's number; 0: what follows from the span's place
    pace: Packed | None = None  # of a stream


class SpanRecord(NamedTuple):
    """A finished span."""

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


def dump(
    trace_id: int,
    trace_state: str,
    flags: int,
    anchor_ns: int,
    entry: tuple[int, int, bool],
    decision: tuple[float, str] | None,
    fields: list[object],
) -> bytes:
    """Pack finished spans of one trace: FIELDS values for each, one after the other. NamedTuples must be plain tuples.

    `entry` is the entry span's id, its kind and whether its parent is remote: every other span is INTERNAL with a
    parent in this process, unless its Extra has a kind of its own.
    """
    return _dumps((trace_id, trace_state, flags, anchor_ns, entry, decision, fields))


FIELDS = 9
"""So many values stand for a span: name, stage, span id, parent id, start, end, thread, attributes, extra.

They lie flat in one list, without a tuple for each span: that is a quarter of the cost of packing.
"""

UNNAMED_REQUEST = "request"


def load(packed: bytes) -> TraceBatch:
    """Unpack what dump() packed, in the same process or in another one of the same Python version."""
    trace_id, trace_state, flags, anchor_ns, entry, decision, fields = marshal.loads(packed)  # noqa: S302  our own bytes
    spans = [_span(fields[start : start + FIELDS], entry, decision) for start in range(0, len(fields), FIELDS)]
    return TraceBatch(trace_id, trace_state, flags, anchor_ns, spans)


def count(packed: bytes) -> int:
    """Return how many spans dump() packed."""
    return len(marshal.loads(packed)[-1]) // FIELDS  # noqa: S302  our own bytes


def _span(fields: list[Any], entry: tuple[int, int, bool], decision: tuple[float, str] | None) -> SpanRecord:
    name, stage, span_id, parent_id, start_ns, end_ns, thread_id, attributes, packed = fields
    kind, remote = KIND_INTERNAL, False
    if decision is not None:
        attributes[keys.SAMPLING_WEIGHT] = decision[0]
    if span_id == entry[0]:
        kind, remote = entry[1], entry[2]
        if decision is not None:
            attributes[keys.SAMPLING_REASON] = decision[1]
    extra = None
    if packed is not None:
        extra = Extra._make(packed)
        extra = extra._replace(
            events=tuple(EventRecord._make(event) for event in extra.events),
            links=tuple(LinkRecord._make(link) for link in extra.links),
        )
        kind = extra.kind or kind
        if extra.pace is not None:
            attributes = summary(extra.pace, start_ns) | attributes  # what the user set stands
    if "" in attributes:  # OTLP has no use for it
        del attributes[""]
        extra = (extra or Extra())._replace(dropped_attributes=(extra.dropped_attributes if extra else 0) + 1)
    return SpanRecord(
        name or stage or UNNAMED_REQUEST,
        stage,
        kind,
        remote,
        span_id,
        parent_id,
        start_ns,
        end_ns,
        thread_id,
        attributes,
        extra,
    )
