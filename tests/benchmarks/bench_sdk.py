"""What does tracing cost the service? tailsight, by transport, beside opentelemetry-sdk and ddtrace.

Each contender lives in a process of its own and sends to a sink server in another one. The processes take turns, one
short round each, so that the machine's moods fall on all of them alike. One request is a root and six stages with
three attributes each.

    calling thread   processor time of the thread that runs the requests, per span: what a request waits for
    whole process    processor time of the service until everything is sent, per span
    beside it        processor time of the sidecar, per span
    p50 … p99.9      of requests of about 230 µs of work, one after the other, in a process that is always busy

Run it with: python tests/benchmarks/bench_sdk.py [--quick]
"""

import gc
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STAGES = ("preprocess", "serialize", "network", "queue", "compute", "postprocess")
SPANS = 1 + len(STAGES)
QUICK = "--quick" in sys.argv
ROUNDS = 3 if QUICK else 15
REQUESTS = 400
LATENCY_ROUNDS = 2 if QUICK else 10
LATENCY_REQUESTS = 2000
WORK_NS = 230_000

Request = Callable[[], None]
Flush = Callable[[], object]


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b"{}" if "v0." in self.path else b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET = _answer  # noqa: N815  http.server's names

    def log_message(self, *args: object) -> None:
        pass


def serve(pipe: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    pipe.send(server.server_address[1])
    server.serve_forever()


# --- the contenders -----------------------------------------------------------------------------------------------------


def bare(endpoint: str, work: Callable[[], None]) -> tuple[Request, Flush]:
    def request() -> None:
        for _ in STAGES:
            work()

    return request, lambda: None


def tailsight_by(**options: Any) -> Callable[[str, Callable[[], None]], tuple[Request, Flush]]:
    def make(endpoint: str, work: Callable[[], None]) -> tuple[Request, Flush]:
        import tailsight

        folder = tempfile.mkdtemp(prefix="tailsight-bench-")
        tailsight.configure(
            service="bench",
            endpoint=endpoint,
            spool_dir=folder,
            file=f"{folder}/out.otlp",
            device_interval_s=0,
            **options,
        )

        def request() -> None:
            with tailsight.request("rank") as r:
                r.set("route", "/rank")
                r.set("user", 7)
                r.set("cached", False)
                for name in STAGES:
                    with tailsight.stage(name) as s:
                        s.set("tokens", 128)
                        s.set("ratio", 0.5)
                        s.set("language", "en")
                        work()

        def flush() -> None:
            assert tailsight.flush(60)
            assert not tailsight.stats().dropped

        return request, flush

    return make


def not_sampled(endpoint: str, work: Callable[[], None]) -> tuple[Request, Flush]:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext

    import tailsight

    context = trace.set_span_in_context(NonRecordingSpan(SpanContext(1, 2, is_remote=True)), Context())

    def request() -> None:
        with tailsight.request("rank", context=context) as r:
            r.set("route", "/rank")
            r.set("user", 7)
            r.set("cached", False)
            for name in STAGES:
                with tailsight.stage(name) as s:
                    s.set("tokens", 128)
                    s.set("ratio", 0.5)
                    s.set("language", "en")
                    work()

    return request, lambda: None


def opentelemetry_sdk(endpoint: str, work: Callable[[], None]) -> tuple[Request, Flush]:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(
            OTLPSpanExporter(endpoint + "/v1/traces"), max_queue_size=2 * max(REQUESTS, LATENCY_REQUESTS) * SPANS
        )
    )
    tracer = provider.get_tracer("bench")

    def request() -> None:
        with tracer.start_as_current_span("rank") as r:
            r.set_attribute("route", "/rank")
            r.set_attribute("user", 7)
            r.set_attribute("cached", False)
            for name in STAGES:
                with tracer.start_as_current_span(name) as s:
                    s.set_attribute("tokens", 128)
                    s.set_attribute("ratio", 0.5)
                    s.set_attribute("language", "en")
                    work()

    return request, provider.force_flush


def ddtrace(endpoint: str, work: Callable[[], None]) -> tuple[Request, Flush]:
    os.environ |= {
        "DD_TRACE_AGENT_URL": endpoint,
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
    }
    from ddtrace.trace import tracer

    def request() -> None:
        with tracer.trace("rank") as r:
            r.set_tag("route", "/rank")
            r.set_metric("user", 7)
            r.set_tag("cached", "false")
            for name in STAGES:
                with tracer.trace(name) as s:
                    s.set_metric("tokens", 128)
                    s.set_metric("ratio", 0.5)
                    s.set_tag("language", "en")
                    work()

    return request, tracer.flush


CONTENDERS = {
    "bare": bare,
    "tailsight, sidecar": tailsight_by(transport="sidecar"),
    "tailsight, thread": tailsight_by(transport="thread"),
    "tailsight, file": tailsight_by(transport="file"),
    "tailsight, 5 % kept": tailsight_by(transport="sidecar", sample_rate=0.05),
    "tailsight, not sampled": not_sampled,
    "opentelemetry-sdk": opentelemetry_sdk,
    "ddtrace": ddtrace,
}


# --- one contender's process --------------------------------------------------------------------------------------------


def contend(name: str, endpoint: str, turns: int, pipe: Connection) -> None:
    def idle() -> None:
        pass

    def busy() -> None:
        for _ in range(turns):
            pass

    try:
        request, flush = CONTENDERS[name](endpoint, idle)
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send("")
    slow_request: Request | None = None
    while (order := pipe.recv()) != "end":
        gc.collect()
        if order == "cost":
            pipe.send(_cost(request, flush))
        else:
            if slow_request is None:
                slow_request = CONTENDERS[name](endpoint, busy)[0]
            pipe.send(_latencies(slow_request, flush))
    os._exit(0)


def _cost(request: Request, flush: Flush) -> tuple[float, float, float]:
    """Return microseconds of processor time per span: calling thread, whole process, sidecar."""
    beside = _sidecar_ns()
    process, thread = time.process_time_ns(), time.thread_time_ns()
    for _ in range(REQUESTS):
        request()
    thread = time.thread_time_ns() - thread
    flush()
    process = time.process_time_ns() - process
    beside = _sidecar_ns() - beside
    scale = REQUESTS * SPANS * 1000
    return thread / scale, process / scale, beside / scale


def _latencies(request: Request, flush: Flush) -> list[int]:
    now = time.perf_counter_ns
    durations = []
    for _ in range(LATENCY_REQUESTS):
        began = now()
        request()
        durations.append(now() - began)
    flush()
    return durations


def turns_in(ns: int) -> int:
    """Return how often an empty loop turns in `ns`: work that needs the interpreter all the time."""
    best = 1e9
    for _ in range(20):
        began = time.perf_counter_ns()
        for _ in range(100_000):
            pass
        best = min(best, (time.perf_counter_ns() - began) / 100_000)
    return int(ns / best)


def _sidecar_ns() -> int:
    mark, ticks = f"for-process-{os.getpid()}\0".encode(), 0
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark in (folder / "cmdline").read_bytes():
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


# --- the run ------------------------------------------------------------------------------------------------------------


def main() -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    sink = context.Process(target=serve, args=(there,), daemon=True)
    sink.start()
    endpoint = f"http://127.0.0.1:{here.recv()}"
    turns = turns_in(WORK_NS // len(STAGES))  # once: all do the same work
    pipes: dict[str, Connection] = {}
    processes = []
    for name in CONTENDERS:
        ours, theirs = context.Pipe()
        process = context.Process(target=contend, args=(name, endpoint, turns, theirs))
        process.start()
        processes.append(process)
        if problem := ours.recv():
            print(f"{name} does not take part: {problem}")
        else:
            pipes[name] = ours

    def ask(name: str, order: str) -> Any:
        pipes[name].send(order)
        return pipes[name].recv()

    costs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pipes}
    for turn in range(ROUNDS + 2):
        for name in pipes:
            measured = ask(name, "cost")
            if turn >= 2:  # the first rounds warm up
                costs[name].append(measured)
    latencies: dict[str, list[int]] = {name: [] for name in pipes}
    for turn in range(LATENCY_ROUNDS + 1):
        for name in pipes:
            durations = ask(name, "latency")
            if turn >= 1:
                latencies[name] += durations
    for pipe in pipes.values():
        pipe.send("end")
    for process in processes:
        process.join(10)
    sink.terminate()
    report(costs, latencies)


def report(costs: dict[str, list[tuple[float, float, float]]], latencies: dict[str, list[int]]) -> None:
    versions = {name: metadata.version(name) for name in ("opentelemetry-sdk", "ddtrace") if name in costs}
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {versions}")
    print(f"\nprocessor time, µs a span: {ROUNDS} rounds of {REQUESTS} requests with {SPANS} spans\n")
    print(f"{'':24}{'calling thread':>18}{'whole process':>18}{'beside it':>12}")
    print(f"{'':24}{'min':>9}{'median':>9}{'min':>9}{'median':>9}{'median':>12}")
    summary: dict[str, Any] = {"bench": "sdk", "python": platform.python_version(), "unit": "us"}
    floor = [min(column) for column in zip(*costs["bare"], strict=True)]
    for name, rounds in costs.items():
        thread, process, beside = zip(*rounds, strict=True)
        cells = [min(thread), statistics.median(thread), min(process), statistics.median(process)]
        cells = [cell - floor[0] for cell in cells] if name != "bare" else cells
        print(f"{name:24}" + "".join(f"{cell:9.2f}" for cell in cells) + f"{statistics.median(beside):12.2f}")
        names = ("thread_min", "thread_median", "process_min", "process_median", "beside_median")
        summary[name] = dict(zip(names, (round(c, 3) for c in (*cells, statistics.median(beside))), strict=True))
    print("\nThe bare loop is taken off all rows but its own.")
    for peer in ("opentelemetry-sdk", "ddtrace"):
        if peer in costs:
            ratio = summary[peer]["thread_median"] / summary["tailsight, sidecar"]["thread_median"]
            least = summary[peer]["thread_min"] / summary["tailsight, sidecar"]["thread_min"]
            print(f"{peer} / tailsight, calling thread: {ratio:.1f} (median), {least:.1f} (minimum)")
            summary[f"{peer} / tailsight"] = {"median": round(ratio, 2), "min": round(least, 2)}
    print(f"\na request of about {WORK_NS // 1000} µs, {LATENCY_ROUNDS * LATENCY_REQUESTS} of them each, µs\n")
    print(f"{'':24}{'p50':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
    for name, durations in latencies.items():
        ordered = sorted(durations)
        cells = [ordered[min(len(ordered) - 1, int(q * len(ordered)))] / 1000 for q in (0.5, 0.99, 0.999, 1)]
        print(f"{name:24}" + "".join(f"{cell:9.0f}" for cell in cells))
        summary[name]["latency"] = dict(zip(("p50", "p99", "p99.9", "max"), (round(c, 1) for c in cells), strict=True))
    print("\n" + json.dumps(summary))


if __name__ == "__main__":
    main()
