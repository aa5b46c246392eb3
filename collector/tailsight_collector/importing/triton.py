"""NVIDIA Triton's own trace files (`--trace-config mode=triton`): activities in nanoseconds of a steady clock.

Such a clock counts from the machine's start: when a request was served is not in the file. `--start` says when the
earliest activity of the file happened; without it nothing is stored. Activities are in no order, and those of one
request may stand anywhere, so all of them are kept in memory, packed: about 300 bytes a request.

    InferRequest    first of HTTP_RECV_START, REQUEST_START … last of HTTP_SEND_END, GRPC_SEND_END, REQUEST_END
      network         receive, send
      <model>         REQUEST_START … REQUEST_END; of an ensemble, its models' are below it
        queue           QUEUE_START … COMPUTE_START
        serialize       input copy: COMPUTE_START … COMPUTE_INPUT_END
        gpu_kernel      COMPUTE_INPUT_END … COMPUTE_OUTPUT_START
        serialize       output copy: COMPUTE_OUTPUT_START … COMPUTE_END

GRPC_WAITREAD holds idle waiting and is never latency.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight.attributes import MODEL, STAGE
from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import derived_span_id, derived_trace_id
from tailsight_collector.importing.json_reader import JsonReader
from tailsight_collector.importing.records import UnfitError, dict_of, list_of, objects, short
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.times import TimeError, scaled_ns
from tailsight_collector.importing.values import clean, put

NO_START = (
    "Triton's trace has the times of a steady clock only, which say nothing about the day: give --start, the time of "
    "the file's earliest activity, as in --start 2026-11-23T08:30:00Z"
)
SERVICE = "triton"
ACTIVITIES = (
    "HTTP_RECV_START",
    "HTTP_RECV_END",
    "HTTP_SEND_START",
    "HTTP_SEND_END",
    "GRPC_SEND_START",
    "GRPC_SEND_END",
    "REQUEST_START",
    "QUEUE_START",
    "COMPUTE_START",
    "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START",
    "COMPUTE_END",
    "REQUEST_END",
    "INFER_RESPONSE_COMPLETE",
)
_NUMBERS = {name: number for number, name in enumerate(ACTIVITIES)}
_LEFT_OUT = ("GRPC_WAITREAD_START", "GRPC_WAITREAD_END")
_PACKED = struct.Struct("<Bq")
# (stage, name, from, to)
_INSIDE = (
    ("queue", "queue", "QUEUE_START", "COMPUTE_START"),
    ("serialize", "input copy", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("gpu_kernel", "gpu_kernel", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    ("serialize", "output copy", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)
_OUTSIDE = (
    ("network", "receive", "HTTP_RECV_START", "HTTP_RECV_END"),
    ("network", "send", "HTTP_SEND_START", "HTTP_SEND_END"),
    ("network", "send", "GRPC_SEND_START", "GRPC_SEND_END"),
)
DEEPEST = 64


@dataclass(slots=True)
class _Request:
    """What the file says of one id."""

    place: str
    model: str = ""
    version: str = ""
    request_id: str = ""
    parent: int | None = None
    packed: bytearray = field(default_factory=bytearray)
    _of_times: tuple[tuple[int, int] | None, int] | None = None

    def bounds(self) -> tuple[int, int] | None:
        """Return its start and end, None where it has none or they are in the wrong order."""
        return self._known()[0]

    def first(self) -> int:
        """Return its first activity, 0 where there is none."""
        return self._known()[1]

    def _known(self) -> tuple[tuple[int, int] | None, int]:
        """Look at the times once: an ensemble is asked for by each of its models."""
        if self._of_times is None:
            times = self.times()
            self._of_times = _bounds(times), min(times.values(), default=0)
        return self._of_times

    def times(self) -> dict[str, int]:
        """Return when each activity happened: the first start, the last end."""
        found: dict[str, int] = {}
        for number, time_ns in _PACKED.iter_unpack(self.packed):
            name = ACTIVITIES[number]
            choose = min if name.endswith("START") and name != "COMPUTE_OUTPUT_START" else max
            found[name] = choose(found.get(name, time_ns), time_ns)
        return found


def recognises(head: bytes) -> bool:
    """Whether this is a list of objects with an id and either a model or timestamps with ns."""
    return shape.has(head, "[].id") and (
        shape.has(head, "[].model_name") or shape.has(head, "[].timestamps[].ns") or shape.has(head, "[].activity")
    )


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Read all activities, and then make the requests' spans in the order of the ids."""
    if options.start_ns is None:
        raise BadRequestError(NO_START)
    report.unit = "records"
    requests: dict[int, _Request] = {}
    earliest: int | None = None
    with source.open() as stream:
        reader = JsonReader(stream)
        for _ in reader.documents():
            if reader.peek() != "[":
                raise BadRequestError("a document of the file is no list of activities")
            for at, record in objects(reader, "", report, may_be_cut_off=True):
                try:
                    time_ns = _take(requests, record, at, report)
                except (UnfitError, TimeError) as error:
                    report.refuse(error.reason if isinstance(error, UnfitError) else str(error), at)
                    continue
                if time_ns is not None:
                    earliest = time_ns if earliest is None else min(earliest, time_ns)
    if earliest is None:
        return
    shift_ns = options.start_ns - earliest
    report.note("requests whose start is counted from --start", len(requests))
    yield from _spans(requests, shift_ns, report)


def _take(requests: dict[int, _Request], record: dict[str, Any], at: str, report: Report) -> int | None:
    """Keep what a record says; returns its earliest time."""
    number = record.get("id")
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << 64:
        raise UnfitError("its id is no number", short(number))
    request = requests.setdefault(number, _Request(at))
    if "model_name" in record:
        request.model = clean(str(record["model_name"]))[:500]
        request.version = str(record.get("model_version", ""))[:100]
        request.request_id = clean(str(record.get("request_id", "")))[:500]
        parent = record.get("parent_id")
        request.parent = parent if isinstance(parent, int) and not isinstance(parent, bool) else None
    if "activity" in record:
        report.note("tensors, left out")
    times = []
    for entry in list_of(record.get("timestamps"), "timestamps"):
        stamp = dict_of(entry, "timestamps")
        name = stamp.get("name")
        time_ns = scaled_ns(stamp.get("ns"), 1, "ns")
        if name in _LEFT_OUT:
            report.note("GRPC_WAITREAD, which is idle waiting, left out")
        elif isinstance(name, str) and name in _NUMBERS:
            request.packed += _PACKED.pack(_NUMBERS[name], time_ns)
            times.append(time_ns)
        else:
            report.note("activities that are not known, left out")
    return min(times, default=None)


def _spans(requests: dict[int, _Request], shift_ns: int, report: Report) -> Iterator[ExportTraceServiceRequest]:
    bundle = Bundle()
    for number in sorted(requests):
        request = requests[number]
        times = request.times()
        bounds = request.bounds()
        if bounds is None:
            report.refuse("a request has no start or no end", f"id {number}")
            continue
        root, is_known = _root(requests, number)
        if not is_known:
            report.note("requests whose parent_id is not in the file")
        trace_id = derived_trace_id("triton", shift_ns, root, requests[root].first())
        above = _span_id(trace_id, request.parent, "model") if root != number else b""
        if above == b"":
            outer = _outer(times, bounds)
            span = _add(bundle, trace_id, _span_id(trace_id, number, "request"), b"", outer, shift_ns, request)
            span.name, span.kind = "InferRequest", Span.SPAN_KIND_SERVER
            above = span.span_id
            _add_stages(bundle, _OUTSIDE, times, shift_ns, trace_id, above, number, request, report)
            report.kept += 1
        own = _span_id(trace_id, number, "model")
        span = _add(bundle, trace_id, own, above, bounds, shift_ns, request)
        span.name = request.model or "model"
        report.kept += 1
        _add_stages(bundle, _INSIDE, times, shift_ns, trace_id, own, number, request, report)
        if bundle.is_full:
            yield bundle.take()
    if not bundle.is_empty:
        yield bundle.take()


def _bounds(times: dict[str, int]) -> tuple[int, int] | None:
    start = times.get("REQUEST_START", times.get("QUEUE_START", times.get("COMPUTE_START")))
    end = times.get("REQUEST_END", times.get("COMPUTE_END"))
    return None if start is None or end is None or end < start else (start, end)


def _outer(times: dict[str, int], bounds: tuple[int, int]) -> tuple[int, int]:
    ends = (times[name] for name in ("HTTP_SEND_END", "GRPC_SEND_END") if name in times)
    return min(bounds[0], times.get("HTTP_RECV_START", bounds[0])), max(bounds[1], *ends, bounds[1])


def _root(requests: dict[int, _Request], number: int) -> tuple[int, bool]:
    """Return the outermost request of an ensemble, and whether that one is really the outermost."""
    seen = {number}
    while (parent := requests[number].parent) is not None:
        if parent in seen or parent not in requests or requests[parent].bounds() is None:
            return number, False
        if len(seen) > DEEPEST:
            return number, False
        seen.add(parent)
        number = parent
    return number, True


def _span_id(trace_id: bytes, number: int | None, what: str) -> bytes:
    return derived_span_id("triton", trace_id, str(number), what)


def _add_stages(
    bundle: Bundle,
    stages: tuple[tuple[str, str, str, str], ...],
    times: dict[str, int],
    shift_ns: int,
    trace_id: bytes,
    parent: bytes,
    number: int,
    request: _Request,
    report: Report,
) -> None:
    for stage, name, begin, end in stages:
        if begin not in times or end not in times:
            continue
        if times[end] < times[begin]:
            report.refuse(f"{end} is before {begin}", f"id {number}")
            continue
        span_id = _span_id(trace_id, number, f"{name} {begin}")
        span = _add(bundle, trace_id, span_id, parent, (times[begin], times[end]), shift_ns, request)
        span.name = name
        put(span.attributes, STAGE, stage)
        report.kept += 1


def _add(
    bundle: Bundle,
    trace_id: bytes,
    span_id: bytes,
    parent: bytes,
    bounds: tuple[int, int],
    shift_ns: int,
    request: _Request,
) -> Span:
    span = bundle.span({"service.name": SERVICE}, "triton")
    span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
    span.start_time_unix_nano, span.end_time_unix_nano = bounds[0] + shift_ns, bounds[1] + shift_ns
    span.kind = Span.SPAN_KIND_INTERNAL
    put(span.attributes, MODEL, request.model or None)
    put(span.attributes, "triton.model_name", request.model or None)
    put(span.attributes, "triton.model_version", request.version or None)
    put(span.attributes, "triton.request_id", request.request_id or None)
    bundle.filled(span)
    return span


FORMAT = Format(name="triton", title="Triton's trace JSON (with --start)", recognises=recognises, read=read)
