"""Many times kill -9 under load, at moments of every kind: nothing acknowledged is lost, nothing is there twice.

Senders do as our SDK does: a batch that was not answered is sent again, byte for byte, until it is.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testkit.load import Load, LoadError
from testkit.otlp import any_value, request, trace_id
from testkit.processes import CollectorProcess

from tailsight_storage import open_store

KILLS = int(os.environ.get("TAILSIGHT_KILLS", "30"))
SPANS = 64
PATIENCE_S = 30
SERVICE = "many-kills"
SENDER = "00000000deadbeef"


def batch(number: int) -> bytes:
    """Numbered; its spans have the number as their trace id."""
    now_ns = time.time_ns()
    spans = [
        {
            "trace_id": trace_id(number),
            "span_id": (index + 1).to_bytes(8, "big"),
            "name": f"span-{index}",
            "start_time_unix_nano": now_ns - 10**9,
            "end_time_unix_nano": now_ns - 10**9 + index,
            "attributes": {"tailsight.stage": f"stage-{index % 6}", "index": index},
        }
        for index in range(SPANS)
    ]
    message = request(spans, {"service.name": SERVICE})
    scope = message.resource_spans[0].scope_spans[0].scope
    said = {"tailsight.sender.id": SENDER, "tailsight.batch.number": number, "tailsight.batch.spans": SPANS}
    for key, value in said.items():
        scope.attributes.add(key=key, value=any_value(value))
    return message.SerializeToString()


class Sender(threading.Thread):
    """Sends until the collector is gone; what was not answered is first in the next one's line."""

    def __init__(self, url: str, unanswered: dict[int, bytes], first: int) -> None:
        super().__init__()
        self._url = url
        self._again = list(unanswered.items())
        self._next = first
        self.sent = dict(unanswered)
        self.acknowledged: set[int] = set()
        self.stop = threading.Event()

    def run(self) -> None:
        order: list[int] = []

        def bodies() -> Iterator[bytes]:
            for number, body in self._again:
                order.append(number)
                yield body
            while not self.stop.is_set():
                number, self._next = self._next, self._next + 1
                self.sent[number] = batch(number)
                order.append(number)
                yield self.sent[number]

        load = Load(self._url, connections=6)
        try:
            for place, _ in load.outcomes(bodies()):
                self.acknowledged.add(order[place])
        except (LoadError, OSError):
            pass  # killed
        finally:
            load.close()

    @property
    def unanswered(self) -> dict[int, bytes]:
        return {number: body for number, body in self.sent.items() if number not in self.acknowledged}

    @property
    def next_number(self) -> int:
        return self._next


def spin_until(holds: Callable[[], bool]) -> bool:
    """Wait without a sleep: the moment is what counts."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        if holds():
            return True
    return False


def closed_segments(journal: Path) -> set[str]:
    return {path.name for path in journal.glob("*.otlp")}


def wait_for_moment(kind: str, journal: Path, dice: random.Random) -> None:
    """Come back while requests are written down, while a segment is inserted, or while segments are deleted."""
    if kind == "journal":
        assert spin_until(lambda: any(journal.glob("*.open")))
    elif kind == "insert":
        before = closed_segments(journal)
        assert spin_until(lambda: bool(closed_segments(journal) - before))
    else:
        seen: set[str] = set()

        def one_is_gone() -> bool:
            now = closed_segments(journal)
            gone = bool(seen - now)
            seen.update(now)
            return gone

        assert spin_until(one_is_gone)
        return
    threading.Event().wait(dice.random() * 0.3)


@pytest.mark.long  # test_exactly_once.py kills less often
@pytest.mark.timeout(600)
def test_many_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    kinds = ["journal", "insert", "delete"] * (KILLS // 3)
    dice.shuffle(kinds)
    acknowledged: set[int] = set()
    unanswered: dict[int, bytes] = {}
    first = 1
    with CollectorProcess(tmp_path, "--segment-age", "0.05") as collector:
        for kind in kinds:
            sender = Sender(collector.otlp_url, unanswered, first)
            sender.start()
            wait_for_moment(kind, tmp_path / "journal", dice)
            collector.kill()
            sender.join(PATIENCE_S)
            assert not sender.is_alive()
            acknowledged |= sender.acknowledged
            unanswered, first = sender.unanswered, sender.next_number
            collector.start()
        last = Sender(collector.otlp_url, unanswered, first)
        last.stop.set()  # only what is left
        last.start()
        last.join(PATIENCE_S)
        acknowledged |= last.acknowledged
        assert not last.unanswered
        assert acknowledged == set(range(1, last.next_number))
        assert len(acknowledged) > KILLS
        collector.wait_until_loaded()
        with open_store(collector.store) as store:
            stored = store.rows(
                "SELECT reinterpretAsUInt64(reverse(substring(trace_id, 9, 8))) AS batch, count(), uniqExact(span_id) "
                "FROM spans WHERE service = {service:String} GROUP BY batch",
                service=SERVICE,
            )
            assert {number for number, _, _ in stored} == acknowledged
            assert [row for row in stored if row[1:] != (SPANS, SPANS)] == []
            by_stage = "SELECT stage, {} FROM {} WHERE service = 'many-kills' GROUP BY stage ORDER BY stage"
            spans = store.rows(by_stage.format("count(), sum(duration_ns), max(duration_ns)", "spans"))
            rolled_up = store.rows(
                by_stage.format("sum(spans), sum(duration_sum_ns), max(duration_max_ns)", "stage_latency_1m")
            )
            assert spans == rolled_up
            assert store.rows("SELECT count(), uniqExact(number), sum(arrived) FROM sender_batches") == [
                (len(acknowledged), len(acknowledged), len(acknowledged) * SPANS)
            ]
            assert store.rows("SELECT count() FROM rejected_spans") == [(0,)]
        assert collector.stop() == 0
