"""Where spans lie in a timeline: processes, their threads and streams, and lanes in which nothing is nested wrongly.

A trace viewer nests by time alone: whatever lies inside another on one track is drawn below it. Tasks that take turns
on one thread, or requests that run beside each other, would seem to call each other. So a span gets a lane that is
free, or lies on its own parent; else it goes to the next lane of its thread.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tailsight_analysis.exporting.stored import StoredSpan

STREAM_KEYS, DEVICE_KEYS = ("gpu.stream",), ("gpu.index",)
GPU_STAGE = "gpu_kernel"
_NO_THREAD = "spans"
_MOST_BESIDE = 1000
SpanKey = tuple[str, str]
"""Trace and span id."""


@dataclass(slots=True)
class Lane:
    """A track. `number`: its thread id in the file; `rank`: where it stands; `open`: may still run, innermost last."""

    number: int
    name: str
    rank: int
    open: list[tuple[int, SpanKey]] = field(default_factory=list)


@dataclass(slots=True)
class Track:
    """The lanes of one thread or stream: which are free, which of the others is free first, and where spans lie."""

    number: int
    lanes: list[Lane] = field(default_factory=list)
    free: list[int] = field(default_factory=list)
    busy: list[tuple[int, int]] = field(default_factory=list)
    lane_of: dict[SpanKey, Lane] = field(default_factory=dict)

    def lane_for(self, span: StoredSpan) -> Lane | None:
        """Find where a span may lie, which starts no earlier than those before it; None where a new lane is needed."""
        while self.busy and self.busy[0][0] <= span.start_ns:
            _, place = heapq.heappop(self.busy)
            self._close(self.lanes[place], None)
            heapq.heappush(self.free, place)
        parent = (span.trace_id, span.parent_span_id)
        if (lane := self.lane_of.get(parent)) is not None:
            self._close(lane, span.start_ns)
            if lane.open and lane.open[-1][1] == parent and _end_ns(span) <= lane.open[-1][0]:
                self._put(lane, span)
                return lane
        if not self.free:
            return None
        place = heapq.heappop(self.free)
        heapq.heappush(self.busy, (_end_ns(span), place))
        self._put(self.lanes[place], span)
        return self.lanes[place]

    def add(self, lane: Lane, span: StoredSpan) -> None:
        """Begin a lane with a span."""
        heapq.heappush(self.busy, (_end_ns(span), len(self.lanes)))
        self.lanes.append(lane)
        self._put(lane, span)

    def _put(self, lane: Lane, span: StoredSpan) -> None:
        key = (span.trace_id, span.span_id)
        lane.open.append((_end_ns(span), key))
        self.lane_of[key] = lane

    def _close(self, lane: Lane, at_ns: int | None) -> None:
        """Forget what has ended by then; None: all."""
        while lane.open and (at_ns is None or lane.open[-1][0] <= at_ns):
            self.lane_of.pop(lane.open.pop()[1], None)


@dataclass(slots=True)
class Process:
    """A process that sent spans, with its lanes by thread or stream."""

    number: int
    name: str
    labels: str
    tracks: dict[tuple[str, ...], Track] = field(default_factory=dict)
    lane_count: int = 0


class Placed(NamedTuple):
    """Where a span lies; whether anything lay in this process, in this lane, before."""

    process: Process
    lane: Lane
    is_new_process: bool
    is_new_lane: bool


class Lanes:
    """Processes and lanes of a whole timeline."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, ...], Process] = {}

    def place(self, span: StoredSpan) -> Placed:
        """Find the lane of a span, which starts no earlier than those before it."""
        process, is_new_process = self._process(span)
        key, name = _track(span)
        track = process.tracks.setdefault(key, Track(len(process.tracks)))
        if (lane := track.lane_for(span)) is not None:
            return Placed(process, lane, is_new_process, False)
        process.lane_count += 1
        place = len(track.lanes)
        # a thread's lanes beside each other
        rank = track.number * _MOST_BESIDE + min(place, _MOST_BESIDE - 1)
        lane = Lane(process.lane_count, f"{name} · {place + 1}" if place else name, rank)
        track.add(lane, span)
        return Placed(process, lane, is_new_process, True)

    def _process(self, span: StoredSpan) -> tuple[Process, bool]:
        resource = dict(zip(span.resource.keys, span.resource.texts, strict=True))
        pid, instance = resource.get("process.pid", ""), resource.get("service.instance.id", "")
        key = (span.service, span.host, pid, instance)
        process = self._processes.get(key)
        is_new = process is None
        if process is None:
            where = " ".join(filter(None, (span.host, f"pid {pid}" if pid else instance)))
            name = f"{span.service or 'no service'} ({where})" if where else span.service or "no service"
            labels = ", ".join(filter(None, (span.hardware, span.version, span.run)))
            process = self._processes[key] = Process(len(self._processes) + 1, name, labels)
        return process, is_new


def _track(span: StoredSpan) -> tuple[tuple[str, ...], str]:
    """Say which thread or stream a span ran on, as a key and in words."""
    if span.stage == GPU_STAGE:
        device, stream = _first(span, DEVICE_KEYS), _first(span, STREAM_KEYS)
        words = ["GPU", device, f"stream {stream}" if stream else "", f"({span.hardware})" if span.hardware else ""]
        return ("gpu", span.hardware, device, stream), " ".join(filter(None, words))
    if span.thread_id:
        name = _first(span, ("thread.name",))
        return ("thread", str(span.thread_id)), f"thread {span.thread_id}" + (f" ({name})" if name else "")
    return (_NO_THREAD,), _NO_THREAD


def _end_ns(span: StoredSpan) -> int:
    return span.start_ns + span.duration_ns


def _first(span: StoredSpan, keys: tuple[str, ...]) -> str:
    values = dict(zip(span.attributes.keys, span.attributes.texts, strict=True))
    return next((values[key] for key in keys if key in values), "")


def in_time(spans: list[StoredSpan]) -> Iterator[StoredSpan]:
    """Order spans by start, the longer first; of those that are equal in both, parents before their children."""
    spans.sort(key=lambda span: (span.start_ns, -span.duration_ns, span.trace_id))
    at = 0
    while at < len(spans):
        end = at + 1
        while end < len(spans) and spans[end][4:6] == spans[at][4:6] and spans[end].trace_id == spans[at].trace_id:
            end += 1
        yield from spans[at:end] if end - at == 1 else _parents_first(spans[at:end])
        at = end


def _parents_first(spans: list[StoredSpan]) -> Iterator[StoredSpan]:
    """Order a few spans so that a parent comes before its children; a cycle is broken anywhere."""
    children: dict[str, list[StoredSpan]] = {}
    ids = {span.span_id for span in spans}
    for span in spans:
        has_parent = span.parent_span_id in ids and span.parent_span_id != span.span_id
        children.setdefault(span.parent_span_id if has_parent else "", []).append(span)
    waiting = children.pop("", [])
    while waiting or children:
        if not waiting:
            waiting = children.pop(next(iter(children)))
        span = waiting.pop(0)
        yield span
        waiting += children.pop(span.span_id, [])
