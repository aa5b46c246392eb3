"""Parquet: a row a span, the columns of the table `spans` with their names, ids in hex."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from tailsight_analysis.exporting.reading import Page
from tailsight_analysis.exporting.stored import StoredAttributes, StoredSpan

ROW_GROUP_SPANS = 50_000
ROW_GROUP_BYTES = 64 * 1024**2
_TEXT = pa.string()
_MAP = pa.map_(pa.string(), pa.string())
_TIME = pa.timestamp("ns", "UTC")
_EVENT = pa.struct({"time": _TIME, "name": _TEXT, "attributes": _MAP, "attribute_types": _MAP})
_LINK = pa.struct({"trace_id": _TEXT, "span_id": _TEXT, "attributes": _MAP, "attribute_types": _MAP})
SCHEMA = pa.schema({
    "trace_id": _TEXT,
    "span_id": _TEXT,
    "parent_span_id": _TEXT,
    "received_at": pa.timestamp("ms", "UTC"),
    "start_time": _TIME,
    "duration_ns": pa.uint64(),
    "service": _TEXT,
    "stage": _TEXT,
    "name": _TEXT,
    "kind": _TEXT,
    "status": _TEXT,
    "status_message": _TEXT,
    "hardware": _TEXT,
    "host": _TEXT,
    "region": _TEXT,
    "environment": _TEXT,
    "version": _TEXT,
    "run": _TEXT,
    "model": _TEXT,
    "thread_id": pa.uint64(),
    "trace_state": _TEXT,
    "weight": pa.float64(),
    "sampling_reason": _TEXT,
    "intended_start_ns": pa.uint64(),
    "attributes": _MAP,
    "attribute_types": _MAP,
    "resource": _MAP,
    "resource_types": _MAP,
    "scope_name": _TEXT,
    "scope_version": _TEXT,
    "scope_attributes": _MAP,
    "events": pa.list_(_EVENT),
    "links": pa.list_(_LINK),
})  # fmt: skip
_PLAIN = 24
"""So many columns come first, in the order of StoredSpan's fields."""


class ParquetWriter:
    """Spans in row groups."""

    def __init__(self, file: BinaryIO) -> None:
        self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._spans = self._bytes = 0

    def page(self, page: Page) -> None:
        """Take some spans."""
        if not page.spans:
            return
        self._batches.append(_batch(page.spans))
        self._spans += len(page.spans)
        self._bytes += sum(span.size_bytes for span in page.spans)
        if self._spans >= ROW_GROUP_SPANS or self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._batches:
            self._writer.write_table(pa.Table.from_batches(self._batches, SCHEMA), row_group_size=2 * ROW_GROUP_SPANS)
        self._batches = []
        self._spans = self._bytes = 0


def _batch(spans: Sequence[StoredSpan]) -> pa.RecordBatch:
    columns: list[list[Any]] = [list(column) for column in zip(*(span[:_PLAIN] for span in spans), strict=True)]
    columns += [
        [_texts(span.attributes) for span in spans],
        [_types(span.attributes) for span in spans],
        [_texts(span.resource) for span in spans],
        [_types(span.resource) for span in spans],
        [span.scope.name for span in spans],
        [span.scope.version for span in spans],
        [_texts(span.scope.attributes) for span in spans],
        [
            [(event.time_ns, event.name, _texts(event.attributes), _types(event.attributes)) for event in span.events]
            for span in spans
        ],
        [
            [(link.trace_id, link.span_id, _texts(link.attributes), _types(link.attributes)) for link in span.links]
            for span in spans
        ],
    ]
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def _texts(attributes: StoredAttributes) -> list[tuple[str, str]]:
    return list(zip(attributes.keys, attributes.texts, strict=True))


def _types(attributes: StoredAttributes) -> list[tuple[str, str]]:
    return list(zip(attributes.typed_keys, attributes.types, strict=True))
