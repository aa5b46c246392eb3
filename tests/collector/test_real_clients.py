"""What real clients send is what the store holds: OpenTelemetry's SDKs for Python and JavaScript, and tailsight's own."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcTraces
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpTraces
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode
from testkit.grpc_client import grpc
from testkit.processes import CollectorProcess

from tailsight_storage import decode_attributes, open_store

NODE = Path(__file__).parent / "node"
REQUIRE_NODE = "TAILSIGHT_TEST_REQUIRE_NODE"
NPM_PATIENCE_S = 150
CLIENT_PATIENCE_S = 60


@dataclass
class Seen:
    """A span, as its client describes it or as it is stored."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    start_ns: int
    duration_ns: int
    status: str
    message: str
    attributes: dict[str, Any]
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    links: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("clients"), "--segment-age", "0.02") as running:
        yield running


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


@pytest.fixture
def service():
    return f"service-{uuid.uuid4().hex[:12]}"


def stored(collector, store, service):
    """The spans of a service by id, each once."""
    collector.wait_until_loaded()
    rows = store.rows(
        """
        SELECT trace_id_hex, span_id_hex, parent_span_id_hex, name, kind, toUnixTimestamp64Nano(start_time), duration_ns,
            status, status_message, attributes, attribute_types,
            events.name, arrayMap(time -> toUnixTimestamp64Nano(time), events.time), events.attributes,
            events.attribute_types,
            arrayMap(id -> lower(hex(id)), links.trace_id), arrayMap(id -> lower(hex(id)), links.span_id),
            links.attributes, links.attribute_types
        FROM spans WHERE service = {service:String}
        """,
        service=service,
    )
    spans = {}
    for row in rows:
        plain, values, types, events, links = row[:9], row[9], row[10], row[11:15], row[15:]
        assert plain[1] not in spans, "a span is stored twice"
        spans[plain[1]] = Seen(
            *plain,
            decode_attributes(values, types),
            [(name, at, decode_attributes(kept, kinds)) for name, at, kept, kinds in zip(*events, strict=True)],
            [(own, span, decode_attributes(kept, kinds)) for own, span, kept, kinds in zip(*links, strict=True)],
        )
    return spans


def samples(collector, store, service):
    collector.wait_until_metrics_are_loaded()
    columns = "metric, value, unit, kind, hw_id, host"
    return set(
        store.rows(f"SELECT {columns} FROM hardware_samples WHERE service = {{service:String}}", service=service)
    )


def run(command, patience_s, *, env=None, cwd=None):
    """Run a client to its end, with no settings of this process."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("TAILSIGHT_", "OTEL_"))}
    environment = others | (env or {})
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=patience_s, check=False
    )


# --- OpenTelemetry's SDK for Python ----------------------------------------------------------------------------------


def plain(attributes):
    return {key: list(value) if isinstance(value, tuple) else value for key, value in (attributes or {}).items()}


def as_seen(span):
    context = span.get_span_context()
    return Seen(
        trace.format_trace_id(context.trace_id),
        trace.format_span_id(context.span_id),
        trace.format_span_id(span.parent.span_id) if span.parent else "",
        span.name,
        span.kind.name,
        span.start_time,
        span.end_time - span.start_time,
        span.status.status_code.name,
        span.status.description or "",
        plain(span.attributes),
        [(event.name, event.timestamp, plain(event.attributes)) for event in span.events],
        [
            (
                trace.format_trace_id(link.context.trace_id),
                trace.format_span_id(link.context.span_id),
                plain(link.attributes),
            )
            for link in span.links
        ],
    )


ATTRIBUTES = {
    "text": "grüße", "empty": "", "yes": True, "no": False, "zero": 0, "least": -(2**63), "most": 2**63 - 1,
    "half": 0.5, "nothing": 0.0, "tiny": 1e-300, "texts": ["a", ""], "numbers": [1, -2], "flags": [True, False],
    "none": [], "tailsight.stage": "compute",
}  # fmt: skip


def make_spans(tracer):
    with tracer.start_as_current_span("request", kind=SpanKind.SERVER, attributes=ATTRIBUTES) as root:
        for kind in (SpanKind.INTERNAL, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER):
            links = [Link(root.get_span_context(), {"why": "batch", "share": 0.25})]
            with tracer.start_as_current_span(f"child {kind.name}", kind=kind, links=links) as child:
                child.add_event("retry", {"attempt": 2, "reason": "timeout"})
                child.add_event("bare")
                child.set_status(Status(StatusCode.ERROR, "refused") if kind is SpanKind.CLIENT else StatusCode.OK)
    tracer.start_span("").end()


def python_exporters(collector, protocol, *, is_packed):
    if protocol == "http":
        packing = Compression.Gzip if is_packed else Compression.NoCompression
        url = collector.otlp_url
        return (
            HttpTraces(endpoint=f"{url}/v1/traces", compression=packing),
            HttpMetrics(endpoint=f"{url}/v1/metrics", compression=packing),
        )
    packing = grpc.Compression.Gzip if is_packed else grpc.Compression.NoCompression
    settings = {"endpoint": f"http://{collector.grpc_target}", "insecure": True, "compression": packing}
    return GrpcTraces(**settings), GrpcMetrics(**settings)


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_the_opentelemetry_sdk_for_python(collector, store, service, protocol, is_packed):
    traces, metrics = python_exporters(collector, protocol, is_packed=is_packed)
    resource = Resource({"service.name": service, "host.name": "python-host"})
    memory = InMemorySpanExporter()
    tracers = TracerProvider(resource=resource)
    tracers.add_span_processor(SimpleSpanProcessor(memory))
    tracers.add_span_processor(BatchSpanProcessor(traces))
    make_spans(tracers.get_tracer("python-tests"))
    meters = MeterProvider([PeriodicExportingMetricReader(metrics, export_interval_millis=3_600_000)], resource)
    meter = meters.get_meter("python-tests")
    meter.create_observable_gauge("hw.temperature", [lambda _: [Observation(67.5, {"hw.id": "GPU-1"})]], "Cel")
    meter.create_counter("hw.energy", "J").add(1234)
    assert tracers.force_flush()
    assert meters.force_flush()
    tracers.shutdown()
    meters.shutdown()
    sent = [as_seen(span) for span in memory.get_finished_spans()]
    assert len(sent) == 6
    assert stored(collector, store, service) == {span.span_id: span for span in sent}
    assert samples(collector, store, service) == {
        ("hw.temperature", 67.5, "Cel", "gauge", "GPU-1", "python-host"),
        ("hw.energy", 1234.0, "J", "counter", "", "python-host"),
    }


# --- OpenTelemetry's SDK for JavaScript ------------------------------------------------------------------------------


def missing(what):
    """Skip, or fail where Node.js is required."""
    if os.environ.get(REQUIRE_NODE) == "1":
        pytest.fail(f"{what}, and {REQUIRE_NODE}=1")
    pytest.skip(f"{what}; {REQUIRE_NODE}=1 makes this a failure")


@pytest.fixture(scope="module")
def node_client(request):
    """The folder of the JavaScript client with its packages, installed once for each lock file, outside of the source."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            missing(f"there is no {program} on this machine")
    lock = (NODE / "package-lock.json").read_bytes()
    folder = Path(request.config.cache.mkdir("tailsight-node")) / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(exist_ok=True)
    for file in ("package.json", "package-lock.json", "send.mjs"):
        shutil.copy(NODE / file, folder)
    if not (folder / "installed").exists():
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        command += ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # without a network it is soon known
        try:
            done = run(command, NPM_PATIENCE_S, cwd=folder)
        except subprocess.TimeoutExpired:
            missing(f"npm ci has not ended within {NPM_PATIENCE_S} s")
        if done.returncode:
            missing(f"npm ci cannot install OpenTelemetry's exporters: {' '.join(done.stderr.split())[:200]}")
        (folder / "installed").touch()
    return folder


def test_the_lock_file_names_no_registry():
    """Whoever runs the tests asks their own registry: only versions and hashes are pinned."""
    lock = json.loads((NODE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all("resolved" not in package and package["integrity"] for package in packages.values())


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["proto", "json", "grpc"])
def test_the_opentelemetry_sdk_for_javascript(collector, store, service, node_client, protocol, compression):
    target = f"http://{collector.grpc_target}"
    urls = (
        (target, target)
        if protocol == "grpc"
        else tuple(f"{collector.otlp_url}/v1/{it}" for it in ("traces", "metrics"))
    )
    order = {
        "protocol": protocol,
        "traces": urls[0],
        "metrics": urls[1],
        "service": service,
        "compression": compression,
    }
    done = run(["node", "send.mjs", json.dumps(order)], CLIENT_PATIENCE_S, cwd=node_client)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    sent = [
        Seen(
            span["traceId"],
            span["spanId"],
            span["parentSpanId"],
            span["name"],
            span["kind"],
            int(span["start"]),
            int(span["end"]) - int(span["start"]),
            span["status"],
            span["message"],
            span["attributes"],
            [(event["name"], int(event["time"]), event.get("attributes", {})) for event in span["events"]],
            [(link["traceId"], link["spanId"], link["attributes"]) for link in span["links"]],
        )
        for span in json.loads(done.stdout)["sent"]
    ]
    assert len(sent) == 6
    assert stored(collector, store, service) == {span.span_id: span for span in sent}
    assert samples(collector, store, service) == {
        ("hw.temperature", 67.5, "Cel", "gauge", "GPU-1", "node-host"),
        ("hw.energy", 1234.0, "J", "counter", "", "node-host"),
    }


# --- tailsight's own SDK ---------------------------------------------------------------------------------------------

SERVICE = textwrap.dedent("""
    import json, time
    import tailsight

    tailsight.configure()
    sent = []
    for number in range(50):
        began = time.perf_counter_ns()
        with tailsight.request("frame") as request:
            request.set("number", number)
            with tailsight.stage("compute") as stage:
                stage.set("half", number / 2)
                stage.set("even", number % 2 == 0)
        sent.append(time.perf_counter_ns() - began)
    assert tailsight.flush(30)
    tailsight.shutdown(30)
    print(json.dumps(sent))
""")


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_tailsights_sdk_over_grpc(collector, store, service, tmp_path, compression):
    ours = {
        "TAILSIGHT_ENDPOINT": f"http://{collector.grpc_target}",
        "TAILSIGHT_PROTOCOL": "grpc",
        "TAILSIGHT_TRANSPORT": "sidecar",
        "TAILSIGHT_COMPRESSION": compression,
        "TAILSIGHT_SERVICE": service,
        "TAILSIGHT_RUNTIME_DIR": str(tmp_path / "run"),
    }
    done = run([sys.executable, "-c", SERVICE], CLIENT_PATIENCE_S, env=ours)
    assert (done.returncode, done.stderr) == (0, "")
    spans = stored(collector, store, service).values()
    requests = {span.attributes["number"]: span for span in spans if span.name == "frame"}
    stages = {span.parent_id: span for span in spans if span.name == "compute"}
    took_ns = json.loads(done.stdout)
    assert len(spans) == 100
    assert sorted(requests) == list(range(50))
    for number, span in requests.items():
        stage = stages[span.span_id]
        assert (span.parent_id, stage.trace_id) == ("", span.trace_id)
        assert (stage.attributes["half"], stage.attributes["even"]) == (number / 2, number % 2 == 0)
        assert 0 < stage.duration_ns <= span.duration_ns <= took_ns[number]
