"""Zipkin v2 JSON: a list of spans (an export, GET /trace/ID), or a list of traces (GET /traces).

In Zipkin the client's and the server's half of a call may share one span id. Both are kept: the client's half (or the
producer's) has the id, every other gets one derived from the trace, the id, its kind and its service, and the server's
half becomes the client half's child. Children of a shared id belong to the half of their own service, else to the
server's. So the file is read twice: first to learn which ids are shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, IdError, derived_span_id, hex_id, parent_id
from tailsight_collector.importing.json_reader import JsonReader
from tailsight_collector.importing.records import UnfitError, dict_of, list_of, objects, short, text_of
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import clean, put

US = 1_000
KINDS = {
    "CLIENT": Span.SPAN_KIND_CLIENT,
    "SERVER": Span.SPAN_KIND_SERVER,
    "PRODUCER": Span.SPAN_KIND_PRODUCER,
    "CONSUMER": Span.SPAN_KIND_CONSUMER,
}
_FIRST, _SECOND = ("CLIENT", "PRODUCER"), ("SERVER", "CONSUMER")

Key = tuple[bytes, bytes]
"""A trace's and a span's id."""

Half = tuple[str, str]
"""A half's kind and its service: what tells it from the others of its id."""


def recognises(head: bytes) -> bool:
    """Whether this is a list of objects with traceId and id, or a list of such lists."""
    return any(
        shape.has(head, f"{root}traceId", f"{root}id") and f"{root}spanContext" not in shape.paths(head)
        for root in ("[].", "[][].")
    )


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read spans one after the other, in a second pass."""
    found = shape.paths(source.head)
    if {"[].binaryAnnotations", "[][].binaryAnnotations"} & found:
        raise BadRequestError("this is Zipkin's format v1; export v2, as GET /api/v2/traces gives it")
    halves = _shared(source)
    bundle = Bundle()
    seen: set[tuple[bytes, bytes]] = set()
    with source.open() as stream:
        for at, record in _spans(JsonReader(stream), report):
            try:
                is_half = _add(bundle, record, halves, seen)
            except (UnfitError, TimeError, IdError) as error:
                reason = error.reason if isinstance(error, UnfitError) else str(error)
                detail = f": {error.detail}" if isinstance(error, UnfitError) and error.detail else ""
                report.refuse(reason, f"{at}{detail}")
                continue
            report.kept += 1
            if is_half:
                report.note("halves of a call that shared one id: the second one has an id of its own")
            if bundle.is_full:
                yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _spans(reader: JsonReader, report: Report | None) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in reader.documents():
        name = f"document {number + 1}: " if number else ""
        if reader.peek() != "[":
            raise BadRequestError(f"document {number + 1} of the file is no list of spans")
        if _is_list_of_lists(reader):
            for index in reader.items():
                if reader.peek() == "[":
                    yield from objects(reader, f"{name}[{index}]", report)
        else:
            yield from objects(reader, name, report)


def _is_list_of_lists(reader: JsonReader) -> bool:
    return reader.peek_inside() == "["


def _shared(source: Source) -> dict[Key, list[Half]]:
    """Find the ids that several spans have, with their halves: the one that keeps the id comes first."""
    once: dict[Key, Half] = {}
    shared: dict[Key, list[Half]] = {}
    with source.open() as stream:
        for _, record in _spans(JsonReader(stream), None):
            try:
                key, half = _key(record), _half(record)
            except (UnfitError, IdError):
                continue
            if key in shared:
                shared[key] += [half] if half not in shared[key] else []
            elif (first := once.setdefault(key, half)) != half:
                shared[key] = [first, half]
    for halves in shared.values():
        halves.sort(key=lambda half: (half[0] not in _FIRST, half[0] in _SECOND, half))
    return shared


def _key(record: dict[str, Any]) -> Key:
    trace_id = hex_id(record.get("traceId"), TRACE_ID_BYTES, "its traceId")
    return trace_id, hex_id(record.get("id"), SPAN_ID_BYTES, "its id")


def _half(record: dict[str, Any]) -> Half:
    local = dict_of(record.get("localEndpoint"), "localEndpoint")
    kind = text_of(record.get("kind"), "kind", default="").upper()
    return kind, text_of(local.get("serviceName"), "serviceName", default="")


def _id_of(key: Key, half: Half, halves: dict[Key, list[Half]]) -> bytes:
    if key not in halves or half == halves[key][0]:
        return key[1]
    return derived_span_id("zipkin", *key, *half)


def _parent_of(key: Key, half: Half, parent: bytes, halves: dict[Key, list[Half]]) -> bytes:
    """Return whose child a span is: among halves of one id the right one."""
    if key in halves and half != halves[key][0] and half[0] in _SECOND:
        return key[1]  # the server's half is the client half's child
    above = halves.get((key[0], parent))
    if not parent or not above or parent == key[1]:
        return parent if parent != key[1] else b""
    same = [each for each in above if each[1] == half[1]]
    servers = [each for each in above if each[0] in _SECOND]
    # of two halves in one service, a call within the service is below the server's
    chosen = next((each for each in same if each in servers), None) or (same or servers or above)[0]
    return _id_of((key[0], parent), chosen, halves)


def _add(bundle: Bundle, record: dict[str, Any], halves: dict[Key, list[Half]], seen: set[Key]) -> bool:
    """Add one span; returns whether it was given another id. Raises UnfitError, TimeError or IdError before that."""
    key, half = _key(record), _half(record)
    start_ns = scaled_ns(record.get("timestamp"), US, "timestamp")
    end_ns = start_ns + scaled_ns(record.get("duration"), US, "duration")
    above = parent_id(record.get("parentId"), SPAN_ID_BYTES, "its parentId")
    kind = half[0]
    if kind and kind not in KINDS:
        raise UnfitError("its kind is none that Zipkin has", short(kind))
    local = dict_of(record.get("localEndpoint"), "localEndpoint")
    remote = dict_of(record.get("remoteEndpoint"), "remoteEndpoint")
    tags = dict_of(record.get("tags"), "tags")
    annotations = [
        (scaled_ns(each.get("timestamp"), US, "annotation's timestamp"), text_of(each.get("value"), "annotation"))
        for each in (dict_of(entry, "annotations") for entry in list_of(record.get("annotations"), "annotations"))
    ]
    name = text_of(record.get("name"), "name", default="")
    span_id = _id_of(key, half, halves)
    if (key[0], span_id) in seen:
        raise UnfitError("a span of the same id, kind and service is there already")
    seen.add((key[0], span_id))

    address = local.get("ipv4") or local.get("ipv6")
    span = bundle.span({"service.name": half[1] or None, "host.name": address})
    span.trace_id, span.span_id = key[0], span_id
    span.parent_span_id = _parent_of(key, half, above, halves)
    span.name = clean(name)
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    if kind:
        span.kind = KINDS[kind]
    put(span.attributes, "network.local.address", address)
    put(span.attributes, "network.local.port", local.get("port"))
    put(span.attributes, "peer.service", remote.get("serviceName"))
    put(span.attributes, "network.peer.address", remote.get("ipv4") or remote.get("ipv6"))
    put(span.attributes, "network.peer.port", remote.get("port"))
    for tag, value in tags.items():
        if tag == "error":
            span.status.code = Status.STATUS_CODE_ERROR
            span.status.message = clean(str(value)) if str(value).lower() != "true" else ""
        else:
            put(span.attributes, tag, value)
    if span_id != key[1]:
        put(span.attributes, "zipkin.span_id", key[1].hex())
    if record.get("shared") is True:
        put(span.attributes, "zipkin.shared", True)
    for time_ns, text in annotations:
        span.events.add(time_unix_nano=time_ns, name=clean(text))
    bundle.filled(span)
    return span_id != key[1]


FORMAT = Format(name="zipkin", title="Zipkin v2 JSON", recognises=recognises, read=read)
