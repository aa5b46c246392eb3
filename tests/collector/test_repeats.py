"""A numbered batch of our SDK that comes again is stored once; what others send twice is stored twice."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from testkit.otlp import request, span
from testkit.processes import CollectorProcess
from testkit.senders import Sidecar, apart

from tailsight_collector.errors import JournalError
from tailsight_collector.receive.intake import Intake
from tailsight_collector.receive.repeats import Repeats
from tailsight_collector.receive.signals import PROTOBUF, TRACES
from tailsight_storage import decoder, open_store

CHECKSUM = 0xB0D1
BATCH = "sender", 7


def stored(collector, service):
    collector.wait_until_loaded()
    with open_store(collector.store) as reader:
        [(spans,)] = reader.rows("SELECT count() FROM spans WHERE service = {service:String}", service=service)
        [(rolled_up,)] = reader.rows(
            "SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service
        )
        [(arrivals,)] = reader.rows(
            "SELECT count() FROM sender_batches WHERE service = {service:String}", service=service
        )
    assert spans == rolled_up
    return spans, arrivals


@pytest.mark.parametrize("how", ["together", "apart"])
def test_a_batch_that_comes_again_is_stored_once(collector, how):
    sidecar = Sidecar(service=f"again-{how}")
    batch = sidecar.batch(5) if how == "together" else apart(sidecar.batch(5))
    body = batch.SerializeToString()
    answers = [collector.post(body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert collector.post(sidecar.batch(2).SerializeToString()).status_code == 200
    assert stored(collector, sidecar.service) == (7, 2)


def test_the_answer_is_the_same_each_time(collector):
    sidecar = Sidecar(service="again-rejected")
    body = sidecar.batch([span(), span(trace_id=b"short")]).SerializeToString()
    first, second = (collector.post(body).content for _ in range(2))
    assert first == second
    assert b"rejected 1 of 2" in first
    assert stored(collector, sidecar.service) == (1, 1)


def test_many_copies_at_once_are_stored_once(collector):
    sidecar = Sidecar(service="again-at-once")
    body = sidecar.batch(5).SerializeToString()
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: collector.post(body).status_code, range(24)))
    assert answers == [200] * 24
    assert stored(collector, sidecar.service) == (5, 1)


def test_the_same_number_with_other_bytes_loses_nothing(collector):
    sidecar = Sidecar(service="again-other")
    for _ in range(2):
        sidecar.number = 0
        assert collector.post(sidecar.batch(3).SerializeToString()).status_code == 200
    assert stored(collector, sidecar.service) == (6, 2)


def test_what_others_send_twice_is_stored_twice(collector):
    body = request([span()], {"service.name": "again-foreign"}).SerializeToString()
    assert [collector.post(body).status_code for _ in range(2)] == [200, 200]
    assert stored(collector, "again-foreign") == (2, 0)


@pytest.mark.parametrize("native", ["1", "0"])
def test_a_collector_that_was_killed_knows_what_it_had(tmp_path, monkeypatch, native):
    if native == "1" and decoder.decoder is None:
        pytest.skip(decoder.why_not)
    monkeypatch.setenv("TAILSIGHT_NATIVE", native)
    sidecar = Sidecar(service="killed")
    loaded, waiting = (sidecar.batch(4).SerializeToString() for _ in range(2))
    with CollectorProcess(tmp_path / "data", "--segment-age", "60") as collector:
        assert collector.post(loaded).status_code == 200
        assert collector.stop() == 0  # which loads it
        collector.start()
        assert collector.post(waiting).status_code == 200
        collector.kill()  # it waits in the journal
        collector.start()
        for body in (loaded, waiting, loaded, waiting):
            assert collector.post(body).status_code == 200
        assert stored(collector, "killed") == (8, 2)


def test_a_number_that_was_given_again_after_a_crash_of_the_senders_loses_nothing(tmp_path):
    """A sidecar that was killed before it wrote down how far it was: the next one puts more spans under the number."""
    sidecar = Sidecar(service="both-killed")
    sent = sidecar.batch(4).SerializeToString()
    with CollectorProcess(tmp_path / "data") as collector:
        assert collector.post(sent).status_code == 200
        assert collector.stop() == 0
        collector.start()
        sidecar.number, sidecar.recorded, sidecar.sent = 0, 0, 0
        assert collector.post(sidecar.batch(6).SerializeToString()).status_code == 200
        assert collector.post(sent).status_code == 200
        assert stored(collector, "both-killed") == (10, 2)


def test_a_sender_whose_name_is_no_name_is_not_remembered():
    message = Sidecar(id="x" * 1_000_000).batch(1).SerializeToString()
    assert TRACES.decode(message, PROTOBUF).outcome.batch is None


def test_a_batch_that_could_not_be_written_down_never_came():
    async def run():
        repeats = Repeats()
        written = asyncio.get_running_loop().create_future()
        repeats.take(BATCH, CHECKSUM, written)
        again = asyncio.ensure_future(repeats.is_taken(BATCH, CHECKSUM))
        await asyncio.sleep(0)
        assert not again.done()
        written.set_exception(OSError("disk full"))
        assert await again is False
        assert repeats.count == 0

    asyncio.run(run())


def test_the_oldest_are_forgotten_beyond_the_limit():
    async def run():
        repeats = Repeats(limit=2)
        for number in range(3):
            written = asyncio.get_running_loop().create_future()
            repeats.take(("sender", number), CHECKSUM, written)
            written.set_result(None)
        await asyncio.sleep(0)
        assert [await repeats.is_taken(("sender", number), CHECKSUM) for number in range(3)] == [False, True, True]
        assert repeats.count == 2

    asyncio.run(run())


def test_a_client_that_leaves_changes_nothing():
    """Its request is on its way to the disk: it is remembered when it gets there, or taken again if it does not."""
    go = threading.Event()

    class SlowJournal:
        appended = 0

        def append(self, record):
            self.appended += 1
            return threads.submit(self.write)

        def write(self):
            go.wait(30)
            if self.appended == 1:
                raise JournalError("no")

    async def run():
        intake = Intake(TRACES, journal, threads, max_request_bytes=10**6)
        body = Sidecar().batch(2).SerializeToString()
        leaving = asyncio.ensure_future(intake.take(body, PROTOBUF))
        await asyncio.sleep(0)
        leaving.cancel()
        again = asyncio.ensure_future(intake.take(body, PROTOBUF))
        await asyncio.sleep(0)
        go.set()
        assert await again == b""
        assert leaving.cancelled()
        assert journal.appended == 2
        assert await intake.take(body, PROTOBUF) == b""
        assert journal.appended == 2
        assert intake.repeats.count == 1

    with ThreadPoolExecutor(2) as threads:
        journal = SlowJournal()
        asyncio.run(run())
