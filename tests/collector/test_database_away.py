"""A server that refuses, hangs, breaks off or is slow: segments wait, clients feel it only when the journal is full."""

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import urllib3
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually
from testkit.unsteady import UnsteadyProxy

from tailsight_collector import JournalFullError
from tailsight_collector.keep.line import Line
from tailsight_collector.keep.records import encode_record
from tailsight_storage import open_store

PATIENCE_S = 90

MANY_ATTEMPTS = 60  # ten minutes of them at the longest backoff, 10 s
_services = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A collector that others may insert into over ClickHouse's protocol."""
    with CollectorProcess(tmp_path_factory.mktemp("server"), "--sql-ingest") as running:
        yield running


@pytest.fixture
def proxy(server):
    with UnsteadyProxy(urlsplit(server.store).port) as proxy:
        yield proxy


class Sender:
    """A line that loads into the server by way of the proxy."""

    def __init__(self, folder, proxy, max_bytes=1 << 30):
        self.service = f"away-{next(_services)}"
        self.names = []
        self.line = Line(folder, segment_bytes=1, segment_age_s=0.01, max_bytes=max_bytes)
        self.line.open()
        self.store = open_store(f"clickhouse://127.0.0.1:{proxy.port}/tailsight")
        self.store._client.timeout = urllib3.Timeout(connect=5, read=2)
        self.line.load_into(self.store.insert_otlp_traces, self.line.keeping_of(self.store, "traces", ()))

    def take(self, count=1):
        for _ in range(count):
            name = f"span-{len(self.names)}"
            message = request([span(name=name, attributes={"tailsight.stage": "s"})], {"service.name": self.service})
            self.line.journal.append(encode_record(message.SerializeToString(), time.time_ns())).result(PATIENCE_S)
            self.names.append(name)

    @property
    def numbers(self):
        return self.line.numbers()

    def wait_until_loaded(self):
        eventually(lambda: self.numbers.journal_bytes == 0, "the journal is empty", PATIENCE_S)

    def close(self, timeout_s=PATIENCE_S):
        self.line.stop_taking()
        closed = self.line.close(timeout_s)
        self.store.close()
        return closed


@pytest.fixture
def sender(tmp_path, proxy, monkeypatch):
    monkeypatch.setattr("tailsight_collector.keep.loader.FIRST_BACKOFF_S", 0.0)
    monkeypatch.setattr("tailsight_collector.keep.loader.LAST_BACKOFF_S", 0.01)
    sender = Sender(tmp_path / "journal", proxy, max_bytes=4_000)
    yield sender
    proxy.set("pass")
    sender.close()


def stored(server, service):
    with open_store(server.store) as store:
        rows = store.rows("SELECT name FROM spans WHERE service = {service:String}", service=service)
        [(rolled_up,)] = store.rows(
            "SELECT sum(spans) FROM stage_latency_1m WHERE service = {service:String}", service=service
        )
    assert rolled_up == len(rows)
    return Counter(str(name) for (name,) in rows)


@pytest.mark.parametrize("fault", ["refuse", "reset", "lose_answer", "hang"])
def test_whatever_is_wrong_with_the_way_to_the_server_all_is_there_once(server, proxy, sender, fault):
    sender.take(3)
    sender.wait_until_loaded()
    proxy.set(fault)
    sender.take(3)
    eventually(lambda: proxy.met > 2, "the loader has tried", PATIENCE_S)
    eventually(lambda: sender.line.is_degraded, "it is said", PATIENCE_S)
    assert sender.numbers.waiting_segments > 0
    assert sender.numbers.oldest_unloaded_age_s > 0
    proxy.set("pass")
    sender.wait_until_loaded()
    assert not sender.line.is_degraded
    assert stored(server, sender.service) == Counter(sender.names)
    assert sender.numbers.quarantined_records == 0


@pytest.mark.long
def test_a_server_that_is_away_for_an_hour_fills_the_journal_and_then_clients_wait(server, proxy, sender):
    proxy.set("refuse")
    with pytest.raises(JournalFullError, match="of 4000 at most"):
        sender.take(1000)
    taken = len(sender.names)
    eventually(lambda: proxy.met >= MANY_ATTEMPTS, "many attempts", 60)
    with pytest.raises(JournalFullError):
        sender.take()
    proxy.set("pass")
    sender.wait_until_loaded()
    sender.take()
    sender.wait_until_loaded()
    assert len(sender.names) == taken + 1
    assert stored(server, sender.service) == Counter(sender.names)
    assert (sender.numbers.oldest_unloaded_age_s, sender.numbers.kept_bytes) == (0.0, 0)


def test_an_end_while_the_server_is_away_leaves_it_to_the_next_start(server, proxy, tmp_path):
    first = Sender(tmp_path / "journal", proxy)
    proxy.set("refuse")
    first.take(2)
    eventually(lambda: proxy.met > 0, "the loader has tried", PATIENCE_S)
    assert first.close(0.1)
    proxy.set("pass")
    second = Sender(tmp_path / "journal", proxy)
    second.service, second.names = first.service, first.names
    second.take()
    second.wait_until_loaded()
    assert second.close()
    assert stored(server, second.service) == Counter(second.names)


def test_a_slow_insert_holds_up_no_client(tmp_path, proxy):
    """An insert may take minutes: what comes meanwhile is acknowledged and waits."""
    may_go_on, began = threading.Event(), threading.Event()
    kept = []

    def slow(data, token):
        began.set()
        assert may_go_on.wait(PATIENCE_S)
        kept.append(token)

    line = Line(tmp_path, segment_bytes=1, segment_age_s=60, max_bytes=1 << 20)
    line.open()
    line.load_into(slow)
    with ThreadPoolExecutor(1) as pool:
        line.journal.append(encode_record(b"a", 1)).result(PATIENCE_S)
        assert began.wait(PATIENCE_S)
        for _ in range(5):
            pool.submit(lambda: line.journal.append(encode_record(b"b", 1)).result(PATIENCE_S)).result(PATIENCE_S)
    assert kept == []
    assert line.numbers().journal_bytes > 0
    may_go_on.set()
    line.stop_taking()
    assert line.close(PATIENCE_S)
    assert len(kept) == len(set(kept)) == 6
    numbers = line.numbers()
    assert (numbers.loads, numbers.journal_bytes) == (6, 0)
    assert numbers.load_s >= numbers.last_load_s > 0
