"""Phases at odd times, tools with few spans, and any request at all: nothing is guessed, and nobody else is touched."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from testkit.otlp import any_value, request, span
from testkit.otlp_strategies import REQUESTS, SCALARS
from testkit.sourced import (
    NOW_NS,
    START_NS,
    VLLM,
    applied,
    attributes,
    derived,
    events,
    llm_request,
    sent,
    stages_ms,
    timed,
    triton,
)

from tailsight_collector.sources import SourceStages, apply
from tailsight_collector.sources.matching import find
from tailsight_collector.sources.phases import in_words
from tailsight_storage.source_files import built_in_rules
from tailsight_storage.source_rules import Where

US = 1_000
RULES = built_in_rules()
HOUR_MS = 3_600_000


# --- events -----------------------------------------------------------------------------------------------------------


def model(**at_ms: float) -> dict[str, Any]:
    """A span of Triton's from 1 to 95 ms."""
    [_, found, _] = triton()
    return found | {"events": events(**at_ms)}


@pytest.mark.parametrize(
    ("at_ms", "phases"),
    [
        ({"QUEUE_START": 0.999, "COMPUTE_START": 30}, [("queue", 1, 30)]),
        ({"QUEUE_START": 5, "COMPUTE_START": 95.001}, [("queue", 5, 95)]),
        ({"QUEUE_START": 0.999, "COMPUTE_START": 95.001}, [("queue", 1, 95)]),
        ({"QUEUE_START": -0.5, "COMPUTE_START": 30}, []),
        ({"QUEUE_START": 5, "COMPUTE_START": 97}, []),
        ({"QUEUE_START": 5 - HOUR_MS, "COMPUTE_START": 30}, []),
        ({"QUEUE_START": 5, "COMPUTE_START": 30 + HOUR_MS}, []),
        ({"QUEUE_START": 5 - HOUR_MS, "COMPUTE_START": 30 - HOUR_MS}, []),
        ({"QUEUE_START": 5, "COMPUTE_START": 5}, []),
        ({"QUEUE_START": 0.1, "COMPUTE_START": 0.9}, []),
    ],
    ids=["1 us early", "1 us late", "both", "early", "late", "one skewed", "the other skewed", "both skewed", "no time", "before"],
)  # fmt: skip
def test_what_is_beyond_the_span_by_rounding_is_cut_off_and_what_another_clock_says_left_out(
    at_ms: dict[str, float], phases: list[tuple[str, float, float]]
) -> None:
    assert stages_ms(applied(model(**at_ms))) == phases


def test_phases_that_overlap_are_both_there() -> None:
    """Whose they are is the accounting's question: it takes the union."""
    both = model(QUEUE_START=5, COMPUTE_START=50, COMPUTE_INPUT_END=70, COMPUTE_OUTPUT_START=60, COMPUTE_END=90)
    assert stages_ms(applied(both)) == [("queue", 5, 50), ("serialize", 50, 70), ("serialize", 60, 90)]


def test_what_triton_received_before_its_span_began_is_not_in_it() -> None:
    """Its first span begins where the request has been received (tracer.cc): the receiving is in no duration."""
    root, *_ = triton()
    root["events"] = events(HTTP_RECV_START=-0.2, HTTP_RECV_END=-0.1, HTTP_SEND_START=96, HTTP_SEND_END=99)
    assert stages_ms(applied(root)) == [("network", 96, 99)]


# --- attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beyond_us", [0.4, 1, 100])
def test_attributes_that_are_rounded_up_end_with_the_span(beyond_us: float) -> None:
    rounded = {"gen_ai.latency.time_in_queue": 0.1, "gen_ai.latency.time_in_model_decode": 0.9 + beyond_us / 1e6}
    assert stages_ms(applied(llm_request(rounded))) == [("queue", 0, 100), ("decode", 100, 1000)]


def test_an_empty_phase_is_none_and_the_next_one_begins_where_it_would_have() -> None:
    at_once = {**VLLM, "gen_ai.latency.time_in_queue": 0}
    assert stages_ms(applied(llm_request(at_once))) == [("prefill", 0, 200), ("decode", 200, 800)]


def test_a_span_without_length_has_no_phases() -> None:
    assert stages_ms(applied(timed("llm_request", 0, kind=2, attributes=VLLM))) == []


def test_a_first_token_from_arrival_and_a_prefill_from_scheduling_are_told_apart() -> None:
    """Both numbers stay as they were sent, and both definitions are on the spans that have them."""
    vllm, sglang = sent(applied(llm_request())), sent(applied(llm_request(), scope="sglang server"))
    for each in (vllm, sglang):
        said = {pair.key: pair.value.double_value for pair in each.attributes if pair.value.HasField("double_value")}
        assert said["gen_ai.latency.time_to_first_token"] == 0.35
        assert said["gen_ai.latency.time_in_model_prefill"] == 0.2
        assert "time_to_first_token: from arrival" in attributes(each)["tailsight.definition"]
    assert "time_in_model_prefill: from scheduling" in attributes(vllm)["tailsight.definition"]
    assert "time_in_model_prefill: from dispatch" in attributes(sglang)["tailsight.definition"]


@pytest.mark.parametrize(
    ("length_ns", "said"),
    [(2.5e6, "2.5 ms"), (1_234_567, "1.23 ms"), (2.5e13, "25,000 s"), (1.5e9, "1.5 s"), (6.5e24, "over 30,000 years")],
)
def test_a_length_is_said_as_one_reads_it(length_ns: float, said: str) -> None:
    assert in_words(length_ns) == said


# --- Ray --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ("proxy_http_request", "proxy_route_to_replica", "replica_handle_request"),
        ("proxy_http_request GET /", "route_to_replica Ranker __call__", "replica_handle_request Ranker __call__"),
    ],
    ids=["2.40", "with deployment and method"],
)
def test_a_request_of_ray_serve_is_the_call_and_the_replicas_work(names: tuple[str, ...]) -> None:
    """As ray/serve/_private names them; all are SERVER spans."""
    spans = [timed(name, kind=2) for name in names]
    message = applied(*spans, scope="ray.serve._private.tracing_utils")
    said = [attributes(sent(message, place)) for place in range(3)]
    assert [each.get("tailsight.stage") for each in said] == [None, "network", "compute"]
    assert "waiting for a free replica" in said[1]["tailsight.definition"]
    assert "tailsight.stage" not in attributes(sent(applied(spans[2], scope="mine"), 0))


def test_a_task_of_ray_has_waited_since_it_was_submitted() -> None:
    """As ray/util/tracing/tracing_helper.py: a PRODUCER submits, a CONSUMER runs."""
    submitted = timed("f ray.remote", 1, kind=4, attributes={"ray.remote": "function"})
    ran = timed(
        "f ray.remote_worker", 5, at_ms=8, kind=5, trace_id=submitted["trace_id"], attributes={"ray.remote": "function"}
    )
    ran["parent_span_id"] = submitted["span_id"]
    assert stages_ms(applied(ran, submitted)) == [("queue", 1, 8)]


# --- any request ------------------------------------------------------------------------------------------------------

ASKED = sorted({fact.key for fact in RULES.facts if fact.where is Where.ATTRIBUTE})
KEYS = sorted(
    {key for rule in RULES.rules for phase in rule.phases for key in (*phase.keys, *phase.minus)} | set(ASKED)
)
TEXTS = sorted({fact.value for fact in RULES.facts if fact.value})
NAMES = sorted({name.rstrip("*") for rule in RULES.rules for name in rule.match.name} | {"work"})
EVENTS = sorted({name for rule in RULES.rules for phase in rule.phases for name in (*phase.begin, *phase.end)})
SCOPES = ["", "sglang server", "ray.serve._private.tracing_utils"]
ADDED = {"tailsight.stage", "tailsight.source", "tailsight.definition", "tailsight.model"} | {
    target for rule in RULES.rules for target, _ in rule.copy
}
SOME_ID = st.integers(1, 6)
AT_US = st.integers(-2_000, 12_000)
OF_A_SOURCE = st.fixed_dictionaries({
    "trace": st.integers(1, 2), "parent": st.just(0) | SOME_ID, "links": st.lists(SOME_ID, max_size=2),
    "name": st.sampled_from(NAMES), "kind": st.integers(0, 5), "at_us": AT_US, "length_us": st.sampled_from([0, 1, 5_000, 9_999]),
    "attributes": st.dictionaries(
        st.sampled_from(KEYS), st.floats(0, 0.02) | st.integers(0, 9) | st.sampled_from(TEXTS) | SCALARS, max_size=6
    ),
    "events": st.lists(st.tuples(st.sampled_from(EVENTS), AT_US), max_size=6),
})  # fmt: skip


def made(number: int, fields: dict[str, Any]) -> dict[str, Any]:
    """A span of these fields, with an id of its own."""
    trace_id = fields["trace"].to_bytes(16, "big")
    start_ns = START_NS + fields["at_us"] * US
    return span(
        trace_id=trace_id, span_id=number.to_bytes(8, "big"), name=fields["name"], kind=fields["kind"],
        parent_span_id=fields["parent"].to_bytes(8, "big") if fields["parent"] else b"",
        start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + fields["length_us"] * US,
        links=[{"trace_id": trace_id, "span_id": each.to_bytes(8, "big")} for each in fields["links"]],
        events=[{"name": name, "time_unix_nano": START_NS + at * US} for name, at in fields["events"]],
        attributes=fields["attributes"],
    )  # fmt: skip


def spans_of(message: ExportTraceServiceRequest) -> list[Span]:
    return [
        each
        for resource_spans in message.resource_spans
        for scope_spans in resource_spans.scope_spans
        if scope_spans.scope.name != apply.SCOPE
        for each in scope_spans.spans
    ]


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(spans=st.lists(OF_A_SOURCE, min_size=1, max_size=6), scope=st.sampled_from(SCOPES))
def test_whatever_a_tool_sends_its_spans_stay_and_what_is_derived_lies_within(
    spans: list[dict[str, Any]], scope: str
) -> None:
    message = request(made(number, fields) for number, fields in enumerate(spans, 1))
    message.resource_spans[0].scope_spans[0].scope.name = scope
    body = message.SerializeToString()
    found = find(body, RULES)
    changed = ExportTraceServiceRequest.FromString(body)
    SourceStages().apply(changed, found, NOW_NS)  # raises where it fails: `applied` would keep the request as it came
    concerned = {each.span for each in found}
    before, after = spans_of(message), spans_of(changed)
    for place, (was, now) in enumerate(zip(before, after, strict=True)):
        added = now.attributes[len(was.attributes) :]
        assert {pair.key for pair in added} <= (ADDED if place in concerned else set())
        del now.attributes[len(was.attributes) :]
        assert now.SerializeToString(deterministic=True) == was.SerializeToString(deterministic=True)
    by_id = {(each.trace_id, each.span_id): each for each in before}
    children = derived(changed)
    assert len({(each.trace_id, each.span_id) for each in children} | by_id.keys()) == len(children) + len(by_id)
    for child in children:
        parent = by_id[child.trace_id, child.parent_span_id]
        assert (attributes(child)["tailsight.derived"], bool(attributes(child)["tailsight.stage"])) == ("true", True)
        assert child.start_time_unix_nano < child.end_time_unix_nano
        if child.links:  # it has waited, after what produced it
            assert child.start_time_unix_nano == parent.end_time_unix_nano
        else:
            assert parent.start_time_unix_nano <= child.start_time_unix_nano
            assert child.end_time_unix_nano <= parent.end_time_unix_nano
    once = SourceStages().applied(body, NOW_NS)
    assert SourceStages().applied(once, NOW_NS) == once


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(message=REQUESTS, data=st.data())
def test_any_request_with_some_words_of_a_tool_is_taken(
    message: ExportTraceServiceRequest, data: st.DataObject
) -> None:
    """With wrong ids and times, and values of all kinds under the keys that rules read."""
    for each in spans_of(message):
        each.name = data.draw(st.sampled_from(NAMES))
        for key in data.draw(st.lists(st.sampled_from(KEYS), max_size=3)):
            each.attributes.add(key=key).value.CopyFrom(any_value(data.draw(SCALARS)))
        for name in data.draw(st.lists(st.sampled_from(EVENTS), max_size=3)):
            each.events.add(name=name, time_unix_nano=data.draw(st.integers(0, 2**64 - 1)))
    body = message.SerializeToString()
    SourceStages().apply(ExportTraceServiceRequest.FromString(body), find(body, RULES), NOW_NS)
