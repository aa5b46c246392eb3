"""OTLP: length-delimited protobuf requests, as our SDK writes them, or a JSON request a line, as the Collector does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tailsight_analysis.exporting.reading import Page
from tailsight_analysis.exporting.stored import StoredAttributes, StoredSpan
from tailsight_cli.exporting.values import any_value, json_attributes, typed
from tailsight_collector.keep.records import encode_varint

MAX_SPANS = 2_000
MAX_BYTES = 2 * 1024**2
"""Of one request, about: receivers take 4 MiB over gRPC by default."""
_KINDS = {
    "UNSPECIFIED": Span.SPAN_KIND_UNSPECIFIED,
    "INTERNAL": Span.SPAN_KIND_INTERNAL,
    "SERVER": Span.SPAN_KIND_SERVER,
    "CLIENT": Span.SPAN_KIND_CLIENT,
    "PRODUCER": Span.SPAN_KIND_PRODUCER,
    "CONSUMER": Span.SPAN_KIND_CONSUMER,
}
_CODES = {"UNSET": Status.STATUS_CODE_UNSET, "OK": Status.STATUS_CODE_OK, "ERROR": Status.STATUS_CODE_ERROR}
_UINT64 = (1 << 64) - 1

Write = Callable[[bytes], object]


class OtlpWriter:
    """Spans in requests, grouped by resource and scope."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._new()

    def _new(self) -> None:
        self._request = ExportTraceServiceRequest()
        self._resources: dict[StoredAttributes, ResourceSpans] = {}
        self._scopes: dict[tuple[int, int], ScopeSpans] = {}
        self._alive: list[object] = []  # whose addresses are keys
        self._spans = self._bytes = 0

    def page(self, page: Page) -> None:
        """Take some spans."""
        for span in page.spans:
            self._fill(self._scope(span).spans.add(), span)
            self._spans += 1
            self._bytes += span.size_bytes
            if self._spans >= MAX_SPANS or self._bytes >= MAX_BYTES:
                self._flush()

    def finish(self) -> None:
        """Write what is left."""
        if self._spans:
            self._flush()

    def _flush(self) -> None:
        encoded = self._request.SerializeToString()
        self._write(encode_varint(len(encoded)) + encoded)
        self._new()

    def _scope(self, span: StoredSpan) -> ScopeSpans:
        key = (id(span.resource), id(span.scope))
        if (found := self._scopes.get(key)) is not None:
            return found
        if (resource := self._resources.get(span.resource)) is None:
            resource = self._request.resource_spans.add()
            self._resources[span.resource] = resource
            _put(resource.resource.attributes, span.resource)
        scope = resource.scope_spans.add()
        name, version, attributes = span.scope
        if name or version or attributes.keys:
            scope.scope.name, scope.scope.version = name, version
            _put(scope.scope.attributes, attributes)
        self._scopes[key] = scope
        self._alive += span.resource, span.scope
        return scope

    def _fill(self, target: Span, span: StoredSpan) -> None:
        target.trace_id = bytes.fromhex(span.trace_id)
        target.span_id = bytes.fromhex(span.span_id)
        target.parent_span_id = bytes.fromhex(span.parent_span_id)
        target.trace_state = span.trace_state
        target.name = span.name
        target.kind = _KINDS.get(span.kind, Span.SPAN_KIND_UNSPECIFIED)
        target.start_time_unix_nano = span.start_ns
        target.end_time_unix_nano = span.start_ns + span.duration_ns
        _put(target.attributes, span.attributes)
        for event in span.events:
            _put(
                target.events.add(time_unix_nano=event.time_ns & _UINT64, name=event.name).attributes, event.attributes
            )
        for link in span.links:
            trace_id, span_id = (bytes.fromhex(given_id(each)) for each in (link.trace_id, link.span_id))
            _put(target.links.add(trace_id=trace_id, span_id=span_id).attributes, link.attributes)
        if span.status != "UNSET" or span.status_message:
            target.status.code = _CODES.get(span.status, Status.STATUS_CODE_UNSET)
            target.status.message = span.status_message


def given_id(hex_id: str) -> str:
    """Give no id where the store has zeros: the sender's had a wrong length."""
    return hex_id if hex_id.strip("0") else ""


def _put(target: RepeatedCompositeFieldContainer[KeyValue], attributes: StoredAttributes) -> None:
    for key, text, kind in typed(attributes):
        target.add(key=key, value=any_value(text, kind))


class OtlpJsonWriter:
    """The same requests as JSON, a line each."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._new()

    def _new(self) -> None:
        self._resources: dict[StoredAttributes, dict[str, Any]] = {}
        self._scopes: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self._alive: list[object] = []
        self._spans = self._bytes = 0

    def page(self, page: Page) -> None:
        """Take some spans."""
        for span in page.spans:
            self._scope(span).append(_json_span(span))
            self._spans += 1
            self._bytes += span.size_bytes
            if self._spans >= MAX_SPANS or self._bytes >= MAX_BYTES:
                self._flush()

    def finish(self) -> None:
        """Write what is left."""
        if self._spans:
            self._flush()

    def _flush(self) -> None:
        request = {"resourceSpans": list(self._resources.values())}
        self._write(json.dumps(request, separators=(",", ":"), allow_nan=False).encode() + b"\n")
        self._new()

    def _scope(self, span: StoredSpan) -> list[dict[str, Any]]:
        key = (id(span.resource), id(span.scope))
        if (found := self._scopes.get(key)) is not None:
            return found
        if (resource := self._resources.get(span.resource)) is None:
            resource = {"resource": {"attributes": json_attributes(span.resource)}, "scopeSpans": []}
            self._resources[span.resource] = resource
        name, version, attributes = span.scope
        scope: dict[str, Any] = {"name": name} if name else {}
        if version:
            scope["version"] = version
        if attributes.keys:
            scope["attributes"] = json_attributes(attributes)
        spans: list[dict[str, Any]] = []
        resource["scopeSpans"].append({"scope": scope, "spans": spans})
        self._scopes[key] = spans
        self._alive += span.resource, span.scope
        return spans


def _json_span(span: StoredSpan) -> dict[str, Any]:
    found: dict[str, Any] = {"traceId": span.trace_id, "spanId": span.span_id}
    if span.trace_state:
        found["traceState"] = span.trace_state
    if span.parent_span_id:
        found["parentSpanId"] = span.parent_span_id
    found |= {
        "name": span.name,
        "kind": int(_KINDS.get(span.kind, 0)),
        "startTimeUnixNano": str(span.start_ns),
        "endTimeUnixNano": str(span.start_ns + span.duration_ns),
        "attributes": json_attributes(span.attributes),
    }
    if span.events:
        found["events"] = [
            {
                "timeUnixNano": str(event.time_ns & _UINT64),
                "name": event.name,
                "attributes": json_attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.links:
        found["links"] = [
            {
                "traceId": given_id(link.trace_id),
                "spanId": given_id(link.span_id),
                "attributes": json_attributes(link.attributes),
            }
            for link in span.links
        ]
    status: dict[str, Any] = {"code": int(_CODES[span.status])} if span.status in ("OK", "ERROR") else {}
    if span.status_message:
        status["message"] = span.status_message
    found["status"] = status
    return found
