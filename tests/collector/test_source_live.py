"""Real OTLP clients that know nothing of tailsight, a real collector, and the same answers as for its own SDK."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, set_span_in_context
from testkit.otlp import request, span
from testkit.processes import CollectorProcess
from testkit.senders import Sidecar
from testkit.sourced import message_pair, triton

from tailsight_cli import main
from tailsight_storage import decoder, open_store
from tailsight_storage.source_files import built_in_rules

MS = 1_000_000
PHASES_MS = {"queue": 100.0, "prefill": 200.0, "decode": 600.0}
LENGTH_MS = 1000


def llm_request(number: int, **fields: Any) -> dict[str, Any]:
    """As vLLM sends it, at a second of its own."""
    start_ns = time.time_ns() - (60 + number) * 10**9
    attributes = {
        "gen_ai.latency.time_in_queue": 0.1,
        "gen_ai.latency.time_in_model_prefill": 0.2,
        "gen_ai.latency.time_in_model_decode": 0.6,
        "gen_ai.response.model": "llama",
    }
    return span(
        name="llm_request", kind=2, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + LENGTH_MS * MS,
        attributes=attributes, **fields,
    )  # fmt: skip


def exporter_of(collector: CollectorProcess, service: str, host: str = "a") -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service, "host.name": host}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{collector.otlp_url}/v1/traces")))
    return provider


def asked(capsys: pytest.CaptureFixture[str], collector: CollectorProcess, *words: str) -> dict[str, Any]:
    assert main.run([*words, "--store", collector.store, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def shares(answer: dict[str, Any]) -> dict[str, float]:
    """Of each stage, its share of the requests' critical paths."""
    return {row["stage"]: row["path_share"] for row in answer["rows"]}


def stored(collector: CollectorProcess, service: str) -> list[tuple[object, ...]]:
    with open_store(collector.store) as store:
        return store.rows(
            "SELECT stage, count(), uniqExact(span_id), sum(duration_ns), any(model) FROM spans "
            "WHERE service = {service:String} GROUP BY stage ORDER BY stage",
            service=service,
        )


def test_spans_of_vllm_sent_by_the_opentelemetry_sdk_are_answered_by_stage(collector: CollectorProcess, capsys) -> None:
    provider = exporter_of(collector, "vllm-live")
    tracer = provider.get_tracer("vllm.llm_engine")
    for number in range(30):
        fields = llm_request(number)
        traced = tracer.start_span("llm_request", kind=SpanKind.SERVER, start_time=fields["start_time_unix_nano"])
        traced.set_attributes(fields["attributes"])
        traced.end(fields["end_time_unix_nano"])
    provider.shutdown()
    collector.wait_until_loaded()
    answer = asked(capsys, collector, "breakdown", "--service", "vllm-live", "--all-time")
    rows = {row["stage"]: row for row in answer["rows"]}
    for stage, length_ms in PHASES_MS.items():
        assert rows[stage]["count"] == 30
        assert rows[stage]["p50_ms"] == pytest.approx(length_ms, rel=0.02)
        assert rows[stage]["path_share"] == pytest.approx(length_ms / LENGTH_MS)
    assert rows[""]["path_share"] == pytest.approx(0.1)  # what its phases do not explain


def test_the_network_is_what_a_call_takes_longer_than_its_server(
    collector: CollectorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each half from its own process's exporter, on hosts whose clocks disagree by an hour."""
    client = exporter_of(collector, "network-client", "a")
    server = exporter_of(collector, "network-server", "b")
    start_ns = time.time_ns() - 60 * 10**9
    call = client.get_tracer("opentelemetry.instrumentation.httpx").start_span(
        "POST", kind=SpanKind.CLIENT, start_time=start_ns, attributes={"http.request.method": "POST"}
    )
    served = server.get_tracer("opentelemetry.instrumentation.asgi").start_span(
        "POST /rank", kind=SpanKind.SERVER, start_time=start_ns - 3600 * 10**9, context=set_span_in_context(call)
    )
    served.set_attribute("tailsight.stage", "compute")
    served.end(start_ns - 3600 * 10**9 + 70 * MS)
    call.end(start_ns + 100 * MS)
    client.shutdown()
    server.shutdown()
    collector.wait_until_loaded()
    assert stored(collector, "network-client") == [("network", 1, 1, 100 * MS, "")]
    trace_id = f"{call.get_span_context().trace_id:032x}"
    answer = asked(capsys, collector, "trace", trace_id)
    [found] = answer["requests"]
    assert {row["stage"]: row["contribution_ms"] for row in found["stages"]} == {"network": 30.0, "compute": 70.0}


@pytest.fixture
def own_collector(tmp_path: Path) -> Iterator[CollectorProcess]:
    with CollectorProcess(tmp_path, "--segment-age", "0.05") as running:
        yield running


def test_what_was_derived_is_stored_exactly_once_through_crashes(own_collector: CollectorProcess) -> None:
    """Each request is acknowledged, the collector killed at once, and started anew."""
    for number in range(3):
        message = request([llm_request(10 * number + each) for each in range(5)], {"service.name": "crashing"})
        assert own_collector.post(message.SerializeToString()).status_code == 200
        own_collector.kill()
        own_collector.start()
    own_collector.wait_until_loaded()
    assert [row[:3] for row in stored(own_collector, "crashing")] == [
        ("", 15, 15), ("decode", 15, 15), ("prefill", 15, 15), ("queue", 15, 15),
    ]  # fmt: skip


def test_a_request_that_is_delivered_again_derives_the_same_spans(
    own_collector: CollectorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """OTLP clients may send twice; by their ids the analysis knows spans that it has, and takes their time once."""
    body = request([llm_request(1)], {"service.name": "again"}).SerializeToString()
    for _ in range(2):
        assert own_collector.post(body).status_code == 200
    own_collector.wait_until_loaded()
    assert {row[2] for row in stored(own_collector, "again")} == {1}
    answer = asked(capsys, own_collector, "breakdown", "--service", "again", "--all-time")
    assert answer["requests"]["count"] == 1
    assert shares(answer) == pytest.approx({"queue": 0.1, "prefill": 0.2, "decode": 0.6, "": 0.1})


def test_an_export_again_in_other_pieces_and_with_gaps_adds_no_span_and_no_time(
    collector: CollectorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole export, then the same a span a request, then half of it in pairs: all of that by its ids is what was there."""
    root, model, compute = triton()
    producer, consumer = message_pair(trace_id=root["trace_id"])
    producer |= {"trace_id": root["trace_id"], "parent_span_id": root["span_id"]}
    sent = [llm_request(1), compute, model, consumer | {"parent_span_id": producer["span_id"]}, producer, root]
    resource = {"service.name": "pieces", "host.name": "a"}
    answers = []
    for pieces in ([sent], [[each] for each in sent], [sent[1:3], sent[5:], sent[3:4]]):
        for piece in pieces:
            assert collector.post(request(piece, resource).SerializeToString()).status_code == 200
        collector.wait_until_loaded()
        with open_store(collector.store) as store:
            [(spans, places)] = store.rows(
                "SELECT uniqExact(trace_id, span_id), uniqExact(trace_id, span_id, stage, start_time, duration_ns) "
                "FROM spans WHERE service = 'pieces'"
            )
        answer = asked(capsys, collector, "breakdown", "--service", "pieces", "--all-time")
        answers.append((spans, places, answer["requests"], shares(answer)))
    spans, places, _, of_stages = answers[0]
    assert spans == places == len(sent) + 3 + 6 + 1  # phases of vLLM, of Triton, and a queue
    assert set(of_stages) == {"queue", "prefill", "decode", "serialize", "gpu_kernel", "network", ""}
    assert answers[1:] == answers[:1] * 2


def test_whatever_tools_send_the_collector_answers_and_stores_all_that_it_took(collector: CollectorProcess) -> None:
    """Words of tools with values of any kind, at any times: none is an error of the collector's, none is lost."""
    dice = random.Random(7)
    rules = built_in_rules()
    keys = sorted({key for rule in rules.rules for phase in rule.phases for key in (*phase.keys, *phase.minus)})
    names = [name.rstrip("*") for rule in rules.rules for name in rule.match.name]
    event_names = [name for rule in rules.rules for phase in rule.phases for name in (*phase.begin, *phase.end)]
    values = [0.1, -1.0, float("nan"), float("inf"), 1e308, 2**62, -5, "0.5", "", True, None, [0.1], {"a": 1}, b"\0"]
    posted = 0
    for _ in range(40):
        spans = []
        for _ in range(20):
            fields = llm_request(dice.randint(0, 99), parent_span_id=dice.randbytes(8))
            start_ns = fields["start_time_unix_nano"]
            spans.append(fields | {
                "name": dice.choice(names), "kind": dice.randint(0, 5),
                "attributes": {dice.choice(keys): dice.choice(values) for _ in range(4)},
                "events": [
                    {"name": dice.choice(event_names), "time_unix_nano": start_ns + dice.randint(-(10**9), 2 * 10**9)}
                    for _ in range(4)
                ],
            })  # fmt: skip
        posted += len(spans)
        body = request(spans, {"service.name": "anything"}).SerializeToString()
        assert collector.post(body).status_code == 200
    collector.wait_until_loaded()
    with open_store(collector.store) as store:
        rows = store.rows(
            "SELECT count() FROM spans WHERE service = 'anything' AND attributes['tailsight.derived'] = ''"
        )
    assert rows == [(posted,)]
    assert not [line for line in collector.log if "is kept without" in line]


def test_a_numbered_batch_that_rules_change_is_stored_once_after_a_crash(own_collector: CollectorProcess) -> None:
    """Its sender heard no answer, and sends the bytes that it sent before."""
    sidecar = Sidecar()
    body = sidecar.batch([llm_request(1), llm_request(2)], last=True).SerializeToString()
    for _ in range(3):
        assert own_collector.post(body).status_code == 200
        own_collector.kill()
        own_collector.start()
        assert own_collector.post(body).status_code == 200
    own_collector.wait_until_loaded()
    with open_store(own_collector.store) as store:
        assert store.rows("SELECT count(), uniqExact(span_id) FROM spans") == [(8, 8)]
        assert store.rows("SELECT number, spans, arrived, rejected FROM sender_batches") == [(1, 2, 2, 0)]


def test_a_file_that_is_imported_twice_derives_once(
    collector: CollectorProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import numbers its batches; the collector compares what it was sent, not what became of it."""
    path = tmp_path / "vllm.pb"
    path.write_bytes(request([llm_request(1), llm_request(2)], {"service.name": "imported"}).SerializeToString())
    for _ in range(2):
        assert main.run(["import", str(path), "--endpoint", collector.otlp_url]) == 0
    collector.wait_until_loaded()
    assert [row[:3] for row in stored(collector, "imported")] == [
        ("", 2, 2), ("decode", 2, 2), ("prefill", 2, 2), ("queue", 2, 2),
    ]  # fmt: skip
    assert "imported 2 spans" in capsys.readouterr().out


@pytest.mark.skipif(decoder.decoder is None, reason=f"the C module is not here: {decoder.why_not}")
def test_without_the_c_module_the_same_is_stored(
    collector: CollectorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = request([llm_request(1), span(kind=3, attributes={"rpc.system": "grpc"})], {"service.name": "both"})
    monkeypatch.setitem(os.environ, "TAILSIGHT_NATIVE", "0")
    found = []
    with CollectorProcess(tmp_path) as without:
        for each in (collector, without):
            assert each.post(body.SerializeToString()).status_code == 200
            each.wait_until_loaded()
            with open_store(each.store) as store:
                query = (
                    "SELECT toString(tuple(* EXCEPT received_at)) AS row FROM spans WHERE service = 'both' ORDER BY row"
                )
                found.append(store.rows(query))
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_a_collector_takes_rules_of_its_users(tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text('[[rule]]\nname = "mine"\nmatch = { name = "infer*" }\nstage = "compute"\n')
    with CollectorProcess(tmp_path / "data", "--sources", str(rules)) as running:
        body = request([span(name="inference"), span(name="other")], {"service.name": "mine"}).SerializeToString()
        assert running.post(body).status_code == 200
        running.wait_until_loaded()
        assert [row[:2] for row in stored(running, "mine")] == [("", 1), ("compute", 1)]
        assert running.health()["received"]["accepted_spans"] == 2
