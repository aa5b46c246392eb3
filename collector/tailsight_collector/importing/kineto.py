"""PyTorch profiler (Kineto) JSON: requests of annotations, with what they launched and what the GPU did.

    ProfilerStep            a request; so is any other annotation that lies in none (kineto_requests.py). It ends when
                            its last GPU work has ended, where that is later than the annotation itself
      <annotation>          stage: its name
        cudaLaunchKernel    stage launch: a call that started GPU work
        <kernel, copy, …>   stage gpu_kernel, with a link to its launch
    torch.profile           what lies in no request, from its first start to its last end; where there is such a thing

The file is read twice: first for whose each thing is (kineto_scan.py), then for names and arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight.attributes import HARDWARE, STAGE, THREAD_ID
from tailsight_collector.importing import shape
from tailsight_collector.importing.bundle import Bundle
from tailsight_collector.importing.ids import derived_span_id, derived_trace_id
from tailsight_collector.importing.kineto_events import CATEGORIES, STEP, Around, Event, Kind, events
from tailsight_collector.importing.kineto_intervals import NONE
from tailsight_collector.importing.kineto_requests import OUTSIDE
from tailsight_collector.importing.kineto_scan import Scan
from tailsight_collector.importing.registry import Format, Options, Report, Source
from tailsight_collector.importing.values import clean, put, put_all

SERVICE = "pytorch"
OUTSIDE_NAME = "torch.profile"
STEP_NAME = "ProfilerStep"
LAUNCH_STAGE, GPU_STAGE, OPERATOR_STAGE = "launch", "gpu_kernel", "compute"
CANONICAL = frozenset({"preprocess", "serialize", "network", "queue", "compute", "gpu_kernel", "postprocess"})
# Stages are few. Of more names, or of very long ones, those that come later are no stages: their time is unaccounted.
MOST_STAGES, STAGE_CHARS = 200, 200
DEFINITION = "request: until the last GPU work that it launched had ended"
GPU_OP, GPU_STREAM, GPU_INDEX, GPU_BYTES, GPU_COPY = "gpu.op", "gpu.stream", "gpu.index", "gpu.bytes", "gpu.copy.kind"
# Arguments under a name of ours, and numbers that only count: a link says what they say.
_OTHER_NAMES = frozenset({"device", "stream", "bytes", "kind", "correlation", "External id"})
_MOST_ARGS = 64
REMEMBERED = 4096  # trace ids; most of what comes is of a request that was there just before
_COPY_KIND = re.compile(r"\b([A-Z]to[A-Z])\b")
_OF_KINETO = re.compile(rb'"cat"\s*:\s*"(' + b"|".join(name.encode() for name in CATEGORIES if "_" in name) + rb')"')


def recognises(head: bytes) -> bool:
    """Whether this is an object with traceEvents, or a list of events, that is Kineto's and no other Chrome trace."""
    found = shape.paths(head)
    around = found & {"schemaVersion", "deviceProperties", "distributedInfo", "baseTimeNanoseconds"}
    if {"schemaVersion", "deviceProperties"} <= around or ("traceEvents" in found and around):
        return True
    return bool(found & {"traceEvents[].ph", "[].ph"}) and _OF_KINETO.search(head) is not None


def read(source: Source, options: Options, report: Report) -> Iterator[ExportTraceServiceRequest]:
    """Read what belongs together, and then write the spans in the order of the file."""
    report.unit = "events"
    with source.open() as stream:
        scan = Scan(stream, options, report)
    writer = _Writer(scan, report)
    yield from writer.annotations()
    with source.open() as stream:
        yield from writer.events(events(stream, Around(), Report()))


class _Writer:
    def __init__(self, scan: Scan, report: Report) -> None:
        self._scan = scan
        self._report = report
        self._bundle = Bundle()
        self._devices = scan.around.devices
        around = scan.around
        self._resource: dict[str, object] = {
            "service.name": SERVICE,
            "torch.distributed.rank": around.rank,
            "torch.distributed.world_size": around.world_size,
            "torch.distributed.backend": around.backend,
        }
        self._outside_trace, self._outside_root = b"", b""
        if scan.outside:
            first, last = (time_ns + scan.shift_ns for time_ns in scan.outside)
            processes = sorted({str(process) for process, _ in scan.threads})
            self._outside_trace = derived_trace_id("kineto", str(around.rank), "outside", first, last, *processes)
            self._outside_root = derived_span_id(self._outside_trace, "root")
        self._stages: set[str] = set()
        self._trace = lru_cache(REMEMBERED)(self._trace_of)
        self._resources: dict[int | None, dict[str, object]] = {}

    def annotations(self) -> Iterator[ExportTraceServiceRequest]:
        """Write the requests and what the user has named in them."""
        scan, requests = self._scan, self._scan.requests
        if scan.outside:
            root = self._span(self._outside_trace, self._outside_root, b"", OUTSIDE_NAME, *scan.outside, None)
            self._done(root)
            self._report.note(f"request {OUTSIDE_NAME}: what lies in no other one")
        for row in range(len(scan.annotations)):
            if row in requests.left_out:
                continue
            name = scan.names[scan.name_of[row]]
            end_ns = scan.annotations.end_ns[row]
            is_request = requests.is_request(row)
            parent = b"" if is_request else self._annotation_id(requests.parent[row], requests.of[row])
            bounds = scan.annotations.start_ns[row], scan.end_ns[row] if is_request else end_ns
            span = self._span(
                self._trace(requests.of[row]), self._id_of(row), parent, name, *bounds, scan.annotations.thread[row]
            )
            if is_request:
                self._describe_request(span, name, end_ns - bounds[0], is_longer=bounds[1] > end_ns)
            else:
                self._put_stage(span, name)
            self._done(span)
            if self._bundle.is_full:
                yield self._bundle.take()

    def events(self, found: Iterator[Event]) -> Iterator[ExportTraceServiceRequest]:
        """Write launches and GPU work; of a file without GPU work the operators."""
        scan = self._scan
        calls = operators = 0
        for event in found:
            if event.kind is Kind.GPU:
                if scan.has_no_time(event.start_ns):
                    continue
                self._add_gpu_work(event)
            elif event.kind is Kind.CALL:
                if scan.used[calls]:
                    self._add_launch(event, calls)
                else:
                    self._report.note("calls into the runtime that started no GPU work, left out")
                calls += 1
            elif event.kind is Kind.OPERATOR:
                if scan.has_gpu:
                    self._report.note("cpu_op events (PyTorch's operators), left out: there is GPU work")
                elif scan.outermost[operators]:
                    self._add_operator(event)
                else:
                    self._report.note("cpu_op events (PyTorch's operators) inside other ones, left out")
                operators += 1
            if self._bundle.is_full:
                yield self._bundle.take()
        if not self._bundle.is_empty:
            yield self._bundle.take()

    # --- spans ----------------------------------------------------------------------------------------------------

    def _describe_request(self, span: Span, name: str, cpu_ns: int, *, is_longer: bool) -> None:
        step = STEP.fullmatch(name)
        if step:
            span.name = STEP_NAME
            put(span.attributes, "torch.step", int(step[1]))
        elif name.lower() in CANONICAL:
            put(span.attributes, STAGE, name.lower())
        if is_longer:
            put(span.attributes, "tailsight.definition", DEFINITION)
            put(span.attributes, "torch.cpu_ms", cpu_ns / 1e6)
            self._report.note("requests that end with their last GPU work, after their part on the processor")

    def _add_launch(self, event: Event, row: int) -> None:
        scan = self._scan
        request = scan.request_of_call[row]
        trace_id = self._trace(request)
        parent = self._annotation_id(scan.parent_of_call[row], request)
        span = self._span(
            trace_id, self._launch_id(trace_id, row), parent, event.name, event.start_ns, event.end_ns,
            scan.calls.thread[row],
        )  # fmt: skip
        put(span.attributes, STAGE, LAUNCH_STAGE)
        self._done(span)

    def _add_gpu_work(self, event: Event) -> None:
        scan = self._scan
        call = scan.call_of.get(event.correlation, NONE)
        request = scan.request_of_call[call] if call != NONE else OUTSIDE
        trace_id = self._trace(request)
        waiting = scan.call_around(request, event.start_ns, event.end_ns)
        if waiting != NONE:
            parent = self._launch_id(trace_id, waiting)
        else:
            above = scan.requests.place(request, event.start_ns, event.end_ns) if request != OUTSIDE else NONE
            parent = self._annotation_id(above, request)
        thread = scan.calls.thread[call] if call != NONE else None
        span = self._span(
            trace_id, derived_span_id(trace_id, "gpu", event.index), parent, event.name,
            event.start_ns, event.end_ns, thread, is_on_thread=False,
        )  # fmt: skip
        put_all(span.attributes, self._of_gpu(event))
        if call != NONE:
            span.links.add(trace_id=trace_id, span_id=self._launch_id(trace_id, call))
            launched_in = scan.parent_of_call[call]
            if launched_in not in (NONE, request):
                put(span.attributes, "torch.launched_in", scan.names[scan.name_of[launched_in]])
        self._done(span)

    def _of_gpu(self, event: Event) -> Iterator[tuple[str, object]]:
        args = event.args
        device = args.get("device", event.thread[0])
        stream = args.get("stream", event.thread[1])
        yield STAGE, GPU_STAGE
        yield GPU_OP, event.op
        if isinstance(device, int):
            yield GPU_INDEX, device
        yield GPU_STREAM, stream if isinstance(stream, int | str) else None
        hardware = self._devices.get(device) if isinstance(device, int) else None
        yield HARDWARE, hardware
        if hardware is None:
            self._report.note("GPU work of a device that deviceProperties does not name: without hardware")
        if event.op != "kernel":
            yield GPU_BYTES, _plain(args.get("bytes"))
            kind = _COPY_KIND.search(event.name) if event.op == "memcpy" else None
            yield GPU_COPY, kind[1] if kind else _plain(args.get("kind"))
        for count, (name, value) in enumerate(args.items()):
            if count >= _MOST_ARGS:
                self._report.note(f"GPU work with more than {_MOST_ARGS} arguments: those after them are left out")
                break
            if name not in _OTHER_NAMES:
                yield f"torch.{name}", _plain(value)

    def _add_operator(self, event: Event) -> None:
        scan = self._scan
        thread = scan.thread_of(event)
        request, parent, is_sure = scan.requests.of_work(thread, event.start_ns, event.end_ns)
        if request == OUTSIDE and scan.has_requests:
            unsure = "while several requests ran, and nothing says whose they are, left out"
            self._report.note(f"cpu_op events {'outside every request, left out' if is_sure else unsure}")
            return
        span_id = derived_span_id(self._trace(request), "operator", event.index)
        span = self._span(
            self._trace(request), span_id, self._annotation_id(parent, request), event.name,
            event.start_ns, event.end_ns, thread,
        )  # fmt: skip
        put(span.attributes, STAGE, OPERATOR_STAGE)
        self._done(span)

    def _put_stage(self, span: Span, name: str) -> None:
        stage = name.lower() if name.lower() in CANONICAL else name
        if len(stage) > STAGE_CHARS or (stage not in self._stages and len(self._stages) >= MOST_STAGES):
            self._report.note(f"annotations without a stage: after {MOST_STAGES} names, or longer than {STAGE_CHARS}")
            return
        self._stages.add(stage)
        put(span.attributes, STAGE, stage)

    def _span(
        self,
        trace_id: bytes,
        span_id: bytes,
        parent: bytes,
        name: str,
        start_ns: int,
        end_ns: int,
        thread: int | None,
        *,
        is_on_thread: bool = True,
    ) -> Span:
        process, number = self._scan.threads[thread] if thread is not None else (None, None)
        if thread not in self._resources:
            pid = process if isinstance(process, int) and process >= 0 else None
            self._resources[thread] = {**self._resource, "process.pid": pid}
        span = self._bundle.span(self._resources[thread], "kineto")
        span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent
        span.name = clean(name)
        span.kind = Span.SPAN_KIND_INTERNAL
        span.start_time_unix_nano = start_ns + self._scan.shift_ns
        span.end_time_unix_nano = end_ns + self._scan.shift_ns
        if is_on_thread and isinstance(number, int) and number >= 0:
            put(span.attributes, THREAD_ID, number)
        return span

    def _done(self, span: Span) -> None:
        self._bundle.filled(span)
        self._report.kept += 1

    # --- ids ------------------------------------------------------------------------------------------------------

    def _trace_of(self, request: int) -> bytes:
        """Make a request's trace id of what it is: the same in every file of this profile."""
        if request == OUTSIDE:
            return self._outside_trace
        scan = self._scan
        process, thread = scan.threads[scan.annotations.thread[request]]
        bounds = (scan.annotations.start_ns[request] + scan.shift_ns, scan.annotations.end_ns[request] + scan.shift_ns)
        of_equals = scan.requests.twin.get(request, 0)
        name = scan.names[scan.name_of[request]]
        return derived_trace_id("kineto", str(scan.around.rank), str(process), str(thread), name, *bounds, of_equals)

    def _id_of(self, row: int) -> bytes:
        return derived_span_id(self._trace(self._scan.requests.of[row]), "annotation", row)

    def _annotation_id(self, row: int, request: int) -> bytes:
        """Return the id of the annotation that something lies in, or of what stands for it."""
        if row != NONE:
            return self._id_of(row)
        return self._outside_root if request == OUTSIDE else self._id_of(request)

    def _launch_id(self, trace_id: bytes, row: int) -> bytes:
        return derived_span_id(trace_id, "launch", row)


def _plain(value: object) -> Any:
    """Return an argument as attributes take it: decimals as floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


FORMAT = Format(name="kineto", title="PyTorch profiler (Kineto) JSON", recognises=recognises, read=read)
