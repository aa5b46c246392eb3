"""Trace CSV as the Nezha data set has it, a span a row.

Columns: TraceID, SpanID, ParentID ("root" for none), PodName, OperationName, StartTimeUnixNano, EndTimeUnixNano.
The service is the pod's name without its two last parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.csv_rows import header_of, rows
from tailsight_collector.importing.ids import SPAN_ID_BYTES, TRACE_ID_BYTES, IdError, hex_id
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import clean, put

_COLUMNS = {"TraceID", "SpanID", "ParentID", "PodName", "OperationName", "StartTimeUnixNano", "EndTimeUnixNano"}
_POD = re.compile(r"(.+?)-[0-9a-f]{6,10}-[0-9a-z]{5}")
ROOT = "root"


def recognises(head: bytes) -> bool:
    """Whether the first line names these columns."""
    return set(header_of(head)) >= _COLUMNS


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:  # noqa: ARG001
    """Read rows one after the other."""
    report.unit = "rows"
    bundle = Bundle()
    with source.open() as stream:
        for place, row in rows(stream, report):
            try:
                _add(bundle, row)
            except (TimeError, IdError) as error:
                report.refuse(str(error), place)
                continue
            report.kept += 1
            if bundle.is_full:
                yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _add(bundle: Bundle, row: dict[str, str]) -> None:
    trace_id = hex_id(row["TraceID"], TRACE_ID_BYTES, "its TraceID")
    span_id = hex_id(row["SpanID"], SPAN_ID_BYTES, "its SpanID")
    parent = b"" if row["ParentID"] == ROOT else hex_id(row["ParentID"], SPAN_ID_BYTES, "its ParentID")
    start_ns = scaled_ns(row["StartTimeUnixNano"], 1, "StartTimeUnixNano")
    end_ns = scaled_ns(row["EndTimeUnixNano"], 1, "EndTimeUnixNano")
    if end_ns < start_ns:
        raise TimeError("it ends before it starts")
    pod = row["PodName"]
    found = _POD.fullmatch(pod)
    span = bundle.span({"service.name": found[1] if found else pod, "host.name": pod})
    span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
    span.name = clean(row["OperationName"])
    span.start_time_unix_nano, span.end_time_unix_nano = start_ns, end_ns
    for column, value in row.items():
        if column not in _COLUMNS and column != "Duration" and value:
            put(span.attributes, column, value)
    bundle.filled(span)


FORMAT = Format(name="nezha", title="trace CSV of the Nezha data set", recognises=recognises, read=read)
