"""OTLP/HTTP against a real collector process. S01 and so on are points of expected/otlp_requirements.json."""

import base64
import gzip
import json
import time
import uuid
from pathlib import Path

import httpx
import pytest
import zstandard
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from testkit.otlp import request, span
from testkit.processes import PROTOBUF

from tailsight_collector.keep.records import encode_varint
from tailsight_storage import decode_attributes, open_store

JSON = {"Content-Type": "application/json"}
DATA = Path(__file__).parents[3] / "shared" / "data"
EMPTY = ExportTraceServiceRequest().SerializeToString()


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


@pytest.fixture
def service():
    return f"service-{uuid.uuid4().hex[:12]}"


def stored(collector, store, service, columns="count()"):
    collector.wait_until_loaded()
    return store.rows(f"SELECT {columns} FROM spans WHERE service = {{service:String}} ORDER BY ALL", service=service)


def one_span(service, **fields):
    return request([span(**fields)], {"service.name": service})


def as_json(service, **fields):
    start_ns = time.time_ns() - 10**9
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeSpans": [
                    {
                        "spans": [
                            {
                                "traceId": uuid.uuid4().hex,
                                "spanId": uuid.uuid4().hex[:16],
                                "name": "work",
                                "kind": 2,
                                "startTimeUnixNano": str(start_ns),
                                "endTimeUnixNano": str(start_ns + 1000),
                                **fields,
                            }
                        ]
                    }
                ],
            }
        ]
    }


def test_S01_plain_gzip_and_zstd_store_the_same(collector, store, service):
    body = one_span(service).SerializeToString()
    for coding, packed in (
        ("identity", body),
        ("gzip", gzip.compress(body)),
        ("zstd", zstandard.ZstdCompressor().compress(body)),
    ):
        answer = collector.post(packed, PROTOBUF | {"Content-Encoding": coding})
        assert (answer.status_code, answer.content) == (200, b"")
    assert stored(collector, store, service, "count(), uniqExact(span_id)") == [(3, 1)]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_S02_a_bomb_is_refused_unpacked(collector, coding):
    bomb = bytes(100 * 1024 * 1024)
    packed = gzip.compress(bomb) if coding == "gzip" else zstandard.ZstdCompressor().compress(bomb)
    answer = collector.post(packed, PROTOBUF | {"Content-Encoding": coding})
    assert answer.status_code == 413
    assert "67108864" in Status.FromString(answer.content).message
    assert collector.health()["status"] == "ok"


def test_S02_a_body_over_the_limit_is_refused(collector):
    assert collector.post(bytes(64 * 1024 * 1024 + 1)).status_code == 413


def test_S03_S09_success_has_the_requests_encoding_and_says_nothing(collector, service):
    answer = collector.post(one_span(service).SerializeToString())
    assert (answer.status_code, answer.headers["content-type"], answer.content) == (200, "application/x-protobuf", b"")
    answer = collector.post(json.dumps(as_json(service)).encode(), JSON)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", {})


@pytest.mark.parametrize(
    ("body", "headers"),
    [(EMPTY, PROTOBUF), (b"{}", JSON), (b'{"resourceSpans":[]}', JSON), (b'{"resourceSpans":[{}]}', JSON)],
)
def test_S04_S26_an_empty_request_is_a_success(collector, body, headers):
    assert collector.post(body, headers).status_code == 200


def test_S05_a_wrong_span_is_rejected_with_its_reason_and_the_others_are_stored(collector, store, service):
    spans = [span(), span(trace_id=b"abc"), span()]
    answer = collector.post(request(spans, {"service.name": service}).SerializeToString())
    assert answer.status_code == 200
    partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message == "rejected 1 of 3 spans: 1 × the trace id is not 16 bytes long"
    assert stored(collector, store, service) == [(2,)]
    rejected = store.rows(
        "SELECT reason, trace_id_hex FROM rejected_spans WHERE service = {service:String}", service=service
    )
    assert rejected == [("trace_id_length", b"abc".hex())]


def test_S05_in_json_the_count_is_a_string(collector, service):
    answer = collector.post(json.dumps(as_json(service, traceId="abcdef")).encode(), JSON)
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\x0a\xffgarbage", PROTOBUF),
        (b"1234", JSON),
        (b'{"resourceSpans": [', JSON),
        (b"[]", JSON),
        (b'{"resourceSpans": {}}', JSON),
        (b"\xff\xfe", JSON),
        (b"[" * 100_000, JSON),
        (b"not gzip", PROTOBUF | {"Content-Encoding": "gzip"}),
        (gzip.compress(b"x" * 1000, mtime=0)[:-9], PROTOBUF | {"Content-Encoding": "gzip"}),
        (b"not zstd", PROTOBUF | {"Content-Encoding": "zstd"}),
        (zstandard.ZstdCompressor().compress(b"x" * 1000)[:-3], PROTOBUF | {"Content-Encoding": "zstd"}),
    ],
)
def test_S07_S08_S09_what_cannot_be_decoded_is_400_with_a_status(collector, body, headers):
    answer = collector.post(body, headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == headers["Content-Type"]
    if headers == JSON:
        assert answer.json()["message"]
    else:
        assert Status.FromString(answer.content).message
    assert collector.health()["status"] == "ok"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("traceId", base64.b64encode(bytes(range(16))).decode(), "traceId"),
        ("startTimeUnixNano", "soon", "startTimeUnixNano"),
        ("startTimeUnixNano", 1.5, "startTimeUnixNano"),
        ("startTimeUnixNano", "1_700_000_000_000_000_000", "startTimeUnixNano"),
        ("kind", "SPAN_KIND_SERVER", "kind"),
        ("name", 7, "name"),
        ("attributes", [{"key": "k", "value": {"intValue": 2**63}}], "intValue"),
        ("attributes", [{"key": "k", "value": {"boolValue": "yes"}}], "boolValue"),
        ("attributes", [{"key": "\ud800", "value": {"intValue": 1}}], "surrogate"),
    ],
)
def test_S15_S16_S19_a_wrong_json_value_is_named(collector, service, field, value, named):
    answer = collector.post(json.dumps(as_json(service, **{field: value})).encode(), JSON)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_S15_hex_ids_in_any_case_are_the_same(collector, store, service):
    for text in ("5B8EFFF798038103D269B633813FC60C", "5b8efff798038103d269b633813fc60c"):
        assert collector.post(json.dumps(as_json(service, traceId=text)).encode(), JSON).status_code == 200
    assert stored(collector, store, service, "uniqExact(trace_id), any(trace_id_hex)") == [
        (1, "5b8efff798038103d269b633813fc60c")
    ]


def test_S17_S20_unknown_fields_are_ignored_at_every_level(collector, store, service):
    document = as_json(
        service,
        foo=1,
        status={"code": 2, "foo": 1},
        events=[{"name": "e", "timeUnixNano": "1", "foo": {}}],
        links=[{"traceId": "00" * 16, "spanId": "00" * 8, "foo": 1}],
        attributes=[{"key": "k", "value": {"stringValue": "v", "foo": 1}, "foo": 1}],
    )
    document["foo"] = {}
    resource_spans = document["resourceSpans"][0]
    resource_spans["foo"] = resource_spans["resource"]["foo"] = resource_spans["scopeSpans"][0]["foo"] = [1]
    assert collector.post(json.dumps(document).encode(), JSON).json() == {}
    unknown = b"\xba\x3e\x03abc"  # field 999, length-delimited
    body = one_span(service).SerializeToString()
    assert collector.post(body + unknown).status_code == 200
    assert stored(collector, store, service) == [(2,)]


def test_S18_snake_case_is_unknown_and_invents_no_ids(collector, store, service):
    document = as_json(service)
    [fields] = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    fields["trace_id"] = fields.pop("traceId")
    assert collector.post(json.dumps(document).encode(), JSON).json()["partialSuccess"]["rejectedSpans"] == "1"
    assert stored(collector, store, service) == [(0,)]


def test_S19_times_as_numbers_and_strings_keep_every_nanosecond(collector, store, service):
    for value in ("1544712660000000001", 1544712660000000001):
        body = json.dumps(as_json(service, startTimeUnixNano=value, endTimeUnixNano=value)).encode()
        assert collector.post(body, JSON).json() == {}
    assert stored(collector, store, service, "toUnixTimestamp64Nano(start_time)") == [(1544712660000000001,)] * 2


def test_S21_other_methods_and_paths(collector):
    assert httpx.get(f"{collector.otlp_url}/v1/traces").status_code == 405
    assert httpx.post(f"{collector.otlp_url}/v1/logs", headers=JSON, content=b"{}").status_code == 404


@pytest.mark.parametrize("headers", [{"Content-Type": "text/plain"}, {}, PROTOBUF | {"Content-Encoding": "br"}])
def test_S22_unknown_encodings_are_415(collector, headers):
    assert collector.post(EMPTY + b"x", headers).status_code == 415


def test_S23_many_rejections_give_a_short_answer(collector, service):
    spans = [span(trace_id=b"") for _ in range(10_000)]
    answer = collector.post(request(spans, {"service.name": service}).SerializeToString())
    assert len(answer.content) < 200


def test_S29_json_and_protobuf_store_identically(collector, store, service):
    values = [
        {"stringValue": ""}, {"stringValue": "s"}, {"boolValue": False}, {"intValue": "0"}, {"intValue": 7},
        {"doubleValue": 0.5}, {"bytesValue": "AAH/"}, {"arrayValue": {"values": [{"intValue": 1}, {"stringValue": "a"}]}},
        {"kvlistValue": {"values": [{"key": "k", "value": {"arrayValue": {"values": [{"boolValue": True}]}}}]}},
        {"arrayValue": {}}, {},
    ]  # fmt: skip
    wanted = ["", "s", False, 0, 7, 0.5, b"\x00\x01\xff", [1, "a"], {"k": [True]}, [], None]
    attributes = [{"key": str(number), "value": value} for number, value in enumerate(values)]
    start_ns = time.time_ns() - 10**9
    common = {"name": "same", "startTimeUnixNano": start_ns, "endTimeUnixNano": start_ns + 5}
    body = json.dumps(as_json(service, attributes=attributes, **common)).encode()
    assert collector.post(body, JSON).json() == {}
    sent = one_span(
        service,
        name="same",
        kind=2,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + 5,
        attributes={str(number): value for number, value in enumerate(wanted)},
    )
    assert collector.post(sent.SerializeToString()).content == b""
    columns = "* EXCEPT (received_at, trace_id, span_id)"
    first, second = stored(collector, store, service, columns)
    assert first == second
    [(kept, types), _] = stored(collector, store, service, "attributes, attribute_types")
    assert decode_attributes(kept, types) == {str(number): value for number, value in enumerate(wanted)}


@pytest.mark.shared_data
@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_traces_of_other_systems_are_stored_whole(collector, store):
    paths = [*sorted((DATA / "jaeger_integration" / "traces").glob("*.json")), DATA / "otlp_proto" / "trace.json"]
    assert len(paths) == 33
    before = store.rows("SELECT count() FROM spans")[0][0]
    total = 0
    for path in paths:
        document = json.loads(path.read_bytes())
        total += sum(len(scope["spans"]) for resource in document["resourceSpans"] for scope in resource["scopeSpans"])
        assert collector.post(path.read_bytes(), JSON).json() == {}, path.name
    for path in (DATA / "otlp_pb").glob("*.pb"):
        total += sum(
            len(scope.spans)
            for resource in ExportTraceServiceRequest.FromString(path.read_bytes()).resource_spans
            for scope in resource.scope_spans
        )
        assert collector.post(path.read_bytes()).content == b"", path.name
    collector.wait_until_loaded()
    assert store.rows("SELECT count() FROM spans")[0][0] - before == total


def delimited(number, body):
    return encode_varint(number << 3 | 2) + encode_varint(len(body)) + body


def poisoned(service, span_fields):
    """A request whose one span ends with raw protobuf fields of a stranger's making."""
    own = span(name="odd")
    encoded = request([own]).resource_spans[0].scope_spans[0].spans[0].SerializeToString() + span_fields
    resource = request([], {"service.name": service}).resource_spans[0].resource.SerializeToString()
    return delimited(1, delimited(1, resource) + delimited(2, delimited(2, encoded)))


ODD_FIELDS = {
    "bool that is 2": delimited(9, delimited(1, b"k") + delimited(2, b"\x10\x02")),
    "two members of a oneof": delimited(9, delimited(1, b"k") + delimited(2, b"\x18\x01" + delimited(1, b"s"))),
    "a value twice": delimited(9, delimited(1, b"k") + delimited(2, b"\x18\x01") + delimited(2, b"\x18\x02")),
    "an int of a wrong wire type": delimited(9, delimited(1, b"k") + delimited(2, b"\x19" + bytes(8))),
    "a key twice": delimited(9, delimited(1, b"k") + delimited(1, b"l")),
    "a kind beyond 32 bits": b"\x30" + encode_varint(1 << 40),
    "a kind of a wrong wire type": delimited(6, b"x"),
    "a name twice": delimited(5, b"again"),
    "a trace id twice": delimited(1, bytes(range(16))),
    "an unknown group": b"\xbb\x3e\xbc\x3e",
    "field 1000 of its own": b"\xc2\x3e\x01x",
}


@pytest.mark.parametrize("odd", ODD_FIELDS)
def test_legal_but_odd_protobuf_is_stored_as_it_was_understood(collector, store, service, odd):
    """The database reads such bytes in other ways, or refuses them; what is journaled is what the check has seen."""
    answer = collector.post(poisoned(service, ODD_FIELDS[odd]))
    assert (answer.status_code, answer.content) == (200, b"")
    assert stored(collector, store, service) == [(1,)]
    assert collector.health()["loading"]["last_error"] == ""


def test_resources_that_would_unfold_to_gigabytes_are_refused(collector):
    spans = [span() for _ in range(400)]
    answer = collector.post(request(spans, {"service.name": "amplified", "big": "x" * 1_000_000}).SerializeToString())
    assert answer.status_code == 413
    assert "unfold" in Status.FromString(answer.content).message


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_endless_empty_members_are_refused(collector, coding):
    empty = gzip.compress(b"") if coding == "gzip" else zstandard.ZstdCompressor().compress(b"")
    answer = collector.post(empty * 50_000, PROTOBUF | {"Content-Encoding": coding})
    assert answer.status_code == 400
    assert "members" in Status.FromString(answer.content).message


def test_several_members_are_one_body(collector, store, service):
    body = one_span(service).SerializeToString()
    packed = gzip.compress(body[:20]) + gzip.compress(body[20:])
    assert collector.post(packed, PROTOBUF | {"Content-Encoding": "gzip"}).status_code == 200
    assert stored(collector, store, service) == [(1,)]


def test_a_span_can_be_asked_for_within_two_seconds(collector, store, service):
    assert collector.post(one_span(service).SerializeToString()).status_code == 200
    acknowledged = time.monotonic()
    while store.rows("SELECT count() FROM spans WHERE service = {service:String}", service=service) == [(0,)]:
        assert time.monotonic() - acknowledged < 2


@pytest.mark.parametrize("name", ["evil.example", "evil.example:4318", "127.0.0.1.evil.example", "[::1].evil"])
@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/healthz", "/metrics"])
def test_a_web_page_that_has_made_its_name_lead_here_gets_nothing(collector, path, name):
    """DNS rebinding: to its browser the page and the collector are of one origin. Without tokens only names are left."""
    method = "POST" if path.startswith("/v1") else "GET"
    answer = httpx.request(method, collector.otlp_url + path, headers={**PROTOBUF, "Host": name}, content=b"")
    assert answer.status_code == 403
    assert b"are not answered" in answer.content


@pytest.mark.parametrize("name", ["localhost", "localhost:4318", "127.0.0.1", "[::1]:4318", "10.1.2.3:80"])
def test_addresses_and_localhost_are_answered(collector, name):
    assert httpx.post(f"{collector.otlp_url}/v1/traces", headers={**PROTOBUF, "Host": name}).status_code == 200
    assert httpx.get(f"{collector.otlp_url}/healthz", headers={"Host": name}).status_code == 200
