"""`tailsight sources`: the rules, what they make of a file, and how a user's file comes to every command."""

from __future__ import annotations

import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from testkit.otlp import request, span

from tailsight_cli import main
from tailsight_cli.gating.loading import private_store
from tailsight_cli.gating.sources import FileSource
from tailsight_cli.stack import Ports, Stack
from tailsight_collector.keep.records import encode_varint
from tailsight_collector.sources.apply import MAX_CONCERNED, MAX_DERIVED
from tailsight_collector.sources.memory import A_PRODUCERS_CONSUMERS, CONSUMERS, PRODUCERS, RESOURCE_BYTES
from tailsight_storage import open_store
from tailsight_storage.source_files import (
    MATCH_KEYS,
    MAX_FILE_BYTES,
    MAX_TEXTS,
    PHASE_KEYS,
    RULE_KEYS,
    built_in_rules,
    read_rules,
)
from tailsight_storage.source_rules import MAX_FACTS, MAX_PATTERNS, MAX_PHASES, MAX_RULES

DATA = Path(__file__).parents[3] / "shared" / "data"
MINE = '[[rule]]\nname = "mine"\nmatch = { name = "infer*" }\nstage = "compute"\n'
START_NS = time.time_ns() - 10**10
LLM = {"gen_ai.latency.time_in_queue": 0.25, "gen_ai.latency.time_in_model_prefill": 0.5}


def llm_request(attributes: dict[str, Any] = LLM, **fields: Any) -> dict[str, Any]:
    times = {"start_time_unix_nano": START_NS, "end_time_unix_nano": START_NS + 10**9}
    return span(name="llm_request", kind=2, attributes=attributes, **times, **fields)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    path = tmp_path / "traces.pb"
    spans = [
        llm_request(),
        llm_request(),
        span(name="inference"),
        span(name="own", attributes={"tailsight.stage": "x"}),
    ]
    path.write_bytes(request([*spans, span(name="bad", trace_id=b"")]).SerializeToString())
    return path


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main.run(words) == 0
    return json.loads(capsys.readouterr().out)


def test_all_rules_are_listed_those_of_the_user_first(capsys: pytest.CaptureFixture[str], mine: Path) -> None:
    rules = answer(capsys, "sources", "list", "--json", "--sources", str(mine))["rules"]
    assert [rule["name"] for rule in rules] == ["mine", *built_in_rules().names]
    assert rules[0]["origin"] == str(mine)
    assert rules[0]["match"] == {"name": ["infer*"]}
    assert main.run(["sources", "list", "--sources", str(mine)]) == 0
    shown = capsys.readouterr().out
    assert all(rule["name"] in shown for rule in rules)
    assert "1 of " in shown


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert main.run(["sources", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)


def test_a_trial_says_what_becomes_of_every_span(capsys: pytest.CaptureFixture[str], traces: Path, mine: Path) -> None:
    trial = answer(capsys, "sources", "test", str(traces), "--json", "--sources", str(mine))
    assert (trial["spans"], trial["rejected"], trial["derived"]) == (5, 1, 4)
    assert [(kind["name"], kind["rule"], kind["stage"], kind["spans"]) for kind in trial["with_stage"]] == [
        ("llm_request", "vllm.request", "", 2),
        ("inference", "mine", "compute", 1),
        ("own", "(its own tailsight.stage)", "x", 1),
    ]
    assert [(phase["stage"], phase["spans"], phase["mean_ms"]) for phase in trial["with_stage"][0]["phases"]] == [
        ("queue", 2, 250.0),
        ("prefill", 2, 500.0),
    ]
    assert trial["without_stage"] == []
    without = answer(capsys, "sources", "test", str(traces), "--json")
    assert [(kind["name"], kind["rule"]) for kind in without["without_stage"]] == [("inference", "")]
    assert main.run(["sources", "test", str(traces)]) == 0
    shown = capsys.readouterr().out
    assert "5 spans, 4 more derived of their phases, 1 rejected" in shown
    assert "no rule concerns" in shown


def test_a_trial_says_why_phases_are_not_derived(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    path = tmp_path / "odd.pb"
    path.write_bytes(request([llm_request({"gen_ai.latency.time_in_queue": 25_000})]).SerializeToString())
    [kind] = answer(capsys, "sources", "test", str(path), "--json")["with_stage"]
    assert kind["why_not"] == {"queue would be longer than the span: 25,000 s": 1}
    assert main.run(["sources", "test", str(path)]) == 0
    assert "no phases: queue would be longer" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["list", "test", "collector", "import"])
def test_a_wrong_file_ends_every_command_with_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, traces: Path, command: str
) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(MINE.replace("stage", "stge"))
    words = {
        "list": ["sources", "list"],
        "test": ["sources", "test", str(traces)],
        "collector": ["collector", "--data", str(tmp_path / "data")],
        "import": ["import", str(traces), "--store", f"chdb://{tmp_path / 'store'}"],
    }[command]
    assert main.run([*words, "--sources", str(wrong)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(f"sources file {wrong}: rule mine: there is no key 'stge'; did you mean 'stage'?")
    assert main.run([*words, "--sources", str(tmp_path / "none.toml")]) == 4
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_a_trial_takes_what_an_import_takes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traces: Path
) -> None:
    """stdin, and a file that does not say when it was."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(traces.read_bytes())))
    by_name, by_stdin = (answer(capsys, "sources", "test", name, "--json") for name in (str(traces), "-"))
    assert by_stdin == by_name
    path = tmp_path / "triton.json"
    times = [{"name": "REQUEST_START", "ns": 5}, {"name": "REQUEST_END", "ns": 9}]
    path.write_text(json.dumps([{"id": 1, "model_name": "m"}, {"id": 1, "timestamps": times}]))
    assert main.run(["sources", "test", str(path)]) == 4
    assert "give --start" in capsys.readouterr().err
    assert answer(capsys, "sources", "test", str(path), "--start", "2026-11-23T08:30:00Z", "--json")["spans"] == 2
    assert main.run(["sources", "test", str(path), "--start", "today"]) == 2
    assert "--start today is no time" in capsys.readouterr().err


def test_a_trial_finds_a_queue_whose_consumer_comes_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    start_ns = time.time_ns() - 10**10
    sent = span(name="send", kind=4, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + 10**6)
    times = {"start_time_unix_nano": start_ns + 3 * 10**6, "end_time_unix_nano": start_ns + 4 * 10**6}
    taken = span(name="take", kind=5, trace_id=sent["trace_id"], parent_span_id=sent["span_id"], **times)
    path = tmp_path / "messages.otlp"
    bodies = [request([each]).SerializeToString() for each in (taken, sent)]
    path.write_bytes(b"".join(encode_varint(len(body)) + body for body in bodies))
    trial = answer(capsys, "sources", "test", str(path), "--json")
    assert (trial["spans"], trial["derived"]) == (2, 1)
    phases = {
        kind["name"]: [(phase["stage"], phase["mean_ms"]) for phase in kind["phases"]] for kind in trial["with_stage"]
    }
    assert phases == {"take": [], "send": [("queue", 2.0)]}


@pytest.mark.parametrize(("served_us", "network_ms"), [(70_000, 30.0), (100_001, None)], ids=["shorter", "1 us longer"])
def test_the_network_of_zipkins_halves_needs_no_common_clock(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, served_us: int, network_ms: float | None
) -> None:
    """Both halves have one id, and the server's clock is an hour behind."""
    start_us = 1_790_000_000_000_000
    half = {"traceId": "abcd", "id": "1", "name": "get", "tags": {"http.method": "GET"}}
    client = {"kind": "CLIENT", "timestamp": start_us, "duration": 100_000}
    server = {"kind": "SERVER", "timestamp": start_us - 3_600_000_000, "duration": served_us, "shared": True}
    endpoints = (
        {"localEndpoint": {"serviceName": name, "ipv4": ip}} for name, ip in (("web", "10.0.0.1"), ("api", "10.0.0.2"))
    )
    path = tmp_path / "halves.json"
    path.write_text(json.dumps([half | each | end for each, end in zip((client, server), endpoints, strict=True)]))
    store = f"chdb://{tmp_path / 'store'}"
    assert main.run(["import", str(path), "--store", store]) == 0
    capsys.readouterr()
    [found] = answer(capsys, "trace", "abcd", "--store", store, "--json")["requests"]
    assert found["duration_ms"] == 100.0
    stages = {row["stage"]: row["contribution_ms"] for row in found["stages"]}
    assert stages.get("network") == network_ms
    assert sum(stages.values()) + found["unaccounted_ms"] == pytest.approx(100.0)


def test_a_trial_is_of_one_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")
    assert main.run(["sources", "test", str(tmp_path)]) == 2
    assert f"{tmp_path} is 2 files; name one of them" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "code"), [("none.json", 4), ("README.md", 4)], ids=["absent", "no traces"])
def test_a_file_that_cannot_be_tried_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, file: str, code: int
) -> None:
    (tmp_path / "README.md").write_text("# no traces\n")
    assert main.run(["sources", "test", str(tmp_path / file)]) == code
    assert str(tmp_path / file) in capsys.readouterr().err


def test_an_import_into_a_folder_takes_rules_and_the_same_file_again_adds_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, traces: Path, mine: Path
) -> None:
    store = f"chdb://{tmp_path / 'store'}"
    monkeypatch.setenv("TAILSIGHT_SOURCES", str(mine))
    assert main.run(["import", str(traces), "--store", store]) == 0
    assert main.run(["import", str(traces), "--store", store, "--sources", str(mine)]) == 0
    monkeypatch.delenv("TAILSIGHT_SOURCES")
    assert main.run(["import", str(traces), "--store", store]) == 0  # with other rules
    assert "imported 4 spans" in capsys.readouterr().out
    with open_store(store) as opened:
        rows = opened.rows("SELECT stage, count() FROM spans GROUP BY stage ORDER BY stage")
    assert rows == [("", 2), ("compute", 1), ("prefill", 2), ("queue", 2), ("x", 1)]


def test_rules_for_a_collector_are_the_collectors(capsys: pytest.CaptureFixture[str], traces: Path, mine: Path) -> None:
    assert main.run(["import", str(traces), "--sources", str(mine), "--endpoint", "http://127.0.0.1:9"]) == 2
    assert "the collector at http://127.0.0.1:9 has its own rules" in capsys.readouterr().err


def test_a_gate_on_files_reads_the_rules_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, traces: Path, mine: Path
) -> None:
    monkeypatch.setenv("TAILSIGHT_SOURCES", str(mine))
    with private_store() as private:
        private.load_only(FileSource(traces, None), 0)
        rows = private.store.rows("SELECT stage, count() FROM spans GROUP BY stage ORDER BY stage")
    assert rows == [("", 2), ("compute", 1), ("prefill", 2), ("queue", 2), ("x", 1)]


def test_up_hands_the_rules_to_its_collector(mine: Path) -> None:
    stack = Stack(Ports(), data=None, sources=mine)
    assert stack._arguments[-2:] == ["--sources", str(mine)]


# --- what docs/sources.md says ----------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


def test_the_example_is_a_file_of_rules(tmp_path: Path) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    path = tmp_path / "example.toml"
    path.write_text(example)
    assert len(read_rules(path).rules) == len(built_in_rules().rules)  # one more, one off


def test_every_key_source_and_limit_is_on_the_page() -> None:
    keys = {*RULE_KEYS, *MATCH_KEYS, *PHASE_KEYS}
    assert keys - set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]*)`", PAGE)))) == set()
    for source in {rule.source for rule in built_in_rules().rules} - {"OTel RPC"}:
        assert source in PAGE
    for limit in (
        f"{MAX_RULES} rules",
        f"{MAX_PHASES} phases",
        f"{MAX_FACTS} different",
        f"{MAX_TEXTS} texts",
        f"{MAX_PATTERNS:,} names",
        f"{PRODUCERS:,} producers",
        f"consumers of {CONSUMERS:,} producers",
        f"({A_PRODUCERS_CONSUMERS} each",
        f"{RESOURCE_BYTES // 1024} KiB",
        f"{MAX_FILE_BYTES // 1024**2} MiB",
        f"{MAX_DERIVED:,} derived",
        f"{MAX_CONCERNED:,} spans",
    ):
        assert limit in PAGE
    assert f"(the built-in ones take {len(built_in_rules().facts)})" in PAGE


# --- real data --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_traces_of_the_ai_sdk_have_stages(capsys: pytest.CaptureFixture[str]) -> None:
    trial = answer(capsys, "sources", "test", str(DATA / "llm_traces/openinference_vercel_v6_all-spans.json"), "--json")
    stages = {kind["name"]: kind["stage"] for kind in trial["with_stage"]}
    assert stages == {
        "ai.generateText.doGenerate": "compute",
        "ai.generateObject.doGenerate": "compute",
        "ai.streamText.doStream": "compute",
        "ai.embed.doEmbed": "embed",
    }
    assert trial["spans"] == 10


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_a_message_of_zipkin_has_waited(capsys: pytest.CaptureFixture[str]) -> None:
    """Its producer's span ends 1.55 ms before its consumer's begins."""
    trial = answer(capsys, "sources", "test", str(DATA / "zipkin/messaging.json"), "--json")
    [waited] = [kind for kind in trial["with_stage"] if kind["phases"]]
    [phase] = waited["phases"]
    assert (waited["name"], waited["rule"], phase["stage"], phase["spans"]) == (
        "next-message",
        "messaging.consume",
        "queue",
        1,
    )
    published, consumed = (
        next(span for span in json.loads((DATA / "zipkin/messaging.json").read_text()) if span.get("kind") == kind)
        for kind in ("PRODUCER", "CONSUMER")
    )
    waited_us = consumed["timestamp"] - published["timestamp"] - published.get("duration", 0)
    assert phase["mean_ms"] == pytest.approx(waited_us / 1000)


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
@pytest.mark.parametrize("file", ["otlp_proto/trace.json", "otlp_pb/trace.pb", "otlp_pb/example_trace.pb"])
def test_the_examples_of_opentelemetry_are_read_whole(capsys: pytest.CaptureFixture[str], file: str) -> None:
    trial = answer(capsys, "sources", "test", str(DATA / file), "--json")
    kinds = [*trial["with_stage"], *trial["without_stage"]]
    assert trial["spans"] == trial["rejected"] + sum(kind["spans"] for kind in kinds) > 0


@pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data is not here")
def test_nothing_becomes_of_what_no_rule_knows(capsys: pytest.CaptureFixture[str]) -> None:
    """Jaeger's fixtures say nothing of stages: none is invented."""
    for path in sorted((DATA / "jaeger_integration/traces").glob("*.json")):
        trial = answer(capsys, "sources", "test", str(path), "--json")
        assert trial["with_stage"] == []
        assert trial["derived"] == 0
