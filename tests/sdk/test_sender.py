"""Sending, against a real HTTP server on loopback. S11–S14 are points of the OTLP specification."""

import logging
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest
from opentelemetry import context as context_api
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from sdk.fake_collector import FakeCollector, Reply, attributes_of

import tailsight
from tailsight import _delivery, _http
from tailsight._backlog import Backlog
from tailsight._delivery import Delivery, RetryPolicy
from tailsight._stats import Counters

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def configure(collector: FakeCollector, **options: Any) -> None:
    quick: dict[str, Any] = {"retry_initial_s": 0.01, "retry_max_s": 0.02, "send_interval_s": 60}
    tailsight.configure(service="ranker", endpoint=collector.url, **(quick | options))


def one_request(stages: int = 2) -> None:
    with tailsight.request("rank") as r:
        r.set("user", 7)
        for _ in range(stages):
            with tailsight.stage("compute"):
                pass


def senders() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "tailsight-sender"}


def test_spans_arrive_with_resource_scope_and_ids(collector: FakeCollector) -> None:
    configure(
        collector,
        version="1.2",
        environment="test",
        region="eu-1",
        host="h",
        hardware="Abacus",
        run="r1",
        model="m1",
        resource_attributes={"team": "search"},
    )
    one_request()
    assert tailsight.flush()
    (received,) = collector.received
    assert received.path == "/v1/traces"
    assert received.headers["content-type"] == "application/x-protobuf"
    resource = received.resource
    assert resource.pop("process.pid") > 0
    assert resource == {
        "service.name": "ranker",
        "service.version": "1.2",
        "deployment.environment.name": "test",
        "cloud.region": "eu-1",
        "host.name": "h",
        "tailsight.hardware": "Abacus",
        "tailsight.run": "r1",
        "team": "search",
        "telemetry.sdk.name": "tailsight",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": tailsight.__version__,
    }
    scope = received.message.resource_spans[0].scope_spans[0].scope
    assert (scope.name, scope.version) == ("tailsight", tailsight.__version__)
    request = next(span for span in received.spans if not span.parent_span_id)
    stage = next(span for span in received.spans if span.parent_span_id)
    assert stage.parent_span_id == request.span_id
    assert stage.trace_id == request.trace_id
    assert attributes_of(request) == {"thread.id": threading.get_ident(), "tailsight.model": "m1", "user": 7}
    assert attributes_of(stage)["tailsight.stage"] == "compute"
    assert abs(request.start_time_unix_nano - time.time_ns()) < 60 * 10**9
    assert request.end_time_unix_nano >= stage.end_time_unix_nano >= stage.start_time_unix_nano
    stats = tailsight.stats()
    assert (stats.sent, stats.dropped, stats.posts, stats.retries, stats.failures) == (3, {}, 1, 0, 0)


def test_gzip_is_used_when_asked_for(collector: FakeCollector) -> None:
    configure(collector, compression="gzip", headers={"Authorization": "Bearer x"})
    one_request()
    assert tailsight.flush()
    assert collector.received[0].headers["content-encoding"] == "gzip"
    assert collector.received[0].headers["authorization"] == "Bearer x"
    assert len(collector.spans) == 3


def test_one_connection_is_kept(collector: FakeCollector) -> None:
    configure(collector)
    for _ in range(3):
        one_request()
        assert tailsight.flush()
    assert len({received.connection for received in collector.received}) == 1


def test_an_idle_connection_that_was_closed_is_replaced_without_a_retry(collector: FakeCollector) -> None:
    configure(collector, retry_initial_s=30, retry_max_s=30)
    one_request()
    assert tailsight.flush()
    collector.replies = [Reply(hang_up=True)]
    one_request()
    assert tailsight.flush()
    assert (tailsight.stats().sent, tailsight.stats().retries) == (6, 0)


def test_spans_go_out_by_themselves(collector: FakeCollector) -> None:
    configure(collector, send_interval_s=0.01)
    one_request()
    collector.wait_for(1)


def test_a_large_backlog_is_sent_in_several_requests(collector: FakeCollector) -> None:
    configure(collector, batch_bytes=2000)
    collector.gate = threading.Event()
    for _ in range(100):
        one_request()
    collector.gate.set()
    assert tailsight.flush()
    assert len(collector.received) > 5
    assert len(collector.spans) == 300


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_s11_a_retryable_status_is_tried_again(collector: FakeCollector, status: int) -> None:
    collector.replies = [Reply(status), Reply(status)]
    configure(collector)
    one_request()
    assert tailsight.flush()
    assert len(collector.received) == 3
    assert len({received.body for received in collector.received}) == 1
    stats = tailsight.stats()
    assert (stats.sent, stats.retries, stats.failures, stats.dropped) == (3, 2, 2, {})


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 500, 501])
def test_s11_s14_any_other_status_is_tried_once_and_the_spans_are_dropped_and_counted(
    collector: FakeCollector, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    collector.replies = [Reply(status, body=b"not\x00 here"), Reply(status)]
    configure(collector)
    for _ in range(2):
        one_request()
        assert tailsight.flush()
    assert len(collector.received) == 2
    assert tailsight.stats().dropped == {"refused": 6}
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"refuses spans with status {status} (not here)" in line


def test_s12_retry_after_is_honoured(collector: FakeCollector) -> None:
    collector.replies = [Reply(503, {"Retry-After": "1"})]
    configure(collector)
    one_request()
    assert tailsight.flush()
    first, second = collector.received
    assert second.at - first.at >= 1


def test_s12_retry_after_may_be_a_date() -> None:
    assert _http._retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    later = _http._retry_after("Fri, 31 Dec 9999 23:59:59 GMT")
    assert later is not None
    assert later > 10**9
    assert _http._retry_after("soon") is None
    assert _http._retry_after("-5") == 0
    assert _http._retry_after(None) is None


def test_s12_the_backoff_doubles_up_to_its_bound_with_jitter() -> None:
    policy = RetryPolicy(initial_s=1, max_s=5, for_s=100)
    assert [policy.backoff_s(retry, 0.999_999) for retry in range(5)] == pytest.approx([1, 2, 4, 5, 5], rel=1e-5)
    assert [policy.backoff_s(retry, 0) for retry in range(5)] == [0.5, 1, 2, 2.5, 2.5]
    assert policy.backoff_s(10_000, 0) == 2.5


def test_s12_a_dropped_connection_is_tried_again(collector: FakeCollector) -> None:
    collector.replies = [Reply(hang_up=True), Reply(hang_up=True)]
    configure(collector)
    one_request()
    assert tailsight.flush()
    assert tailsight.stats().sent == 3
    assert tailsight.stats().retries == 2


def test_s12_a_refused_connection_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    tailsight.configure(endpoint=f"http://127.0.0.1:{port}", retry_initial_s=0.001, retry_max_s=0.002, retry_for_s=0.05)
    one_request()
    assert tailsight.flush()
    assert tailsight.stats().retries > 1
    assert tailsight.stats().dropped == {"retries_exhausted": 3}
    assert f"the collector at http://127.0.0.1:{port}/v1/traces does not take spans" in caplog.text
    assert "TAILSIGHT_ENDPOINT" in caplog.text


def test_s13_a_partial_success_is_not_tried_again_but_counted_and_logged_once(
    collector: FakeCollector, caplog: pytest.LogCaptureFixture
) -> None:
    body = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="ids too short")
    ).SerializeToString()
    collector.replies = [Reply(200, body=body), Reply(200, body=body)]
    configure(collector)
    for _ in range(2):
        one_request()
        assert tailsight.flush()
    assert len(collector.received) == 2
    assert tailsight.stats().sent == 2
    assert tailsight.stats().dropped == {"rejected": 4}
    (line,) = [record.getMessage() for record in caplog.records]
    assert "rejected 2 of 3 spans: ids too short" in line


def test_the_buffer_is_bounded_and_never_blocks(collector: FakeCollector) -> None:
    collector.gate = threading.Event()
    configure(collector, buffer_bytes=20_000, send_interval_s=0.01)
    one_request()
    collector.wait_for(1)  # the sender hangs in its first request
    for _ in range(1000):
        one_request()
    stats = tailsight.stats()
    assert 15_000 < stats.pending_bytes <= 20_000
    dropped = stats.dropped["buffer_full"]
    assert dropped > 0
    collector.gate.set()
    assert tailsight.flush()
    assert tailsight.stats().sent + dropped == 3003
    assert tailsight.stats().pending_bytes == 0


def test_a_backlog_puts_its_count_of_bytes_right_when_it_is_empty() -> None:
    backlog = Backlog(100, Counters())
    assert backlog.add(b"x" * 60, 1)
    assert not backlog.add(b"x" * 60, 1)
    backlog.bytes += 7  # two threads added at the same moment
    assert backlog.take() == b"x" * 60
    assert backlog.take() is None
    assert backlog.bytes == 0


def test_flush_says_when_it_took_too_long(collector: FakeCollector) -> None:
    collector.gate = threading.Event()
    configure(collector)
    one_request()
    assert tailsight.flush(timeout=0.01) is False
    collector.gate.set()
    assert tailsight.flush()
    assert tailsight.stats().sent == 3


def test_flush_without_anything_to_send_returns_at_once() -> None:
    assert tailsight.flush()
    tailsight.configure(service="x")
    assert tailsight.flush()


def test_shutdown_sends_what_is_pending_and_stops_recording(collector: FakeCollector) -> None:
    configure(collector)
    one_request()
    tailsight.shutdown()
    assert len(collector.spans) == 3
    one_request()
    assert tailsight.stats().pending_bytes == 0
    configure(collector)
    one_request()
    assert tailsight.flush()
    assert len(collector.spans) == 6


def test_shutdown_is_bounded_and_counts_what_was_left(collector: FakeCollector) -> None:
    configure(collector)
    one_request()
    assert tailsight.flush()
    collector.replies = [Reply(503, {"Retry-After": "100"})] * 5
    one_request()
    began = time.monotonic()
    tailsight.shutdown(timeout=0.2)
    assert time.monotonic() - began < 5
    assert tailsight.stats().dropped == {"shutdown": 3}


def test_shutdown_does_not_wait_for_a_collector_that_never_was_there() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        tailsight.configure(
            endpoint=f"http://127.0.0.1:{reserved.getsockname()[1]}", retry_initial_s=60, retry_max_s=60
        )
        one_request()
        began = time.monotonic()
        tailsight.shutdown(timeout=60)  # in the midst of a backoff of 30 s to 60 s, or before it
        assert time.monotonic() - began < 20
    assert tailsight.stats().dropped == {"shutdown": 3}


def test_a_shutdown_in_the_midst_of_a_backoff_ends_it(collector: FakeCollector) -> None:
    configure(collector, retry_initial_s=3600, retry_max_s=3600, retry_for_s=7200, send_interval_s=0.01)
    collector.replies = [Reply(503)]
    one_request()
    collector.wait_for(1)
    began = time.monotonic()
    tailsight.shutdown(timeout=0.2)
    assert time.monotonic() - began < 5
    assert tailsight.stats().sent + tailsight.stats().dropped["shutdown"] == 3


def test_reconfiguring_sends_what_was_recorded_before_under_the_old_name(collector: FakeCollector) -> None:
    configure(collector)
    one_request()
    tailsight.configure(service="other", endpoint=collector.url)
    one_request()
    assert tailsight.flush()
    collector.wait_for(2)
    names = Counter(received.resource["service.name"] for received in collector.received for _ in received.spans)
    assert names == {"ranker": 3, "other": 3}


def test_a_request_in_progress_while_reconfiguring_is_kept(collector: FakeCollector) -> None:
    configure(collector)
    with tailsight.request() as r:
        with tailsight.stage("preprocess"):
            pass
        tailsight.configure(service="other", endpoint=collector.url)
        with tailsight.stage("compute"):
            pass
    assert tailsight.flush()
    assert {span.trace_id.hex() for span in collector.spans} == {r.trace_id}
    assert len(collector.spans) == 3


def test_configuring_the_same_again_changes_nothing(collector: FakeCollector) -> None:
    before = senders()
    for _ in range(2):
        configure(collector)
        one_request()
    assert len(senders() - before) == 1
    assert tailsight.flush()
    assert len(collector.spans) == 6


def test_our_own_requests_are_hidden_from_instrumentation(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    post = _http.Collector.post

    def spying(self: _http.Collector, body: bytes, *, timeout_s: float | None = None) -> _http.Answer:
        seen.append(context_api.get_value(context_api._SUPPRESS_INSTRUMENTATION_KEY))
        return post(self, body, timeout_s=timeout_s)

    monkeypatch.setattr(_http.Collector, "post", spying)
    configure(collector)
    one_request()
    assert tailsight.flush()
    assert seen == [True]
    assert context_api.get_value(context_api._SUPPRESS_INSTRUMENTATION_KEY) is None


def test_the_sender_is_a_daemon_thread_that_starts_with_the_first_span(collector: FakeCollector) -> None:
    before = senders()
    configure(collector)
    assert senders() <= before
    one_request()
    (thread,) = senders() - before
    assert thread.daemon
    tailsight.shutdown()
    assert not thread.is_alive()


def test_a_deliverys_deadline_shortens_its_requests() -> None:
    class Collector:
        url = "http://collector"

        def post(self, body: bytes, *, timeout_s: float | None = None) -> _http.Answer:
            asked.append(timeout_s)
            raise _http.Unreachable("away")

        def close(self) -> None: ...

    class Patience:
        def now(self) -> float:
            return 10

        def deadline(self) -> float:
            return 12.5

        def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
            return False

    asked: list[float | None] = []
    counters = Counters()
    delivery = Delivery(Collector(), RetryPolicy(1, 1, 100), counters, Patience())
    assert not delivery.deliver(b"", 4)
    assert asked == [2.5]
    assert counters.dropped == {"shutdown": 4}


def test_log_lines_are_short_and_printable() -> None:
    assert _delivery._readable(b"a\r\nb\x1b[31m" + b"x" * 1000) == "a b [31m" + "x" * 191
    assert _delivery._readable(b"") == "no reason given"


def test_logging_goes_to_one_logger(collector: FakeCollector, caplog: pytest.LogCaptureFixture) -> None:
    collector.replies = [Reply(400)]
    with caplog.at_level(logging.DEBUG):
        configure(collector)
        one_request()
        assert tailsight.flush()
    assert {record.name for record in caplog.records} == {"tailsight"}
