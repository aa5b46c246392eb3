"""Collectors whose store is another collector: two load into one at the same time, one of them dies in between."""

import threading

import httpx
import pytest
from testkit.otlp import request, span
from testkit.ports import BOTH, SENDER, as_caller, write_tokens
from testkit.processes import PROTOBUF, CollectorProcess, eventually

from tailsight_storage import open_store

BATCHES, SPANS = 30, 40


@pytest.fixture
def keeper(tmp_path):
    tokens = write_tokens(tmp_path / "tokens.txt")
    with CollectorProcess(tmp_path / "keeper", "--tokens", str(tokens)) as running:
        yield running


def sending_to(keeper, folder, *options):
    return CollectorProcess(folder, "--store", as_caller(SENDER, keeper.store), "--segment-age", "0.02", *options)


class Sender(threading.Thread):
    """Posts numbered spans to a collector; `acknowledged` and `in_doubt` are their names."""

    def __init__(self, collector, service, batches=BATCHES, first=0):
        super().__init__(daemon=True)
        self.collector, self.service = collector, service
        self.batches = range(first, first + batches)
        self.acknowledged, self.in_doubt = [], []
        self.some = threading.Event()

    def run(self):
        with httpx.Client(timeout=30) as client:
            for number in self.batches:
                names = [f"{self.service}-{number}-{position}" for position in range(SPANS)]
                body = request(
                    [span(name=name, attributes={"tailsight.stage": "queue"}) for name in names],
                    {"service.name": self.service},
                )
                try:
                    answer = client.post(
                        f"{self.collector.otlp_url}/v1/traces", content=body.SerializeToString(), headers=PROTOBUF
                    )
                except httpx.TransportError:
                    self.in_doubt += names
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged += names
                if len(self.acknowledged) >= SPANS * 5:
                    self.some.set()


def stored(keeper, service):
    with open_store(as_caller(BOTH, keeper.store)) as store:
        rows = store.rows("SELECT name FROM spans WHERE service = {service:String}", service=service)
        [(rolled_up,)] = store.rows(
            "SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service
        )
        assert rolled_up == len(rows), "roll-up and table differ"
        return sorted(str(name) for (name,) in rows)


def test_two_collectors_load_into_one_at_the_same_time(keeper, tmp_path):
    with sending_to(keeper, tmp_path / "b") as b, sending_to(keeper, tmp_path / "c") as c:
        senders = [
            Sender(b, "through-b"),
            Sender(c, "through-c"),
            Sender(b, "shared"),
            Sender(c, "shared", first=BATCHES),
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(120)
        for collector in (b, c):
            collector.wait_until_loaded()
        assert stored(keeper, "through-b") == sorted(senders[0].acknowledged)
        assert stored(keeper, "through-c") == sorted(senders[1].acknowledged)
        assert stored(keeper, "shared") == sorted(senders[2].acknowledged + senders[3].acknowledged)
        assert len(senders[0].acknowledged) == BATCHES * SPANS
        for collector in (b, c):
            assert collector.health()["loading"]["quarantined_records"] == 0
            assert collector.stop() == 0


def test_a_collector_that_is_killed_while_it_loads_into_another_loses_nothing_and_doubles_nothing(keeper, tmp_path):
    with sending_to(keeper, tmp_path / "b") as b, sending_to(keeper, tmp_path / "c") as c:
        beside = Sender(c, "beside")
        beside.start()
        killed = []
        for round_number in range(3):
            sender = Sender(b, "killed", batches=1000, first=round_number * 1000)
            sender.start()
            assert sender.some.wait(60)
            b.kill()
            sender.join(60)
            b.start()
            killed.append(sender)
        beside.join(120)
        for collector in (b, c):
            collector.wait_until_loaded()
        found = stored(keeper, "killed")
        acknowledged = {name for sender in killed for name in sender.acknowledged}
        in_doubt = {name for sender in killed for name in sender.in_doubt}
        assert len(set(found)) == len(found), "a span is there twice"
        assert acknowledged <= set(found), "an acknowledged span is lost"
        assert set(found) <= acknowledged | in_doubt
        assert stored(keeper, "beside") == sorted(beside.acknowledged)


def test_a_keeper_that_is_killed_is_waited_for(keeper, tmp_path):
    with sending_to(keeper, tmp_path / "b") as b:
        sender = Sender(b, "waits", batches=60)
        sender.start()
        assert sender.some.wait(60)
        keeper.kill()
        sender.join(120)
        assert len(sender.acknowledged) == 60 * SPANS, "acknowledged while the store was away"
        eventually(lambda: b.health()["loading"]["waiting_segments"] > 0, "segments wait")
        keeper.start()
        b.wait_until_loaded()
        assert stored(keeper, "waits") == sorted(sender.acknowledged)
        assert b.health()["loading"]["quarantined_records"] == 0


def test_a_collector_without_the_right_to_send_says_so_and_keeps_what_it_acknowledged(keeper, tmp_path):
    from testkit.ports import READER

    with CollectorProcess(tmp_path / "b", "--store", as_caller(READER, keeper.store), "--segment-age", "0.02") as b:
        assert b.post(request([span()], {"service.name": "reader"}).SerializeToString()).status_code == 200
        eventually(lambda: b.health()["loading"]["last_error"] != "", "loading fails")
        health = b.health()
        assert health["status"] == "degraded"
        assert health["loading"]["quarantined_records"] == 0
        assert health["journal"]["bytes"] > 0
        assert b.stop() == 0
    with sending_to(keeper, tmp_path / "b") as b:
        b.wait_until_loaded()
        assert len(stored(keeper, "reader")) == 1
