"""A real collector process with spans whose tail has a known cause, for the dashboard's tests.

Requests take about 10 ms; one in fifty waits 80 to 120 ms in the queue, always in a batch of 32.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tailsight_dashboard.launch import streamlit_arguments

REQUESTS = 1200
SPANS_A_REQUEST = 5
NS_PER_MS = 1_000_000
PATIENCE_S = 30.0
SERVICES = (("ranker", "NVIDIA L4", "1.4.0", "mini-lm"), ("search", "NVIDIA H100 80GB HBM3", "2.0.0", "bge-small"))


@dataclass(frozen=True, slots=True)
class RunningCollector:
    """Where a collector listens, and its process, for tests that end it."""

    otlp_url: str
    store: str
    process: subprocess.Popen[str]


@contextmanager
def running_collector(data: Path) -> Iterator[RunningCollector]:
    """Run `tailsight collector` on ports that the system chooses."""
    command = [sys.executable, "-m", "tailsight_cli.main", "collector", "--data", str(data)]
    log = data.with_suffix(".log")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--http-port", "0", "--grpc-port", "0", "--sql-port", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    try:
        assert process.stdout is not None
        found: dict[str, str] = {}
        watchdog = threading.Timer(PATIENCE_S, process.kill)  # readline has no timeout of its own
        watchdog.start()
        for line in process.stdout:
            name, _, value = line.strip().partition(" ")
            found[name] = value.strip()
            if "SQL" in found:
                break
        watchdog.cancel()
        assert "SQL" in found, f"the collector did not start: {log.read_text()}"
        otlp_url = re.sub(r"/v1/traces$", "", found["OTLP/HTTP"])
        yield RunningCollector(otlp_url, found["SQL"], process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
        if process.stdout:
            process.stdout.close()


def send_sample(otlp_url: str, *, until_ns: int | None = None) -> None:
    """Send REQUESTS requests of the last ten minutes, half of each service."""
    end_ns = (until_ns or time.time_ns()) - 20_000_000_000
    random = Random(7)
    for number, (service, hardware, version, model) in enumerate(SERVICES):
        message = ExportTraceServiceRequest()
        resource_spans = message.resource_spans.add()
        for key, value in (
            ("service.name", service),
            ("service.version", version),
            ("tailsight.hardware", hardware),
            ("tailsight.run", "nightly"),
            ("host.name", f"node-{number}"),
        ):
            resource_spans.resource.attributes.add(key=key).value.string_value = value
        spans = resource_spans.scope_spans.add().spans
        for index in range(REQUESTS // 2):
            start_ns = end_ns - (REQUESTS // 2 - index) * 1_000_000_000
            _request(spans, random, start_ns, model, is_slow=index % 50 == 49)
        post(otlp_url, message.SerializeToString())


def _request(spans: object, random: Random, start_ns: int, model: str, *, is_slow: bool) -> None:
    trace_id, root_id = random.randbytes(16), random.randbytes(8)
    waits_ms = random.uniform(80, 120) if is_slow else random.uniform(1, 2)
    stages = (
        ("preprocess", random.uniform(0.2, 0.6)),
        ("queue", waits_ms),
        ("compute", random.uniform(6, 8) * (1.2 if is_slow else 1.0)),
        ("postprocess", random.uniform(0.05, 0.2)),
    )
    at_ns = start_ns + 150_000  # until here, and at the end, the request's own time
    for stage, length_ms in stages:
        until_ns = at_ns + round(length_ms * NS_PER_MS)
        span = spans.add(  # type: ignore[attr-defined]
            trace_id=trace_id, span_id=random.randbytes(8), parent_span_id=root_id, name=stage
        )
        span.start_time_unix_nano, span.end_time_unix_nano = at_ns, until_ns
        span.attributes.add(key="tailsight.stage").value.string_value = stage
        span.attributes.add(key="tailsight.model").value.string_value = model
        if stage == "queue":
            span.attributes.add(key="tailsight.batch.size").value.int_value = 32 if is_slow else random.choice((4, 8))
        at_ns = until_ns
    root = spans.add(trace_id=trace_id, span_id=root_id, name="handle", kind=Span.SPAN_KIND_SERVER)  # type: ignore[attr-defined]
    root.start_time_unix_nano, root.end_time_unix_nano = start_ns, at_ns + 100_000
    root.attributes.add(key="tailsight.model").value.string_value = model
    if random.random() < 0.01:
        root.status.code = Status.STATUS_CODE_ERROR


def post(otlp_url: str, body: bytes, signal: str = "traces") -> None:
    """Send one request of OTLP."""
    request = urllib.request.Request(
        f"{otlp_url}/v1/{signal}", data=body, headers={"Content-Type": "application/x-protobuf"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.status == 200


@contextmanager
def running_dashboard(store: str) -> Iterator[str]:
    """Serve the dashboard as its launcher says, on a free port; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", *streamlit_arguments(port)],
        env={**os.environ, "TAILSIGHT_STORE": store},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{address}/_stcore/health", timeout=2):
                    break
            except OSError:
                time.sleep(0.05)
        assert process.poll() is None, "the dashboard did not start"
        yield address
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)
