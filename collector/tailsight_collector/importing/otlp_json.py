"""OTLP/JSON as files have it: one request, JSON lines, and the dialects of protobuf's own JSON mapping.

Those dialects have base64 ids (16 bytes are 24 characters that end in ==, so no length fits both), enum names
("SPAN_KIND_SERVER"), snake_case keys, "batches" (Grafana Tempo) or the older instrumentationLibrarySpans. All are
recognised by what is there; an id that is neither hexadecimal nor base64 of the right length refuses its span.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing import shape
from tailsight_collector.importing.json_reader import JsonReader, RecordError
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.spool import spans_in
from tailsight_collector.receive.otlp_json import traces_from_document

ROOTS = ("resourceSpans", "resource_spans", "batches")
OTHER_SIGNALS = ("resourceMetrics", "resource_metrics", "resourceLogs", "resource_logs", "resourceProfiles")
_SCOPED = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans", "instrumentation_library_spans")
_OTHER_NAMES = {
    "instrumentationLibrarySpans": "scopeSpans",
    "instrumentationLibrary": "scope",
    "instrumentation_library_spans": "scopeSpans",
    "instrumentation_library": "scope",
}
_ID_BYTES = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_MAX_DEPTH = 100
_WRONG = (BadRequestError, ValueError, OverflowError, RecursionError)
_KINDS: dict[str, int] = dict(Span.SpanKind.items())
_CODES: dict[str, int] = dict(Status.StatusCode.items())


def recognises(head: bytes) -> bool:
    """Whether this is an object with resourceSpans, or what the dialects call them.

    Also one of metrics or logs: OpenTelemetry's file exporter writes all signals into one file, and traces may follow.
    """
    found = shape.paths(head)
    if "batches" in found:
        return bool({"batches[].resource", *(f"batches[].{name}" for name in _SCOPED)} & found)
    return bool({"resourceSpans", "resource_spans", *OTHER_SIGNALS} & found)


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read requests, a resource's spans at a time."""
    too_large: list[tuple[int, int]] = []
    with source.open() as stream:
        reader = JsonReader(stream)
        for number in reader.documents():
            if reader.peek() != "{":
                raise BadRequestError(f"document {number + 1} of the file is no OTLP request but no object at all")
            has_spans = False
            for key in reader.members():
                if key not in ROOTS:
                    continue
                has_spans = True
                if reader.peek() != "[":  # null, as some writers have it
                    continue
                for index in reader.items():
                    place = f"document {number + 1}, {key}[{index}]"
                    try:
                        element = reader.value()
                    except RecordError as error:
                        if "larger" not in str(error):
                            report.read += 1
                            report.refuse(f"a resource's spans {error}", place)
                            continue
                        too_large.append((number, index))
                        continue
                    yield from _of_element(element, place, report)
            if not has_spans:
                report.note("JSON documents without resourceSpans, left out")
    for number, index in too_large:
        yield from _of_large_element(source, number, index, report)


def _of_element(element: object, place: str, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Turn one entry of resourceSpans into a request; if something in it is wrong, span by span."""
    element = normalised(element)
    try:
        request = traces_from_document({"resourceSpans": [element]})
    except _WRONG:
        request = _span_by_span(element, place, report)
    else:
        report.read += spans_in(request)
    report.kept += spans_in(request)
    if request.resource_spans:
        yield request


def _span_by_span(element: Any, place: str, report: Report) -> ExportTraceServiceRequest:
    """Read what spans share once, and then each span for itself, however large the one and however many the others."""
    request = ExportTraceServiceRequest()
    if not isinstance(element, dict):
        report.read += 1
        report.refuse("an entry of resourceSpans is no object", place)
        return request
    groups = element.get("scopeSpans")
    for number, group in enumerate(groups if isinstance(groups, list) else []):
        spans = group.get("spans") if isinstance(group, dict) else None
        if not isinstance(spans, list) or not spans:
            continue
        report.read += len(spans)
        at = f"{place}.scopeSpans[{number}].spans"
        try:
            shared = traces_from_document({"resourceSpans": [{**element, "scopeSpans": [{**group, "spans": []}]}]})
        except _WRONG as error:
            report.refuse(_reason(error), f"{at}[0]: {error}", len(spans))
            continue
        kept = shared.resource_spans[0].scope_spans[0].spans
        for index, span in enumerate(spans):
            try:
                one = traces_from_document({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
            except _WRONG as error:
                report.refuse(_reason(error), f"{at}[{index}]: {error}")
            else:
                kept.extend(one.resource_spans[0].scope_spans[0].spans)
        if kept:
            request.MergeFrom(shared)
    return request


def _reason(error: Exception) -> str:
    """Return what is wrong in few words: the first word of the message is the key, the value does not belong here."""
    first = str(error).split(" ", 1)[0]
    if isinstance(error, BadRequestError) and first.isidentifier():
        return f"a span's {first} cannot be read" if first not in ("an", "a") else "a span's attributes cannot be read"
    return "a span cannot be read"


def _of_large_element(source: Source, number: int, index: int, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Read an entry of resourceSpans that is too large to be decoded at once: first what spans share, then spans."""
    shared: dict[str, Any] = {}
    groups: list[dict[str, Any]] = []
    try:
        with source.open() as stream:
            for reader in _at(JsonReader(stream), number, index):
                for key in reader.members():
                    if key in _SCOPED:
                        for _ in reader.items():
                            groups.append({})
                            for name in reader.members():
                                if name != "spans":
                                    groups[-1][name] = reader.value()
                    else:
                        shared[key] = reader.value()
    except RecordError as error:
        report.read += 1
        report.refuse(f"what a resource's spans share {error}", f"document {number + 1}, resourceSpans[{index}]")
        return
    with source.open() as stream:
        for reader in _at(JsonReader(stream), number, index):
            for key in reader.members():
                if key not in _SCOPED:
                    continue
                for at in reader.items():
                    for name in reader.members():
                        if name != "spans":
                            continue
                        place = f"document {number + 1}, resourceSpans[{index}].scopeSpans[{at}].spans"
                        yield from _of_large_group(reader, {**shared, key: [groups[at]]}, key, place, report)


def _of_large_group(
    reader: JsonReader, shared: dict[str, Any], key: str, place: str, report: Report
) -> Iterator[ExportTraceServiceRequest]:
    spans: list[Any] = []
    size = reader.position
    for index in reader.items():
        try:
            spans.append(reader.value())
        except RecordError as error:
            report.read += 1
            report.refuse(f"a span {error}", f"{place}[{index}]")
        if reader.position - size > 1024 * 1024:
            yield from _of_element({**shared, key: [{**shared[key][0], "spans": spans}]}, place, report)
            spans, size = [], reader.position
    if spans:
        yield from _of_element({**shared, key: [{**shared[key][0], "spans": spans}]}, place, report)


def _at(reader: JsonReader, number: int, index: int) -> Iterator[JsonReader]:
    """Go to one entry of resourceSpans."""
    for document in reader.documents():
        if document != number:
            continue
        for key in reader.members():
            if key in ROOTS and reader.peek() == "[":
                for at in reader.items():
                    if at == index:
                        yield reader
                        return


def normalised(value: Any, depth: int = 0) -> Any:
    """Bring the dialects' keys, ids and enum names into OTLP's own form; what is in it already stays as it is."""
    if isinstance(value, list):
        return [normalised(item, depth + 1) for item in value] if depth < _MAX_DEPTH else value
    if not isinstance(value, dict) or depth >= _MAX_DEPTH:
        return value
    found: dict[str, Any] = {}
    for key, item in value.items():
        name = _OTHER_NAMES.get(key) or (_camel(key) if "_" in key else key)
        found[name] = _item(name, item, depth)
    return found


def _item(name: str, item: Any, depth: int) -> Any:
    if isinstance(item, dict | list):
        return normalised(item, depth + 1)
    if isinstance(item, str):
        if name in _ID_BYTES:
            return _hex_of(item, _ID_BYTES[name])
        if name == "kind":
            return _KINDS.get(item, item)
        if name == "code":
            return _CODES.get(item, item)
    return item


def _camel(key: str) -> str:
    first, *others = key.split("_")
    return first + "".join(part.capitalize() for part in others)


def _hex_of(text: str, size_bytes: int) -> str:
    """Turn a base64 id into hex; any other text stays, and is judged as hex."""
    if len(text) != 2 * size_bytes and len(text) == -(-size_bytes // 3) * 4 and text.endswith("="):
        try:
            return base64.b64decode(text, validate=True).hex()
        except (ValueError, binascii.Error):
            return text
    return text


FORMAT = Format(name="otlp-json", title="OTLP JSON (one request, or JSON lines)", recognises=recognises, read=read)
