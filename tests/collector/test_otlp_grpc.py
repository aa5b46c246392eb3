"""OTLP/gRPC: against a real collector process, and the receiver alone where something has to fail or to wait.

S01 and so on are points of expected/otlp_requirements.json.
"""

import asyncio
import errno
import gzip
import socket
import threading
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import uvloop
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from testkit.grpc_client import GZIP, METRICS, GrpcClient, framed, raw_call
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span
from testkit.processes import CollectorProcess, eventually

from tailsight_collector.errors import JournalError, JournalFullError
from tailsight_collector.guard.access import Access
from tailsight_collector.guard.tokens import digest_of
from tailsight_collector.receive import in_flight, otlp_grpc
from tailsight_collector.receive.intake import Intake
from tailsight_collector.receive.otlp_grpc import OtlpGrpc
from tailsight_collector.receive.signals import TRACES
from tailsight_storage import open_store

MIB = 1024 * 1024
LIMIT = 64 * MIB
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("grpc"), "--segment-age", "0.02") as running:
        yield running


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(collector):
    with GrpcClient(collector.grpc_target) as opened:
        yield opened


@pytest.fixture
def service():
    return f"service-{uuid.uuid4().hex[:12]}"


def stored(collector, store, service, columns="count()", group=""):
    collector.wait_until_loaded()
    query = f"SELECT {columns} FROM spans WHERE service = {{service:String}} {group} ORDER BY ALL"
    return store.rows(query, service=service)


def one_span(service="test", **fields):
    return request([span(**fields)], {"service.name": service}).SerializeToString()


def test_S01_S03_plain_and_gzip_store_the_same(collector, client, store, service):
    body = one_span(service)
    for compression in (None, GZIP):
        answer = client.export(body, compression=compression)
        assert (answer.code, answer.body) == ("OK", b"")
    assert stored(collector, store, service, "count(), uniqExact(span_id)") == [(2, 1)]


def peak_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("there is no VmHWM")


def test_S02_a_bomb_is_refused_unpacked_in_bounded_memory(collector, client):
    bomb = gzip.compress(bytes(LIMIT - 1)) * 40
    Path(f"/proc/{collector.pid}/clear_refs").write_text("5")  # the peak counts from here
    before = peak_bytes(collector.pid)
    for body, compression in ((bomb, None), (bytes(100 * MIB), GZIP)):
        answer = client.export(body, compression=compression)
        assert (answer.code, answer.retry_delay_s) == ("RESOURCE_EXHAUSTED", None)
        assert str(LIMIT) in answer.details
    assert peak_bytes(collector.pid) - before < 300 * MIB
    assert client.export(b"").code == "OK"


def test_S02_a_message_over_the_limit_is_refused(collector, client, service):
    answer = client.export(bytes(LIMIT + 1))
    assert (answer.code, answer.retry_delay_s) == ("RESOURCE_EXHAUSTED", None)
    assert client.export(one_span(service)).code == "OK"


@pytest.mark.parametrize("body", [b"", b"\x0a\x00"])
def test_S04_S26_an_empty_request_is_a_success(client, body):
    answer = client.export(body)
    assert (answer.code, answer.body) == ("OK", b"")


def test_S05_a_wrong_span_is_rejected_with_its_reason_and_the_others_are_stored(collector, client, store, service):
    spans = [span(), span(trace_id=b"abc"), span()]
    answer = client.export(request(spans, {"service.name": service}).SerializeToString())
    assert answer.code == "OK"
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert partial.error_message == "rejected 1 of 3 spans: 1 × the trace id is not 16 bytes long"
    assert stored(collector, store, service) == [(2,)]


@pytest.mark.parametrize(
    "body",
    [b"\x0a\xffgarbage", gzip.compress(b"\xff" * 1000), gzip.compress(b"x" * 1000)[:-9], b"\x1f\x8b not gzip"],
    ids=["garbage", "packed garbage", "torn gzip", "no gzip"],
)
def test_S07_S25_what_cannot_be_decoded_is_an_invalid_argument(client, body):
    answer = client.export(body)
    assert (answer.code, answer.retry_delay_s) == ("INVALID_ARGUMENT", None)
    assert "the " in answer.details


def test_S07_what_unfolds_to_gigabytes_is_refused(client):
    spans = [span() for _ in range(400)]
    answer = client.export(request(spans, {"service.name": "amplified", "big": "x" * 1_000_000}).SerializeToString())
    assert (answer.code, answer.retry_delay_s) == ("RESOURCE_EXHAUSTED", None)
    assert "unfold" in answer.details


def test_S20_unknown_fields_are_ignored(collector, client, store, service):
    assert client.export(one_span(service) + b"\xba\x3e\x03abc").code == "OK"
    assert stored(collector, store, service) == [(1,)]


def test_S21_S25_other_signals_and_methods_are_unimplemented(client):
    for method in (LOGS, "/nobody.Knows/This"):
        answer = client.export(b"", method)
        assert (answer.code, answer.retry_delay_s) == ("UNIMPLEMENTED", None)
        assert "TraceService/Export" in answer.details


def test_S21_traces_and_metrics_have_the_default_port_4317():
    from tailsight_collector.settings import DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT

    assert (DEFAULT_GRPC_PORT, DEFAULT_HTTP_PORT) == (4317, 4318)


def test_S23_many_rejections_give_a_short_answer(client):
    answer = client.export(request([span(trace_id=b"") for _ in range(10_000)]).SerializeToString())
    assert answer.code == "OK"
    assert len(answer.body) < 200


def test_S27_S28_the_same_batch_twice_is_stored_twice_and_ids_are_checked(collector, client, store, service):
    """A gRPC client that sends again says nothing about it: the store does not claim to know."""
    body = one_span(service)
    assert [client.export(body).body for _ in range(2)] == [b"", b""]
    answer = client.export(one_span(service, trace_id=bytes(16)))
    assert ExportTraceServiceResponse.FromString(answer.body).partial_success.rejected_spans == 1
    assert stored(collector, store, service, "count(), uniqExact(trace_id, span_id)") == [(2, 1)]


def test_metrics_have_their_method(collector, client, store, service):
    points = [point(1.5), point(float("nan"))]
    body = metrics_request([metric("hw.power", points)], {"service.name": service}).SerializeToString()
    answer = client.export(body, METRICS, compression=GZIP)
    assert ExportMetricsServiceResponse.FromString(answer.body).partial_success.rejected_data_points == 1
    collector.wait_until_metrics_are_loaded()
    rows = store.rows("SELECT metric, value FROM hardware_samples WHERE service = {service:String}", service=service)
    assert rows == [("hw.power", 1.5)]


def test_requests_and_refusals_are_counted_as_those_of_http(collector, client):
    before = collector.health()["received"]
    client.export(one_span())
    client.export(b"\xff")
    after = collector.health()["received"]
    assert after["requests"] - before["requests"] == 2
    assert after["accepted_spans"] - before["accepted_spans"] == 1
    assert after["refused_requests"]["400"] - before["refused_requests"].get("400", 0) == 1


def test_the_health_tells_the_addresses(collector):
    addresses = collector.health()["addresses"]
    assert (addresses["otlp_url"], addresses["grpc_target"]) == (collector.otlp_url, collector.grpc_target)


def test_after_a_crash_it_listens_where_it_did_and_has_what_it_acknowledged(tmp_path, service):
    with CollectorProcess(tmp_path) as running:
        target = running.grpc_target
        with GrpcClient(target) as client:
            assert client.export(one_span(service)).code == "OK"
        running.kill()
        running.start()
        assert running.grpc_target == target
        with GrpcClient(target) as client, open_store(running.store) as store:
            assert client.export(one_span(service)).code == "OK"
            assert stored(running, store, service) == [(2,)]
        assert running.stop() == 0


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        running = CollectorProcess(tmp_path, "--grpc-port", str(port))
        with pytest.raises(AssertionError, match=f"--grpc-port {port} on 127.0.0.1 cannot be used"):
            running.start()


# --- frames that no client of grpcio sends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"", "3"),
        (framed(b"short", length=100), "3"),  # torn
        (framed(b"x", length=2**32 - 1), "8"),
    ],
)
def test_a_call_without_a_whole_message_is_refused(collector, frames, code):
    with raw_call(collector.grpc_target) as call:
        call.send(frames, ends=True)
        assert call.answer()["grpc-status"] == code


def test_gzip_is_known_by_its_bytes(collector, store, service):
    with raw_call(collector.grpc_target, headers=[("grpc-encoding", "gzip")]) as call:
        call.send(framed(gzip.compress(one_span(service)), is_packed=True), ends=True)
        assert call.answer()["grpc-status"] == "0"
    assert stored(collector, store, service) == [(1,)]


@pytest.mark.parametrize("coding", ["deflate", "zstd", "snappy"])
def test_other_codings_are_refused_and_never_stored(collector, coding):
    """grpcio refuses them before we are asked: whoever wants zstd sends it by HTTP."""
    with raw_call(collector.grpc_target, headers=[("grpc-encoding", coding)]) as call:
        call.send(framed(b"packed", is_packed=True), ends=True)
        answer = call.answer()
    assert answer["grpc-status"] in {"12", "13"}  # UNIMPLEMENTED, INTERNAL: neither is retried


def test_metadata_is_bounded(collector, client):
    headers = [(f"x-{number}", "v" * 4000) for number in range(40)]
    with raw_call(collector.grpc_target, headers=headers) as call:
        call.send(framed(one_span()), ends=True)
        answer = call.answer()
    assert answer["grpc-status"] == "8"
    assert "metadata" in answer["grpc-message"]
    assert client.export(b"").code == "OK"


# --- the receiver alone: what fails, and what waits ------------------------------------------------------------------


class Journal:
    """A journal that does what a test says; by default everything is on the disk at once."""

    def __init__(self, failure=None):
        self.failure = failure
        self.records = []
        self.gate = None  # if set, whoever appends waits for it
        self.waiting = threading.Event()

    def append(self, record):
        if isinstance(self.failure, JournalError):
            raise self.failure
        self.records.append(record)
        self.waiting.set()
        if self.gate is not None:
            return self.gate
        done = Future()
        if self.failure:
            done.set_exception(self.failure)
        else:
            done.set_result(None)
        return done


class Serving:
    """A receiver on an event loop of its own."""

    def __init__(self, runner, receiver, intake, target):
        self.receiver, self.intake, self.target = receiver, intake, target
        self._loop = runner.get_loop()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


@contextmanager
def serving(journal, access=None, *, limit=MIB, **options):
    with ThreadPoolExecutor(2) as decoders, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        intake = Intake(TRACES, journal, decoders, max_request_bytes=limit)
        ready, stop = Future(), asyncio.Event()

        async def serve():
            receiver = OtlpGrpc(intake, access=access or Access(), **options)
            ready.set_result((receiver, await receiver.start("127.0.0.1", 0)))
            await stop.wait()
            await receiver.close()

        thread = threading.Thread(target=runner.run, args=(serve(),))
        thread.start()
        try:
            receiver, port = ready.result(30)
            yield Serving(runner, receiver, intake, f"127.0.0.1:{port}")
        finally:
            runner.get_loop().call_soon_threadsafe(stop.set)
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (JournalFullError("the journal holds 9 bytes, of 9 at most"), "the journal holds 9 bytes"),
        (JournalError("the collector is shutting down"), "shutting down"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
    ],
)
def test_S10_S25_what_cannot_be_written_now_is_unavailable_with_retry_info(failure, words):
    with serving(Journal(failure)) as served, GrpcClient(served.target) as client:
        answer = client.export(one_span())
        assert (answer.code, answer.retry_delay_s) == ("UNAVAILABLE", 5.0)
        assert words in answer.details
        assert (answer.status.code, answer.status.message) == (14, answer.details)
        assert served.intake.counts.refused_requests == {503: 1}
        assert served.intake.counts.accepted == 0


def test_S25_a_defect_is_internal_and_says_nothing_of_itself(caplog):
    with serving(Journal(ZeroDivisionError("secret"))) as served, GrpcClient(served.target) as client:
        answer = client.export(one_span())
        assert (answer.code, answer.details) == ("INTERNAL", "the collector failed; its log says why")
        assert served.intake.counts.refused_requests == {500: 1}
    assert "ZeroDivisionError" in caplog.text


def test_a_slow_message_needs_a_place_and_the_quick_ones_do_not(monkeypatch):
    monkeypatch.setattr(otlp_grpc, "QUICK_S", 0.05)
    monkeypatch.setattr(otlp_grpc, "SLOW_S", 60.0)
    monkeypatch.setattr(in_flight, "MAX_SLOW_BYTES", 2 * MIB)
    torn = framed(b"begun", length=1000)
    with serving(Journal()) as served, raw_call(served.target) as one, raw_call(served.target) as two:
        room = served.receiver.in_flight
        for call in (one, two):
            call.send(torn)
        eventually(lambda: room.slow == 2, "both places are taken")
        with raw_call(served.target) as three:
            three.send(torn)
            answer = three.answer()
            assert (answer["grpc-status"], answer["grpc-message"]) == (
                "14",
                "try again later: 2 requests arrive slowly already",
            )
        with GrpcClient(served.target) as client:
            assert client.export(one_span()).code == "OK"
        one.close()  # who leaves gives its place back
        eventually(lambda: room.slow == 1, "one place is free again")
        two.send(b"x" * 995, ends=True)
        assert two.answer()["grpc-status"] == "3"
        eventually(lambda: (room.slow, room.requests, room.whole_bytes) == (0, 0, 0), "nothing is held")


def test_a_message_that_never_ends_is_given_up(monkeypatch):
    monkeypatch.setattr(otlp_grpc, "QUICK_S", 0.02)
    monkeypatch.setattr(otlp_grpc, "SLOW_S", 0.05)
    with serving(Journal()) as served, raw_call(served.target) as call:
        call.send(framed(b"begun", length=1000))
        answer = call.answer()
        assert (answer["grpc-status"], answer["grpc-message"]) == (
            "14",
            "try again later: the request did not arrive within 0.05 s",
        )
        assert "grpc-status-details-bin" in answer


def test_too_many_requests_and_too_many_bytes_are_unavailable(monkeypatch):
    monkeypatch.setattr(in_flight, "MAX_REQUESTS", 2)
    journal = Journal()
    journal.gate = Future()
    with serving(journal) as served, GrpcClient(served.target) as client, ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.export, one_span())
        assert journal.waiting.wait(30)
        monkeypatch.setattr(in_flight, "MAX_WHOLE_BYTES", served.receiver.in_flight.whole_bytes + 10)
        answer = client.export(one_span())
        assert (answer.code, answer.retry_delay_s) == ("UNAVAILABLE", 5.0)
        assert "are not answered yet" in answer.details
        monkeypatch.setattr(in_flight, "MAX_REQUESTS", 1)
        assert client.export(b"").details == "try again later: 1 requests are not answered yet"
        journal.gate.set_result(None)
        assert first.result(30).code == "OK"
        assert client.export(b"").code == "OK"


def test_connections_are_bounded_and_those_that_are_there_are_served():
    with serving(Journal(), max_connections=3) as served, GrpcClient(served.target) as client, ExitStack() as opened:
        assert client.export(b"").code == "OK"
        host, port = served.target.split(":")
        idle = [opened.enter_context(socket.create_connection((host, int(port)), timeout=0.5)) for _ in range(10)]

        def ended(connection):
            try:
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True

        eventually(lambda: sum(map(ended, idle)) >= 8, "whoever is too many is sent away")
        assert client.export(one_span()).code == "OK"


def test_an_answer_that_is_stopped_in_the_middle_is_all_or_nothing(tmp_path, service):
    """SIGTERM under load: what was acknowledged by gRPC is there after the next start, once."""
    with CollectorProcess(tmp_path, "--segment-age", "0.02") as running:
        acknowledged = []

        def send():
            with GrpcClient(running.grpc_target) as client:
                while True:
                    number = len(acknowledged)
                    if client.export(one_span(service, name=f"{threading.get_ident()}-{number}")).code != "OK":
                        return
                    acknowledged.append(f"{threading.get_ident()}-{number}")

        with ThreadPoolExecutor(4) as threads:
            sending = [threads.submit(send) for _ in range(4)]
            eventually(lambda: len(acknowledged) > 100, "it is under load")
            assert running.stop() == 0
            for each in sending:
                each.result(60)
        running.start()
        with open_store(running.store) as store:
            rows = stored(running, store, service, "name, count()", "GROUP BY name")
    names = dict(rows)
    assert set(acknowledged) <= set(names)
    assert set(names.values()) == {1}


def test_what_was_taken_is_answered_before_the_port_closes():
    journal = Journal()
    journal.gate = Future()
    with serving(journal) as served, GrpcClient(served.target) as client, ThreadPoolExecutor(1) as threads:
        answer = threads.submit(client.export, one_span())
        assert journal.waiting.wait(30)
        closed = served.run(served.receiver.close())
        with GrpcClient(served.target) as late:
            eventually(lambda: late.export(b"", timeout_s=5).code == "UNAVAILABLE", "nobody else is let in")
        assert not closed.done()
        journal.gate.set_result(None)
        assert answer.result(30).code == "OK"
        closed.result(30)
        assert served.intake.counts.accepted == 1


def test_who_leaves_while_it_is_written_down_is_counted_all_the_same():
    journal = Journal()
    journal.gate = Future()
    with serving(journal) as served, GrpcClient(served.target) as client:
        answer = client.export(one_span(), timeout_s=0.5)
        assert answer.code == "DEADLINE_EXCEEDED"
        left = ("grpc", otlp_grpc.CLIENT_LEFT)
        eventually(lambda: served.intake.counts.answers[left] == 1, "the call is over")
        room = served.receiver.in_flight
        assert (room.requests, room.whole_bytes > 0) == (1, True)  # what it sent is still there
        closed = served.run(served.receiver.close())
        with GrpcClient(served.target) as late:
            eventually(lambda: late.export(b"", timeout_s=5).code == "UNAVAILABLE", "the port is closed")
        assert not closed.done()  # the journal has the record: it is waited for
        journal.gate.set_result(None)
        closed.result(30)
        assert served.intake.counts.accepted == 1
        assert (room.requests, room.whole_bytes) == (0, 0)


@pytest.fixture
def tokens(tmp_path):
    path = tmp_path / "tokens"
    lines = [
        f"sender ingest sha256:{digest_of('s3cret').hex()}",
        f"reader read sha256:{digest_of('r3ad').hex()}",
        f"few ingest sha256:{digest_of('f3w').hex()} requests_per_s=0.001",
    ]
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def test_who_calls_is_asked_before_the_message_is_read(tokens):
    journal = Journal()
    with serving(journal, Access(tokens)) as served, GrpcClient(served.target) as client:

        def export(token):
            return client.export(one_span(), metadata=[("authorization", f"Bearer {token}")])

        assert export("s3cret").code == "OK"
        assert client.export(one_span()).code == "UNAUTHENTICATED"
        assert export("wrong").code == "UNAUTHENTICATED"
        assert export("r3ad").code == "PERMISSION_DENIED"
        assert export("f3w").code == "OK"
        limited = export("f3w")
        assert limited.code == "RESOURCE_EXHAUSTED"
        assert limited.retry_delay_s > 1
        with raw_call(served.target) as call:  # nothing of the message has come, and nothing has to
            assert call.answer()["grpc-status"] == "16"
        assert len(journal.records) == 2
        assert served.intake.counts.refused_requests == {401: 3, 403: 1, 429: 1}


def test_what_a_bomb_unpacks_to_is_held_too(monkeypatch):
    """Unpacked bodies wait for a decoder: so many at once that their sum is bounded."""
    monkeypatch.setattr(in_flight, "MAX_WHOLE_BYTES", MIB // 2)
    journal = Journal()
    journal.gate = Future()
    with serving(journal, limit=4 * MIB) as served, GrpcClient(served.target) as client:
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(client.export, one_span())
            assert journal.waiting.wait(30)
            padded = one_span(name="x" * MIB)
            packed = gzip.compress(padded)
            assert len(packed) < MIB // 4
            assert client.export(packed).code == "UNAVAILABLE"
            journal.gate.set_result(None)
            assert first.result(30).code == "OK"
        assert client.export(packed).code == "OK"  # alone it may be larger
        assert ExportTraceServiceRequest.FromString(padded).resource_spans


def test_ipv6(monkeypatch):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6 loopback")

    async def scenario():
        with ThreadPoolExecutor(1) as decoders:
            intake = Intake(TRACES, Journal(), decoders, max_request_bytes=MIB)
            receiver = OtlpGrpc(intake, access=Access())
            port = await receiver.start("::1", 0)
            with GrpcClient(f"[::1]:{port}") as client:
                answer = await asyncio.to_thread(client.export, one_span())
            await receiver.close()
            return answer.code

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) == "OK"
