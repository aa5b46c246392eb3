"""What a query may take, who waits for whom, and that the loader waits for nobody."""

import asyncio
import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
from testkit.otlp import request, span
from testkit.ports import BOTH, READER, PortHere, as_caller, write_tokens
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.keep.records import encode_record
from tailsight_collector.query import sql_readers
from tailsight_collector.receive import in_flight
from tailsight_storage import open_store

ENDLESS = "SELECT count() FROM numbers(1000000000000000) WHERE sipHash64(number, {number}) = 1"
HEAVY = (
    "SELECT uniqExact(cityHash64(number)) FROM numbers_mt(1000000000000) WHERE sipHash64(number) % 3 = 1",
    "SELECT count() FROM numbers(10000000) a CROSS JOIN numbers(10000000) b WHERE sipHash64(a.number, b.number) = 1",
    "SELECT sipHash64(number) % 1000 AS h, count() FROM numbers(1000000000000) GROUP BY h ORDER BY h",
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("tokens") / "tokens.txt")


@pytest.fixture
def serve(engine, tokens, monkeypatch):
    """Serve with other limits than usual."""
    usual = sql_readers.reader_limits()
    opened = []

    def served(patience_s=30.0, waiting=64, **limits):
        monkeypatch.setattr(sql_readers, "reader_limits", lambda: usual | limits)
        monkeypatch.setattr(sql_readers, "MAX_WAITING", waiting)
        opened.append(PortHere(engine, tokens, patience_s=patience_s))
        return opened[-1].__enter__()

    yield served
    for port in opened:
        port.__exit__(None, None, None)


class Asking:
    """Queries in threads of their own, that leave when told to."""

    def __init__(self, url, token=READER):
        self.url, self.token = url, token
        self.answers, self._threads, self._loops = [], [], []

    def start(self, statement):
        started = threading.Event()

        async def ask():
            self._loops.append((asyncio.get_running_loop(), asyncio.current_task()))
            started.set()
            async with httpx.AsyncClient(timeout=120, auth=("any", self.token)) as client:
                self.answers.append(await client.post(self.url, content=statement))

        def run():
            with contextlib.suppress(asyncio.CancelledError):
                asyncio.run(ask())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        assert started.wait(30)

    def leave(self, which=slice(None)):
        for loop, task in self._loops[which]:
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)
        for thread in self._threads[which]:
            thread.join(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()


def ask(port, statement, token=READER):
    return httpx.post(port.url, content=statement, auth=("any", token), timeout=60)


def sql_url(running):
    return "http://" + running.store.removeprefix("clickhouse://").removesuffix("/tailsight")


def readers(port):
    return port.port._readers


@pytest.mark.parametrize(
    ("limits", "statement", "code", "way_out"),
    [
        ({"max_result_rows": 100}, "SELECT number FROM numbers(101)", "396", "add a LIMIT"),
        ({"max_result_bytes": 1000}, "SELECT repeat(toString(number), 500) FROM numbers(100)", "396", "add a LIMIT"),
        ({"max_execution_time": 1}, ENDLESS.format(number=0), "159", "shorter window"),
        ({"max_memory_usage": 50_000_000}, "SELECT groupArray(number) FROM numbers(100000000)", "241", "aggregate earlier"),
    ],
)  # fmt: skip
def test_a_query_that_meets_a_limit_is_told_which_and_what_to_do(serve, limits, statement, code, way_out):
    port = serve(**limits)
    answer = ask(port, statement)
    assert answer.headers["x-clickhouse-exception-code"] == code, answer.text
    assert answer.status_code in (400, 408, 507)
    assert way_out in answer.text
    assert ask(port, "SELECT 1").text == "1\n"


def test_queries_end_before_this_process_takes_the_machines_memory(serve, monkeypatch):
    """The engine does not count an answer's text: long names of columns alone make it a hundred times its data."""
    port = serve()
    with monkeypatch.context() as crowded:
        crowded.setattr(sql_readers, "resident_bytes", sql_readers.memory_bytes)
        answer = ask(port, ENDLESS.format(number=0))
        assert answer.headers["x-clickhouse-exception-code"] == "241", answer.text
        assert "text counts too" in answer.text
    slow = "SELECT count() FROM numbers(100000000) WHERE sipHash64(number) = 1"
    assert ask(port, slow).text == "0\n"
    assert 10**7 < sql_readers.resident_bytes() < sql_readers.memory_bytes()


def test_a_query_that_cannot_be_ended_does_not_keep_the_collector_from_ending(tmp_path):
    """Within one row the engine hears no KILL: this one runs for hours."""
    hours = "SELECT countMatches(arrayStringConcat(arrayMap(x -> repeat('a', 1000000), range(8))), 'a*b|a')"
    with CollectorProcess(tmp_path) as running, Asking(sql_url(running)) as asking:
        asking.start(hours)
        eventually(lambda: psutil.Process(running.pid).cpu_percent(0.3) > 30, "the query runs")
        assert running.post(request([span()]).SerializeToString()).status_code == 200
        assert running.stop() == 0
        assert any("cannot be ended" in line for line in running.log)
        running.start()
        running.wait_until_loaded()


def test_long_statements_that_arrive_slowly_share_what_memory_there_is(serve, monkeypatch):
    monkeypatch.setattr(in_flight, "MAX_WHOLE_BYTES", 1_000_000)
    port = serve()
    head = (
        f"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-ClickHouse-Key: {READER}\r\nContent-Length: 600000\r\n\r\n".encode()
    )
    with contextlib.ExitStack() as clients:
        first, second = (
            clients.enter_context(socket.create_connection(("127.0.0.1", httpx.URL(port.url).port))) for _ in range(2)
        )
        first.sendall(head + b"SELECT '" + b"x" * 590_000)
        eventually(lambda: port.port._arriving.whole_bytes > 500_000, "the first has nearly arrived")
        second.sendall(head + b"SELECT '" + b"x" * 590_000)
        second.settimeout(30)
        assert b"exception-code: 202" in second.recv(65536)
        assert ask(port, "SELECT 1").text == "1\n"
    eventually(lambda: port.port._arriving.whole_bytes == 0, "they have left")


def test_the_usual_limits_hold_in_every_session(serve):
    port = serve()
    usual = sql_readers.reader_limits()
    query = "SELECT name, value FROM system.settings WHERE name IN ({}) FORMAT TSV".format(
        ",".join(f"'{name}'" for name in usual)
    )
    found = dict(line.split("\t") for line in ask(port, query).text.splitlines())
    assert {name: int(value) for name, value in found.items()} == usual
    assert usual["max_memory_usage"] * sql_readers.READERS <= max(sql_readers.memory_bytes() // 2, 2 * 1024**3)


def test_one_caller_leaves_a_session_to_the_others(serve):
    port = serve(patience_s=0.2)
    with Asking(port.url, READER) as heavy:
        for number in range(sql_readers.READERS_A_CALLER):
            heavy.start(ENDLESS.format(number=number))
        eventually(lambda: readers(port).running == sql_readers.READERS_A_CALLER, "the heavy queries run")
        refused = ask(port, "SELECT 1", READER)
        assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (503, "202")
        assert "try again later" in refused.text
        assert ask(port, "SELECT 1", BOTH).text == "1\n"
        assert heavy.answers == []
    eventually(lambda: readers(port).running == 0, "queries end when their clients leave")
    assert ask(port, "SELECT 1", READER).text == "1\n"


def test_the_queue_is_bounded_and_a_client_that_leaves_gives_its_place_back(serve):
    port = serve(waiting=1)
    with Asking(port.url) as heavy, Asking(port.url) as patient:
        for number in range(sql_readers.READERS_A_CALLER):
            heavy.start(ENDLESS.format(number=number))
        eventually(lambda: readers(port).running == sql_readers.READERS_A_CALLER, "the heavy queries run")
        patient.start("SELECT 2")
        eventually(lambda: readers(port).waiting == 1, "one waits")
        assert "wait already" in ask(port, "SELECT 1").text
        patient.leave()
        eventually(lambda: readers(port).waiting == 0, "its place is free")
        patient.start("SELECT 3")
        eventually(lambda: readers(port).waiting == 1, "another waits")
        heavy.leave(slice(1))
        eventually(lambda: [answer.text for answer in patient.answers] == ["3\n"], "it gets its turn")


def test_loading_goes_on_while_the_heaviest_queries_run(tmp_path):
    with CollectorProcess(tmp_path, "--segment-age", "0.05") as collector:
        url = "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")
        with Asking(url) as heavy:
            for statement in HEAVY:
                heavy.start(statement)
            for _ in range(3):
                batch = request([span() for _ in range(500)], {"service.name": "in-between"})
                assert collector.post(batch.SerializeToString()).status_code == 200
                collector.wait_until_loaded()
                assert heavy.answers == [], f"the queries were to run on: {[each.text for each in heavy.answers]}"
        count = "SELECT count() FROM spans WHERE service = 'in-between'"
        assert httpx.post(url, content=count, timeout=60).text == "1500\n"
        assert collector.stop() == 0


def test_inserts_of_others_go_on_while_queries_run(serve, engine):
    record = encode_record(request([span()] * 3, {"service.name": "beside"}).SerializeToString(), time.time_ns())
    port = serve()
    with Asking(port.url) as heavy, open_store(as_caller(BOTH, port.store), create=True) as sender:
        for number in range(sql_readers.READERS_A_CALLER):
            heavy.start(ENDLESS.format(number=number))
        eventually(lambda: readers(port).running == sql_readers.READERS_A_CALLER, "the heavy queries run")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(sender.insert_otlp_traces, record, "beside-1").result(60)
        assert engine.rows("SELECT count() FROM spans WHERE service = 'beside'") == [(3,)]
        assert heavy.answers == []


def test_answers_that_nobody_reads_are_bounded_and_keep_nobody_out(tmp_path):
    """While an answer of 180 MB is unread its caller gets no second one, but small ones; again and again, in bounds."""
    query = "SELECT repeat('x', 1000000) FROM numbers(180)"
    with CollectorProcess(tmp_path) as collector:
        url = "http://" + collector.store.removeprefix("clickhouse://").removesuffix("/tailsight")
        process = psutil.Process(collector.pid)
        with httpx.Client(timeout=60) as client:
            with client.stream("POST", url, content=query) as unread:
                assert unread.status_code == 200
                resident_bytes = []
                for _ in range(5):
                    refused = httpx.post(url, content=query, timeout=60)
                    assert (refused.status_code, refused.headers["x-clickhouse-exception-code"]) == (503, "202")
                    assert "are not read yet" in refused.text
                    assert httpx.post(url, content="SELECT 1").text == "1\n"
                    resident_bytes.append(process.memory_info().rss)
                assert resident_bytes[-1] - resident_bytes[0] < 180e6
            # it has left: its answer is forgotten
            eventually(lambda: httpx.post(url, content=query, timeout=60).status_code == 200, "there is room again")
