"""From clients to answers: the OpenTelemetry SDK's exporter and ours, a real collector, the SQL port, the commands."""

import json
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from testkit.otlp import request, span, span_id, trace_id

from tailsight_storage import decode_attributes, open_store

ROOT = Path(__file__).parents[2]
VALUES = {
    "zero": 0,
    "no": False,
    "empty": "",
    "text": "ü€",
    "big": 2**53 + 1,
    "real": 0.1,
    "many": ["a", "b"],
    "numbers": [1, 2],
}


@pytest.fixture
def service():
    return f"e2e-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


def tailsight(*arguments, expect=0):
    done = subprocess.run(
        [sys.executable, "-m", "tailsight_cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stderr
    return done


def test_opentelemetrys_own_exporter_and_attributes_of_every_type(collector, store, service):
    provider = TracerProvider(resource=Resource({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{collector.otlp_url}/v1/traces")))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("root", attributes=VALUES) as root:
        root.add_event("happened", {"n": 0})
        for _ in range(300):
            with tracer.start_as_current_span("child", attributes={"tailsight.stage": "compute"}):
                pass
    provider.shutdown()
    collector.wait_until_loaded()
    query = "SELECT attributes, attribute_types FROM spans WHERE service = {service:String} AND name = 'root'"
    [(values, types)] = store.rows(query, service=service)
    assert decode_attributes(values, types) == VALUES
    counts = "SELECT count(), countIf(stage = 'compute' AND parent_span_id_hex = {parent:String}) FROM spans WHERE service = {service:String}"
    parent = f"{root.get_span_context().span_id:016x}"
    assert store.rows(counts, service=service, parent=parent) == [(301, 300)]
    [(rolled_up,)] = store.rows(
        "SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service
    )
    assert rolled_up == 301


OUR_SERVICE = textwrap.dedent("""
    import sys
    import tailsight

    tailsight.configure(service=sys.argv[2], endpoint=sys.argv[1])

    @tailsight.request
    def handle(number):
        with tailsight.stage("preprocess") as s:
            s.set("zero", 0); s.set("no", False); s.set("empty", ""); s.set("unset", None)
            s.set("bytes", b"\\x00\\xff"); s.set("nested", {"a": [1, "b"]})
        return infer(number)

    @tailsight.stage("compute")
    def infer(number):
        if number == 7:
            raise ValueError("seven")
        return number

    for number in range(200):
        try:
            handle(number)
        except ValueError:
            pass
""")


def test_our_sdk_sends_what_is_pending_when_the_interpreter_ends(collector, store, service):
    subprocess.run([sys.executable, "-c", OUR_SERVICE, collector.otlp_url, service], check=True, timeout=60)
    collector.wait_until_loaded()
    by_stage = "SELECT stage, count(), countIf(status = 'ERROR') FROM spans WHERE service = {service:String} GROUP BY stage ORDER BY stage"
    assert store.rows(by_stage, service=service) == [("", 200, 1), ("compute", 200, 1), ("preprocess", 200, 0)]
    query = "SELECT attributes, attribute_types FROM spans WHERE service = {service:String} AND stage = 'preprocess' LIMIT 1"
    [(values, types)] = store.rows(query, service=service)
    sent = {"zero": 0, "no": False, "empty": "", "unset": None, "bytes": b"\x00\xff", "nested": {"a": [1, "b"]}}
    assert sent.items() <= decode_attributes(values, types).items()
    orphans = (
        "SELECT count() FROM spans WHERE service = {service:String} AND stage != '' AND (trace_id, parent_span_id) NOT IN "
        "(SELECT trace_id, span_id FROM spans WHERE service = {service:String} AND stage = '')"
    )
    assert store.rows(orphans, service=service) == [(0,)]
    [(hardware,)] = store.rows("SELECT DISTINCT hardware FROM spans WHERE service = {service:String}", service=service)
    assert hardware


def test_breakdown_and_tail_tell_what_was_planted(collector, service):
    """A hundred requests of 2 to 3 ms, whose two slowest wait in the queue on one hardware type."""
    start_ns = 1_600_000_000 * 10**9
    spans = []
    for number in range(100):
        queue_ns = 40_000_000 + number if number >= 98 else 500_000 + number * 1000
        compute_ns = 2_000_000 + number * 7919 % 1_000_000
        at_ns = start_ns + number * 37 % 100 * 10**8  # the two are not neighbours
        hardware = {"tailsight.hardware": "NVIDIA L4" if number >= 98 else "NVIDIA H100"}
        ids = {"trace_id": trace_id(10**9 + number), "parent_span_id": span_id(1)}
        end_ns = at_ns + queue_ns + compute_ns
        spans += [
            span(trace_id=ids["trace_id"], span_id=span_id(1), start_time_unix_nano=at_ns, end_time_unix_nano=end_ns + 1000),
            span(**ids, start_time_unix_nano=at_ns, end_time_unix_nano=at_ns + queue_ns, attributes={"tailsight.stage": "queue", **hardware}),
            span(**ids, start_time_unix_nano=at_ns + queue_ns, end_time_unix_nano=end_ns, attributes={"tailsight.stage": "compute", **hardware}),
        ]  # fmt: skip
    assert collector.post(request(spans, {"service.name": service}).SerializeToString()).status_code == 200
    collector.wait_until_loaded()
    where = (
        "--store",
        collector.store,
        "--since",
        "2020-09-13",
        "--until",
        "2020-09-14",
        "--service",
        service,
        "--json",
    )
    breakdown = json.loads(tailsight("breakdown", *where, "--by", "stage,hardware").stdout)
    row = next(row for row in breakdown["rows"] if (row["stage"], row["hardware"]) == ("queue", "NVIDIA H100"))
    waits_ms = (500_000 + np.arange(98) * 1000) / 1e6
    assert row["count"] == 98
    assert row["p95_ms"] == pytest.approx(np.quantile(waits_ms, 0.95))
    assert row["jitter_ms"] == pytest.approx(np.quantile(waits_ms, 0.99) - np.quantile(waits_ms, 0.5))
    tail = json.loads(tailsight("tail", *where, "--quantile", "0.985").stdout)
    assert tail["tail_requests"] == 2
    assert tail["stages"][0]["stage"] == "queue"
    assert tail["stages"][0]["tail_ms"] == pytest.approx(40.0000985)
    assert sum(part["excess_share"] for part in [*tail["stages"], tail["unaccounted"]]) == pytest.approx(1)
    assert {"key": "hardware", "value": "NVIDIA L4"}.items() <= tail["attributes"][0].items()


def test_sample_traces_import_into_a_running_collector(collector):
    run = f"sample-{uuid.uuid4().hex[:6]}"
    files = sorted(str(path) for path in (ROOT / "sample_traces").iterdir())
    imported = json.loads(tailsight("import", *files, "--run", run, "--endpoint", collector.otlp_url, "--json").stdout)
    assert imported["accepted_spans"] == imported["spans"] == 22_000
    collector.wait_until_loaded()
    where = ("--store", collector.store, "--run", run, "--json")
    breakdown = json.loads(tailsight("breakdown", *where).stdout)
    stages = {row["stage"]: row["count"] for row in breakdown["rows"]}
    assert {"preprocess", "serialize", "network", "queue", "compute", "postprocess"} <= stages.keys()
    assert sum(stages.values()) == 22_000
    tail = json.loads(tailsight("tail", *where).stdout)
    assert tail["stages"][0]["stage"] in ("queue", "compute")
    # the window that import printed covers exactly the run
    window = imported["window"]
    again = json.loads(
        tailsight(
            "breakdown", "--store", collector.store, "--since", window["since"], "--until", window["until"], "--json"
        ).stdout
    )
    assert sum(row["count"] for row in again["rows"]) >= 22_000


def test_sample_traces_import_without_a_collector_and_twice_add_nothing(tmp_path):
    store = f"chdb://{tmp_path}/data"
    for _ in range(2):
        tailsight("import", str(ROOT / "sample_traces" / "demo.otlp.zst"), "--run", "r", "--store", store)
    rows = json.loads(tailsight("breakdown", "--store", store, "--run", "r", "--json").stdout)["rows"]
    assert sum(row["count"] for row in rows) == 22_000
