"""What becomes what, field by field; and what is refused instead of being guessed."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from testkit.importing import Read, plain, read_json

from tailsight_collector.errors import BadRequestError
from tailsight_collector.importing.ids import IdError, derived_span_id, hex_id
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.times import TimeError, iso_ns, scaled_ns

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
START_US = 1_790_000_000_000_000


# --- Jaeger -----------------------------------------------------------------------------------------------------------


def jaeger(**changes):
    span = {
        "traceID": TRACE, "spanID": SPAN, "operationName": "get", "startTime": START_US, "duration": 1500, "processID": "p1",
        "references": [], "tags": [], "logs": [], "warnings": None,
    }  # fmt: skip
    return {
        "data": [
            {
                "traceID": TRACE,
                "spans": [{**span, **changes}],
                "processes": {
                    "p1": {"serviceName": "shop", "tags": [{"key": "hostname", "type": "string", "value": "node-1"}]}
                },
            }
        ]
    }


def tag(key, kind, value):
    return {"key": key, "type": kind, "value": value}


def test_jaegers_tags_keep_their_types(tmp_path):
    tags = [
        tag("text", "string", "x"), tag("yes", "bool", True), tag("yes as text", "bool", "true"),
        tag("count", "int64", 7), tag("large", "int64", "9223372036854775807"), tag("part", "float64", 0.5),
        tag("whole part", "float64", 2), tag("bytes", "binary", base64.b64encode(b"\x00\xff").decode()),
        tag("wrong", "int64", "seven"), tag("twice", "string", "first"), tag("twice", "string", "last"),
    ]  # fmt: skip
    (span,) = read_json(tmp_path, jaeger(tags=tags)).spans
    assert plain(span.attributes) == {
        "text": "x", "yes": True, "yes as text": True, "count": 7, "large": 2**63 - 1, "part": 0.5, "whole part": 2.0,
        "bytes": b"\x00\xff", "wrong": "seven", "twice": "last",
    }  # fmt: skip


def test_jaegers_span_becomes_otlps(tmp_path):
    found = read_json(
        tmp_path,
        jaeger(
            tags=[
                tag("span.kind", "string", "consumer"), tag("error", "bool", True), tag("otel.scope.name", "string", "lib"),
                tag("otel.scope.version", "string", "2"), tag("otel.status_description", "string", "broke"),
            ],
            logs=[{"timestamp": START_US + 1, "fields": [tag("event", "string", "retry"), tag("n", "int64", 2)]}],
            warnings=["clock skew adjustment disabled"],
        ),
    )  # fmt: skip
    (span,) = found.spans
    assert (span.kind, span.status.code, span.status.message) == (span.SPAN_KIND_CONSUMER, 2, "broke")
    assert plain(span.attributes) == {"jaeger.warnings": ["clock skew adjustment disabled"]}
    [event] = span.events
    assert (event.name, event.time_unix_nano, plain(event.attributes)) == ("retry", (START_US + 1) * 1000, {"n": 2})
    assert found.resources == [{"service.name": "shop", "host.name": "node-1"}]
    [scoped] = found.requests[0].resource_spans[0].scope_spans
    assert (scoped.scope.name, scoped.scope.version) == ("lib", "2")


def test_jaegers_references_are_one_parent_and_links(tmp_path):
    def reference(kind, span_id, trace_id=TRACE):
        return {"refType": kind, "traceID": trace_id, "spanID": span_id}

    references = [reference("FOLLOWS_FROM", "1"), reference("CHILD_OF", PARENT), reference("CHILD_OF", "2", "ff" * 16)]
    (span,) = read_json(tmp_path, jaeger(references=references)).spans
    assert span.parent_span_id.hex() == PARENT
    assert [(each.trace_id.hex(), each.span_id.hex(), plain(each.attributes)) for each in span.links] == [
        (TRACE, f"{1:016x}", {"opentracing.ref_type": "follows_from"}),
        ("ff" * 16, f"{2:016x}", {"opentracing.ref_type": "child_of"}),
    ]
    (follower,) = read_json(tmp_path, jaeger(references=references[:1])).spans
    assert follower.parent_span_id == follower.links[0].span_id, "nobody waits for it: the link says so"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"duration": None}, "it has no duration"),
        ({"startTime": None}, "it has no startTime"),
        ({"duration": -1}, "its duration is negative"),
        ({"startTime": "soon"}, "its startTime is no number"),
        ({"startTime": 10**30}, "its startTime is beyond 64 bits of nanoseconds"),
        ({"startTime": True}, "its startTime is no number"),
        ({"traceID": "xyz"}, "its traceID is not up to 32 hexadecimal digits"),
        ({"spanID": "0"}, "its spanID is all zeros"),
        ({"spanID": "1" * 17}, "its spanID is not up to 16 hexadecimal digits"),
        ({"processID": "p9"}, "its processID is none of the trace's processes"),
        ({"tags": {"a": 1}}, "its tags are no list"),
        ({"references": [7]}, "a reference of it is no object"),
        ({"operationName": 7}, "its operationName is no text"),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)
def test_jaegers_span_without_what_it_needs_is_refused(tmp_path, changes, reason):
    found = read_json(tmp_path, jaeger(**changes))
    assert (found.spans, found.refused) == ([], {reason: 1})
    assert found.report.refused[reason].first.startswith("data[0].spans[0]")


@pytest.mark.parametrize("shape", ["trace", "list", "lines"])
def test_jaeger_comes_in_several_shapes(tmp_path, shape):
    trace = jaeger()["data"][0]
    text = {"trace": json.dumps(trace), "list": json.dumps([trace]), "lines": f"{json.dumps(trace)}\n" * 2}[shape]
    found = read_json(tmp_path, text)
    assert found.format == "jaeger"
    assert len(found.spans) == (2 if shape == "lines" else 1)


# --- Zipkin -----------------------------------------------------------------------------------------------------------


def zipkin(span_id=SPAN, **changes):
    return {
        "traceId": TRACE, "id": span_id, "name": "get", "timestamp": START_US, "duration": 1500,
        "localEndpoint": {"serviceName": "front"}, **changes,
    }  # fmt: skip


def test_zipkins_children_belong_to_the_half_of_their_service(tmp_path):
    records = [
        zipkin(kind="SERVER", shared=True, localEndpoint={"serviceName": "back"}),
        zipkin(kind="CLIENT", parentId=PARENT),
        zipkin("1", parentId=SPAN, name="in back", localEndpoint={"serviceName": "back"}),
        zipkin("2", parentId=SPAN, name="in front"),
        zipkin("3", parentId=SPAN, name="elsewhere", localEndpoint={"serviceName": "third"}),
    ]
    for order in (records, records[::-1]):
        found = read_json(tmp_path, order)
        client, server = (next(each for each in found.spans if each.kind == kind) for kind in (3, 2))
        assert (client.span_id.hex(), client.parent_span_id.hex()) == (SPAN, PARENT)
        assert server.span_id == derived_span_id("zipkin", bytes.fromhex(TRACE), bytes.fromhex(SPAN), "SERVER", "back")
        assert server.parent_span_id == client.span_id
        below = {name: found.named(name).parent_span_id for name in ("in back", "in front", "elsewhere")}
        assert below == {"in back": server.span_id, "in front": client.span_id, "elsewhere": server.span_id}


def test_zipkins_span_becomes_otlps(tmp_path):
    found = read_json(
        tmp_path,
        [
            zipkin(
                traceId=TRACE[16:], kind="CLIENT", tags={"error": "timeout", "http.method": "GET"},
                localEndpoint={"serviceName": "front", "ipv4": "10.0.0.1", "port": 80},
                remoteEndpoint={"serviceName": "db", "ipv6": "::1", "port": 5432},
                annotations=[{"timestamp": START_US + 2, "value": "ws"}],
            )
        ],
    )  # fmt: skip
    (span,) = found.spans
    assert span.trace_id.hex() == "0" * 16 + TRACE[16:]
    assert (span.status.code, span.status.message) == (2, "timeout")
    assert plain(span.attributes) == {
        "network.local.address": "10.0.0.1", "network.local.port": 80, "peer.service": "db",
        "network.peer.address": "::1", "network.peer.port": 5432, "http.method": "GET",
    }  # fmt: skip
    assert [(each.name, each.time_unix_nano) for each in span.events] == [("ws", (START_US + 2) * 1000)]
    assert found.resources == [{"service.name": "front", "host.name": "10.0.0.1"}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"duration": None}, "it has no duration"),
        ({"timestamp": None}, "it has no timestamp"),
        ({"kind": "OTHER"}, "its kind is none that Zipkin has"),
        ({"tags": [1]}, "its tags are no object"),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)
def test_zipkins_span_without_what_it_needs_is_refused(tmp_path, changes, reason):
    found = read_json(tmp_path, [zipkin(**changes), zipkin("5")])
    assert (len(found.spans), found.refused) == (1, {reason: 1})


def test_zipkins_repeated_span_is_refused(tmp_path):
    found = read_json(tmp_path, [zipkin(), zipkin()])
    assert (len(found.spans), found.refused) == (1, {"a span of the same id, kind and service is there already": 1})


def test_zipkins_first_version_is_named(tmp_path):
    with pytest.raises(BadRequestError, match="Zipkin's format v1; export v2"):
        read_json(tmp_path, [{"traceId": "1", "id": "1", "binaryAnnotations": [], "annotations": []}])


def test_zipkins_lists_of_traces_are_read(tmp_path):
    assert len(read_json(tmp_path, [[zipkin()], [], [zipkin("7"), zipkin("8")]]).spans) == 3


# --- Triton -----------------------------------------------------------------------------------------------------------


def activities(number, times, **model):
    told = [{"id": number, "model_name": f"m{number}", "model_version": 1, **model}]
    return told + [{"id": number, "timestamps": [{"name": name, "ns": time_ns}]} for name, time_ns in times.items()]


ENSEMBLE = {"HTTP_RECV_START": 100, "HTTP_RECV_END": 110, "REQUEST_START": 120, "REQUEST_END": 900}
STEP = {
    "REQUEST_START": 200, "QUEUE_START": 210, "COMPUTE_START": 300, "COMPUTE_INPUT_END": 350, "COMPUTE_OUTPUT_START": 600,
    "COMPUTE_END": 650, "REQUEST_END": 700,
}  # fmt: skip
START = Options(start_ns=1_790_000_000 * 10**9)


def test_tritons_ensemble_is_one_trace(tmp_path):
    records = activities(2, STEP, parent_id=1) + activities(1, ENSEMBLE)
    for order in (records, records[::-1]):
        found = read_json(tmp_path, order, START)
        assert len({span.trace_id for span in found.spans}) == 1
        outer, request, step = found.named("m1"), found.named("InferRequest"), found.named("m2")
        assert (outer.parent_span_id, step.parent_span_id) == (request.span_id, outer.span_id)
        assert request.start_time_unix_nano == START.start_ns
        queue = found.named("queue")
        assert (queue.parent_span_id, queue.start_time_unix_nano - START.start_ns) == (step.span_id, 110)


def test_triton_without_a_start_is_refused(tmp_path):
    with pytest.raises(BadRequestError, match="give --start"):
        read_json(tmp_path, activities(1, STEP))


def test_tritons_idle_waiting_is_no_latency(tmp_path):
    found = read_json(tmp_path, activities(1, {**STEP, "GRPC_WAITREAD_START": 1, "GRPC_WAITREAD_END": 190}), START)
    assert found.named("InferRequest").start_time_unix_nano == START.start_ns, "the earliest that counts"
    assert found.report.notes["GRPC_WAITREAD, which is idle waiting, left out"] == 2


def test_tritons_parent_in_a_circle_or_elsewhere_is_no_endless_loop(tmp_path):
    records = activities(1, STEP, parent_id=2) + activities(2, STEP, parent_id=1) + activities(3, STEP, parent_id=9)
    found = read_json(tmp_path, records, START)
    assert {"m1", "m2", "m3"} <= {span.name for span in found.spans}
    assert found.report.notes["requests whose parent_id is not in the file"] == 3


def test_tritons_phase_that_ends_before_it_starts_is_refused(tmp_path):
    found = read_json(tmp_path, activities(1, {**STEP, "COMPUTE_INPUT_END": 290}), START)
    assert found.refused == {"COMPUTE_INPUT_END is before COMPUTE_START": 1}


# --- OTLP/JSON and its dialects ---------------------------------------------------------------------------------------


def otlp(**changes):
    span = {
        "traceId": TRACE, "spanId": SPAN, "parentSpanId": PARENT, "name": "get", "kind": 3,
        "startTimeUnixNano": str(START_US * 1000), "endTimeUnixNano": str(START_US * 1000 + 5), "status": {"code": 2},
    }  # fmt: skip
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": [{**span, **changes}]}]}]}


def in_base64(text):
    return base64.b64encode(bytes.fromhex(text)).decode()


DIALECTS = {
    "upper case": otlp(traceId=TRACE.upper(), spanId=SPAN.upper(), parentSpanId=PARENT.upper()),
    "base64": otlp(traceId=in_base64(TRACE), spanId=in_base64(SPAN), parentSpanId=in_base64(PARENT)),
    "enum names": otlp(kind="SPAN_KIND_CLIENT", status={"code": "STATUS_CODE_ERROR"}),
    "numbers": otlp(startTimeUnixNano=START_US * 1000, endTimeUnixNano=START_US * 1000 + 5),
    "batches": {"batches": otlp()["resourceSpans"]},
    "snake case": json.loads(
        json.dumps(otlp())
        .replace("resourceSpans", "resource_spans")
        .replace("scopeSpans", "scope_spans")
        .replace("traceId", "trace_id")
        .replace("parentSpanId", "parent_span_id")
        .replace("spanId", "span_id")
        .replace("startTimeUnixNano", "start_time_unix_nano")
        .replace("endTimeUnixNano", "end_time_unix_nano")
    ),
    "older name": json.loads(json.dumps(otlp()).replace("scopeSpans", "instrumentationLibrarySpans")),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_is_the_same_span(tmp_path, name):
    found = read_json(tmp_path, DIALECTS[name])
    assert found.format == "otlp-json"
    assert [str(each) for each in found.spans] == [str(each) for each in read_json(tmp_path, otlp()).spans]
    assert found.spans[0].trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "trace_id",
    ["zz" * 16, in_base64(TRACE).rstrip("="), "?" * 22 + "==", 7],
    ids=["no hex", "unpadded", "no base64", "number"],
)
def test_an_id_of_no_known_kind_refuses_its_span_and_no_other(tmp_path, trace_id):
    document = otlp(traceId=trace_id)
    document["resourceSpans"].append(otlp()["resourceSpans"][0])
    found = read_json(tmp_path, document)
    assert [each.trace_id.hex() for each in found.spans] == [TRACE]
    assert found.refused == {"a span's traceId cannot be read": 1}


def test_one_resource_that_is_too_large_at_once_is_read_in_two_goes(tmp_path, monkeypatch):
    from tailsight_collector.importing import json_reader, otlp_json

    document = otlp()
    [of_resource] = document["resourceSpans"]
    of_resource["resource"] = {"attributes": [{"key": "service.name", "value": {"stringValue": "large"}}]}
    [span] = of_resource["scopeSpans"][0]["spans"]
    of_resource["scopeSpans"][0]["spans"] = [{**span, "spanId": f"{number + 1:016x}"} for number in range(50)]
    # the spans stand before what they share
    of_resource["scopeSpans"].append(of_resource["scopeSpans"].pop())
    document["resourceSpans"] = [dict(reversed(of_resource.items()))]
    path = tmp_path / "large.json"
    path.write_text(json.dumps(document))
    whole = Read(path)
    reader = json_reader.JsonReader
    monkeypatch.setattr(otlp_json, "JsonReader", lambda stream: reader(stream, max_value_chars=2000, chunk_bytes=100))
    parts = Read(path)
    assert [str(each) for each in parts.spans] == [str(each) for each in whole.spans]
    assert parts.resources == whole.resources == [{"service.name": "large"}] * 50


# --- ids and times ----------------------------------------------------------------------------------------------------


@given(st.binary(min_size=8, max_size=8).filter(any), st.booleans())
def test_a_hex_id_is_read_as_it_was_written(value, upper):
    text = value.hex()
    assert hex_id(text.upper() if upper else text, 8, "id") == value
    assert hex_id(text.lstrip("0"), 8, "id") == value


@pytest.mark.parametrize("text", ["", "0", "g", "1" * 17, "１", " 1", "0x1", None, 5, "-1"])
def test_what_is_no_hex_id_is_an_error(text):
    with pytest.raises(IdError):
        hex_id(text, 8, "id")


@given(st.integers(0, 2**63 // 1000 - 1))
def test_microseconds_are_exact_as_number_and_text(value):
    assert scaled_ns(value, 1000, "t") == scaled_ns(str(value), 1000, "t") == value * 1000


@pytest.mark.parametrize(
    "value", [None, -1, True, "x", float("nan"), float("inf"), 1e300, "1" * 50, [], "1e9999999", 10**400]
)
def test_what_is_no_time_is_an_error(value):
    with pytest.raises(TimeError):
        scaled_ns(value, 1000, "t")


@given(
    st.datetimes(datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2262-04-11")),
    st.sampled_from(["Z", "+00:00"]),
)
def test_iso_times_are_exact(moment, zone):
    whole = int(moment.replace(microsecond=0, tzinfo=UTC).timestamp())
    text = moment.isoformat(timespec="microseconds") + zone
    assert iso_ns(text, "t") == whole * 10**9 + moment.microsecond * 1000


@pytest.mark.parametrize(
    "text", ["2026-11-23T08:30:00", "2026-13-01T00:00:00Z", "now", "", None, 5, "1969-12-31T23:00:00Z"]
)
def test_an_ambiguous_or_impossible_time_is_an_error(text):
    with pytest.raises(TimeError):
        iso_ns(text, "t")
