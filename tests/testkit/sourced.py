"""Spans as vLLM, Triton and others send them, at known times, and what the rules of sources make of them."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.sources import SourceStages, apply
from testkit.otlp import request, span

MS = 1_000_000
NOW_NS = time.time_ns()
START_NS = NOW_NS - 10 * 10**9
VLLM = {
    "gen_ai.latency.time_in_queue": 0.1,
    "gen_ai.latency.time_to_first_token": 0.35,
    "gen_ai.latency.time_in_model_prefill": 0.2,
    "gen_ai.latency.time_in_model_decode": 0.6,
    "gen_ai.latency.time_in_model_inference": 0.8,
    "gen_ai.latency.e2e": 0.95,
    "gen_ai.usage.prompt_tokens": 512,
    "gen_ai.usage.completion_tokens": 64,
    "gen_ai.request.id": "cmpl-1",
    "gen_ai.response.model": "llama",
}


def timed(name: str, length_ms: float = 1000, *, at_ms: float = 0, **fields: Any) -> dict[str, Any]:
    start_ns = START_NS + round(at_ms * MS)
    return span(name=name, start_time_unix_nano=start_ns, end_time_unix_nano=start_ns + round(length_ms * MS), **fields)


def llm_request(attributes: dict[str, Any] = VLLM, **fields: Any) -> dict[str, Any]:
    return timed("llm_request", kind=2, attributes=attributes, **fields)


def events(**at_ms: float) -> list[dict[str, Any]]:
    return [{"name": name, "time_unix_nano": START_NS + round(when * MS)} for name, when in at_ms.items()]


def applied(
    *spans: dict[str, Any], scope: str = "", stages: SourceStages | None = None, resource: dict[str, Any] | None = None
) -> ExportTraceServiceRequest:
    message = request(spans, resource)
    message.resource_spans[0].scope_spans[0].scope.name = scope
    body = message.SerializeToString()
    changed = (stages or SourceStages()).applied(body, NOW_NS)
    return ExportTraceServiceRequest.FromString(changed)


def derived(message: ExportTraceServiceRequest) -> list[Span]:
    return [
        each
        for resource_spans in message.resource_spans
        for scope_spans in resource_spans.scope_spans
        if scope_spans.scope.name == apply.SCOPE
        for each in scope_spans.spans
    ]


def attributes(of: Span) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in of.attributes if pair.value.HasField("string_value")}


def stages_ms(message: ExportTraceServiceRequest) -> list[tuple[str, float, float]]:
    """Stage, start and end of what was derived, in milliseconds after START_NS."""
    return [
        (
            attributes(each)["tailsight.stage"],
            (each.start_time_unix_nano - START_NS) / MS,
            (each.end_time_unix_nano - START_NS) / MS,
        )
        for each in derived(message)
    ]


def sent(message: ExportTraceServiceRequest, place: int = 0) -> Span:
    return message.resource_spans[0].scope_spans[0].spans[place]


CHILDREN = ("vllm.request.queue", "vllm.request.prefill", "vllm.request.decode")


def children(parent: dict[str, Any], names: tuple[str, ...] = CHILDREN) -> list[dict[str, Any]]:
    ids = {"trace_id": parent["trace_id"], "parent_span_id": parent["span_id"]}
    return [timed(name, 100, at_ms=100 * place, **ids) for place, name in enumerate(names)]


REQUEST_EVENTS = {"REQUEST_START": 1, "QUEUE_START": 5, "REQUEST_END": 95}
COMPUTE_EVENTS = {"COMPUTE_START": 35, "COMPUTE_INPUT_END": 40, "COMPUTE_OUTPUT_START": 80, "COMPUTE_END": 90}


def triton() -> list[dict[str, Any]]:
    root = timed("InferRequest", 100, kind=2, attributes={"triton.model_name": "bert"})
    root["events"] = events(
        HTTP_RECV_START=0, HTTP_RECV_END=1, INFER_RESPONSE_COMPLETE=95, HTTP_SEND_START=96, HTTP_SEND_END=99
    )
    model = timed("bert", 94, at_ms=1, trace_id=root["trace_id"], parent_span_id=root["span_id"])
    model |= {"attributes": {"triton.model_name": "bert", "triton.model_version": 1, "triton.request_id": "7"}}
    model["events"] = events(**REQUEST_EVENTS)
    compute = timed("compute", 55, at_ms=35, trace_id=root["trace_id"], parent_span_id=model["span_id"])
    compute["events"] = events(**COMPUTE_EVENTS)
    return [root, model, compute]


def message_pair(**consumer: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    producer = timed("send orders", 10, kind=4)
    return producer, timed("process orders", 20, at_ms=30, kind=5, **consumer)
