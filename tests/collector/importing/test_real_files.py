"""Other people's real files, against what is known of them (../shared/data/expected)."""

import json
import math
import statistics
from collections import Counter, defaultdict

import pytest
from testkit.importing import DATA, Read, plain

from tailsight_collector.importing.known import FORMATS
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.source import file_source

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine"),
]
START_NS = 1_790_000_000 * 10**9
US = 1_000
FILES = {
    "otlp_proto/trace.json": "otlp-json",
    "otlp_pb/trace.pb": "otlp",
    "otlp_pb/example_trace.pb": "otlp",
    "jaeger_integration/traces/example_trace.json": "otlp-json",
    "jaeger_ui/otlp2jaeger-in.json": "otlp-json",
    "jaeger_ui/otlp2jaeger-out.json": "jaeger",
    "jaeger_ui/testTraceNormal.json": "jaeger",
    "jaeger_ui/spansAmongEachOther.json": "jaeger",
    "zipkin/envoy.json": "zipkin",
    "zipkin/messaging.json": "zipkin",
    "zipkin/simple-db-p6.json": "zipkin",
    "zipkin/yelp.json": "zipkin",
    "triton/docs_single_request.json": "triton",
    "llm_traces/langfuse_langgraph-python-2025-08-22.json": "langfuse",
    "llm_traces/openinference_vercel_v6_all-spans.json": "otel-js",
    "nezha/baseline_A.csv.gz": "nezha",
}


@pytest.mark.parametrize("name", FILES)
def test_exactly_one_format_recognises_it(name):
    head = file_source(DATA / name).head
    assert [each.name for each in FORMATS if each.recognises(head)] == [FILES[name]]


@pytest.mark.parametrize("folder", ["pyinstrument", "pytest_benchmark", "speedscope", "expected", "otava"])
def test_none_of_these_formats_takes_what_is_no_trace(folder):
    ours = {each for each in FORMATS if each.name in FILES.values()}
    for path in sorted((DATA / folder).iterdir()):
        head = file_source(path).head
        assert [each.name for each in ours if each.recognises(head)] == [], path.name


@pytest.mark.parametrize("name", FILES)
def test_the_same_file_gives_the_same_bytes(name):
    first, second = (Read(DATA / name, Options(start_ns=START_NS)) for _ in range(2))
    assert [each.SerializeToString(deterministic=True) for each in first.requests] == [
        each.SerializeToString(deterministic=True) for each in second.requests
    ]


def test_otlp_as_json_and_as_binary_are_the_same_spans():
    assert [str(each) for each in Read(DATA / "otlp_pb/example_trace.pb").spans] == [
        str(each) for each in Read(DATA / "jaeger_integration/traces/example_trace.json").spans
    ]


def test_every_jaeger_fixture_is_read_whole():
    for path in sorted((DATA / "jaeger_integration" / "traces").iterdir()):
        wanted = [
            span
            for of_resource in json.loads(path.read_text())["resourceSpans"]
            for scoped in of_resource["scopeSpans"]
            for span in scoped["spans"]
        ]
        found = Read(path)
        assert [each.span_id.hex() for each in found.spans] == [each["spanId"] for each in wanted]
        assert found.refused == {}


def test_jaeger_is_what_otlp_was_before_jaeger_translated_it():
    before, after = Read(DATA / "jaeger_ui/otlp2jaeger-in.json"), Read(DATA / "jaeger_ui/otlp2jaeger-out.json")
    assert after.refused == {"it is there twice": 1}, "the file has one span twice"
    (span,) = after.spans
    span.ClearField("flags")
    before.spans[0].ClearField("status")  # there, and empty
    assert str(span) == str(before.spans[0])
    assert after.resources[0] == before.resources[0]


@pytest.mark.parametrize(
    ("name", "spans"), [("testTraceNormal", 5), ("spansAmongEachOther", 12), ("traceWithOverlappingChildren", 3)]
)
def test_jaegers_own_traces_keep_times_parents_kinds_and_processes(name, spans):
    path = DATA / "jaeger_ui" / f"{name}.json"
    trace = json.loads(path.read_text())
    found = Read(path)
    assert (len(found.spans), found.report.read, found.refused) == (spans, spans, {})
    by_id = {span["spanID"].zfill(16): span for span in trace["spans"]}
    for span, resource in zip(found.spans, found.resources, strict=True):
        wanted = by_id[span.span_id.hex()]
        assert span.trace_id.hex() == wanted["traceID"].zfill(32)
        assert span.start_time_unix_nano == wanted["startTime"] * US
        assert span.end_time_unix_nano - span.start_time_unix_nano == wanted["duration"] * US
        assert [span.parent_span_id.hex()] == ([each["spanID"].zfill(16) for each in wanted["references"]] or [""])
        kind = next((tag["value"] for tag in wanted["tags"] if tag["key"] == "span.kind"), "unspecified")
        assert span.SpanKind.Name(span.kind) == f"SPAN_KIND_{kind.upper()}"
        assert resource["service.name"] == trace["processes"][wanted["processID"]]["serviceName"]


def test_jaeger_ids_that_are_no_hex_are_refused_not_made_up():
    found = Read(DATA / "jaeger_ui" / "testTrace.json")
    assert (found.spans, found.refused) == ([], {"its traceID is not up to 32 hexadecimal digits": 11})
    assert found.report.refused["its traceID is not up to 32 hexadecimal digits"].first == "spans[0]"


def test_zipkins_halves_are_both_kept_below_each_other():
    records = json.loads((DATA / "zipkin" / "yelp.json").read_text())
    found = Read(DATA / "zipkin" / "yelp.json")
    assert len(found.spans) == len(records) == 16
    assert len({span.span_id for span in found.spans}) == 16
    shared = [key for key, count in Counter(each["id"] for each in records).items() if count == 2]
    assert len(shared) == 3
    originals = {plain(span.attributes).get("zipkin.span_id"): span for span in found.spans}
    for span_id in shared:
        client = next(span for span in found.spans if span.span_id.hex() == span_id)
        server = originals[span_id]
        assert (client.kind, server.kind) == (client.SPAN_KIND_CLIENT, client.SPAN_KIND_SERVER)
        assert server.parent_span_id == client.span_id
        (half,) = [each for each in records if each["id"] == span_id and each["kind"] == "SERVER"]
        assert (server.start_time_unix_nano, server.end_time_unix_nano) == (
            half["timestamp"] * US,
            (half["timestamp"] + half["duration"]) * US,
        )


def test_zipkins_messages_keep_producer_and_consumer():
    found = Read(DATA / "zipkin" / "messaging.json")
    producer, consumer = found.named("publish"), found.named("next-message")
    assert (producer.kind, consumer.kind) == (producer.SPAN_KIND_PRODUCER, producer.SPAN_KIND_CONSUMER)
    assert consumer.parent_span_id == producer.span_id
    assert plain(consumer.attributes)["peer.service"] == "rabbitmq"
    assert found.resources[0] == {"service.name": "backend", "host.name": "192.168.0.10"}


def test_tritons_stages_last_what_its_documentation_says():
    wanted = json.loads((DATA / "expected" / "triton.json").read_text())["docs_single_request.json"]["ns"]
    found = Read(DATA / "triton" / "docs_single_request.json", Options(start_ns=START_NS))
    took = {span.name: span.end_time_unix_nano - span.start_time_unix_nano for span in found.spans}
    assert took == {
        "InferRequest": wanted["http_infer"],
        "receive": wanted["receive"],
        "send": wanted["send"],
        "simple": wanted["handler(request)"],
        "queue": wanted["queue"],
        "input copy": wanted["compute_input"],
        "gpu_kernel": wanted["compute_infer"],
        "output copy": wanted["compute_output"],
    }
    inside = took["queue"] + wanted["compute"]
    # the documentation counts whole microseconds where the file has nanoseconds
    assert took["simple"] - inside == wanted["handler_overhead"] or math.isclose(
        took["simple"] - inside, wanted["handler_overhead"], abs_tol=1000
    )
    assert found.named("InferRequest").start_time_unix_nano == START_NS
    stages = {span.name: plain(span.attributes).get("tailsight.stage") for span in found.spans}
    assert [stages[name] for name in ("queue", "input copy", "gpu_kernel", "output copy")] == [
        "queue", "serialize", "gpu_kernel", "serialize",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["baseline_A", "fault_13_38_network_delay_currencyservice", "fault_15_57_cpu_consumed_shippingservice"]
)
def test_nezhas_facts_are_those_of_its_spans(name):
    wanted = json.loads((DATA / "expected" / "nezha.json").read_text())["files"][name]
    found = Read(DATA / "nezha" / f"{name}.csv.gz")
    assert (len(found.spans), found.refused) == (wanted["spans"], {})
    assert len({span.trace_id for span in found.spans}) == wanted["traces"]
    roots = [span for span in found.spans if not span.parent_span_id]
    assert len(roots) == wanted["roots"]
    ids = {(span.trace_id, span.span_id) for span in found.spans}
    orphans = [each for each in found.spans if each.parent_span_id and (each.trace_id, each.parent_span_id) not in ids]
    assert len(orphans) == wanted["orphans"]
    assert sorted({str(each["service.name"]) for each in found.resources}) == wanted["services"]
    took_ms = sorted((span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 for span in roots)
    assert max(took_ms) == pytest.approx(wanted["root_ms"]["max"], abs=0.001)
    assert statistics.median_high(took_ms) == pytest.approx(wanted["root_ms"]["p50"], abs=0.01)


def test_langfuses_observations_are_spans_with_stages_and_tokens():
    found = Read(DATA / "llm_traces" / "langfuse_langgraph-python-2025-08-22.json")
    (root,) = [span for span in found.spans if not span.parent_span_id]
    assert root.trace_id.hex() == "e1fde3efec57ce8a69bafd3fb928a7eb"
    assert (root.end_time_unix_nano - root.start_time_unix_nano) / 1e9 == 2.61, "the trace's own latency"
    generations = [plain(span.attributes) for span in found.spans if span.name == "ChatOpenAI"]
    tokens = {(each["gen_ai.usage.input_tokens"], each["gen_ai.usage.output_tokens"]) for each in generations}
    assert tokens == {(60, 15), (108, 51)}
    assert {each["tailsight.stage"] for each in generations} == {"compute"}


def test_openinferences_spans_keep_nanoseconds_and_attributes():
    path = DATA / "llm_traces" / "openinference_vercel_v6_all-spans.json"
    found = Read(path)
    for span, record in zip(found.spans, json.loads(path.read_text()), strict=True):
        assert span.span_id.hex() == record["spanContext"]["spanId"]
        assert [*divmod(span.end_time_unix_nano, 10**9)] == record["endTime"]
        assert plain(span.attributes) == record["attributes"]
        assert [event.name for event in span.events] == [event["name"] for event in record["events"]]


def test_a_trace_of_nezha_is_complete_below_its_root():
    children = defaultdict(list)
    found = Read(DATA / "nezha" / "baseline_A.csv.gz")
    for span in found.spans:
        children[span.trace_id, span.parent_span_id].append(span)
    trace_id = found.spans[0].trace_id
    reached, waiting = 0, list(children[trace_id, b""])
    while waiting:
        span = waiting.pop()
        reached += 1
        waiting += children[trace_id, span.span_id]
    assert reached == sum(span.trace_id == trace_id for span in found.spans)
