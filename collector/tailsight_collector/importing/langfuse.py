"""A trace as Langfuse exports it: {"trace": …, "observations": […]}, or the API's trace with its observations inside.

Each observation becomes a span. Generations are `compute` with the model, its tokens and the time to the first one;
tools are `tool`, retrievers `retrieve`, embeddings `embed`, as the rules for OpenTelemetry's GenAI spans have it.
Prompts and answers are left out. Ids in UUID form: a trace's are the same 16 bytes; an observation's do not
fit into a span id, so that is derived, and the attribute `langfuse.observation.id` has the original.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tailsight.attributes import MODEL, STAGE, TIME_TO_FIRST_CHUNK
from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, IdError, derived_span_id, hex_id
from tailsight_collector.importing.json_reader import JsonReader, RecordError
from tailsight_collector.importing.records import UnfitError, dict_of, objects, text_of
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, iso_ns
from tailsight_collector.importing.values import clean, put

SERVICE = "langfuse"
STAGES = {"GENERATION": "compute", "TOOL": "tool", "RETRIEVER": "retrieve", "EMBEDDING": "embed"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_OF_TRACE = ("sessionId", "userId", "release", "environment", "version")


def recognises(head: bytes) -> bool:
    """Whether this has observations with a traceId, or a trace with a project."""
    found = shape.paths(head)
    return (
        {"observations[].traceId", "observations[].startTime"} <= found
        or {"trace.id", "trace.projectId"} <= found
        or {"id", "projectId", "observations"} <= found
    )


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read observations one after the other, and what is said of the trace before that."""
    report.unit = "observations"
    bundle = Bundle()
    with source.open() as stream, source.open() as ahead:
        traces = (_trace(reader) for reader in _documents(JsonReader(ahead)))
        for number, reader in enumerate(_documents(JsonReader(stream))):
            trace = next(traces)
            place = f"document {number + 1}: observations" if number else "observations"
            for key in reader.members():
                if key != "observations" or reader.peek() != "[":
                    continue
                for at, record in objects(reader, place, report):
                    try:
                        _add(bundle, record, trace, report)
                    except (UnfitError, TimeError, IdError) as error:
                        report.refuse(error.reason if isinstance(error, UnfitError) else str(error), at)
                        continue
                    report.kept += 1
                    if bundle.is_full:
                        yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _documents(reader: JsonReader) -> Iterator[JsonReader]:
    for _ in reader.documents():
        if reader.peek() == "{":
            yield reader


def _trace(reader: JsonReader) -> dict[str, Any]:
    """Return what is said of the trace, without its observations."""
    found: dict[str, Any] = {}
    for key in reader.members():
        if key == "trace" and reader.peek() == "{":
            for name in reader.members():
                if name in ("id", "name", *_OF_TRACE):
                    found[name] = _small(reader)
        elif key in ("id", "name", *_OF_TRACE):
            found.setdefault(key, _small(reader))
    return found


def _small(reader: JsonReader) -> Any:
    try:
        return reader.value()
    except RecordError:
        return None


def _trace_id(value: object) -> bytes:
    text = value.replace("-", "") if isinstance(value, str) and _UUID.fullmatch(value) else value
    return hex_id(text, TRACE_ID_BYTES, "its traceId")


def _span_id(value: object, trace_id: bytes, what: str) -> bytes:
    if isinstance(value, str) and _UUID.fullmatch(value):
        return derived_span_id("langfuse", trace_id, value.lower())
    return hex_id(value, SPAN_ID_BYTES, what)


def _add(bundle: Bundle, record: dict[str, Any], trace: dict[str, Any], report: Report) -> None:
    trace_id = _trace_id(record.get("traceId") or trace.get("id"))
    span_id = _span_id(record.get("id"), trace_id, "its id")
    parent = record.get("parentObservationId")
    parent_id = _span_id(parent, trace_id, "its parentObservationId") if parent else b""
    start_ns = iso_ns(record.get("startTime"), "startTime")
    end_ns = iso_ns(record.get("endTime"), "endTime")
    if end_ns < start_ns:
        raise TimeError("it ends before it starts")
    name = text_of(record.get("name"), "name", default="")
    kind = text_of(record.get("type"), "type", default="").upper()
    usage = dict_of(record.get("usageDetails"), "usageDetails")
    tokens = {which: usage.get(which, record.get(f"{which}Usage") or None) for which in ("input", "output")}
    environment = record.get("environment") or trace.get("environment")

    span = bundle.span({"service.name": SERVICE, "deployment.environment.name": environment})
    span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent_id
    span.name = clean(name)
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    put(span.attributes, STAGE, STAGES.get(kind))
    model = record.get("model")
    put(span.attributes, MODEL, model)
    put(span.attributes, "gen_ai.request.model", model)
    put(span.attributes, "gen_ai.usage.input_tokens", tokens["input"])
    put(span.attributes, "gen_ai.usage.output_tokens", tokens["output"])
    if record.get("completionStartTime") and (first_ns := iso_ns(record["completionStartTime"], "completionStartTime")):
        if start_ns <= first_ns <= end_ns:
            put(span.attributes, TIME_TO_FIRST_CHUNK, (first_ns - start_ns) / 1e9)
        else:
            report.note("generations whose first token is outside of them: left without a time to it")
    put(span.attributes, "langfuse.observation.type", kind.lower() or None)
    put(span.attributes, "langfuse.observation.id", record.get("id") if span_id.hex() != record.get("id") else None)
    if not parent_id:
        put(span.attributes, "langfuse.trace.name", trace.get("name"))
        for key in _OF_TRACE[:2]:
            put(span.attributes, f"langfuse.{key}", trace.get(key))
    if record.get("level") == "ERROR":
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = clean(str(record.get("statusMessage") or ""))
    bundle.filled(span)


FORMAT = Format(name="langfuse", title="Langfuse's trace JSON", recognises=recognises, read=read)
