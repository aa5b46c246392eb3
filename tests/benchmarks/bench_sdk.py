"""What does a span cost the thread that makes it? tailsight beside opentelemetry-sdk, in interleaved rounds.

Both send to a sink server in a process of its own. One request is a root and six stages, with three attributes each.
"calling thread" is the processor time of the thread that runs the requests; "whole process" adds the thread that
encodes and sends. Figures are microseconds per span. Run it with: python tests/benchmarks/bench_sdk.py
"""

import gc
import json
import multiprocessing
import platform
import statistics
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

import tailsight

STAGES = ("preprocess", "serialize", "network", "queue", "compute", "postprocess")
SPANS = 1 + len(STAGES)
ROUNDS = 15
REQUESTS = 400


class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def serve(pipe: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    pipe.send(server.server_address[1])
    server.serve_forever()


def with_tailsight() -> None:
    with tailsight.request("rank") as r:
        r.set("route", "/rank")
        r.set("user", 7)
        r.set("cached", False)
        for name in STAGES:
            with tailsight.stage(name) as s:
                s.set("tokens", 128)
                s.set("ratio", 0.5)
                s.set("language", "en")


def with_opentelemetry(provider: TracerProvider) -> Callable[[], None]:
    tracer = provider.get_tracer("bench")

    def run() -> None:
        with tracer.start_as_current_span("rank") as r:
            r.set_attribute("route", "/rank")
            r.set_attribute("user", 7)
            r.set_attribute("cached", False)
            for name in STAGES:
                with tracer.start_as_current_span(name) as s:
                    s.set_attribute("tokens", 128)
                    s.set_attribute("ratio", 0.5)
                    s.set_attribute("language", "en")

    return run


def unsampled() -> None:
    with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
        with_tailsight()


def measure(run: Callable[[], None], flush: Callable[[], object]) -> tuple[float, float]:
    """Return microseconds per span: of the calling thread, and of the whole process."""
    gc.collect()
    process, thread = time.process_time_ns(), time.thread_time_ns()
    for _ in range(REQUESTS):
        run()
    thread = time.thread_time_ns() - thread
    flush()
    process = time.process_time_ns() - process
    return thread / REQUESTS / SPANS / 1000, process / REQUESTS / SPANS / 1000


def main() -> None:
    here, there = multiprocessing.Pipe()
    sink = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    sink.start()
    endpoint = f"http://127.0.0.1:{here.recv()}"

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint + "/v1/traces"), max_queue_size=2 * REQUESTS * SPANS)
    )
    tailsight.configure(service="bench", endpoint=endpoint)
    contenders: dict[str, tuple[Callable[[], None], Callable[[], object]]] = {
        "tailsight": (with_tailsight, tailsight.flush),
        "tailsight, not sampled": (unsampled, tailsight.flush),
        "opentelemetry-sdk": (with_opentelemetry(provider), provider.force_flush),
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for round_number in range(ROUNDS + 2):
        for name, (run, flush) in contenders.items():
            measured = measure(run, flush)
            if round_number >= 2:  # the first rounds warm up
                figures[name].append(measured)
    provider.shutdown()
    stats = tailsight.stats()
    tailsight.shutdown()
    sink.terminate()

    print(f"Python {platform.python_version()}, {ROUNDS} rounds of {REQUESTS} requests with {SPANS} spans; µs per span")
    print(f"{'':24}{'calling thread':>22}{'whole process':>22}")
    print(f"{'':24}{'min':>11}{'median':>11}{'min':>11}{'median':>11}")
    summary: dict[str, object] = {"bench": "sdk", "python": platform.python_version(), "unit": "us_per_span"}
    best: dict[str, float] = {}
    for name, rounds in figures.items():
        thread, process = zip(*rounds, strict=True)
        cells = [min(thread), statistics.median(thread), min(process), statistics.median(process)]
        best[name] = cells[1]
        print(f"{name:24}" + "".join(f"{cell:11.2f}" for cell in cells))
        summary[name] = dict(
            zip(
                ("thread_min", "thread_median", "process_min", "process_median"),
                (round(c, 3) for c in cells),
                strict=True,
            )
        )
    ratio = best["opentelemetry-sdk"] / best["tailsight"]
    print(f"\nopentelemetry-sdk / tailsight, calling thread, median: {ratio:.1f}")
    print(f"tailsight sent {stats.sent} spans and dropped {dict(stats.dropped)}")
    print(json.dumps(summary | {"ratio_thread_median": round(ratio, 2)}))
    assert stats.sent == (ROUNDS + 2) * REQUESTS * SPANS, "spans were lost: the figures do not count"


if __name__ == "__main__":
    main()
