"""kill -9 of a real collector: what was acknowledged is there once, in the table and in its roll-up."""

import random
import threading

import httpx
import pytest
from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_storage import open_store

STAGED = {"tailsight.stage": "compute"}


def numbered(count, first=0):
    return [span(name=f"span-{first + number}", attributes=STAGED) for number in range(count)]


def body(spans):
    return request(spans, {"service.name": "survivor"}).SerializeToString()


def names_of(collector):
    collector.wait_until_loaded()
    with open_store(collector.store) as store:
        rows = store.rows("SELECT name FROM spans WHERE service = 'survivor'")
        [(rolled_up,)] = store.rows("SELECT sum(spans) FROM stage_latency_1m WHERE service = 'survivor'")
        assert rolled_up == len(rows), "roll-up and table differ"
        return sorted(str(name) for (name,) in rows)


def test_spans_survive_a_kill_between_acknowledgement_and_load(tmp_path):
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        assert collector.post(body(numbered(500))).status_code == 200
        assert collector.health()["loading"]["loaded_segments"] == 0
        collector.kill()
        assert [path.suffix for path in (tmp_path / "journal").glob("2*")] == [".open"]
        collector.start()
        assert names_of(collector) == sorted(f"span-{number}" for number in range(500))


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in (2, 3))])
def test_spans_survive_kills_at_any_moment_of_receiving_and_loading(tmp_path, seed):
    """A sender posts without pause, the collector is killed at a random moment of it, again and again."""
    moments = random.Random(seed)
    acknowledged: list[str] = []
    in_doubt: list[str] = []
    with CollectorProcess(tmp_path, "--segment-age", "0.02") as collector:
        for round_number in range(3):
            killed = threading.Event()
            sent_enough = threading.Event()
            wanted = moments.randrange(5, 60)

            def send(round_number=round_number, killed=killed, sent_enough=sent_enough, wanted=wanted):
                with httpx.Client(timeout=10) as client:
                    for number in range(2000):
                        spans = numbered(40, first=(round_number * 2000 + number) * 40)
                        names = [str(each["name"]) for each in spans]
                        try:
                            answer = client.post(
                                f"{collector.otlp_url}/v1/traces", content=body(spans), headers=PROTOBUF
                            )
                        except httpx.TransportError:
                            in_doubt.extend(names)  # no answer: the collector may or may not have it
                            break
                        assert answer.status_code == 200
                        acknowledged.extend(names)
                        if number == wanted:
                            sent_enough.set()
                assert killed.wait(30)

            sender = threading.Thread(target=send)
            sender.start()
            assert sent_enough.wait(30)
            threading.Event().wait(moments.random() * 0.15)  # a random moment: in journal, insert or delete
            collector.kill()
            killed.set()
            sender.join()
            collector.start()
        stored = names_of(collector)
        assert len(set(stored)) == len(stored), "a span is there twice"
        assert set(acknowledged) <= set(stored), "an acknowledged span is lost"
        assert set(stored) <= set(acknowledged) | set(in_doubt)
        assert collector.stop() == 0


def test_a_clean_end_loads_everything(tmp_path):
    with CollectorProcess(tmp_path, "--segment-age", "60") as collector:
        assert collector.post(body(numbered(10))).status_code == 200
        assert collector.stop() == 0
        assert list((tmp_path / "journal").glob("2*")) == []
        collector.start()
        assert len(names_of(collector)) == 10


def test_a_second_collector_on_the_same_data_is_told_so(tmp_path):
    with (
        CollectorProcess(tmp_path),
        pytest.raises(AssertionError, match="in use by another collector"),
        CollectorProcess(tmp_path),
    ):
        pass


def test_the_working_folder_is_left_alone(tmp_path, monkeypatch):
    """A service's working folder may be `/` or read-only."""
    working = tmp_path / "working"
    working.mkdir(mode=0o500)
    monkeypatch.chdir(working)
    with CollectorProcess(tmp_path / "data") as collector:
        assert collector.post(body(numbered(3))).status_code == 200
        assert len(names_of(collector)) == 3
    assert list(working.iterdir()) == []
