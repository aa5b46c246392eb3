"""Every file of ../shared/data has a test of what is known of it: the table below, and the facts of all trace files here."""

import json
from collections import Counter
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest
from testkit.importing import DATA, Read, plain

from tailsight_collector.importer import StoreTarget, import_files
from tailsight_collector.importing.known import FORMATS
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.source import file_source

pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not on this machine"),
]
TESTS = Path(__file__).parents[2]
# Of each file, or of all that begin so: the tests of its facts, and a word of theirs by which they name it.
TESTED_BY = {
    "azure_llm/": ("collector/test_import_csv_real.py", "AzureLLMInferenceTrace_code"),
    "azure_vmnoise/": ("collector/test_import_csv_real.py", "azure_vmnoise"),
    "mooncake/conversation_trace_noids": ("collector/test_import_csv_real.py", "mooncake"),
    "mlperf/": ("collector/test_import_loadgen.py", "mlperf"),
    "kineto_hta/": ("collector/test_import_kineto_real.py", "kineto_hta"),
    "jaeger_integration/traces/": ("collector/importing/test_every_file.py", "OTLP JSON"),
    "jaeger_integration/queries.json": ("collector/importing/test_every_file.py", "queries.json"),
    "jaeger_ui/": ("collector/importing/test_every_file.py", "Jaeger API JSON"),
    "zipkin/": ("collector/importing/test_every_file.py", "Zipkin v2 JSON"),
    "otlp_proto/": ("collector/importing/test_every_file.py", "OTLP JSON"),
    "otlp_pb/trace.pb": ("collector/importing/test_every_file.py", "otlp_pb/trace.pb"),
    "otlp_pb/example_trace.pb": ("collector/importing/test_real_files.py", "otlp_pb/example_trace.pb"),
    "llm_traces/langfuse": ("collector/importing/test_every_file.py", "Langfuse"),
    "llm_traces/openinference": ("collector/importing/test_every_file.py", "OTel JS"),
    "triton/": ("collector/importing/test_real_files.py", "docs_single_request.json"),
    "nezha/": ("collector/importing/test_real_files.py", "nezha.json"),
    "otava/": ("analysis/test_change_points.py", "change_points.json"),
    "pytest_benchmark/": ("analysis/test_change_points.py", "change_points.json"),
    "pyinstrument/": ("analysis/test_profile_files.py", "pyinstrument"),
    "speedscope/": ("analysis/test_profile_files.py", "speedscope"),
    "expected/change_points.json": ("analysis/test_change_points.py", "change_points.json"),
    "expected/data_facts.json": ("collector/test_import_csv_real.py", "data_facts.json"),
    "expected/jaeger_critical_path.json": ("analysis/test_critical_path.py", "jaeger_critical_path.json"),
    "expected/nezha.json": ("collector/importing/test_real_files.py", "nezha.json"),
    "expected/otlp_requirements.json": ("collector/test_requirements.py", "otlp_requirements"),
    "expected/trace_facts.json": ("collector/importing/test_every_file.py", "trace_facts.json"),
    "expected/triton.json": ("collector/importing/test_real_files.py", "triton.json"),
    "expected/w3c_trace_context.json": ("sdk/test_propagation.py", "w3c_trace_context"),
}
NO_DATA = {"README.md", "mooncake/README.md"}
START_NS = 1_790_000_000 * 10**9
US = 1_000


def test_every_file_is_in_the_table_and_its_tests_name_it():
    files = {str(path.relative_to(DATA)) for path in DATA.rglob("*") if path.is_file()} - NO_DATA
    assert [name for name in sorted(files) if not any(name.startswith(each) for each in TESTED_BY)] == []
    assert [each for each in TESTED_BY if not any(name.startswith(each) for name in files)] == []
    for test, word in TESTED_BY.values():
        assert word in (TESTS / test).read_text(), f"{test} says nothing of {word}"


def test_no_two_formats_take_the_same_file():
    for path in sorted(each for each in DATA.rglob("*") if each.is_file()):
        head = file_source(path).head
        assert len([each.name for each in FORMATS if each.recognises(head)]) <= 1, path


@cache
def all_facts() -> dict:
    return json.loads((DATA / "expected" / "trace_facts.json").read_text())


def facts_of(format_: str) -> list[str]:
    """Return the files of a format, [] where there is no data: tests are collected there too."""
    if not DATA.exists():
        return []
    found = []
    for name, facts in all_facts().items():
        first = facts[0] if isinstance(facts, list) else facts
        if first.get("format", "").startswith(format_):
            found.append(name)
    return found


def took_ns(span) -> int:
    return span.end_time_unix_nano - span.start_time_unix_nano


def shape_of(found: Read) -> dict[str, int]:
    """Roots, orphans and traces, as a trace's tree has them."""
    ids = {(span.trace_id, span.span_id) for span in found.spans}
    parents = [(span.trace_id, span.parent_span_id) for span in found.spans]
    return {
        "spans": len(found.spans),
        "traces": len({span.trace_id for span in found.spans}),
        "roots": sum(not parent for _, parent in parents),
        "orphans": sum(bool(each[1]) and each not in ids for each in parents),
    }


def services_of(found: Read) -> list[str]:
    return sorted({str(each.get("service.name", "")) for each in found.resources})


@pytest.mark.parametrize("name", facts_of("OTLP JSON"))
def test_the_facts_of_otlp_json(name):
    wanted, found = all_facts()[name], Read(DATA / name)
    assert found.refused == {}
    assert shape_of(found) == {key: wanted[key] for key in ("spans", "traces", "roots", "orphans")}
    assert services_of(found) == wanted["services"]
    assert len({span.span_id for span in found.spans}) == wanted["distinct_span_ids"]
    assert sum(len(span.events) for span in found.spans) == wanted["events"]
    assert sum(len(span.links) for span in found.spans) == wanted["links"]
    assert sum(span.status.code == span.status.STATUS_CODE_ERROR for span in found.spans) == wanted["status_error"]
    assert min(span.start_time_unix_nano for span in found.spans) == wanted["min_start_ns"]
    assert max(span.end_time_unix_nano for span in found.spans) == wanted["max_end_ns"]
    assert max(map(took_ns, found.spans)) == wanted["longest_span_ns"]


def test_otlp_as_protobuf_is_one_span_with_its_ids():
    [span] = Read(DATA / "otlp_pb/trace.pb").spans
    [same] = Read(DATA / "otlp_proto/trace.json").spans
    assert (span.name, span.trace_id, span.span_id, took_ns(span)) == (
        same.name,
        same.trace_id,
        same.span_id,
        took_ns(same),
    )


# Ids of testTrace.json are no hexadecimal ones: test_real_files.py. otlp2jaeger-out.json has its span twice.
IDS_OF_WORDS, REPEATED = "jaeger_ui/testTrace.json", "jaeger_ui/otlp2jaeger-out.json"


@pytest.mark.parametrize("name", [each for each in facts_of("Jaeger API JSON") if each != IDS_OF_WORDS])
def test_the_facts_of_jaeger(name):
    wanted = all_facts()[name]
    [wanted] = wanted if isinstance(wanted, list) else [wanted]
    found = Read(DATA / name)
    repeated = 1 if name == REPEATED else 0
    assert sum(found.refused.values()) == repeated
    shape = shape_of(found)
    assert (shape["spans"] + repeated, shape["roots"]) == (wanted["spans"], wanted["roots"])
    assert (shape["traces"], shape["orphans"] + repeated) == (1, wanted["orphans"])
    assert services_of(found) == wanted["services"]
    assert sum(len(span.events) for span in found.spans) == wanted["logs"]
    assert max(map(took_ns, found.spans)) == wanted["longest_span_us"] * US
    first, last = (f(each) for f, each in ((min, [s.start_time_unix_nano for s in found.spans]), (max, [s.end_time_unix_nano for s in found.spans])))  # fmt: skip
    assert last - first == wanted["trace_duration_us"] * US


@pytest.mark.parametrize("name", facts_of("Zipkin v2 JSON"))
def test_the_facts_of_zipkin(name):
    wanted, found = all_facts()[name], Read(DATA / name)
    assert found.refused == {}
    shape = shape_of(found)
    assert {key: shape[key] for key in ("spans", "traces", "roots", "orphans")} == {
        key: wanted[key] for key in ("spans", "traces", "roots", "orphans")
    }
    assert services_of(found) == wanted["services"]
    originals = {plain(span.attributes).get("zipkin.span_id", span.span_id.hex()) for span in found.spans}
    assert len(originals) == wanted["distinct_span_ids"]
    assert len({span.span_id for span in found.spans}) == wanted["spans"], "halves that share an id have two"
    assert sum(plain(span.attributes).get("zipkin.shared") is True for span in found.spans) == wanted["shared_spans"]
    assert sum(len(span.events) for span in found.spans) == wanted["annotations"]
    names = {
        0: "(none)",
        **{number: name.removeprefix("SPAN_KIND_") for name, number in found.spans[0].SpanKind.items()},
    }
    kinds = Counter("(none)" if span.kind == 0 else names[span.kind] for span in found.spans)
    assert kinds == wanted["kinds"]
    assert max(map(took_ns, found.spans)) == wanted["longest_span_us"] * US
    begin, end = min(s.start_time_unix_nano for s in found.spans), max(s.end_time_unix_nano for s in found.spans)
    assert end - begin == wanted["window_us"] * US


@pytest.mark.parametrize("name", facts_of("Langfuse"))
def test_the_facts_of_langfuse(name):
    wanted, found = all_facts()[name], Read(DATA / name)
    shape = shape_of(found)
    assert (found.report.read, shape["spans"]) == (
        wanted["observations"],
        wanted["observations"] - wanted["no_end_time"],
    )
    assert (shape["roots"], shape["orphans"]) == (wanted["roots"], wanted["orphans"])
    said = [plain(span.attributes) for span in found.spans]
    assert sorted({str(each["langfuse.observation.type"]).upper() for each in said}) == wanted["types"]
    tokens = sum(int(each.get(f"gen_ai.usage.{which}_tokens", 0)) for each in said for which in ("input", "output"))
    assert tokens == wanted["total_tokens"]
    begin, end = min(s.start_time_unix_nano for s in found.spans), max(s.end_time_unix_nano for s in found.spans)
    assert (end - begin) / 1e6 == wanted["window_ms"]


@pytest.mark.parametrize("name", facts_of("OTel JS"))
def test_the_facts_of_opentelemetry_js(name):
    wanted, found = all_facts()[name], Read(DATA / name)
    assert (found.refused, len(found.spans)) == ({}, wanted["spans"])
    assert sorted({span.name for span in found.spans}) == wanted["names"]
    assert sorted(round(took_ns(span) / 1e6, 3) for span in found.spans) == sorted(wanted["durations_ms"])


def test_every_trace_with_facts_is_looked_at():
    """The other formats that trace_facts.json knows have tests of their own: the table above."""
    ours = ("OTLP JSON", "Jaeger API JSON", "Zipkin v2 JSON", "Langfuse", "OTel JS")
    here = {name for format_ in ours for name in facts_of(format_)}
    assert {name.partition("/")[0] for name in all_facts().keys() - here} == {
        "kineto_hta",
        "jaeger_integration",
        "pyinstrument",
    }
    assert {name for name in all_facts().keys() - here if name.startswith("jaeger")} == {
        "jaeger_integration/queries.json"
    }


def text_of(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_each_search_of_jaeger_finds_the_traces_that_it_must(store):
    """By service, operation, time, duration (ns) and tags, wherever the tags are: on spans, on events, on resources."""
    fixtures = {path.stem: path for path in sorted((DATA / "jaeger_integration" / "traces").iterdir())}
    ids = {span.trace_id.hex(): name for name, path in fixtures.items() for span in Read(path).spans}
    imported = import_files(fixtures.values(), StoreTarget(store), options=Options(start_ns=START_NS))
    assert imported.rejected == Counter()
    rows = store.rows(
        "SELECT trace_id_hex, service, name, toUnixTimestamp64Nano(start_time), duration_ns, "
        "[attributes, resource], events.attributes FROM spans"
    )
    for search in json.loads((DATA / "jaeger_integration" / "queries.json").read_text()):
        asked = search["Query"]
        begin, end = (datetime.fromisoformat(asked[f"StartTime{which}"]).timestamp() for which in ("Min", "Max"))
        found = set()
        for trace_id, service, name, start_ns, duration_ns, of_span, of_events in rows:
            pairs = {pair for each in (*of_span, *of_events) for pair in dict(each).items()}
            if (
                service == asked["ServiceName"]
                and asked["OperationName"] in ("", name)
                and begin <= start_ns / 1e9 <= end
                and asked["DurationMin"] <= duration_ns <= (asked["DurationMax"] or duration_ns)
                and {(key, text_of(value)) for key, value in (asked["Tags"] or {}).items()} <= pairs
            ):
                found.add(ids[trace_id])
        assert sorted(found) == sorted(search["ExpectedFixtures"]), search["Caption"]
