"""Every point of expected/otlp_requirements.json that is about a receiver has a test; those of a client are the SDK's.

A test names its points: `test_S05_S06_…`. Here are those that are about the list itself, or about both protocols;
the others stand in test_otlp_http.py and test_otlp_grpc.py.
"""

import gzip
import json
import re
import time
import uuid
from pathlib import Path

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from testkit.grpc_client import GZIP, METRICS, GrpcClient
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import any_value, request, span, trace_id
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_storage import decode_attributes, open_store

HERE = Path(__file__).parent
REQUIREMENTS = HERE.parents[2] / "shared" / "data" / "expected" / "otlp_requirements.json"
JSON = {"Content-Type": "application/json"}
CLIENT_POINTS = {"S11", "S12", "S13", "S14", "S24"}
SERVER_POINTS = {f"S{number:02}" for number in range(1, 30)} - CLIENT_POINTS


def points_of_tests():
    """The points that the names of this folder's tests hold, with their tests."""
    found = {}
    for path in sorted(HERE.glob("test_*.py")):
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE):
            for number in re.findall(r"S\d\d(?=_)", name):
                found.setdefault(number, []).append(f"{path.name}::{name}")
    return found


def test_every_point_about_a_receiver_has_a_test():
    tested = points_of_tests()
    assert SERVER_POINTS - set(tested) == set()
    assert set(tested) <= SERVER_POINTS, "a test names a point that there is not, or that is a client's"


@pytest.mark.parametrize("number", ["S02", "S03", "S05", "S07", "S25"])
def test_what_both_protocols_promise_is_tested_in_both(number):
    """Those that the list names for gRPC, and the answers whose words differ in it."""
    files = {test.partition("::")[0] for test in points_of_tests()[number]}
    assert "test_otlp_grpc.py" in files
    assert number == "S25" or "test_otlp_http.py" in files


@pytest.mark.shared_data
@pytest.mark.skipif(not REQUIREMENTS.is_file(), reason="../shared/data is not here")
def test_the_list_of_points_is_the_one_that_is_tested():
    points = {point["id"]: point["side"] for point in json.loads(REQUIREMENTS.read_text())["points"]}
    assert {number for number, side in points.items() if "client" in side} == CLIENT_POINTS
    assert set(points) - CLIENT_POINTS == SERVER_POINTS


# --- points about both protocols, or about what is stored ------------------------------------------------------------


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("requirements"), "--segment-age", "0.02") as running:
        yield running


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def grpc_client(collector):
    with GrpcClient(collector.grpc_target) as client:
        yield client


@pytest.fixture
def service():
    return f"service-{uuid.uuid4().hex[:12]}"


@pytest.fixture(params=["http", "grpc"])
def export(request, collector, grpc_client):
    """Send a protobuf body by either protocol; returns the answer's body, and asserts that it is a success."""

    def send(body, *, signal="traces", is_packed=False):
        if request.param == "grpc":
            method = METRICS if signal == "metrics" else "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
            answer = grpc_client.export(body, method, compression=GZIP if is_packed else None)
            assert answer.code == "OK", answer.details
            return answer.body
        headers = PROTOBUF | ({"Content-Encoding": "gzip"} if is_packed else {})
        answer = collector.post(gzip.compress(body) if is_packed else body, headers, path=f"/v1/{signal}")
        assert answer.status_code == 200, answer.content
        return answer.content

    return send


def stored(collector, store, service, columns="count()"):
    collector.wait_until_loaded()
    return store.rows(f"SELECT {columns} FROM spans WHERE service = {{service:String}} ORDER BY ALL", service=service)


def as_json(service, *spans):
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}).encode()


def json_span(**fields):
    start_ns = time.time_ns() - 10**9
    times = {"startTimeUnixNano": str(start_ns), "endTimeUnixNano": str(start_ns + 1000)}
    return {"traceId": uuid.uuid4().hex, "spanId": uuid.uuid4().hex[:16], "name": "work", "kind": 1, **times, **fields}


def test_S01_plain_and_gzip_store_the_same_by_either_protocol(collector, store, service, export):
    body = request([span()], {"service.name": service}).SerializeToString()
    for is_packed in (False, True):
        assert export(body, is_packed=is_packed) == b""
    assert stored(collector, store, service, "count(), uniqExact(span_id)") == [(2, 1)]


@pytest.mark.parametrize("rejected", [0, 1, 3])
def test_S05_S06_a_partial_success_has_a_count_and_a_message_or_is_not_there(service, export, rejected):
    spans = [*(span() for _ in range(3 - rejected)), *(span(trace_id=b"") for _ in range(rejected))]
    answer = ExportTraceServiceResponse.FromString(
        export(request(spans, {"service.name": service}).SerializeToString())
    )
    assert answer.HasField("partial_success") == bool(rejected)
    assert answer.partial_success.rejected_spans == rejected
    assert bool(answer.partial_success.error_message) == bool(rejected)


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_S05_S06_metrics_have_the_same_partial_success(service, export, value):
    body = metrics_request([metric("hw.power", [point(value)])], {"service.name": service}).SerializeToString()
    answer = ExportMetricsServiceResponse.FromString(export(body, signal="metrics"))
    is_stored = value == 1.5
    assert answer.HasField("partial_success") != is_stored
    assert (answer.partial_success.rejected_data_points == 1) != is_stored
    assert (answer.partial_success.error_message == "") == is_stored


def test_S06_in_json_success_has_no_partial_success_at_all(collector, service):
    assert collector.post(as_json(service, json_span()), JSON).json() == {}
    partial = collector.post(as_json(service, json_span(spanId="")), JSON).json()["partialSuccess"]
    assert partial["rejectedSpans"] == "1"
    assert partial["errorMessage"]


@pytest.mark.parametrize(
    ("kind", "kept"),
    [(0, "UNSPECIFIED"), (1, "INTERNAL"), (2, "SERVER"), (3, "CLIENT"), (4, "PRODUCER"), (5, "CONSUMER")],
)
def test_S16_kinds_are_numbers(collector, store, service, kind, kept):
    assert collector.post(as_json(service, json_span(kind=kind)), JSON).json() == {}
    assert stored(collector, store, service, "kind") == [(kept,)]


def test_S16_a_kind_by_its_name_is_refused_and_nothing_is_stored(collector, store, service):
    spans = [json_span(), json_span(kind="SPAN_KIND_SERVER")]
    assert collector.post(as_json(service, *spans), JSON).status_code == 400
    assert stored(collector, store, service) == [(0,)]


def test_S22_json_and_protobuf_on_the_same_port(collector, store, service):
    assert collector.post(as_json(service, json_span()), JSON).status_code == 200
    assert collector.post(request([span()], {"service.name": service}).SerializeToString(), PROTOBUF).status_code == 200
    assert stored(collector, store, service) == [(2,)]


def test_S23_an_answer_is_short_where_every_span_is_wrong_in_another_way(service, export):
    wrong = [
        span(trace_id=b""), span(trace_id=bytes(16)), span(span_id=b"x"), span(span_id=bytes(8)), span(parent_span_id=b"x"),
        span(end_time_unix_nano=1), span(start_time_unix_nano=1, end_time_unix_nano=2),
        span(end_time_unix_nano=2**63),
    ]  # fmt: skip
    answer = export(request(wrong * 12_500, {"service.name": service}).SerializeToString())
    partial = ExportTraceServiceResponse.FromString(answer).partial_success
    assert partial.rejected_spans == 100_000
    assert len(answer) < 1000


def test_S26_empty_envelopes_are_welcome(collector, store, service, export):
    message = request([span()], {"service.name": service})
    message.resource_spans.add().scope_spans.add()
    message.resource_spans.add()
    message.resource_spans[0].scope_spans.add()
    assert export(message.SerializeToString()) == b""
    assert stored(collector, store, service) == [(1,)]


def test_S27_a_batch_that_comes_twice_is_stored_twice_and_the_statistics_say_so(collector, store, service, export):
    """The store does not claim to know spans again by their ids: nothing is dropped in silence."""
    body = request([span()], {"service.name": service}).SerializeToString()
    assert [export(body), export(body)] == [b"", b""]
    assert stored(collector, store, service, "count(), uniqExact(span_id)") == [(2, 1)]
    rolled_up = store.rows("SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service)
    assert rolled_up == [(2,)]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"trace_id": b"x" * 15}, "trace_id_length"),
        ({"trace_id": b"x" * 17}, "trace_id_length"),
        ({"trace_id": bytes(16)}, "trace_id_zero"),
        ({"span_id": b""}, "span_id_length"),
        ({"span_id": bytes(8)}, "span_id_zero"),
        ({"parent_span_id": b"x" * 7}, "parent_span_id_length"),
        (
            {"start_time_unix_nano": 1_700_000_000 * 10**9, "end_time_unix_nano": 1_700_000_000 * 10**9 - 1},
            "end_before_start",
        ),
    ],
)
def test_S28_what_cannot_be_is_rejected_with_its_reason(collector, store, service, export, fields, reason):
    export(request([span(**fields)], {"service.name": service}).SerializeToString())
    assert stored(collector, store, service) == [(0,)]
    rows = store.rows("SELECT reason FROM rejected_spans WHERE service = {service:String}", service=service)
    assert rows == [(reason,)]


def test_S28_what_is_unusual_and_legal_is_stored(collector, store, service, export):
    now_ns = time.time_ns()
    spans = [
        span(name="", parent_span_id=b"", start_time_unix_nano=now_ns, end_time_unix_nano=now_ns),
        span(name="flags", flags=0xFFFFFFFF, status={"code": 0}, trace_state="a=1,b=2"),
        span(name="ok", status={"code": 1}),
        span(name="error", status={"code": 2, "message": "boom"}),
    ]
    assert export(request(spans, {"service.name": service}).SerializeToString()) == b""
    rows = stored(
        collector, store, service, "name, parent_span_id_hex, status, status_message, trace_state, duration_ns"
    )
    assert rows == [
        ("", "", "UNSET", "", "", 0),
        ("error", "", "ERROR", "boom", "", 1_000_000),
        ("flags", "", "UNSET", "", "a=1,b=2", 1_000_000),
        ("ok", "", "OK", "", "", 1_000_000),
    ]


def test_S29_every_type_of_value_comes_back_at_every_place(collector, store, service, export):
    values = {
        "text": "s", "empty": "", "yes": True, "no": False, "zero": 0, "most": 2**63 - 1, "least": -(2**63), "half": 0.5,
        "bytes": b"\x00\xff", "no bytes": b"", "list": [1, "a", None, [True, [0.5]]], "none": [],
        "map": {"k": {"l": [1, {"m": b"\x01"}]}}, "empty map": {}, "unset": None,
    }  # fmt: skip
    start_ns = time.time_ns() - 10**9
    message = request(
        [
            span(
                attributes=values, events=[{"time_unix_nano": start_ns, "name": "e"}], links=[{"trace_id": trace_id(9)}]
            )
        ],
        {"service.name": service, **values},
    )
    [made] = message.resource_spans[0].scope_spans[0].spans
    for owner in (made.events[0], made.links[0]):
        for key, value in values.items():
            owner.attributes.add(key=key, value=any_value(value))
    assert export(message.SerializeToString()) == b""
    columns = (
        "attributes, attribute_types, resource, resource_types, events.attributes[1], events.attribute_types[1], "
        "links.attributes[1], links.attribute_types[1]"
    )
    [row] = stored(collector, store, service, columns)
    kept = [decode_attributes(row[place], row[place + 1]) for place in range(0, len(row), 2)]
    assert kept == [values, {"service.name": service, **values}, values, values]
