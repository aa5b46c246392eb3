"""What an export is compared with: everything that a store has of its spans, and spans that any store may have."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tailsight_analysis import Filters, whole_time
from tailsight_analysis.exporting.choosing import Chosen, choose_window
from tailsight_analysis.exporting.reading import read_spans
from tailsight_cli.exporting.formats import FORMATS
from tailsight_collector.importer import read_requests
from tailsight_collector.keep.records import encode_varint
from tailsight_storage import Store
from testkit.otlp_strategies import NOW_NS, RESOURCES, request_of

_tokens = itertools.count()


def everything(store: Store, columns: str = "* EXCEPT received_at") -> list[str]:
    """Each span with all of its columns as text, those that arrived twice once."""
    return sorted(str(row[0]) for row in store.rows(f"SELECT DISTINCT toString(tuple({columns})) FROM spans"))


def put(store: Store, *messages: ExportTraceServiceRequest) -> None:
    """Store requests, as one segment."""
    encoded = [message.SerializeToString() for message in messages]
    segment = b"".join(encode_varint(len(each)) + each for each in encoded)
    store.insert_otlp_traces(segment, f"export-{next(_tokens)}")


def chosen_in(store: Store, filters: Filters | None = None) -> Chosen:
    """Choose all traces of a store."""
    window = whole_time(store)
    assert window is not None
    return choose_window(store, window, filters or Filters())


def export(store: Store, name: str, path: Path) -> Path:
    """Write all of a store in a format."""
    with path.open("wb") as file:
        chosen = chosen_in(store)
        writer = FORMATS[name].writer(file, store, chosen)
        for page in read_spans(store, chosen):
            writer.page(page)
        writer.finish()
    return path


def stored_again(store: Store, path: Path) -> None:
    """Read a file as the import does, and let it be all that the store has."""
    requests = list(read_requests(path))
    store.run("TRUNCATE TABLE spans")
    put(store, *requests)


def _valid(resources: list[dict[str, Any]]) -> ExportTraceServiceRequest:
    """Make ids and times right where they are not: such spans a store has not."""
    number = itertools.count(1)
    for resource in resources:
        for scope in resource["scopes"]:
            for fields in scope["spans"]:
                count = next(number)
                if len(fields["trace_id"]) != 16 or not any(fields["trace_id"]):
                    fields["trace_id"] = (count % 3 + 1).to_bytes(16, "big")
                if len(fields["span_id"]) != 8 or not any(fields["span_id"]):
                    fields["span_id"] = count.to_bytes(8, "big")
                if len(fields["parent_span_id"]) != 8:
                    fields["parent_span_id"] = b""
                if not 946_684_800 * 10**9 <= fields["start"] <= NOW_NS:
                    fields["start"] = NOW_NS - count
                if fields["end"] is not None and not fields["start"] <= fields["end"] <= NOW_NS:
                    fields["end"] = None
    return request_of(resources)


def _one_nan(value: AnyValue) -> None:
    """JSON has one NaN, and of what lies deep the store keeps the bits."""
    for inner in (*value.array_value.values, *(pair.value for pair in value.kvlist_value.values)):
        _one_nan(inner)
    if math.isnan(value.double_value):
        value.double_value = math.nan


def with_one_nan(message: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Give a request whose NaNs all have the same bits."""
    for resource in message.resource_spans:
        groups = [resource.resource.attributes]
        for scope in resource.scope_spans:
            groups.append(scope.scope.attributes)
            for each in scope.spans:
                groups += [each.attributes, *(one.attributes for one in (*each.events, *each.links))]
        for pair in itertools.chain.from_iterable(groups):
            if pair.HasField("value"):
                _one_nan(pair.value)
    return message


STORED: st.SearchStrategy[ExportTraceServiceRequest] = st.lists(RESOURCES, min_size=1, max_size=2).map(_valid)
"""Requests whose spans are all stored."""
