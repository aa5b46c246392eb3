"""Jaeger JSON, as its API answers and its UI reads: {"data": [trace, …]}, a trace after the other.

What becomes what is the way back of the import (tailsight_collector/importing/jaeger.py), and OpenTelemetry's own.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from tailsight_analysis.exporting.reading import Page
from tailsight_analysis.exporting.stored import StoredAttributes, StoredEvent, StoredSpan
from tailsight_storage import AttributeValue

_SAFE = 1 << 53
"""Integers beyond it are text: Jaeger's UI would round them."""
_REF_TYPE = "opentracing.ref_type"
_US_NS = 1_000
Tag = dict[str, Any]


class JaegerWriter:
    """Spans as traces of Jaeger; all spans of a trace stand together."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._trace_id = ""
        self._processes: dict[StoredAttributes, str] = {}
        self._write(b'{"data":[')

    def page(self, page: Page) -> None:
        """Take some spans."""
        for span in page.spans:
            before = b",\n"
            if span.trace_id != self._trace_id:
                self._end_trace(more=True)
                self._trace_id = span.trace_id
                before = f'\n{{"traceID":"{span.trace_id}","spans":[\n'.encode()
            self._write(before + _dumped(self._span(span)))

    def finish(self) -> None:
        """End the last trace, and the answer."""
        self._end_trace(more=False)
        self._write(b'\n],"total":0,"limit":0,"offset":0,"errors":null}\n')

    def _end_trace(self, *, more: bool) -> None:
        if not self._trace_id:
            return
        processes = {name: _process(resource) for resource, name in self._processes.items()}
        self._write(b'\n],"processes":' + _dumped(processes) + b',"warnings":null}' + (b"," if more else b""))
        self._processes = {}

    def _span(self, span: StoredSpan) -> dict[str, Any]:
        process = self._processes.setdefault(span.resource, f"p{len(self._processes) + 1}")
        references = []
        if span.parent_span_id:
            references.append(_reference("CHILD_OF", span.trace_id, span.parent_span_id))
        for link in span.links:
            if not (link.trace_id.strip("0") and link.span_id.strip("0")):
                continue  # it leads nowhere, and Jaeger takes no such id
            kind = "CHILD_OF" if link.attributes.decoded().get(_REF_TYPE) == "child_of" else "FOLLOWS_FROM"
            references.append(_reference(kind, link.trace_id, link.span_id))
        return {
            "traceID": span.trace_id,
            "spanID": span.span_id,
            "operationName": span.name,
            "references": references,
            "startTime": span.start_ns // _US_NS,
            "duration": span.duration_ns // _US_NS,
            "tags": _tags(span.attributes.decoded()) + _tags(_own(span)),
            "logs": [_log(event) for event in span.events if event.time_ns >= 0],
            "processID": process,
            "warnings": None,
        }


def _own(span: StoredSpan) -> dict[str, AttributeValue]:
    """Name what Jaeger keeps as tags and OTLP as fields."""
    own: dict[str, AttributeValue] = {}
    if span.kind != "UNSPECIFIED":
        own["span.kind"] = span.kind.lower()
    if span.status != "UNSET":
        own["otel.status_code"] = span.status
    if span.status == "ERROR":
        own["error"] = True
    if span.status_message:
        own["otel.status_description"] = span.status_message
    if span.trace_state:
        own["w3c.tracestate"] = span.trace_state
    if span.scope.name:
        own["otel.scope.name"] = span.scope.name
    if span.scope.version:
        own["otel.scope.version"] = span.scope.version
    return own


def _reference(kind: str, trace_id: str, span_id: str) -> dict[str, str]:
    return {"refType": kind, "traceID": trace_id, "spanID": span_id}


def _log(event: StoredEvent) -> dict[str, Any]:
    fields = _tags({"event": event.name}) if event.name else []
    return {"timestamp": event.time_ns // _US_NS, "fields": fields + _tags(event.attributes.decoded())}


def _process(resource: StoredAttributes) -> dict[str, Any]:
    values = resource.decoded()
    service = values.pop("service.name", "")
    return {"serviceName": service if isinstance(service, str) else _text(service), "tags": _tags(values)}


def _tags(values: Mapping[str, AttributeValue]) -> list[Tag]:
    return [{"key": key, **_tag(value)} for key, value in values.items()]


def _tag(value: AttributeValue) -> Tag:
    match value:
        case bool():
            return {"type": "bool", "value": value}
        case int():
            return {"type": "int64", "value": value if abs(value) < _SAFE else str(value)}
        case float():
            return {"type": "float64", "value": value if math.isfinite(value) else str(value)}
        case bytes():
            return {"type": "binary", "value": base64.b64encode(value).decode()}
        case _:
            return {"type": "string", "value": _text(value)}


def _text(value: AttributeValue) -> str:
    """Write what Jaeger has no type for as JSON, and what is no value as nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=_plain)


def _plain(value: object) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
