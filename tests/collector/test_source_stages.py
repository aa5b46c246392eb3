"""What becomes of the spans of vLLM, SGLang, Triton and others, with known lengths; and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span, span_id, trace_id
from testkit.sourced import (
    CHILDREN,
    COMPUTE_EVENTS,
    NOW_NS,
    REQUEST_EVENTS,
    VLLM,
    applied,
    attributes,
    children,
    derived,
    events,
    llm_request,
    message_pair,
    sent,
    stages_ms,
    timed,
    triton,
)

from tailsight_collector.sources import SourceStages, apply
from tailsight_collector.sources.memory import Recent
from tailsight_storage.source_files import read_rules

# --- vLLM -------------------------------------------------------------------------------------------------------------


def test_a_request_of_vllm_has_its_phases_one_after_the_other() -> None:
    message = applied(llm_request())
    assert stages_ms(message) == [("queue", 0, 100), ("prefill", 100, 300), ("decode", 300, 900)]
    parent = sent(message)
    for each in derived(message):
        assert (each.trace_id, each.parent_span_id) == (parent.trace_id, parent.span_id)
        said = attributes(each)
        assert (said["tailsight.derived"], said["tailsight.source"], said["tailsight.model"]) == (
            "true",
            "vLLM",
            "llama",
        )
    assert attributes(derived(message)[1])["tailsight.definition"] == "prefill: from scheduling to the first token"
    said = attributes(parent)
    assert "tailsight.stage" not in said  # what its phases do not explain stays unaccounted
    assert said["tailsight.definition"].startswith("time_to_first_token: from arrival")
    tokens = {pair.key: pair.value.int_value for pair in parent.attributes if "usage" in pair.key}
    assert (tokens["gen_ai.usage.input_tokens"], tokens["gen_ai.usage.output_tokens"]) == (512, 64)


def test_vllm_with_the_other_names_is_read_the_same() -> None:
    other = {key.replace("time_in_model_", "time_in_model."): value for key, value in VLLM.items()}
    assert stages_ms(applied(llm_request(other))) == stages_ms(applied(llm_request()))


def test_vllm_before_it_timed_its_phases_has_them_from_the_first_token() -> None:
    old = {key: value for key, value in VLLM.items() if "time_in_model" not in key}
    message = applied(llm_request(old))
    assert stages_ms(message) == [("queue", 0, 100), ("prefill", 100, 350), ("decode", 350, 950)]
    assert (
        attributes(derived(message)[1])["tailsight.definition"]
        == "prefill: time to first token from arrival, less the queue"
    )


def test_a_first_token_before_the_end_of_the_queue_makes_no_prefill_and_moves_nothing() -> None:
    """Two clocks, or rounding: less than nothing is no phase, and the next one begins where the queue ends."""
    odd = {
        "gen_ai.latency.time_in_queue": 0.1,
        "gen_ai.latency.time_to_first_token": 0.09,
        "gen_ai.latency.e2e": 0.5,
    }
    assert stages_ms(applied(llm_request(odd))) == [("queue", 0, 100), ("decode", 100, 510)]


@pytest.mark.parametrize("queue", [-1, -0.1, "0.1", None], ids=repr)
def test_what_cannot_be_taken_off_leaves_its_phase_out(queue: object) -> None:
    odd = {
        "gen_ai.latency.time_in_queue": queue,
        "gen_ai.latency.time_to_first_token": 0.35,
        "gen_ai.latency.e2e": 0.95,
    }
    assert stages_ms(applied(llm_request(odd))) == [("decode", 0, 600)]


def test_ids_are_the_same_whenever_the_same_span_comes_and_others_for_others() -> None:
    one, other = llm_request(), llm_request()
    ids = [each.span_id for each in derived(applied(one))]
    assert ids == [each.span_id for each in derived(applied(other, one))][3:]
    assert len(set(ids) | {each.span_id for each in derived(applied(other))}) == 6


def test_what_was_changed_once_is_not_changed_again() -> None:
    stages = SourceStages()
    body = applied(llm_request(), stages=stages).SerializeToString()
    assert stages.applied(body, NOW_NS) == body
    assert SourceStages().applied(body, NOW_NS) == body


def test_phases_do_not_go_beyond_their_span() -> None:
    long = {**VLLM, "gen_ai.latency.time_in_model_decode": 0.9}
    assert stages_ms(applied(llm_request(long)))[-1] == ("decode", 300, 1000)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(6_500_000, id="nanoseconds"),
        pytest.param(650.0, id="milliseconds"),
    ],
)
def test_phases_in_another_unit_are_not_taken(wrong: float) -> None:
    message = applied(llm_request({**VLLM, "gen_ai.latency.time_in_model_decode": wrong}))
    assert derived(message) == []
    assert attributes(sent(message))["tailsight.source"] == "vLLM"


@pytest.mark.parametrize("wrong", [-0.1, -1, float("nan"), float("inf"), "0.6", None, True, [0.6]], ids=repr)
def test_a_phase_that_is_no_length_of_time_is_left_out(wrong: object) -> None:
    message = applied(llm_request({**VLLM, "gen_ai.latency.time_in_model_decode": wrong}))
    assert stages_ms(message) == [("queue", 0, 100), ("prefill", 100, 300)]


# --- who sends its phases itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [CHILDREN, ("vllm_queue", "vllm_prefill", "vllm_decode")], ids=["dots", "lines"])
def test_phases_that_come_as_spans_are_not_derived_as_well(names: tuple[str, ...]) -> None:
    parent = llm_request()
    message = applied(parent, *children(parent, names))
    assert derived(message) == []
    assert [attributes(sent(message, place)).get("tailsight.stage") for place in range(4)] == [
        None, "queue", "prefill", "decode",
    ]  # fmt: skip


def test_neither_where_they_come_before_in_another_request() -> None:
    stages, parent = SourceStages(), llm_request()
    applied(*children(parent), stages=stages)
    assert derived(applied(parent, stages=stages)) == []
    assert derived(applied(parent)) != []


def test_neither_where_another_process_has_sent_them_however_long_ago() -> None:
    """They are known by their trace, too."""
    stages, parent = SourceStages(), llm_request()
    applied(*children(parent), stages=stages, resource={"service.name": "engine"})
    body = request([parent], {"service.name": "api"}).SerializeToString()
    later = ExportTraceServiceRequest.FromString(stages.applied(body, NOW_NS + 3_600 * 10**9))
    assert derived(later) == []


def test_who_has_sent_them_once_is_held_to_send_them_for_a_while() -> None:
    """Another process of it may send them a little later than the request's own span; others are others."""
    stages = SourceStages()
    applied(*children(llm_request()), stages=stages)
    assert derived(applied(llm_request(), stages=stages)) == []
    assert derived(applied(llm_request(), stages=stages, resource={"service.name": "another"})) != []
    later_ns = NOW_NS + 601 * 10**9
    body = stages.applied(request([llm_request()]).SerializeToString(), later_ns)
    assert derived(ExportTraceServiceRequest.FromString(body)) != []


# --- SGLang -----------------------------------------------------------------------------------------------------------


def test_the_prefill_of_sglang_is_told_with_its_queue() -> None:
    alone = {key: value for key, value in VLLM.items() if key != "gen_ai.latency.time_in_queue"}
    message = applied(llm_request(alone), scope="sglang server")
    assert stages_ms(message) == [("prefill", 0, 200), ("decode", 200, 800)]
    assert (
        attributes(derived(message)[0])["tailsight.definition"]
        == "prefill: from dispatch to the first token, with the queue"
    )
    assert attributes(sent(message))["tailsight.source"] == "SGLang"


def test_and_without_it_where_the_queue_is_known() -> None:
    message = applied(llm_request(), scope="sglang server")
    assert stages_ms(message) == [("queue", 0, 100), ("prefill", 100, 200), ("decode", 200, 800)]
    assert (
        attributes(derived(message)[1])["tailsight.definition"]
        == "prefill: from dispatch to the first token, less the queue"
    )


# --- Triton -----------------------------------------------------------------------------------------------------------

TRITON = [("serialize", 35, 40), ("gpu_kernel", 40, 80), ("serialize", 80, 90)]


def test_the_events_of_triton_are_its_phases() -> None:
    root, model, compute = triton()
    message = applied(compute, model, root)
    assert sorted(stages_ms(message), key=lambda each: each[1]) == [
        ("network", 0, 1), ("queue", 5, 35), *TRITON, ("network", 96, 99),
    ]  # fmt: skip
    parents = {attributes(each)["tailsight.stage"]: each.parent_span_id for each in derived(message)}
    assert (parents["queue"], parents["gpu_kernel"]) == (model["span_id"], compute["span_id"])
    names = {each.name for each in derived(message) if attributes(each)["tailsight.stage"] == "serialize"}
    assert names == {"input copy", "output copy"}
    assert attributes(sent(message, 1))["tailsight.model"] == "bert"


def test_all_events_of_triton_may_be_on_one_span() -> None:
    [_, model, _] = triton()
    model["events"] = events(**REQUEST_EVENTS, **COMPUTE_EVENTS)
    assert stages_ms(applied(model)) == [("queue", 5, 35), *TRITON]


def test_the_queue_of_triton_is_unaccounted_where_its_end_is_not_known() -> None:
    [_, model, _] = triton()
    assert stages_ms(applied(model)) == []


def test_waiting_for_a_request_to_come_is_no_latency() -> None:
    root, *_ = triton()
    root["events"] = events(GRPC_WAITREAD_START=0, GRPC_WAITREAD_END=50, GRPC_SEND_START=96, GRPC_SEND_END=99)
    assert stages_ms(applied(root)) == [("network", 96, 99)]


def test_events_in_the_wrong_order_make_no_phase() -> None:
    [_, model, _] = triton()
    model["events"] = events(QUEUE_START=50, COMPUTE_START=40)
    assert stages_ms(applied(model)) == []


# --- queues between services ------------------------------------------------------------------------------------------


def test_what_was_produced_waits_in_a_queue_until_it_is_consumed() -> None:
    producer, consumer = message_pair()
    consumer |= {"trace_id": producer["trace_id"], "parent_span_id": producer["span_id"]}
    stages = SourceStages()
    applied(producer, stages=stages)
    message = applied(consumer, stages=stages)
    assert stages_ms(message) == [("queue", 10, 30)]
    [wait] = derived(message)
    assert (wait.parent_span_id, wait.kind) == (producer["span_id"], 5)  # nobody who produces waits for it


def test_also_in_the_traces_that_a_batch_links_to() -> None:
    (one, _), (two, _) = message_pair(), message_pair()
    batch = timed("process batch", 20, at_ms=30, kind=5)
    batch["links"] = [{"trace_id": each["trace_id"], "span_id": each["span_id"]} for each in (one, two)]
    message = applied(one, two, batch)
    assert stages_ms(message) == [("queue", 10, 30)] * 2
    assert [each.trace_id for each in derived(message)] == [one["trace_id"], two["trace_id"]]


def test_clocks_of_two_hosts_make_no_queue() -> None:
    producer, consumer = message_pair()
    consumer |= {"trace_id": producer["trace_id"], "parent_span_id": producer["span_id"]}
    stages = SourceStages()
    applied(producer, stages=stages, resource={"host.name": "a"})
    assert derived(applied(consumer, stages=stages, resource={"host.name": "b"})) == []


def test_a_batch_is_in_each_of_the_requests_that_it_links_to(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[[rule]]\nname = "mine"\nmatch = { name = "run batch" }\nmodel = "m"\nbatch = "compute"\n')
    one, two = timed("request", 50, kind=2), timed("request", 50, kind=2)
    batch = timed("run batch", 20, at_ms=10, attributes={"m": "bert"})
    null = {"trace_id": bytes(16), "span_id": bytes(8)}
    batch["links"] = [*({"trace_id": each["trace_id"], "span_id": each["span_id"]} for each in (one, two, one)), null]
    message = applied(one, two, batch, stages=SourceStages(read_rules(path)))
    assert stages_ms(message) == [("compute", 10, 30)] * 2
    for request_span, part in zip((one, two), derived(message), strict=True):
        assert (part.trace_id, part.parent_span_id) == (request_span["trace_id"], request_span["span_id"])
        assert part.links[0].span_id == batch["span_id"]
        assert attributes(part)["tailsight.model"] == "bert"
    assert len({part.span_id for part in derived(message)}) == 2


def test_a_message_that_is_only_passed_on_is_not_changed() -> None:
    producer, consumer = message_pair()
    body = request([producer, consumer]).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body


# --- everything else --------------------------------------------------------------------------------------------------


def test_an_explicit_stage_wins_and_a_request_that_no_rule_concerns_stays_byte_for_byte() -> None:
    body = request([llm_request({**VLLM, "tailsight.stage": "mine"}), span()]).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body


def test_a_client_is_the_network_and_a_call_of_a_model_is_compute() -> None:
    message = applied(
        span(kind=3, attributes={"http.request.method": "POST"}),
        span(kind=3, attributes={"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}),
        span(attributes={"gen_ai.operation.name": "execute_tool"}),
    )
    assert [attributes(sent(message, place))["tailsight.stage"] for place in range(3)] == ["network", "compute", "tool"]


def test_spans_that_will_be_rejected_stay_as_they_are() -> None:
    wrong = [
        llm_request(trace_id=b"short"),
        llm_request(span_id=bytes(8)),
        timed("llm_request", -1, kind=2, attributes=VLLM),
    ]
    body = request(wrong).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body


@pytest.mark.parametrize(("limit", "most"), [("MAX_DERIVED", 5), ("MAX_CONCERNED", 1)])
def test_a_request_with_too_many_phases_is_kept_as_it_came(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, limit: str, most: int
) -> None:
    monkeypatch.setattr(apply, limit, most)
    body = request([llm_request(), llm_request()]).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body
    assert "is kept without what the rules of sources say" in caplog.text


def test_a_defect_of_ours_loses_no_span(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(apply, "parts", fails)
    body = request([llm_request()]).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body
    assert "a defect" in caplog.text


def test_only_the_last_producers_are_remembered() -> None:
    recent: Recent[int, str] = Recent(2)
    for number in (1, 2, 1, 3):
        recent.put(number, str(number))
    assert [recent.get(number) for number in (1, 2, 3)] == ["1", None, "3"]


def test_a_request_that_would_unfold_too_far_is_kept_as_it_came(caplog: pytest.LogCaptureFixture) -> None:
    wide = {"wide": "w" * 1_000_000}
    body = request([llm_request() for _ in range(100)], wide).SerializeToString()
    assert SourceStages().applied(body, NOW_NS) is body
    assert "unfold" in caplog.text


def test_a_users_rule_takes_a_span_before_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[rule]]\nname = "mine"\nmatch = { name = "llm_*" }\n'
        '[[rule.phase]]\nstage = "warm-up"\nmilliseconds = "mine.warm_up"\n'
        '[[rule.phase]]\nstage = "work"\nfrom = "begin"\nto = "end"\n'
    )
    own = llm_request({**VLLM, "mine.warm_up": 20})
    own["events"] = events(begin=400, end=500)
    assert stages_ms(applied(own, stages=SourceStages(read_rules(path)))) == [("warm-up", 0, 20), ("work", 400, 500)]


def test_ids_are_those_of_every_version() -> None:
    """What is derived of one span has the ids that it had in every version: an earlier delivery must be recognised."""
    known = llm_request(trace_id=trace_id(1), span_id=span_id(2))
    assert [each.span_id.hex() for each in derived(applied(known))] == [
        "a594188d7e360871",
        "b22ef741805d34d3",
        "5cfb9672780c933b",
    ]
