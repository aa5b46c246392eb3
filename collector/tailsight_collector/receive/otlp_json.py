"""OTLP/JSON traces into the same protobuf message that OTLP/protobuf brings, so that both are stored identically."""

from __future__ import annotations

from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.receive.json_fields import (
    attributes_of,
    child,
    fill_resource,
    fill_scope,
    identifier,
    integer,
    object_of,
    objects,
    parse,
    string,
)


def parse_traces(body: bytes) -> ExportTraceServiceRequest:
    """Decode an OTLP/JSON trace request; raises BadRequestError with the place and the value."""
    return parse(body, traces_from_document)


def traces_from_document(document: object) -> ExportTraceServiceRequest:
    """Turn a decoded JSON document into a request; raises BadRequestError with the place and the value."""
    request = ExportTraceServiceRequest()
    for resource_spans in objects(object_of(document, "the request"), "resourceSpans"):
        target = request.resource_spans.add(schema_url=string(resource_spans, "schemaUrl"))
        fill_resource(target.resource, resource_spans)
        for scope_spans in objects(resource_spans, "scopeSpans"):
            scoped = target.scope_spans.add(schema_url=string(scope_spans, "schemaUrl"))
            fill_scope(scoped.scope, scope_spans)
            for span in objects(scope_spans, "spans"):
                _fill_span(scoped.spans.add(), span)
    return request


def _fill_span(target: Span, span: dict[str, Any]) -> None:
    target.trace_id = identifier(span, "traceId")
    target.span_id = identifier(span, "spanId")
    target.parent_span_id = identifier(span, "parentSpanId")
    target.trace_state = string(span, "traceState")
    target.flags = integer(span, "flags", 32)
    target.name = string(span, "name")
    target.kind = integer(span, "kind", 31)  # type: ignore[assignment]  # an open enum: any integer is kept
    target.start_time_unix_nano = integer(span, "startTimeUnixNano", 64)
    target.end_time_unix_nano = integer(span, "endTimeUnixNano", 64)
    target.attributes.extend(attributes_of(span))
    target.dropped_attributes_count = integer(span, "droppedAttributesCount", 32)
    target.dropped_events_count = integer(span, "droppedEventsCount", 32)
    target.dropped_links_count = integer(span, "droppedLinksCount", 32)
    for event in objects(span, "events"):
        target.events.add(
            time_unix_nano=integer(event, "timeUnixNano", 64),
            name=string(event, "name"),
            attributes=attributes_of(event),
            dropped_attributes_count=integer(event, "droppedAttributesCount", 32),
        )
    for link in objects(span, "links"):
        target.links.add(
            trace_id=identifier(link, "traceId"),
            span_id=identifier(link, "spanId"),
            trace_state=string(link, "traceState"),
            attributes=attributes_of(link),
            flags=integer(link, "flags", 32),
        )
    if (status := child(span, "status")) is not None:
        target.status.SetInParent()
        target.status.message = string(status, "message")
        target.status.code = integer(status, "code", 31)  # type: ignore[assignment]
