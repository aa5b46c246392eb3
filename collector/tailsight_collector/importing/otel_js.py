"""Finished spans of OpenTelemetry's JavaScript SDK written as a JSON list: OpenInference and the AI SDK save them so.

Times are [seconds, nanoseconds]; a span's kind counts from 0 (internal) where OTLP counts from 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, IdError, hex_id, parent_id
from tailsight_collector.importing.json_reader import JsonReader
from tailsight_collector.importing.records import UnfitError, dict_of, list_of, objects, one_object, text_of
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import clean, put_all

KINDS = (
    Span.SPAN_KIND_INTERNAL,
    Span.SPAN_KIND_SERVER,
    Span.SPAN_KIND_CLIENT,
    Span.SPAN_KIND_PRODUCER,
    Span.SPAN_KIND_CONSUMER,
)
CODES = (Status.STATUS_CODE_UNSET, Status.STATUS_CODE_OK, Status.STATUS_CODE_ERROR)


def recognises(head: bytes) -> bool:
    """Whether this is a list of objects with a spanContext."""
    return any(shape.has(head, f"{root}spanContext.traceId", f"{root}spanContext.spanId") for root in ("[].", ""))


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read spans one after the other; several lists behind each other, or a span a line, too."""
    bundle = Bundle()
    with source.open() as stream:
        for at, record in _records(JsonReader(stream), report):
            try:
                _add(bundle, record)
            except (UnfitError, TimeError, IdError) as error:
                report.refuse(error.reason if isinstance(error, UnfitError) else str(error), at)
                continue
            report.kept += 1
            if bundle.is_full:
                yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _records(reader: JsonReader, report: Report) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in reader.documents():
        if reader.peek() == "[":
            yield from objects(reader, f"document {number + 1}: " if number else "", report)
        else:
            yield from one_object(reader, f"document {number + 1}", report)


def _pair_ns(value: object, what: str) -> int:
    """Read [seconds, nanoseconds]."""
    if value is None:
        raise TimeError(f"it has no {what}")
    if not isinstance(value, list) or len(value) != 2:
        raise TimeError(f"its {what} is no pair of seconds and nanoseconds")
    return scaled_ns(value[0], 10**9, what) + scaled_ns(value[1], 1, what)


def _add(bundle: Bundle, record: dict[str, Any]) -> None:
    context = dict_of(record.get("spanContext"), "spanContext")
    trace_id = hex_id(context.get("traceId"), TRACE_ID_BYTES, "its traceId")
    span_id = hex_id(context.get("spanId"), SPAN_ID_BYTES, "its spanId")
    above = record.get("parentSpanId") or dict_of(record.get("parentSpanContext"), "parentSpanContext").get("spanId")
    parent = parent_id(above, SPAN_ID_BYTES, "its parent's spanId")
    start_ns, end_ns = _pair_ns(record.get("startTime"), "startTime"), _pair_ns(record.get("endTime"), "endTime")
    if end_ns < start_ns:
        raise TimeError("it ends before it starts")
    name = text_of(record.get("name"), "name")
    status = dict_of(record.get("status"), "status")
    attributes = dict_of(record.get("attributes"), "attributes")
    kind = record.get("kind", 0)
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind <= 4:
        raise UnfitError("its kind is none of 0 to 4", repr(kind)[:60])
    code = status.get("code", 0)
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 2:
        raise UnfitError("its status is none of 0 to 2", repr(code)[:60])
    resource = dict_of(dict_of(record.get("resource"), "resource").get("attributes"), "resource's attributes")
    scope = dict_of(record.get("instrumentationScope") or record.get("instrumentationLibrary"), "scope")
    events = [
        (_pair_ns(event.get("time"), "event's time"), text_of(event.get("name"), "event's name"), event)
        for event in (dict_of(entry, "events") for entry in list_of(record.get("events"), "events"))
    ]
    event_attributes = [dict_of(event.get("attributes"), "event's attributes") for _, _, event in events]
    links = [
        (
            hex_id(linked.get("traceId"), TRACE_ID_BYTES, "a link's traceId"),
            hex_id(linked.get("spanId"), SPAN_ID_BYTES, "a link's spanId"),
        )
        for linked in (
            dict_of(dict_of(entry, "links").get("context"), "link's context")
            for entry in list_of(record.get("links"), "links")
        )
    ]

    scope_names = (text_of(scope.get(each), f"scope's {each}", default="") for each in ("name", "version"))
    span = bundle.span(resource, *scope_names)
    span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
    span.name = clean(name)
    if "kind" in record:
        span.kind = KINDS[kind]
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    span.status.code = CODES[code]
    span.status.message = clean(str(status.get("message") or ""))
    put_all(span.attributes, attributes)
    for (time_ns, event_name, _), values in zip(events, event_attributes, strict=True):
        put_all(span.events.add(time_unix_nano=time_ns, name=clean(event_name)).attributes, values)
    for linked_trace, linked_span in links:
        span.links.add(trace_id=linked_trace, span_id=linked_span)
    bundle.filled(span)


FORMAT = Format(
    name="otel-js", title="spans of OpenTelemetry's JavaScript SDK as JSON", recognises=recognises, read=read
)
