"""Chrome's Trace Event Format, which Perfetto, chrome://tracing and others show: processes, threads, slices, arrows.

Times are microseconds after the whole second of the first span, since a JSON number cannot hold today's nanoseconds;
`base_time_unix_ns` in `otherData` says which second.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from typing import Any

from tailsight_analysis.exporting.reading import Page
from tailsight_analysis.exporting.stored import StoredAttributes, StoredSpan
from tailsight_analysis.tracing.rows import attributes_of
from tailsight_cli.exporting.lanes import Lane, Lanes, Process, in_time

_NS_PER_S = 1_000_000_000
_NEAR_NS = 3600 * _NS_PER_S
"""Events further away from their span are told and not drawn: one of 1970 would make the timeline decades long."""
_UINT64 = (1 << 64) - 1
_COLUMNS = ("kind", "stage", "model", "hardware", "version", "run", "status", "status_message", "trace_state")
Place = tuple[int, int, int]
"""Process, lane, start in nanoseconds."""


class PerfettoWriter:
    """Spans as slices, in the order of time: a span waits until none can come that starts before it."""

    def __init__(self, write: Callable[[bytes], object], linked: set[tuple[str, str]]) -> None:
        """`linked`: which spans links point to, by trace and span id."""
        self._write = write
        self._linked = linked
        self._lanes = Lanes()
        self._waiting: list[tuple[int, int, StoredSpan]] = []
        self._taken = 0
        self._base_ns: int | None = None
        self._separator = b""
        self._places: dict[tuple[str, str], Place] = {}
        self._unseen: dict[tuple[str, str], list[Place]] = {}
        self._arrows = 0

    def page(self, page: Page) -> None:
        """Take some spans."""
        for span in page.spans:
            self._taken += 1
            heapq.heappush(self._waiting, (span.start_ns, self._taken, span))
        due = []
        while self._waiting and self._waiting[0][0] < page.after_ns:
            due.append(heapq.heappop(self._waiting)[2])
        self._put(due)

    def finish(self) -> None:
        """Write what waits, and the end."""
        self._put([span for _, _, span in self._waiting])
        self._waiting = []
        if self._base_ns is None:
            self._begin(0)
        self._write(b"\n]}\n")

    def _begin(self, first_ns: int) -> None:
        self._base_ns = first_ns // _NS_PER_S * _NS_PER_S
        other = {"made_by": "tailsight", "base_time_unix_ns": str(self._base_ns)}
        head = {"displayTimeUnit": "ms", "otherData": other}
        self._write(_dumped(head)[:-1] + b',"traceEvents":[\n')

    def _put(self, spans: list[StoredSpan]) -> None:
        for span in in_time(spans):
            if self._base_ns is None:
                self._begin(span.start_ns)
            process, lane, is_new_process, is_new_lane = self._lanes.place(span)
            if is_new_process:
                self._event(_metadata("process_name", process.number, 0, name=process.name))
                self._event(_metadata("process_sort_index", process.number, 0, sort_index=process.number))
                if process.labels:
                    self._event(_metadata("process_labels", process.number, 0, labels=process.labels))
            if is_new_lane:
                self._event(_metadata("thread_name", process.number, lane.number, name=lane.name))
                self._event(_metadata("thread_sort_index", process.number, lane.number, sort_index=lane.rank))
            self._slice(span, process, lane)
            self._link(span, (process.number, lane.number, span.start_ns))

    def _slice(self, span: StoredSpan, process: Process, lane: Lane) -> None:
        where = {"pid": process.number, "tid": lane.number}
        name, category = span.name or "(no name)", span.stage or "span"
        args: dict[str, Any] = {"trace_id": span.trace_id, "span_id": span.span_id}
        if span.parent_span_id:
            args["parent_span_id"] = span.parent_span_id
        args["start_unix_ns"] = str(span.start_ns)
        args |= {column: value for column in _COLUMNS if (value := getattr(span, column)) not in ("", "UNSET")}
        if span.attributes.keys:
            args["attributes"] = _plain(span.attributes)
        near = range(span.start_ns - _NEAR_NS, span.start_ns + span.duration_ns + _NEAR_NS + 1)
        elsewhere = [event for event in span.events if event.time_ns not in near]
        if elsewhere:
            args["events_elsewhere"] = [
                {"name": event.name, "time_unix_ns": str(event.time_ns & _UINT64)} for event in elsewhere
            ]
        self._event(
            {"ph": "X", "name": name, "cat": category, **where, "args": args}, span.start_ns, dur=span.duration_ns
        )
        for event in span.events:
            if event.time_ns not in near:
                continue
            instant = {"ph": "i", "s": "t", "name": event.name or "(no name)", "cat": "event", **where}
            if event.attributes.keys:
                instant["args"] = _plain(event.attributes)
            self._event(instant, event.time_ns)

    def _link(self, span: StoredSpan, place: Place) -> None:
        own = (span.trace_id, span.span_id)
        if own in self._linked:
            self._places.setdefault(own, place)
            for other in self._unseen.pop(own, ()):
                self._arrow(place, other)
        for link in span.links:
            target = (link.trace_id, link.span_id)
            if target in self._places:
                self._arrow(self._places[target], place)
            elif target in self._linked:
                self._unseen.setdefault(target, []).append(place)

    def _arrow(self, one: Place, other: Place) -> None:
        """Draw an arrow from the earlier to the later of two slices: viewers draw none back in time."""
        self._arrows += 1
        earlier, later = sorted((one, other), key=lambda place: place[2])
        for phase, (process, lane, start_ns) in (("s", earlier), ("f", later)):
            event = {"ph": phase, "id": self._arrows, "name": "link", "cat": "link", "pid": process, "tid": lane}
            self._event(event | ({"bp": "e"} if phase == "f" else {}), start_ns)

    def _event(self, event: dict[str, Any], at_ns: int | None = None, dur: int | None = None) -> None:
        text = _dumped(event)
        if at_ns is not None and self._base_ns is not None:
            times = f',"ts":{_us(at_ns - self._base_ns)}' + (f',"dur":{_us(dur)}' if dur is not None else "")
            text = text[:-1] + times.encode() + b"}"
        self._write(self._separator + text)
        self._separator = b",\n"


def _metadata(what: str, process: int, lane: int, **args: object) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": process, "tid": lane, "args": args}


def _plain(attributes: StoredAttributes) -> dict[str, Any]:
    keys, texts, typed_keys, types = attributes
    values = dict(zip(keys, texts, strict=True))
    try:
        return dict(attributes_of(values, dict(zip(typed_keys, types, strict=True))))
    except RecursionError:  # nested too deeply: as the store has it
        return dict(values)


def _us(time_ns: int) -> str:
    """Write nanoseconds as microseconds, exactly."""
    sign, time_ns = ("-" if time_ns < 0 else ""), abs(time_ns)
    return f"{sign}{time_ns // 1000}.{time_ns % 1000:03}"


def _dumped(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
