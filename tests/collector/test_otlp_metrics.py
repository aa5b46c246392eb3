"""OTLP/HTTP metrics against a real collector process; what traces and metrics share is proved in test_otlp_http.py."""

import gzip
import json
import time
import uuid

import httpx
import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Observation
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_collector.keep.records import encode_varint
from tailsight_storage import open_store

JSON = {"Content-Type": "application/json"}
METRICS = "/v1/metrics"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("metrics"), "--segment-age", "0.02") as running:
        yield running


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


@pytest.fixture
def service():
    return f"service-{uuid.uuid4().hex[:12]}"


def stored(collector, store, service, columns="count()"):
    collector.wait_until_metrics_are_loaded()
    return store.rows(
        f"SELECT {columns} FROM hardware_samples WHERE service = {{service:String}} ORDER BY ALL", service=service
    )


def of(service, *metrics):
    return metrics_request(metrics or [metric("hw.power", [point(1.5)])], {"service.name": service}).SerializeToString()


def as_json(service, *metrics):
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeMetrics": [{"scope": {"name": "tests"}, "metrics": list(metrics)}],
            }
        ]
    }


def json_gauge(**fields):
    return {"name": "hw.power", "unit": "1", "gauge": {"dataPoints": [{"timeUnixNano": str(time.time_ns()), **fields}]}}


def test_the_opentelemetry_sdks_own_exporter_stores_what_it_sends(collector, store, service):
    exporter = OTLPMetricExporter(endpoint=f"{collector.otlp_url}{METRICS}")
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=60_000)
    provider = MeterProvider([reader], Resource({"service.name": service, "host.name": "h1", "process.pid": 12}))
    meter = provider.get_meter("somebody's meter")
    meter.create_observable_gauge(
        "hw.temperature", [lambda _: [Observation(67.5, {"hw.type": "gpu", "hw.id": "GPU-1"})]], "Cel"
    )
    meter.create_counter("hw.energy", "J").add(1234)
    meter.create_up_down_counter("hw.gpu.memory.usage", "By").add(2**40, {"hw.id": "GPU-1"})
    meter.create_histogram("http.server.request.duration", "s").record(0.1)  # not ours: acknowledged, not stored
    assert provider.force_flush()
    provider.shutdown()
    collector.wait_until_metrics_are_loaded()
    # shutdown exports once more
    assert set(stored(collector, store, service, "metric, value, unit, kind, host, pid, hw_id, scope_name")) == {
        ("hw.temperature", 67.5, "Cel", "gauge", "h1", 12, "GPU-1", "somebody's meter"),
        ("hw.energy", 1234.0, "J", "counter", "h1", 12, "", "somebody's meter"),
        ("hw.gpu.memory.usage", 2.0**40, "By", "up_down_counter", "h1", 12, "GPU-1", "somebody's meter"),
    }
    assert collector.health()["metrics"]["received"]["rejected_points"]["not_a_number"] >= 1


def test_plain_gzip_and_zstd_store_the_same(collector, store, service):
    body = of(service)
    for coding, packed in (
        ("identity", body),
        ("gzip", gzip.compress(body)),
        ("zstd", zstandard.ZstdCompressor().compress(body)),
    ):
        answer = collector.post(packed, PROTOBUF | {"Content-Encoding": coding}, path=METRICS)
        assert (answer.status_code, answer.content) == (200, b"")
    assert stored(collector, store, service, "count(), uniqExact(time)") == [(3, 1)]


def test_json_and_protobuf_store_identically(collector, store, service):
    now_ns = time.time_ns()
    attributes = {"text": "s", "yes": True, "number": 7, "share": 0.5, "list": ["a", 1], "hw.type": "gpu"}
    json_attributes = [
        {"key": "text", "value": {"stringValue": "s"}}, {"key": "yes", "value": {"boolValue": True}},
        {"key": "number", "value": {"intValue": "7"}}, {"key": "share", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 1}]}}},
        {"key": "hw.type", "value": {"stringValue": "gpu"}},
    ]  # fmt: skip
    common = {"time_unix_nano": now_ns, "attributes": attributes}
    sent = of(
        service,
        metric("hw.a", [point(0.5, **common), point(-3, **common)], unit="W"),
        metric("hw.b", [point(0, **common)], kind="sum", monotonic=True),
        metric("hw.c", [point(0.0, **common)], kind="sum", temporality=1),
    )
    where = {"timeUnixNano": str(now_ns), "attributes": json_attributes}
    document = as_json(
        service,
        {"name": "hw.a", "unit": "W", "gauge": {"dataPoints": [{**where, "asDouble": 0.5}, {**where, "asInt": "-3"}]}},
        {
            "name": "hw.b",
            "unit": "1",
            "sum": {"aggregationTemporality": 2, "isMonotonic": True, "dataPoints": [{**where, "asInt": 0}]},
        },
        {"name": "hw.c", "unit": "1", "sum": {"aggregationTemporality": 1, "dataPoints": [{**where, "asDouble": "0"}]}},
    )
    assert collector.post(sent, path=METRICS).content == b""
    assert collector.post(json.dumps(document).encode(), JSON, path=METRICS).json() == {}
    rows = stored(collector, store, service, "* EXCEPT received_at")
    assert len(rows) == 8
    assert rows[::2] == rows[1::2]


def test_what_is_not_stored_is_counted_and_explained(collector, store, service):
    body = of(
        service,
        metric("hw.power", [point(1.0), point(float("nan")), point(1.0, time_unix_nano=5)]),
        metric("http.server.active_requests", [point(3)], kind="sum"),
    )
    partial = ExportMetricsServiceResponse.FromString(collector.post(body, path=METRICS).content).partial_success
    assert partial.rejected_data_points == 3
    assert partial.error_message.startswith("did not store 3 of 4 data points: 1 × ")
    assert stored(collector, store, service) == [(1,)]


def test_in_json_the_count_is_a_string(collector, store, service):
    point_json = {"timeUnixNano": str(time.time_ns()), "count": 4, "sum": 1.5}
    document = as_json(
        service,
        json_gauge(asDouble=1),
        {"name": "hw.h", "histogram": {"dataPoints": [point_json, point_json]}},
        {"name": "hw.e", "exponentialHistogram": {"dataPoints": [point_json]}},
        {"name": "hw.s", "summary": {"dataPoints": [point_json]}},
    )
    answer = collector.post(json.dumps(document).encode(), JSON, path=METRICS).json()
    assert answer["partialSuccess"]["rejectedDataPoints"] == "4"
    assert "histogram" in answer["partialSuccess"]["errorMessage"]
    assert stored(collector, store, service) == [(1,)]


@pytest.mark.parametrize(
    ("body", "headers"), [(b"", PROTOBUF), (b"{}", JSON), (b'{"resourceMetrics":[{}]}', JSON), (b"\x0a\x00", PROTOBUF)]
)
def test_an_empty_request_is_a_success(collector, body, headers):
    assert collector.post(body, headers, path=METRICS).status_code == 200


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\x0a\xffgarbage", PROTOBUF, 400),
        (b"1234", JSON, 400),
        (b'{"resourceMetrics": {}}', JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b"not gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(bytes(100 * 1024 * 1024), mtime=0), PROTOBUF | {"Content-Encoding": "gzip"}, 413),
        (b"x", {"Content-Type": "text/plain"}, 415),
    ],
)
def test_what_cannot_be_decoded_is_refused_with_a_status(collector, body, headers, status):
    answer = collector.post(body, headers, path=METRICS)
    assert answer.status_code == status
    assert answer.json()["message"] if headers == JSON else Status.FromString(answer.content).message
    assert collector.health()["status"] == "ok"


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"timeUnixNano": "soon", "asInt": 1}, "timeUnixNano"),
        ({"asInt": 1.5}, "asInt"),
        ({"asInt": str(2**63)}, "asInt"),
        ({"asDouble": "much"}, "asDouble"),
        ({"asDouble": 1, "flags": -1}, "flags"),
        ({"asDouble": 1, "attributes": {}}, "attributes"),
    ],
)
def test_a_wrong_json_value_is_named(collector, service, fields, named):
    answer = collector.post(json.dumps(as_json(service, json_gauge(**fields))).encode(), JSON, path=METRICS)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_other_methods_are_405(collector):
    assert httpx.get(f"{collector.otlp_url}{METRICS}").status_code == 405


def delimited(number, body):
    return encode_varint(number << 3 | 2) + encode_varint(len(body)) + body


def poisoned(service, *, in_point=b"", in_metric=b"", in_gauge=b""):
    """A request whose one point, metric or gauge ends with raw protobuf fields of a stranger's making."""
    message = metrics_request([metric("hw.odd", [point(1.0)])], {"service.name": service})
    resource = message.resource_metrics[0].resource.SerializeToString()
    [made] = message.resource_metrics[0].scope_metrics[0].metrics
    gauge = delimited(1, made.gauge.data_points[0].SerializeToString() + in_point) + in_gauge
    encoded = delimited(1, b"hw.odd") + delimited(5, gauge) + in_metric
    return delimited(1, delimited(1, resource) + delimited(2, delimited(2, encoded)))


ODD_FIELDS = {
    "a second value of another type": {"in_point": b"\x31" + bytes(8)},
    "a value of a wrong wire type": {"in_point": delimited(4, b"x")},
    "flags beyond 32 bits": {"in_point": b"\x40" + encode_varint(1 << 40)},
    "a time twice": {"in_point": b"\x19" + (time.time_ns() // 2 * 2).to_bytes(8, "little")},
    "an attribute that is a bool of 2": {"in_point": delimited(7, delimited(1, b"k") + delimited(2, b"\x10\x02"))},
    "a name twice": {"in_metric": delimited(1, b"hw.again")},
    "an empty gauge twice": {"in_metric": delimited(5, b"")},
    "an unknown group": {"in_gauge": b"\xbb\x3e\xbc\x3e"},
    "field 1000 of its own": {"in_metric": b"\xc2\x3e\x01x"},
}


@pytest.mark.parametrize("odd", ODD_FIELDS)
def test_legal_but_odd_protobuf_is_stored_as_it_was_understood(collector, store, service, odd):
    answer = collector.post(poisoned(service, **ODD_FIELDS[odd]), path=METRICS)
    assert (answer.status_code, answer.content) == (200, b"")
    assert stored(collector, store, service) == [(1,)]
    assert collector.health()["metrics"]["loading"]["last_error"] == ""


def test_two_kinds_of_data_in_one_metric_are_the_last_one(collector, store, service):
    """A oneof: what came first is gone, in the check as in the store."""
    answer = collector.post(poisoned(service, in_metric=delimited(9, b"")), path=METRICS)
    assert answer.status_code == 200
    assert stored(collector, store, service) == [(0,)]


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_metrics_sent_to_the_path_of_traces_and_the_other_way_round_break_nothing(collector, store, service, encoding):
    if encoding == "protobuf":
        swapped = [("/v1/traces", of(service), PROTOBUF)]
        swapped += [(METRICS, request([span()], {"service.name": service}).SerializeToString(), PROTOBUF)]
    else:
        swapped = [("/v1/traces", json.dumps(as_json(service, json_gauge(asInt=1))).encode(), JSON)]
        swapped += [(METRICS, b'{"resourceSpans": [{"scopeSpans": [{"spans": [{}]}]}]}', JSON)]
    for path, body, headers in swapped:
        assert collector.post(body, headers, path=path).status_code in (200, 400)
    collector.wait_until_loaded()
    assert stored(collector, store, service) == [(0,)]
    assert store.rows("SELECT count() FROM spans WHERE service = {service:String}", service=service) == [(0,)]
    assert collector.post(of(service), path=METRICS).content == b""
    assert stored(collector, store, service) == [(1,)]
    health = collector.health()
    assert (health["status"], health["loading"]["quarantined_records"]) == ("ok", 0)
    assert health["metrics"]["loading"]["quarantined_records"] == 0


def test_the_health_tells_both_signals_apart(collector, service):
    before = collector.health()
    assert collector.post(of(service), path=METRICS).status_code == 200
    after = collector.health()
    assert after["received"] == before["received"]
    assert after["metrics"]["received"]["accepted_points"] == before["metrics"]["received"]["accepted_points"] + 1


def test_the_sql_port_shows_hardware_samples(collector, store, service):
    assert collector.post(of(service), path=METRICS).status_code == 200
    collector.wait_until_metrics_are_loaded()
    url = "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")
    query = f"SELECT metric, value, attributes['hw.id'] FROM tailsight.hardware_samples WHERE service = '{service}'"
    assert httpx.post(url, content=query).text == "hw.power\t1.5\t\n"
    assert "hardware_samples" in httpx.post(url, content="SHOW TABLES").text
