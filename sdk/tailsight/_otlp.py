"""OTLP 1.x: from records to the bytes of an ExportTraceServiceRequest, and back from the answer's bytes.

Field numbers are those of opentelemetry-proto's trace.proto; a tag byte is `number << 3 | wire type`.
"""

from collections.abc import Mapping, Sequence

from . import attributes as keys
from ._record import EventRecord, Extra, LinkRecord, SpanRecord, TraceBatch
from ._values import Value
from ._wire import fields, fixed32, fixed64, key_values, number, sized, string

_FLAG_KNOWS_REMOTE = 0x100  # the next bit is meaningful
_FLAG_PARENT_IS_REMOTE = 0x200
_UINT64 = 2**64 - 1
_NOTHING_EXTRA = Extra()


def resource(attributes: Mapping[str, Value]) -> bytes:
    """Encode a Resource message's content."""
    return key_values(b"\x0a", attributes)


def scope(name: str, version: str, attributes: Mapping[str, Value] | None = None) -> bytes:
    """Encode an InstrumentationScope message's content."""
    return string(b"\x0a", name) + string(b"\x12", version) + key_values(b"\x1a", attributes or {})


def export_request(resource_content: bytes, *scopes: tuple[bytes, Sequence[bytes]]) -> bytes:
    """Join scopes, each with what spans() returned for it, into one ExportTraceServiceRequest."""
    joined = [sized(b"\x12", b"".join([sized(b"\x0a", content), *spans])) for content, spans in scopes]
    return sized(b"\x0a", b"".join([sized(b"\x0a", resource_content), *joined]))


def spans(batch: TraceBatch, defaults: Mapping[str, Value] | None = None) -> bytes:
    """Encode the spans of one trace as ScopeSpans' repeated field.

    `defaults` are attributes that every span gets unless it has its own value for the key.
    """
    trace_id = batch.trace_id.to_bytes(16)
    trace_state = string(b"\x1a", batch.trace_state)
    return b"".join([sized(b"\x12", _span(span, batch, trace_id, trace_state, defaults)) for span in batch.spans])


def _span(
    span: SpanRecord, batch: TraceBatch, trace_id: bytes, trace_state: bytes, defaults: Mapping[str, Value] | None
) -> bytes:
    extra = span.extra or _NOTHING_EXTRA
    attributes: dict[str, Value] = {} if span.stage is None else {keys.STAGE: span.stage}
    attributes[keys.THREAD_ID] = span.thread_id
    if defaults:
        attributes.update(defaults)
    attributes.update(span.attributes)
    flags = batch.flags & 0xFF | _FLAG_KNOWS_REMOTE | (_FLAG_PARENT_IS_REMOTE if span.parent_is_remote else 0)
    return b"".join(
        [
            sized(b"\x0a", trace_id),
            sized(b"\x12", span.span_id.to_bytes(8)),
            trace_state,
            sized(b"\x22", span.parent_id.to_bytes(8)) if span.parent_id else b"",
            string(b"\x2a", span.name),
            number(b"\x30", span.kind),
            _time(b"\x39", span.start_ns + batch.anchor_ns),
            _time(b"\x41", span.end_ns + batch.anchor_ns),
            key_values(b"\x4a", attributes),
            number(b"\x50", extra.dropped_attributes),
            *[sized(b"\x5a", _event(event, batch.anchor_ns)) for event in extra.events],
            number(b"\x60", extra.dropped_events),
            *[sized(b"\x6a", _link(link)) for link in extra.links],
            number(b"\x70", extra.dropped_links),
            _status(extra),
            b"\x85\x01" + fixed32(flags),
        ]
    )


def _time(tag: bytes, unix_ns: int) -> bytes:
    return tag + fixed64(unix_ns & _UINT64) if unix_ns else b""


def _event(event: EventRecord, anchor_ns: int) -> bytes:
    return (
        _time(b"\x09", event.time_ns + anchor_ns) + string(b"\x12", event.name) + key_values(b"\x1a", event.attributes)
    )


def _link(link: LinkRecord) -> bytes:
    return b"".join(
        [
            sized(b"\x0a", link.trace_id.to_bytes(16)),
            sized(b"\x12", link.span_id.to_bytes(8)),
            string(b"\x1a", link.trace_state),
            key_values(b"\x22", link.attributes),
            b"\x35" + fixed32(link.flags) if link.flags else b"",
        ]
    )


def _status(extra: Extra) -> bytes:
    content = string(b"\x12", extra.status_message) + number(b"\x18", extra.status)
    return sized(b"\x7a", content) if content else b""


def partial_success(answer: bytes) -> tuple[int, str]:
    """Read an ExportTraceServiceResponse: how many spans were rejected, and the collector's message.

    An answer that cannot be read counts as complete success: the status said 2xx.
    """
    try:
        content = dict(fields(answer)).get(1, b"")
        if not isinstance(content, bytes):
            return 0, ""
        said = dict(fields(content))
        rejected, message = said.get(1, 0), said.get(2, b"")
        return (
            rejected if isinstance(rejected, int) and rejected < 2**63 else 0,
            message.decode(errors="replace") if isinstance(message, bytes) else "",
        )
    except (IndexError, ValueError):
        return 0, ""
