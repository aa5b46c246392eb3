"""OTLP protobuf: length-delimited requests (.otlp, what our SDK writes), or one bare request. Read piecewise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.spool import spans_in
from tailsight_collector.keep.records import encode_varint, read_varint

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
_RESOURCE_SPANS = 0x0A  # field 1, length-delimited
_INNER = (0x0A, 0x12, 0x1A)  # resource, scope_spans, schema_url
_TEXT_BYTES = frozenset(range(0x20, 0x100)) | {0x09, 0x0A, 0x0D}


def recognises(head: bytes) -> bool:
    """Whether this begins as a request does, with or without a length before it, and is no text."""
    if not head or all(byte in _TEXT_BYTES for byte in head[:4096]):
        return False
    return _begins_delimited(head) or _begins_bare(head)


def _begins_bare(data: bytes | memoryview) -> bool:
    view = memoryview(data)
    if not view or view[0] != _RESOURCE_SPANS:
        return False
    length, body = read_varint(view, 1)
    return length >= 0 and (not length or body >= len(view) or view[body] in _INNER)


def _begins_delimited(head: bytes) -> bool:
    view = memoryview(head)
    at = 0
    while at < len(view) and not view[at]:
        at += 1  # empty requests
    if at == len(view):
        return False
    length, body = read_varint(view, at)
    if length < 0 or body >= len(view):
        return False
    if body + length <= len(view):
        try:
            return bool(ExportTraceServiceRequest.FromString(bytes(view[body : body + length])).resource_spans)
        except DecodeError:
            return False
    return _begins_bare(view[body:])


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read requests. Their unknown fields are dropped: a journal's segment has some."""
    # A delimited file is never valid as a bare request, nor the other way about.
    is_delimited = _begins_delimited(source.head) and not (_begins_bare(source.head) and _is_whole_bare(source))
    with source.open() as stream:
        for body in _messages(stream) if is_delimited else _resources(stream):
            try:
                request = ExportTraceServiceRequest.FromString(body)
            except DecodeError:
                raise BadRequestError("a message in it is no OTLP request: the file is damaged") from None
            request.DiscardUnknownFields()
            spans = spans_in(request)
            report.read += spans
            report.kept += spans
            yield request


def _is_whole_bare(source: Source) -> bool:
    """Whether the top level of a bare request reaches exactly to the end."""
    try:
        with source.open() as stream:
            for body in _resources(stream):
                ExportTraceServiceRequest.FromString(body)
    except (BadRequestError, DecodeError):
        return False
    return True


def _messages(stream: BinaryIO) -> Iterator[bytes]:
    """Yield length-delimited messages."""
    at = 0
    while (found := _varint(stream, at)) is not None:
        length, taken = found
        yield _exactly(stream, length, at)
        at += taken + length


def _resources(stream: BinaryIO) -> Iterator[bytes]:
    """Yield each entry of resource_spans of one bare request, as a request of its own."""
    at = 0
    while (found := _varint(stream, at)) is not None:
        tag, taken = found
        sized = _varint(stream, at + taken)
        if tag != _RESOURCE_SPANS or sized is None:
            raise BadRequestError(f"there is something else than resource_spans at byte {at:,}: no OTLP request")
        length, more = sized
        yield bytes([_RESOURCE_SPANS]) + encode_varint(length) + _exactly(stream, length, at)
        at += taken + more + length


def _varint(stream: BinaryIO, at: int) -> tuple[int, int] | None:
    """Read a varint: (number, bytes); None at the end."""
    number = 0
    for count in range(10):
        byte = stream.read(1)
        if not byte:
            if count:
                raise BadRequestError(f"the message at byte {at:,} is cut off")
            return None
        number |= (byte[0] & 0x7F) << 7 * count
        if byte[0] < 0x80:
            return number, count + 1
    raise BadRequestError(f"there is no length at byte {at:,}: the file is damaged")


def _exactly(stream: BinaryIO, length: int, at: int) -> bytes:
    if length > MAX_MESSAGE_BYTES:
        raise BadRequestError(f"the message at byte {at:,} would have {length:,} bytes: the file is damaged")
    parts = []
    while length:
        part = stream.read(min(length, 1024 * 1024))
        if not part:
            raise BadRequestError(f"the message at byte {at:,} is cut off")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


FORMAT = Format(
    name="otlp", title="OTLP protobuf (one request, or length-delimited as .otlp)", recognises=recognises, read=read
)
