"""Every format of `tailsight export`: what goes out comes back, and what a format cannot say is what docs/export.md lists."""

import json
import math
import re
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from testkit.exporting import STORED, chosen_in, everything, export, put, stored_again, with_one_nan
from testkit.importing import DATA
from testkit.otlp import any_value, request, span, span_id, trace_id

from tailsight_analysis.exporting.reading import read_spans
from tailsight_cli.exporting import otlp
from tailsight_collector.importer import read_requests
from tailsight_collector.keep.records import encode_varint

# to shrink an example over a database takes minutes
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
START_NS = 1_790_000_000_123_456_789
VALUES = {
    "text": 'é/\\"\n\t\x00\x1f\x7f\u2028😀',
    "empty": "",
    "zero": 0,
    "least": -(2**63),
    "big": 2**53 + 1,
    "half": 0.5,
    "whole": 1.0,
    "minus zero": -0.0,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "yes": True,
    "no": False,
    "bytes": b"\x00\xff",
    "none": None,
    "list": ["a", 1, 1.0, None, b"\xff", [2, [3, [4]]], {"k": [{"deep": math.nan}]}],
    "map": {"a": {"b": {"c": {"d": 1}}}, "": []},
    "looks like bytes": {"$bytes": "no base64"},
    "looks like ours": {"$bytes": "AAA="},
    "looks like more": [{"$array": "AAA="}, {"$kvlist": ""}, {"$array": 1}],
}


def rich_span(**changes):
    """A span that has all that a span can have."""
    message = request(
        [
            span(
                trace_id=trace_id(7), span_id=span_id(8), parent_span_id=span_id(9), trace_state="a=1", name="wörk", kind=3,
                start_time_unix_nano=START_NS, end_time_unix_nano=START_NS + 1_234_567, flags=257,
                attributes=VALUES | {
                    "tailsight.stage": "compute", "tailsight.sampling.weight": 4.0, "tailsight.sampling.reason": "tail",
                    "tailsight.intended_start_unix_nano": START_NS - 5, "thread.id": 12, "gen_ai.request.model": "m",
                },
                **changes,
            )
        ],
        {"service.name": "s", "host.name": "h", "process.pid": 42, "tailsight.run": "r", "cloud.region": "eu", **VALUES},
    )  # fmt: skip
    scoped = message.resource_spans[0].scope_spans[0]
    scoped.scope.name, scoped.scope.version = "lib", "1.2"
    scoped.scope.attributes.add(key="n", value=any_value(5))
    [only] = scoped.spans
    only.status.code, only.status.message = 2, "it failed"
    for time_ns in (START_NS + 1, 0, 2**64 - 1):
        event = only.events.add(time_unix_nano=time_ns, name="happened")
        event.attributes.extend(only.attributes)
    link = only.links.add(trace_id=trace_id(1), span_id=span_id(2))
    link.attributes.extend(only.attributes)
    only.links.add(trace_id=b"short", span_id=span_id(3))
    return message


@pytest.mark.parametrize(
    ("name", "said"), [("otlp", lambda message: message), ("otlp-json", with_one_nan)], ids=["otlp", "otlp-json"]
)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(message=STORED)
def test_otlp_gives_back_every_column_of_any_span(store, tmp_path, name, said, message):
    store.run("TRUNCATE TABLE spans")
    put(store, said(message), message)
    if before := everything(store):
        stored_again(store, export(store, name, tmp_path / name))
        assert everything(store) == before
        assert store.rows("SELECT count() FROM spans") == [(len(before),)], "each once"


@pytest.mark.parametrize("name", ["otlp", "otlp-json"])
def test_otlp_gives_back_all_that_a_span_can_have(store, tmp_path, name):
    put(store, rich_span())
    before = everything(store)
    path = export(store, name, tmp_path / "file")
    stored_again(store, path)
    assert len(before) == 1
    assert everything(store) == before


@pytest.mark.parametrize("name", ["otlp", "otlp-json"])
def test_a_key_that_is_there_twice_stays_so(store, tmp_path, name):
    message = request([span()])
    attributes = message.resource_spans[0].scope_spans[0].spans[0].attributes
    for value in ("abc", 1, "1", "01", 2.5, True, None, "", [1], "[1]", b"a"):
        attributes.add(key="again", value=any_value(value))
    put(store, message)
    before = everything(store)
    stored_again(store, export(store, name, tmp_path / "file"))
    # the driver gives bytes that are no UTF-8, as of some ids, in hexadecimal
    assert max(before[0].count("again"), before[0].lower().count(b"again".hex())) > 11
    assert everything(store) == before


@pytest.mark.parametrize("levels", [40, 48, 60, 3000])
def test_a_value_nested_beyond_what_readers_take_spoils_nothing(store, tmp_path, levels):
    def field(tag: int, content: bytes) -> bytes:
        return bytes([tag]) + encode_varint(len(content)) + content

    value = b"\x18\x05"
    for _ in range(levels):
        value = field(0x2A, field(0x0A, value))
    only = request([span()]).resource_spans[0].scope_spans[0].spans[0].SerializeToString()
    only += field(0x4A, field(0x0A, b"deep") + field(0x12, value))
    body = field(0x0A, field(0x12, field(0x12, only)))
    store.insert_otlp_traces(encode_varint(len(body)) + body, f"deep-{levels}")
    [before] = everything(store)
    for name in ("otlp", "otlp-json", "jaeger", "perfetto", "parquet"):
        export(store, name, tmp_path / name)
    for name in ("otlp", "otlp-json"):
        stored_again(store, tmp_path / name)
        [after] = everything(store)
        assert (after == before) is (levels == 40)
        assert store.rows("SELECT attribute_types['deep'] FROM spans") == [("array" if levels == 40 else "",)]


def test_otlp_json_is_strict_json_with_hex_ids(store, tmp_path):
    put(store, rich_span())
    path = export(store, "otlp-json", tmp_path / "file")

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    [line] = path.read_text().splitlines()
    [only] = json.loads(line, parse_constant=refuse)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (only["traceId"], only["spanId"], only["parentSpanId"]) == (
        trace_id(7).hex(),
        span_id(8).hex(),
        span_id(9).hex(),
    )
    assert only["startTimeUnixNano"] == str(START_NS)
    values = {pair["key"]: pair["value"] for pair in only["attributes"]}
    assert (values["nan"], values["-inf"]) == ({"doubleValue": "NaN"}, {"doubleValue": "-Infinity"})
    assert values["big"] == {"intValue": str(2**53 + 1)}
    assert only["links"][1]["traceId"] == "", "no id is better than a made-up one"


def test_otlp_requests_are_small_enough_for_receivers(store, tmp_path, monkeypatch):
    put(store, request([span(attributes={"wide": "w" * 100_000}) for _ in range(60)]), request([span()] * 1))
    path = export(store, "otlp", tmp_path / "file")
    sizes = [request_.ByteSize() for request_ in read_requests(path)]
    assert max(sizes) < 3 * 1024**2
    assert len(sizes) >= 3
    monkeypatch.setattr(otlp, "MAX_SPANS", 10)
    path = export(store, "otlp", tmp_path / "more")
    assert len(list(read_requests(path))) == 7


# --- Jaeger ---------------------------------------------------------------------------------------------------------


def jaeger_traces(path: Path) -> list[dict]:
    answer = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert answer["errors"] is None
    return answer["data"]


def test_jaeger_keeps_all_but_what_the_documents_list(store, tmp_path):
    """Lost: nanoseconds, what has no type in Jaeger, links' attributes, links without ids, the scope's attributes."""
    put(store, rich_span())
    columns = (
        "trace_id, span_id, parent_span_id, service, stage, name, kind, status, status_message, hardware, host, region, version, run, model, "
        "thread_id, trace_state, scope_name, scope_version, weight, sampling_reason, intended_start_ns, arraySlice(events.name, 1, 2), "
        "intDiv(toUnixTimestamp64Nano(start_time), 1000), intDiv(duration_ns, 1000), "
        "mapFilter((k, v) -> k NOT IN ('none', 'list', 'map') AND NOT startsWith(k, 'looks'), attributes), "
        "mapFilter((k, v) -> k NOT IN ('none', 'list', 'map') AND NOT startsWith(k, 'looks'), attribute_types)"
    )
    before = everything(store, columns)
    path = export(store, "jaeger", tmp_path / "file")
    stored_again(store, path)
    after = everything(store, columns)

    def unordered(row):  # Jaeger's tags have no order of their own
        return sorted(re.split(r"[,{}()]", row))

    assert [unordered(row) for row in after] == [unordered(row) for row in before]
    [(start_ns, types, links, of_scope)] = store.rows(
        "SELECT toUnixTimestamp64Nano(start_time), attribute_types, links.attributes, scope_attributes FROM spans"
    )
    assert start_ns == START_NS // 1000 * 1000
    assert not {"none", "list", "map"} & set(types)
    assert links == [{"opentracing.ref_type": "follows_from"}]
    assert of_scope == {}
    assert store.rows("SELECT length(events.time) FROM spans") == [(2,)], "one was after the year 2262"


def test_a_trace_of_jaeger_is_in_one_piece_with_its_processes(store, tmp_path):
    traces = 40
    for service in ("a", "b"):
        put(
            store,
            request(
                [
                    span(trace_id=trace_id(n), span_id=span_id(100 * n + ord(service)), parent_span_id=span_id(n))
                    for n in range(1, traces + 1)
                ],
                {"service.name": service},
            ),
        )
    found = jaeger_traces(export(store, "jaeger", tmp_path / "file"))
    assert len(found) == traces
    assert len({trace["traceID"] for trace in found}) == traces
    for trace in found:
        names = {trace["processes"][each["processID"]]["serviceName"] for each in trace["spans"]}
        assert names == {"a", "b"}
        assert len(trace["processes"]) == 2


def test_nothing_of_jaeger_is_no_number_or_too_large_a_one(store, tmp_path):
    put(store, rich_span())
    [trace] = jaeger_traces(export(store, "jaeger", tmp_path / "file"))
    tags = {tag["key"]: tag for tag in trace["spans"][0]["tags"]}
    assert tags["nan"] == {"key": "nan", "type": "float64", "value": "nan"}
    assert tags["big"] == {"key": "big", "type": "int64", "value": str(2**53 + 1)}
    assert tags["bytes"] == {"key": "bytes", "type": "binary", "value": "AP8="}
    assert (tags["error"]["value"], tags["span.kind"]["value"]) == (True, "client")
    assert all(isinstance(tag["value"], str | bool | int | float) for tag in tags.values())


# --- Parquet --------------------------------------------------------------------------------------------------------


@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(message=STORED)
def test_parquet_equals_the_table(store, tmp_path, message):
    store.run("TRUNCATE TABLE spans")
    put(store, message, rich_span())
    table = pq.read_table(export(store, "parquet", tmp_path / "file"))
    plain = [
        "service", "stage", "name", "kind", "status", "status_message", "hardware", "host", "region", "environment",
        "version", "run", "model", "trace_state", "scope_name", "scope_version", "sampling_reason", "duration_ns",
        "thread_id", "weight", "intended_start_ns",
    ]  # fmt: skip
    maps = ["attributes", "attribute_types", "resource", "resource_types", "scope_attributes"]
    wanted = store.rows(
        f"SELECT DISTINCT trace_id_hex, span_id_hex, parent_span_id_hex, toUnixTimestamp64Nano(start_time), {', '.join(plain)}, "
        + ", ".join(f"arrayZip(mapKeys({each}), mapValues({each}))" for each in maps)
        + ", arrayMap(t -> toUnixTimestamp64Nano(t), events.time), events.name,"
        " arrayMap(m -> arrayZip(mapKeys(m), mapValues(m)), events.attributes), arrayMap(i -> lower(hex(i)), links.span_id),"
        " arrayMap(m -> arrayZip(mapKeys(m), mapValues(m)), links.attribute_types)"
        " FROM spans"
    )
    starts = table["start_time"].cast("int64").to_pylist()
    found = [
        (
            row["trace_id"], row["span_id"], row["parent_span_id"], start_ns, *(row[name] for name in plain),
            *(row[name] for name in maps), [each["time"].value if hasattr(each["time"], "value") else each["time"] for each in row["events"]],
            [each["name"] for each in row["events"]], [each["attributes"] for each in row["events"]],
            [each["span_id"] for each in row["links"]], [each["attribute_types"] for each in row["links"]],
        )
        for row, start_ns in zip(in_integers(table), starts, strict=True)
    ]  # fmt: skip
    assert sorted(map(repr, found)) == sorted(repr(tuple(row)) for row in wanted)


def in_integers(table):
    """Rows of a table, times of events as nanoseconds: some of these are in no calendar."""
    events = table["events"].combine_chunks()
    times = events.flatten().field("time").cast("int64").to_pylist()
    rows = table.drop_columns(["events"]).to_pylist()
    at = 0
    names, attributes = (events.flatten().field(name).to_pylist() for name in ("name", "attributes"))
    for row, count in zip(rows, [len(each) for each in events.to_numpy(zero_copy_only=False)], strict=True):
        row["events"] = [
            {"time": times[n], "name": names[n], "attributes": attributes[n]} for n in range(at, at + count)
        ]
        at += count
    return rows


def test_pandas_reads_it(store, tmp_path):
    put(store, request([span(name=f"n{n}", attributes={"tailsight.stage": "compute"}) for n in range(100)]))
    frame = pd.read_parquet(export(store, "parquet", tmp_path / "file.parquet"))
    assert frame.groupby("stage").size().to_dict() == {"compute": 100}
    assert str(frame["start_time"].dtype) == "datetime64[ns, UTC]"
    assert set(frame["duration_ns"]) == {1_000_000}
    assert dict(frame["attributes"][0]) == {"tailsight.stage": "compute"}


# --- what is read ---------------------------------------------------------------------------------------------------


def test_spans_that_arrived_twice_go_out_once_and_others_with_their_id_stay(store):
    twice, other = span(span_id=span_id(1), trace_id=trace_id(1)), span(span_id=span_id(1), trace_id=trace_id(1))
    put(store, request([twice, other]))
    put(store, request([twice], {"service.name": "test"}))
    put(store, request([twice], {"service.name": "another"}))
    pages = list(read_spans(store, chosen_in(store)))
    assert sum(page.repeated for page in pages) == 1
    assert sorted(each.service for page in pages for each in page.spans) == ["another", "test", "test"]


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_pages_of_any_size_hold_the_same(store, monkeypatch, rows):
    for name, value in (("_FIRST_PAGE", rows), ("_LEAST_PAGE", rows), ("_MOST_PAGE", rows), ("PIECE_SPANS", 5)):
        monkeypatch.setattr(f"tailsight_analysis.exporting.reading.{name}", value)
    spans = [span(trace_id=trace_id(n % 4 + 1), start_time_unix_nano=START_NS + n // 3) for n in range(30)]
    for each in spans:
        each["end_time_unix_nano"] = START_NS + 100
    put(store, request(spans), request(spans))
    pages = list(read_spans(store, chosen_in(store)))
    found = [(each.trace_id, each.span_id) for page in pages for each in page.spans]
    assert len(pages) > 3
    assert sorted(found) == sorted((each["trace_id"].hex(), each["span_id"].hex()) for each in spans)
    assert sum(page.repeated for page in pages) == 30
    for number, page in enumerate(pages):
        later = [each.start_ns for other in pages[number + 1 :] for each in other.spans]
        assert all(start_ns >= page.after_ns for start_ns in later)


def test_wide_spans_are_read_a_few_at_a_time(store, monkeypatch):
    monkeypatch.setattr("tailsight_analysis.exporting.reading._PAGE_BYTES", 1_000_000)
    monkeypatch.setattr("tailsight_analysis.exporting.reading._FIRST_PAGE", 10)
    monkeypatch.setattr("tailsight_analysis.exporting.reading._LEAST_PAGE", 2)
    put(store, request([span(attributes={"wide": "w" * 200_000}, trace_id=trace_id(1)) for _ in range(40)]))
    sizes = [len(page.spans) for page in read_spans(store, chosen_in(store))]
    assert sizes[0] == 10
    assert max(sizes[1:]) <= 5
    assert sum(sizes) == 40


# --- other people's traces ------------------------------------------------------------------------------------------

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
FILES = (
    "jaeger_integration/traces/scope_attributes_trace.json",
    "jaeger_integration/traces/link_attributes_trace.json",
    "jaeger_ui/testTraceNormal.json",
    "llm_traces/openinference_vercel_v6_all-spans.json",
    "kineto_hta/critical_path_simple_add_benchmark_result_493459_1694039959_trace.json.gz",
)


@pytest.mark.shared_data
@needs_data
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.split("/")[-1].split(".")[0])
def test_real_traces_come_back_as_they_were(store, tmp_path, file):
    put(store, *read_requests(DATA / file))
    before = everything(store)
    assert before
    for name in ("otlp", "otlp-json"):
        stored_again(store, export(store, name, tmp_path / name))
        assert everything(store) == before


@pytest.mark.shared_data
@needs_data
def test_jaeger_is_what_jaeger_itself_makes_of_it(store, tmp_path):
    """Its own answer for spans that came as OTLP; only the scope's name has its newer key here."""
    put(store, *read_requests(DATA / "jaeger_ui/otlp2jaeger-in.json"))
    [ours] = jaeger_traces(export(store, "jaeger", tmp_path / "file"))
    [theirs] = json.loads((DATA / "jaeger_ui/otlp2jaeger-out.json").read_text())["data"]
    [span_, (other, again)] = ours["spans"][0], theirs["spans"]
    assert len(ours["spans"]) == 1, "which is there twice in its answer"
    assert {**other, "processID": ""} == {**again, "processID": ""}
    for key in ("traceID", "spanID", "operationName", "references", "startTime", "duration", "logs"):
        assert span_[key] == other[key], key

    def tags(owner):
        return sorted((tag["key"].replace("library", "scope"), tag["type"], tag["value"]) for tag in owner["tags"])

    assert tags(span_) == tags(other)
    (process, known) = ours["processes"][span_["processID"]], theirs["processes"][other["processID"]]
    assert (process["serviceName"], tags(process)) == (known["serviceName"], tags(known))
