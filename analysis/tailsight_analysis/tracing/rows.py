"""Fetch one trace: columns of all its spans to account for, and what there is to read about those shown."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.errors import AnalysisError
from tailsight_analysis.queries import query
from tailsight_analysis.requests.accounting import Bools, Ints, Spans
from tailsight_analysis.requests.sample import MAX_SPANS, codes_of
from tailsight_storage import Store, decode_attributes

Attributes = Mapping[str, Any]
_ALL_OF = 20_000  # from so many rows on it is quicker to read about all of them than to name them


@dataclass(frozen=True, slots=True)
class TraceRows:
    """All spans of one trace, an entry each, in the order of sql/trace_order.sql. `stage` is "" where there is none."""

    spans: Spans
    stage: tuple[str, ...]
    host: tuple[str, ...]
    failed: Bools


def fetch_rows(store: Store, trace_id: str) -> TraceRows | None:
    """Fetch the spans of the trace with this whole id; None where there is none."""
    columns = store.columns(query("trace_spans"), trace_id=trace_id, max_spans=MAX_SPANS)
    if not columns:
        return None
    count = len(columns["span"])
    if count >= MAX_SPANS:
        raise AnalysisError(f"trace {trace_id} has {MAX_SPANS:,} spans or more, too many to account for its time")
    spans = Spans(
        trace=np.zeros(count, dtype=np.int64),
        span_id=columns["span"].astype(np.uint64),
        parent_id=columns["parent"].astype(np.uint64),
        start_ns=columns["start_ns"].astype(np.int64),
        duration_ns=columns["duration_ns"].astype(np.int64),
        host=codes_of(columns["host"])[0],
        half=columns["half"].astype(np.int64),
        blocks=columns["blocks"].astype(np.bool_),
    )
    failed = columns["failed"].astype(np.bool_)
    return TraceRows(spans, tuple(columns["stage"].tolist()), tuple(columns["host"].tolist()), failed)


def fetch_details(store: Store, trace_id: str, rows: Ints) -> dict[int, dict[str, Any]]:
    """Fetch names, attributes, events and links of some rows, by their number; attributes as they were sent."""
    wanted = {int(row) for row in rows}
    named = [] if len(wanted) > _ALL_OF else sorted(wanted)
    found = store.ask(query("trace_details"), trace_id=trace_id, rows=named, max_spans=MAX_SPANS)
    return {int(row["row"]): row for row in found if row["row"] in wanted}


def attributes_of(values: Mapping[str, str], types: Mapping[str, str]) -> Attributes:
    """Give attributes as JSON can say them."""
    return {key: _plain(value) for key, value in decode_attributes(values, types).items()}


def attributes_of_each(values: Iterable[Mapping[str, str]], types: Iterable[Mapping[str, str]]) -> Iterator[Attributes]:
    """Give the attributes of several events or links."""
    return (attributes_of(each, of_each) for each, of_each in zip(values, types, strict=True))


def _plain(value: Any) -> Any:
    """Bytes as base64, numbers that JSON lacks as text."""
    match value:
        case bytes():
            return {"$bytes": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return str(value)
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value
