"""What becomes of spans in whatever pieces and order they come, again and again: each derived span once, by its id."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from testkit.sourced import (
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

from tailsight_collector.sources import SourceStages, apply, memory
from tailsight_storage.source_files import read_rules

Fields = dict[str, Any]
Times = dict[tuple[bytes, bytes], tuple[int, int, str]]


def below(producer: Fields, consumer: Fields) -> list[Fields]:
    """Make the one the other's parent."""
    return [producer, consumer | {"trace_id": producer["trace_id"], "parent_span_id": producer["span_id"]}]


def export() -> list[Fields]:
    """Of each kind something, as processes send it: children end, and come, before their parents."""
    root, model, compute = triton()
    return [llm_request(), compute, model, root, *below(*message_pair())]


def export_with_its_phases() -> list[Fields]:
    """Of a vLLM that sends them as spans."""
    requests = [llm_request() for _ in range(3)]
    return [each for own in requests for each in (*children(own), own)]


def times_of(spans: Iterable[Span]) -> Times:
    return {
        (each.trace_id, each.span_id): (each.start_time_unix_nano, each.end_time_unix_nano, attributes(each)["tailsight.stage"])
        for each in spans
    }  # fmt: skip


def delivered(stages: SourceStages, requests: Iterable[list[Fields]]) -> Times:
    return times_of(each for spans in requests for each in derived(applied(*spans, stages=stages)))


def test_one_span_a_request_derives_what_all_in_one_derive() -> None:
    """As Triton sends them (its processor exports each span when it ends): the queue ends with an event of another span."""
    sent = export()
    whole = delivered(SourceStages(), [sent])
    assert sorted(stage for _, _, stage in whole.values()) == sorted(
        ["queue", "prefill", "decode", "queue", "serialize", "gpu_kernel", "serialize", "network", "network", "queue"]
    )
    assert delivered(SourceStages(), [[each] for each in sent]) == whole


@pytest.mark.parametrize("made", [export, export_with_its_phases], ids=["derived", "sent"])
@pytest.mark.parametrize("seed", range(10))
def test_an_export_again_in_other_pieces_and_with_gaps_adds_nothing(
    seed: int, made: Callable[[], list[Fields]]
) -> None:
    dice, sent, stages = random.Random(seed), made(), SourceStages()
    whole = delivered(stages, [sent])
    for _ in range(5):
        left = [each for each in sent if dice.random() < 0.7]
        dice.shuffle(left)
        pieces = []
        while left:
            size = dice.randint(1, len(left))
            pieces.append(left[:size])
            left = left[size:]
        assert delivered(stages, pieces).items() <= whole.items()
    assert delivered(SourceStages(), [sent]) == whole


def test_of_several_children_the_earliest_event_counts_in_whatever_order_they_come() -> None:
    _, model, compute = triton()
    later = compute | {"span_id": b"later567"}
    later["events"] = [event | {"time_unix_nano": event["time_unix_nano"] + 10**6} for event in compute["events"]]
    [wanted] = [each for each in stages_ms(applied(compute, model)) if each[0] == "queue"]
    for order in ([later, compute, model], [model, later, compute]):
        assert wanted in stages_ms(applied(*order))
    for first, second in ((compute, later), (later, compute)):
        stages = SourceStages()
        applied(first, stages=stages)
        applied(second, stages=stages)
        assert stages_ms(applied(model, stages=stages)) == [wanted]


# --- a consumer whose exporter is faster than its producer's ----------------------------------------------------------


def test_a_consumer_that_comes_first_has_waited_too() -> None:
    producer, consumer = below(*message_pair())
    theirs = {"service.name": "worker", "host.name": "a"}
    stages = SourceStages()
    assert derived(applied(consumer, stages=stages, resource=theirs)) == []
    message = applied(producer, stages=stages, resource={"service.name": "web", "host.name": "a"})
    assert stages_ms(message) == [("queue", 10, 30)]
    named = [
        {pair.key: pair.value.string_value for pair in each.resource.attributes} for each in message.resource_spans
    ]
    assert [each["service.name"] for each in named] == ["web", "worker"], (
        "the queue is the consumer's, as in the other order"
    )
    other = SourceStages()
    applied(producer, stages=other, resource={"host.name": "a"})
    assert times_of(derived(applied(consumer, stages=other, resource={"host.name": "a"}))) == times_of(derived(message))


def test_all_who_consume_one_message_have_waited_and_others_have_not() -> None:
    producer, consumer = below(*message_pair())
    others = [
        timed("process", 5, at_ms=at, kind=5, trace_id=producer["trace_id"], parent_span_id=producer["span_id"])
        for at in (12, 40)
    ]
    too_early = timed("process", 5, at_ms=9, kind=5, trace_id=producer["trace_id"], parent_span_id=producer["span_id"])
    stages = SourceStages()
    for each in (consumer, *others, too_early, *below(*message_pair())[1:]):
        applied(each, stages=stages)
    assert sorted(stages_ms(applied(producer, stages=stages))) == [
        ("queue", 10, 12),
        ("queue", 10, 30),
        ("queue", 10, 40),
    ]


def test_a_batch_that_comes_before_its_messages_is_found_by_each() -> None:
    (one, _), (two, _) = message_pair(), message_pair()
    batch = timed("process batch", 20, at_ms=30, kind=5)
    batch["links"] = [{"trace_id": each["trace_id"], "span_id": each["span_id"]} for each in (one, two)]
    stages = SourceStages()
    applied(batch, stages=stages)
    assert [stages_ms(applied(each, stages=stages)) for each in (one, two)] == [[("queue", 10, 30)]] * 2


def test_a_consumer_of_another_host_or_with_a_large_resource_is_not_kept() -> None:
    producer, consumer = below(*message_pair())
    for resource in ({"host.name": "b"}, {"wide": "w" * memory.RESOURCE_BYTES}):
        stages = SourceStages()
        applied(consumer, stages=stages, resource=resource)
        assert derived(applied(producer, stages=stages)) == []


def test_what_is_remembered_of_consumers_has_an_end() -> None:
    known = memory.Memory()
    for number in range(memory.CONSUMERS + 5):
        known.wait((b"t", b"%d" % number), memory.Consumer(b"t", b"s", 1, "", b"", "queue", "x"))
    for number in range(memory.A_PRODUCERS_CONSUMERS + 5):
        known.wait((b"t", b"one"), memory.Consumer(b"t", b"%d" % number, 1, "", b"", "queue", "x"))
    assert known.consumers((b"t", b"3")) == ()
    assert len(known.consumers((b"t", b"one"))) == memory.A_PRODUCERS_CONSUMERS


def test_both_at_once_from_two_threads_miss_nothing() -> None:
    """Whoever of the two comes second finds the other, or both do."""
    stages, barrier = SourceStages(), threading.Barrier(2)
    pairs = [below(*message_pair()) for _ in range(200)]
    found: list[Times] = [{}, {}]

    def send(which: int) -> None:
        for pair in pairs:
            barrier.wait(60)
            found[which] |= times_of(derived(applied(pair[which], stages=stages)))

    threads = [threading.Thread(target=send, args=(which,)) for which in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert len(found[0] | found[1]) == len(pairs)


# --- what a derived span takes from whom -------------------------------------------------------------------------------


def rules_with_a_batch(tmp_path: Path) -> SourceStages:
    path = tmp_path / "mine.toml"
    path.write_text('[[rule]]\nname = "mine"\nmatch = { name = "run batch" }\nbatch = "compute"\n')
    return SourceStages(read_rules(path))


def test_a_phase_has_the_hardware_the_model_and_the_trace_state_of_its_span() -> None:
    own = llm_request({**VLLM, "tailsight.hardware": "NVIDIA L4", "tailsight.model": "mine"}, trace_state="a=1")
    for each in derived(applied(own)):
        said = attributes(each)
        assert (said["tailsight.hardware"], said["tailsight.model"], each.trace_state) == ("NVIDIA L4", "mine", "a=1")


def test_a_batch_says_how_large_it_was_and_where_it_ran_and_is_not_in_itself(tmp_path: Path) -> None:
    one, two, own = (timed("request", 50, kind=2) for _ in range(3))
    batch = timed("run batch", 20, at_ms=10, trace_id=own["trace_id"], parent_span_id=own["span_id"])
    batch["attributes"] = {"tailsight.hardware": "NVIDIA L4"}
    batch["links"] = [{"trace_id": each["trace_id"], "span_id": each["span_id"]} for each in (one, two, own, batch)]
    found = derived(applied(batch, stages=rules_with_a_batch(tmp_path)))
    assert {each.parent_span_id for each in found} == {one["span_id"], two["span_id"]}
    for each in found:
        sizes = [pair.value.int_value for pair in each.attributes if pair.key == "tailsight.batch.size"]
        assert (sizes, attributes(each)["tailsight.hardware"]) == ([2], "NVIDIA L4")


def test_of_very_many_links_the_first_thousand_count(tmp_path: Path) -> None:
    batch = timed("run batch", 20)
    batch["links"] = [{"trace_id": b"t" * 16, "span_id": number.to_bytes(8, "big")} for number in range(1, 1_500)]
    assert len(derived(applied(batch, stages=rules_with_a_batch(tmp_path)))) == apply.MAX_LINKS == 1_000
    producers = [timed("send", 1, kind=4) for _ in range(1_100)]
    consumer = timed("take", 5, at_ms=5, kind=5)
    consumer["links"] = [{"trace_id": each["trace_id"], "span_id": each["span_id"]} for each in producers]
    assert len(derived(applied(*producers, consumer))) == apply.MAX_LINKS


def test_a_queue_names_who_consumed() -> None:
    producer, consumer = below(*message_pair())
    [wait] = derived(applied(producer, consumer))
    assert [(each.trace_id, each.span_id) for each in wait.links] == [(consumer["trace_id"], consumer["span_id"])]


def test_an_event_of_the_span_itself_counts_before_its_childrens() -> None:
    _, model, compute = triton()
    model["events"] += events(COMPUTE_START=20)
    assert ("queue", 5, 20) in stages_ms(applied(compute, model))


def test_what_is_there_is_not_written_again() -> None:
    """Under another name neither: the sender's own word counts."""
    own = {**VLLM, "gen_ai.usage.input_tokens": 7, "tailsight.definition": "mine", "tailsight.model": "mine"}
    span = sent(applied(llm_request(own)))
    assert sorted({pair.key for pair in span.attributes}) == sorted(pair.key for pair in span.attributes)
    assert [pair.value.int_value for pair in span.attributes if pair.key == "gen_ai.usage.input_tokens"] == [7]
    assert (attributes(span)["tailsight.definition"], attributes(span)["tailsight.model"]) == ("mine", "mine")


def test_a_consumer_that_is_sent_twice_before_its_producer_has_waited_once() -> None:
    producer, consumer = below(*message_pair())
    stages = SourceStages()
    for _ in range(2):
        applied(consumer, stages=stages)
    assert stages_ms(applied(producer, stages=stages)) == [("queue", 10, 30)]
