"""Jaeger JSON: the API's answer ({"data": [trace, …]}), one trace as the UI exports it, or a trace a line.

A span's process becomes its resource, its logs become events, its first reference into its own trace the parent and all
others links, with their kind as `opentracing.ref_type`, as OpenTelemetry's own translation has it. A parent that is
FOLLOWS_FROM, for which nobody waits, is a link besides.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, IdError, hex_id, parent_id
from tailsight_collector.importing.json_reader import JsonReader, RecordError
from tailsight_collector.importing.records import UnfitError, dict_of, list_of, objects, short, text_of
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import clean, put

US = 1_000
REF_TYPE = "opentracing.ref_type"
KINDS = {
    "internal": Span.SPAN_KIND_INTERNAL,
    "server": Span.SPAN_KIND_SERVER,
    "client": Span.SPAN_KIND_CLIENT,
    "producer": Span.SPAN_KIND_PRODUCER,
    "consumer": Span.SPAN_KIND_CONSUMER,
}
_SCOPE_NAMES = ("otel.scope.name", "otel.library.name")
_SCOPE_VERSIONS = ("otel.scope.version", "otel.library.version")
_STATUS = {"OK": Status.STATUS_CODE_OK, "ERROR": Status.STATUS_CODE_ERROR}

Tags = list[tuple[str, object]]


def recognises(head: bytes) -> bool:
    """Whether this has spans with a spanID and operationName, in an answer, a trace or a list of traces."""
    found = shape.paths(head)
    return any(
        f"{root}spans[].spanID" in found
        or (f"{root}traceID" in found and bool({f"{root}spans", f"{root}processes"} & found))
        for root in ("data[].", "", "[].")
    ) or ("data" in found and "data[].traceID" in found)


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read traces one after the other; of each its processes first, as they stand behind its spans."""
    bundle = Bundle()
    with source.open() as spans_stream, source.open() as processes_stream:
        # two readers go through the file side by side, one a trace ahead
        processes_of = (_processes(reader) for reader, _ in _traces(JsonReader(processes_stream), source.head))
        for reader, place in _traces(JsonReader(spans_stream), source.head):
            processes = next(processes_of)
            resources: dict[str, dict[str, object]] = {}
            seen: dict[tuple[bytes, bytes], bytes] = {}
            if reader.peek() != "{":
                report.read += 1
                report.refuse("a trace is no object", place)
                continue
            for key in reader.members():
                if key == "warnings":
                    _note_warnings(reader, report)
                if key != "spans" or reader.peek() != "[":
                    continue
                for at, record in objects(reader, f"{place}spans", report):
                    try:
                        _add(bundle, record, processes, resources, seen)
                    except (UnfitError, TimeError, IdError) as error:
                        reason = error.reason if isinstance(error, UnfitError) else str(error)
                        detail = f": {error.detail}" if isinstance(error, UnfitError) and error.detail else ""
                        report.refuse(reason, f"{at}{detail}")
                    else:
                        report.kept += 1
                    if bundle.is_full:
                        yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _traces(reader: JsonReader, head: bytes) -> Iterator[tuple[JsonReader, str]]:
    """Go to each trace: yield the reader in front of it, and its place."""
    is_answer = "data" in shape.paths(head)
    for number in reader.documents():
        name = f"document {number + 1}: " if number else ""
        if reader.peek() == "[":
            for index in reader.items():
                yield reader, f"{name}[{index}]."
        elif is_answer and reader.peek() == "{":
            for key in reader.members():
                if key == "data" and reader.peek() == "[":
                    for index in reader.items():
                        yield reader, f"{name}data[{index}]."
        else:
            yield reader, name


def _processes(reader: JsonReader) -> Mapping[str, object]:
    found: dict[str, object] = {}
    if reader.peek() == "{":
        for key in reader.members():
            if key == "processes" and reader.peek() == "{":
                found = {}
                for name in reader.members():
                    try:
                        found[name] = reader.value()
                    except RecordError:
                        continue
    return found


def _note_warnings(reader: JsonReader, report: Report) -> None:
    try:
        warnings = reader.value()
    except RecordError:
        return
    if isinstance(warnings, list) and warnings:
        report.note("traces with warnings of Jaeger")


def _add(
    bundle: Bundle,
    record: dict[str, Any],
    processes: Mapping[str, object],
    resources: dict[str, dict[str, object]],
    seen: dict[tuple[bytes, bytes], bytes],
) -> None:
    """Add one span to the bundle; raises UnfitError, TimeError or IdError before it does."""
    trace_id = hex_id(record.get("traceID"), TRACE_ID_BYTES, "its traceID")
    span_id = hex_id(record.get("spanID"), SPAN_ID_BYTES, "its spanID")
    start_ns = scaled_ns(record.get("startTime"), US, "startTime")
    end_ns = start_ns + scaled_ns(record.get("duration"), US, "duration")
    name = text_of(record.get("operationName"), "operationName")
    parent, links = _references(record, trace_id)
    tags = dict(_tags(record.get("tags"), "tags"))
    events = [_event(entry) for entry in list_of(record.get("logs"), "logs")]
    resource = _resource(record, processes, resources)
    content = sha256(json.dumps(record, sort_keys=True).encode("utf-8", "surrogatepass")).digest()
    if (known := seen.setdefault((trace_id, span_id), content)) is not content:
        raise UnfitError("it is there twice" if known == content else "another span of its trace has its spanID")

    scope, version = (next((str(tags.pop(key)) for key in keys if key in tags), "") for keys in _BOTH)
    span = bundle.span(resource, scope, version)
    span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
    span.name = clean(name)
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    if isinstance(flags := record.get("flags"), int) and 0 <= flags < 256:
        span.flags = flags & 1
    kind = KINDS.get(str(tags.get("span.kind")).lower())
    if kind is not None:
        span.kind = kind
        del tags["span.kind"]
    _set_status(span, tags)
    if isinstance(state := tags.get("w3c.tracestate"), str):
        span.trace_state = clean(state)
        del tags["w3c.tracestate"]
    for key, value in tags.items():
        put(span.attributes, key, value)
    if warnings := list_of(record.get("warnings"), "warnings"):
        put(span.attributes, "jaeger.warnings", [str(text) for text in warnings])
    for time_ns, event_name, fields in events:
        event = span.events.add(time_unix_nano=time_ns, name=clean(event_name))
        for key, value in fields:
            put(event.attributes, key, value)
    for linked_trace, linked_span, kind_of_reference in links:
        link = span.links.add(trace_id=linked_trace, span_id=linked_span)
        put(link.attributes, REF_TYPE, kind_of_reference)
    bundle.filled(span)


_BOTH = (_SCOPE_NAMES, _SCOPE_VERSIONS)


def _references(record: dict[str, Any], trace_id: bytes) -> tuple[bytes, list[tuple[bytes, bytes, str]]]:
    """Return the parent's id, and (trace id, span id, kind) of what is linked."""
    found: list[tuple[bytes, bytes, str]] = []
    for entry in list_of(record.get("references"), "references"):
        if not isinstance(entry, dict):
            raise UnfitError("a reference of it is no object", short(entry))
        kind = text_of(entry.get("refType"), "reference's refType", default="CHILD_OF").lower()
        if kind == "child_of" and isinstance(spans := entry.get("spanID"), str) and spans and not spans.strip("0"):
            continue  # of nobody: it is a root
        linked_trace = hex_id(entry.get("traceID") or trace_id.hex(), TRACE_ID_BYTES, "a reference's traceID")
        found.append((linked_trace, hex_id(entry.get("spanID"), SPAN_ID_BYTES, "a reference's spanID"), kind))
    own = [each for each in found if each[0] == trace_id]
    parent = next((each for each in own if each[2] == "child_of"), own[0] if own else None)
    if parent is None:
        return parent_id(record.get("parentSpanID"), SPAN_ID_BYTES, "its parentSpanID"), found
    if parent[2] == "child_of":
        found.remove(parent)
    return parent[1], found


def _resource(
    record: dict[str, Any], processes: Mapping[str, object], resources: dict[str, dict[str, object]]
) -> dict[str, object]:
    """Return a span's process as a resource; `resources` are those of the trace so far, so that each is read once."""
    process = record.get("process")
    if process is not None:
        return _resource_of(process)
    name = record.get("processID")
    if not isinstance(name, str) or name not in processes:
        raise UnfitError("its processID is none of the trace's processes", short(name))
    if name not in resources:
        resources[name] = _resource_of(processes[name])
    return resources[name]


def _resource_of(process: object) -> dict[str, object]:
    if not isinstance(process, dict):
        raise UnfitError("its process is no object", short(process))
    resource: dict[str, object] = {"service.name": text_of(process.get("serviceName"), "process's serviceName")}
    for key, value in _tags(process.get("tags"), "process's tags"):
        resource.setdefault("host.name" if key == "hostname" else key, value)
    return resource


def _tags(entries: object, what: str) -> Tags:
    """Read tags with their types; raises UnfitError. Where a key stands twice the last one counts, as in Jaeger."""
    tags: Tags = []
    for entry in list_of(entries, what):
        if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
            raise UnfitError(f"one of its {what} has no key", short(entry))
        tags.append((entry["key"], _value(str(entry.get("type", "")).lower(), entry.get("value"))))
    return tags


def _value(kind: str, value: object) -> object:
    """Read a tag's value as its type says; where that does not fit the value, it stays as it stands."""
    if isinstance(value, str):
        try:
            if kind == "bool" and value.lower() in ("true", "false"):
                return value.lower() == "true"
            if kind == "int64" and len(value) <= 20:
                return int(value)
            if kind == "float64" and len(value) <= 400:
                return float(value)
            if kind == "binary":
                return base64.b64decode(value, validate=True)
        except ValueError:
            return value
    if kind == "float64" and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53:
        return float(value)
    return value


def _event(entry: object) -> tuple[int, str, Tags]:
    log = dict_of(entry, "logs")
    fields = _tags(log.get("fields"), "log's fields")
    name = next((str(value) for key, value in fields if key == "event"), "")
    return scaled_ns(log.get("timestamp"), US, "log's timestamp"), name, [each for each in fields if each[0] != "event"]


def _set_status(span: Span, tags: dict[str, object]) -> None:
    code = _STATUS.get(str(tags.get("otel.status_code")).upper())
    if code is not None:
        del tags["otel.status_code"]
    elif str(tags.get("error", "")).lower() == "true":
        code = Status.STATUS_CODE_ERROR
    if code is None:
        return
    span.status.code = code
    if str(tags.get("error", "")).lower() in ("true", "false"):
        del tags["error"]
    description = tags.pop("otel.status_description", None)
    if description is not None:
        span.status.message = clean(str(description))


FORMAT = Format(name="jaeger", title="Jaeger JSON (API or UI)", recognises=recognises, read=read)
