"""The points of the OTLP specification that are about a client: S11 to S14 over HTTP, S24 over gRPC.

The numbers are those of the list that issue 3 names. Each point is proved against a real server, through each transport
that may carry spans: the thread in the service, and the sidecar beside it.
"""

import contextlib
import math
import os
import random
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from sdk.fake_collector import FakeCollector, Reply, fake_collector
from sdk.fake_grpc_collector import FakeGrpcCollector, GrpcReply, fake_grpc_collector

import tailsight
from tailsight._answer import Answer, Unreachable
from tailsight._delivery import Delivery, RetryPolicy
from tailsight._grpc import GrpcCollector
from tailsight._stats import Counters

QUICK: dict[str, Any] = {"send_interval_s": 0.02, "retry_initial_s": 0.02, "retry_max_s": 0.05}

REFUSED_STATUSES = [400, 401, 403, 404, 405, 413, 500, 501]
RETRYABLE_STATUSES = [429, 502, 503, 504]

RETRYABLE_CODES = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"]
REFUSED_CODES = [
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "UNIMPLEMENTED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",  # unless there is a RetryInfo
]


@pytest.fixture(params=["thread", "sidecar"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", request.param)
    yield request.param
    tailsight.shutdown(timeout=5)
    assert eventually(lambda: not list((tmp_path / "run").glob("*")))


@pytest.fixture
def grpc_collector() -> Iterator[FakeGrpcCollector]:
    with fake_grpc_collector() as server:
        yield server


def eventually(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    """Poll for what another process does: there is no event of its that could be awaited."""
    until = time.monotonic() + timeout_s
    while not (found := condition()) and time.monotonic() < until:
        time.sleep(0.005)
    return found


def two_spans() -> None:
    with tailsight.request("rank"), tailsight.stage("compute"):
        pass


def send(collector: FakeCollector, **options: Any) -> None:
    tailsight.configure(service="ranker", endpoint=collector.url, **(QUICK | options))
    two_spans()
    assert tailsight.flush(20)


class Patience:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def deadline(self) -> None:
        return None

    def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
        self.waits.append(seconds)
        return True


class Scripted:
    """A collector that says what it was told to, then OK."""

    url = "http://scripted"

    def __init__(self, *answers: Answer | None) -> None:
        self.answers = list(answers)

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        answer = self.answers.pop(0) if self.answers else Answer(status="200", accepted=True)
        if answer is None:
            raise Unreachable("away")
        return answer

    def close(self) -> None: ...


# --- S11: what is tried again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", REFUSED_STATUSES)
def test_s11_a_status_that_is_not_retryable_gets_exactly_one_attempt(
    collector: FakeCollector, transport: str, status: int
) -> None:
    collector.replies = [Reply(status), Reply(status)]
    send(collector)
    assert len(collector.received) == 1
    two_spans()  # more rounds, in which the first batch could come again
    assert tailsight.flush(20)
    assert len(collector.received) == 2
    assert len({span.span_id for span in collector.spans}) == 4
    assert tailsight.stats().retries == 0


@pytest.mark.parametrize("status", RETRYABLE_STATUSES)
def test_s11_a_retryable_status_is_tried_again_with_the_same_bytes(
    collector: FakeCollector, transport: str, status: int
) -> None:
    collector.replies = [Reply(status), Reply(status)]
    send(collector)
    assert len(collector.received) == 3
    assert len({received.body for received in collector.received}) == 1
    stats = tailsight.stats()
    assert (stats.sent, stats.retries, stats.failures, stats.dropped) == (2, 2, 2, {})


# --- S12: when it is tried again --------------------------------------------------------------------------------------


def test_s12_retry_after_2_means_not_before_2_s(collector: FakeCollector, transport: str) -> None:
    collector.replies = [Reply(503, {"Retry-After": "2"})]
    send(collector)
    first, second = collector.received
    assert second.at - first.at >= 2
    assert second.body == first.body


def test_s12_retry_after_may_be_a_date(collector: FakeCollector, transport: str) -> None:
    date = math.ceil(time.time()) + 2  # dates know whole seconds
    date_monotonic = date - time.time() + time.monotonic()
    collector.replies = [Reply(429, {"Retry-After": formatdate(date, usegmt=True)})]
    send(collector)
    first, second = collector.received
    assert first.at < date_monotonic
    assert second.at >= date_monotonic - 0.01, "the clocks were not read at the same moment"


def test_s12_without_retry_after_the_backoff_doubles_and_has_the_jitter_that_is_drawn() -> None:
    unavailable = Answer(status="503", accepted=False, retryable=True)
    drawn = [0.0, 0.25, 0.5, 0.75, 0.999]
    patience = Patience()
    delivery = Delivery(
        Scripted(unavailable, None, unavailable, None, unavailable),
        RetryPolicy(initial_s=1, max_s=6, for_s=100),
        Counters(),
        patience,
        jitter=iter(drawn).__next__,
    )
    assert delivery.deliver(b"", 1)
    assert patience.waits == pytest.approx([1 * 0.5, 2 * 0.625, 4 * 0.75, 6 * 0.875, 6 * 0.9995])


def test_s12_the_jitter_spreads_services_over_half_of_the_backoff() -> None:
    draw = random.Random(7).random
    waits = []
    for _ in range(1000):
        patience = Patience()
        Delivery(Scripted(None), RetryPolicy(1, 30, 100), Counters(), patience, jitter=draw).deliver(b"", 1)
        waits += patience.waits
    assert all(0.5 <= wait < 1 for wait in waits)
    quarters = [sum(0.5 + n / 8 <= wait < 0.5 + (n + 1) / 8 for wait in waits) for n in range(4)]
    assert min(quarters) > 200, "a uniform draw has 250 in each"


@pytest.mark.parametrize(("said_s", "waited_s"), [(None, 4), (0.0, 4), (3.0, 4), (9.0, 9)])
def test_s12_the_longer_one_of_retry_after_and_backoff_counts(said_s: float | None, waited_s: float) -> None:
    patience = Patience()
    answer = Answer(status="503", accepted=False, retryable=True, retry_after_s=said_s)
    Delivery(
        Scripted(answer), RetryPolicy(8, 8, 100), Counters(), patience, jitter=lambda: 0.0
    ).deliver(b"", 1)  # fmt: skip
    assert patience.waits == [waited_s]


def test_s12_a_dropped_connection_is_tried_again(collector: FakeCollector, transport: str) -> None:
    collector.replies = [Reply(hang_up=True), Reply(hang_up=True)]
    send(collector)
    assert len(collector.received) == 3
    assert tailsight.stats().sent == 2
    assert tailsight.stats().dropped == {}


def test_s12_a_refused_connection_is_tried_again(transport: str) -> None:
    with socket.socket() as reserved:  # bound and not listening: whoever connects is refused
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        tailsight.configure(service="ranker", endpoint=f"http://127.0.0.1:{port}", **QUICK)
        two_spans()
        assert eventually(lambda: tailsight.stats().retries >= 2)
    with fake_collector(port) as back:
        assert tailsight.flush(20)
        assert len(back.spans) == 2
        assert tailsight.stats().dropped == {}
        tailsight.shutdown(timeout=5)


# --- S13, S14: what is not tried again, and what is counted -----------------------------------------------------------


def partial_success(rejected: int, message: str) -> bytes:
    said = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    return ExportTraceServiceResponse(partial_success=said).SerializeToString()


def test_s13_a_partial_success_gets_one_attempt_a_warning_and_a_count(
    collector: FakeCollector, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    collector.replies = [Reply(200, body=partial_success(1, "ids too short"))]
    send(collector)
    two_spans()
    assert tailsight.flush(20)
    assert len(collector.received) == 2
    assert len({span.span_id for span in collector.spans}) == 4, "nothing came twice"
    tailsight.shutdown()
    assert tailsight.stats().dropped == {"rejected": 1}
    assert tailsight.stats().sent == 3
    assert tailsight.stats().retries == 0
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "rejected 1 of 2 spans: ids too short" in line.getMessage()


def test_s14_what_is_refused_is_dropped_and_counted(
    collector: FakeCollector, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    collector.replies = [Reply(400, body=b"no tenant"), Reply(400)]
    send(collector)
    assert tailsight.stats().dropped == {"refused": 2}
    two_spans()
    assert tailsight.flush(20)
    assert tailsight.stats().dropped == {"refused": 4}
    assert tailsight.stats().sent == 0
    assert tailsight.stats().spooled_bytes == 0
    tailsight.shutdown()
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "refuses spans with status 400 (no tenant)" in line.getMessage()


# --- S24: gRPC --------------------------------------------------------------------------------------------------------


def test_s24_every_code_is_on_one_list_or_the_other() -> None:
    import grpc

    assert sorted([*RETRYABLE_CODES, *REFUSED_CODES, "OK"]) == sorted(code.name for code in grpc.StatusCode)


@pytest.fixture
def over_grpc(grpc_collector: FakeGrpcCollector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Configure the SDK to send to the server: through the sidecar, the only process that speaks gRPC."""
    monkeypatch.setenv("TAILSIGHT_TRANSPORT", "sidecar")
    tailsight.configure(service="ranker", protocol="grpc", endpoint=grpc_collector.url, **QUICK)
    yield
    tailsight.shutdown(timeout=5)
    assert eventually(lambda: not list((tmp_path / "run").glob("*")))


@pytest.mark.parametrize("code", RETRYABLE_CODES)
def test_s24_a_retryable_code_is_tried_again(grpc_collector: FakeGrpcCollector, over_grpc: None, code: str) -> None:
    grpc_collector.replies = [GrpcReply(code), GrpcReply(code)]
    two_spans()
    assert tailsight.flush(20)
    assert len(grpc_collector.received) == 3
    assert len({call.body for call in grpc_collector.received}) == 1
    stats = tailsight.stats()
    assert (stats.sent, stats.retries, stats.failures, stats.dropped) == (2, 2, 2, {})


@pytest.mark.parametrize("code", REFUSED_CODES)
def test_s24_any_other_code_gets_exactly_one_attempt(
    grpc_collector: FakeGrpcCollector, over_grpc: None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    grpc_collector.replies = [GrpcReply(code, "not here"), GrpcReply(code)]
    for attempts in (1, 2):
        two_spans()
        assert tailsight.flush(20)
        assert len(grpc_collector.received) == attempts
    assert len({span.span_id for span in grpc_collector.spans}) == 4
    assert tailsight.stats().dropped == {"refused": 4}
    assert tailsight.stats().retries == 0
    tailsight.shutdown()
    (line,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert f"refuses spans with status {code} (not here)" in line.getMessage()


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_s24_retry_info_is_honoured_and_makes_resource_exhausted_retryable(
    grpc_collector: FakeGrpcCollector, over_grpc: None, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    grpc_collector.replies = [GrpcReply(code, "slow down", retry_info_s=1.25)]
    two_spans()
    assert tailsight.flush(20)
    first, second = grpc_collector.received
    assert second.at - first.at >= 1.25
    assert second.body == first.body
    assert tailsight.stats().sent == 2
    assert tailsight.stats().dropped == {}
    tailsight.shutdown()
    assert f"it answered {code}" in caplog.text


@pytest.mark.parametrize("code", [*RETRYABLE_CODES, *REFUSED_CODES])
def test_s24_no_refused_code_becomes_retryable_through_retry_info_but_resource_exhausted(
    grpc_collector: FakeGrpcCollector, code: str
) -> None:
    grpc_collector.replies = [GrpcReply(code, retry_info_s=0.5)]
    client = GrpcCollector(grpc_collector.url, headers={}, compression="none", timeout_s=5)
    with contextlib.closing(client):
        patience, counters = Patience(), Counters()
        delivered = Delivery(client, RetryPolicy(0.1, 0.1, 100), counters, patience).deliver(b"", 2)
    retried = code in RETRYABLE_CODES or code == "RESOURCE_EXHAUSTED"
    assert delivered == retried
    assert len(grpc_collector.received) == (2 if retried else 1)
    assert patience.waits == ([0.5] if retried else [])
    assert counters.dropped == ({} if retried else {"refused": 2})


def test_s24_the_service_itself_never_speaks_grpc() -> None:
    assert os.environ["TAILSIGHT_TRANSPORT"] == "thread"
    with fake_collector() as http:
        tailsight.configure(service="ranker", protocol="grpc", endpoint=http.url, **QUICK)
        two_spans()
        assert tailsight.flush(20)
        assert len(http.spans) == 2
