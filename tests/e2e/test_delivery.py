"""Numbered batches over real sockets into a real collector process, through crashes, into the account of what was lost."""

import json
import random
import threading

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from testkit.otlp import request
from testkit.processes import PROTOBUF, CollectorProcess
from testkit.senders import Sidecar

from tailsight_analysis import SenderState, Window, connect, delivery


def post(collector, *messages):
    for message in messages:
        assert collector.post(message.SerializeToString()).status_code == 200


def device(collector, *, grace_s=0.0):
    collector.wait_until_loaded()
    with connect(collector.store) as store:
        [found] = delivery(store, Window.last(), grace_s=grace_s).devices
        return found


def stored_spans(collector):
    with connect(collector.store) as store:
        return store.rows("SELECT count() FROM spans")[0][0]


def test_out_of_order_twice_and_through_a_crash_nothing_is_lost(tmp_path):
    """The collector dies with acknowledged batches in its journal, and the sender sends one of them again."""
    sidecar = Sidecar(host="edge-7")
    messages = [sidecar.batch(number) for number in range(1, 40)] + [sidecar.batch(0, last=True)]
    random.Random(1).shuffle(messages)
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        post(collector, *messages[:25])
        assert collector.health()["loading"]["loaded_segments"] == 0
        collector.kill()
        collector.start()
        post(collector, messages[24], *messages[25:])
        assert collector.stop() == 0
        collector.start()
        found = device(collector)
        assert (found.sent, found.stored, found.lost, found.outstanding) == (780, 780, 0, 0)
        assert found.repeated_batches == 0  # it was known, and is not stored again
        assert stored_spans(collector) == 780 + found.repeated_spans
        assert found.senders[0].state is SenderState.ENDED


@pytest.mark.parametrize("seed", range(2))
def test_the_account_survives_kills_at_any_moment(tmp_path, seed):
    """A sender that repeats what was not answered, as ours does, while the collector is killed again and again."""
    moments = random.Random(seed)
    sidecar = Sidecar(host="edge-7")
    with CollectorProcess(tmp_path, "--segment-age", "0.02") as collector:
        for _ in range(2):
            unanswered = sidecar.batch(20)
            sent_enough, wanted = threading.Event(), moments.randrange(5, 40)

            def send(first=unanswered, sent_enough=sent_enough, wanted=wanted):
                nonlocal unanswered
                unanswered = first
                with httpx.Client(timeout=10) as client:
                    for number in range(2000):
                        try:
                            answer = client.post(
                                f"{collector.otlp_url}/v1/traces",
                                content=unanswered.SerializeToString(),
                                headers=PROTOBUF,
                            )
                        except httpx.TransportError:
                            return
                        assert answer.status_code == 200
                        unanswered = sidecar.batch(20)
                        if number == wanted:
                            sent_enough.set()

            sender = threading.Thread(target=send)
            sender.start()
            assert sent_enough.wait(30)
            threading.Event().wait(moments.random() * 0.15)  # a random moment: in journal, insert or delete
            collector.kill()
            sender.join()
            collector.start()
            post(collector, unanswered)
        post(collector, sidecar.batch(0, last=True))
        found = device(collector)
        assert (found.lost, found.outstanding, found.missing_batches, found.contradictions) == (0, 0, 0, 0)
        assert found.sent == found.stored == sidecar.sent
        assert stored_spans(collector) == found.stored + found.repeated_spans


def test_a_gap_and_dropped_spans_are_lost_exactly(tmp_path):
    sidecar = Sidecar(host="edge-7")
    with CollectorProcess(tmp_path) as collector:
        post(collector, *[sidecar.batch(10) for _ in range(16)])
        for spans in (1, 2, 3):
            sidecar.batch(spans)  # 17 to 19 never leave
        sidecar.drop("buffer_full", 7)
        post(collector, sidecar.batch(10))
        assert [gap.label for gap in device(collector, grace_s=300).senders[0].gaps] == ["17–19"]
        running = device(collector, grace_s=300)
        assert (running.senders[0].state, running.lost, running.outstanding) == (SenderState.RUNNING, 7, 6)
        post(collector, sidecar.batch(0, last=True))
        ended = device(collector)
        assert ended.lost_by == {"buffer_full": 7, "missing_batches": 6}
        assert (ended.sent, ended.stored, ended.outstanding) == (176, 170, 0)


def test_a_batch_in_json_and_a_last_one_without_spans_count_as_well(tmp_path):
    sidecar = Sidecar(host="edge-7")
    with CollectorProcess(tmp_path) as collector:
        document = MessageToDict(sidecar.batch(0, last=True))
        answer = collector.post(json.dumps(document).encode(), {"Content-Type": "application/json"})
        assert answer.status_code == 200
        found = device(collector)
        assert (found.batches, found.sent, found.senders[0].state) == (1, 0, SenderState.ENDED)


def test_a_request_with_neither_spans_nor_a_number_is_not_journaled(tmp_path):
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        post(collector, request([]))
        assert collector.health()["journal"]["bytes"] == 0
        post(collector, Sidecar().batch(0))
        assert collector.health()["journal"]["bytes"] > 0


def test_two_senders_of_one_host_and_a_service_that_starts_anew(tmp_path):
    first, anew, other = Sidecar(service="ranker"), Sidecar(service="ranker"), Sidecar(service="camera")
    with CollectorProcess(tmp_path) as collector:
        post(collector, first.batch(5), other.batch(2), first.batch(5, last=True), anew.batch(3))
        other.batch(4)
        post(collector, other.batch(1, last=True))
        found = device(collector)
        assert (found.host, found.sent, found.lost, len(found.senders)) == ("edge-7", 20, 4, 3)
        assert [(sender.service, sender.lost) for sender in found.senders if sender.lost] == [("camera", 4)]
