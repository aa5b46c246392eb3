"""Fetch what jitter follows from: all events where they are few, else the latest ones, and all durations counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.queries import query
from tailsight_analysis.scope import Filters, Window, scope_parameters
from tailsight_analysis.statistics.intervals import Cells
from tailsight_analysis.timing.order import Events
from tailsight_storage import Store

MAX_EVENTS = 2_000_000  # spans: of as many, every one is fetched and every figure exact
LATEST_EVENTS = 200_000  # spans, at most: of more, so many of the latest are looked at one after another
BLOCKS = 64
_BUCKETS = 512
_CELL_BITS = 8  # durations are counted in cells a 256th of their size wide
_BLOCKS_OF_MANY = 16
_MANTISSA_BITS = 52
_EVENT_COLUMNS = ("weight", "deadline_ms", "gap_p50_ms", "gap_p99_ms", "gap_max_ms")

Group = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Extent:
    """Which groups (stage, hardware) have spans, how many, and when."""

    groups: dict[Group, int]
    spans: int
    first_ns: int
    last_ns: int
    stored: dict[Group, int]


@dataclass(frozen=True, slots=True)
class Found:
    """Events in order, by group, of the window `in_order`; and durations counted, of everything.

    `accuracy` is how far the counted ones may lie off, as a share of them: 0 where they are exact.
    """

    in_order: Window
    spans: dict[Group, Events]
    requests: Events
    span_cells: dict[Group, Cells]
    request_cells: Cells | None
    accuracy: float


def fetch_extent(store: Store, window: Window, filters: Filters) -> Extent:
    """Look at which groups there are. Empty where no span matches."""
    rows = store.ask(query("jitter_groups"), **scope_parameters(window, filters))
    groups = {(str(row["stage"]), str(row["hardware"])): int(row["code"]) for row in rows}
    stored = {(str(row["stage"]), str(row["hardware"])): int(row["spans"]) for row in rows}
    return Extent(
        groups,
        sum(stored.values()),
        min((int(row["first_ns"]) for row in rows), default=0),
        max((int(row["last_ns"]) for row in rows), default=0),
        stored,
    )


def fetch_jitter(
    store: Store, parameters: Mapping[str, Any], window: Window, filters: Filters, extent: Extent
) -> Found:
    """Fetch a window's events. `parameters` are those of sql/requests.sql for that window."""
    weighted = bool(parameters["weighted"])
    whole = extent.spans <= MAX_EVENTS
    in_order = window if whole else latest_part(store, window, filters)
    bounds = {"since_ns": in_order.since_ns, "until_ns": in_order.until_ns}
    question = query("jitter_spans_weighted" if weighted else "jitter_spans")
    rows = store.columns(question, **scope_parameters(in_order, filters))
    spans = _by_group(rows, extent.groups)
    requests = _events(store.columns(query("jitter_requests"), **dict(parameters) | bounds))
    if whole:
        blocks = (extent.first_ns, (extent.last_ns - extent.first_ns) // BLOCKS + 1)
        return Found(
            in_order,
            spans,
            requests,
            {group: _cells_of(events, *blocks) for group, events in spans.items()},
            _cells_of(requests, *blocks) if len(requests) else None,
            0.0,
        )
    scale = {
        "cell_shift": _MANTISSA_BITS - _CELL_BITS,
        "blocks": _BLOCKS_OF_MANY,
        "stride": 1,
        "first_ns": extent.first_ns,
        "block_ns": (extent.last_ns - extent.first_ns) // _BLOCKS_OF_MANY + 1,
    }
    asked = {**scope_parameters(window, filters), "by": ["stage", "hardware"], **scale}
    counted = store.ask(query("span_cells_weighted" if weighted else "span_cells"), **asked)
    span_cells = {(str(row["by_stage"]), str(row["by_hardware"])): _counted(row) for row in counted}
    request_row = store.ask(query("request_cells"), **parameters, **scale, timed=0)[0]
    request_cells = _counted(request_row) if len(request_row["codes"]) else None
    return Found(in_order, spans, requests, span_cells, request_cells, 2.0**-_CELL_BITS)


def latest_part(store: Store, window: Window, filters: Filters, most: int = LATEST_EVENTS) -> Window:
    """Return the end of a window in which at most so many spans start, but at least one bucket of it."""
    bucket_ns = -(-(window.until_ns - window.since_ns) // _BUCKETS)
    rows = store.ask(query("jitter_when"), **scope_parameters(window, filters), bucket_ns=bucket_ns)
    first, total = int(rows[-1]["bucket"]), 0
    for row in reversed(rows):
        total += int(row["spans"])
        if total > most and int(row["bucket"]) != int(rows[-1]["bucket"]):
            break
        first = int(row["bucket"])
    return Window(window.since_ns + first * bucket_ns, window.until_ns)


def _events(rows: Mapping[str, Any]) -> Events:
    numbers = [np.asarray(rows.get(name, ()), dtype=np.float64) for name in _EVENT_COLUMNS]
    return Events(
        np.asarray(rows.get("stream", ()), dtype=np.uint64),
        np.asarray(rows.get("start_ns", ()), dtype=np.int64),
        np.asarray(rows.get("duration_ns", ()), dtype=np.int64),
        *numbers,
    )


def _by_group(rows: Mapping[str, Any], codes: Mapping[Group, int]) -> dict[Group, Events]:
    code = np.asarray(rows.get("code", ()), dtype=np.uint64)
    order = np.argsort(code, kind="stable")
    ordered = code[order]
    result = {}
    for group, number in codes.items():
        begin = np.searchsorted(ordered, np.uint64(number), side="left")
        end = np.searchsorted(ordered, np.uint64(number), side="right")
        if end > begin:
            mine = order[begin:end]
            result[group] = _events({name: values[mine] for name, values in rows.items()})
    return result


def _cells_of(events: Events, first_ns: int, block_ns: int) -> Cells:
    """Every event is a cell of its own."""
    ones = np.ones(len(events), dtype=np.int64)
    return Cells(
        value=events.duration_ns.astype(np.float64),
        width=np.zeros(len(events)),
        block=np.clip((events.start_ns - first_ns) // block_ns, 0, BLOCKS - 1),
        count=ones,
        weight=events.weight,
        weight2=events.weight**2,
    )


def _counted(row: Mapping[str, Any]) -> Cells:
    codes = np.asarray(row["codes"], dtype=np.uint64)
    counts = np.asarray(row["counts"], dtype=np.int64)
    shift = np.uint64(_MANTISSA_BITS - _CELL_BITS)
    low = (codes << shift).view(np.float64)
    return Cells(
        value=low,
        width=((codes + np.uint64(1)) << shift).view(np.float64) - low,
        block=np.asarray(row["blocks"], dtype=np.int64),
        count=counts,
        weight=np.asarray(row.get("weights", counts), dtype=np.float64),
        weight2=np.asarray(row.get("weights2", counts), dtype=np.float64),
    )
