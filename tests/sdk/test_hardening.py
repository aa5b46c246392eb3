"""What a review found, one test for each finding."""

import asyncio
import dis
import functools
import gc
import itertools
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from opentelemetry.context import get_current
from opentelemetry.trace import SpanContext, get_current_span
from sdk.fake_collector import FakeCollector, Reply

import tailsight
from tailsight import _delivery, _http, _otlp, _parse, _runtime, _sender, _stream, _trace
from tailsight._answer import Answer
from tailsight._clock import ANCHOR_TOLERANCE_NS
from tailsight._delivery import Delivery, RetryPolicy
from tailsight._options import resolve
from tailsight._record import SpanRecord
from tailsight._recorder import current
from tailsight._stats import Counters, DropReason
from tailsight._values import clean
from tailsight.testing import Capture, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def configure(collector: FakeCollector, **options: Any) -> None:
    quick: dict[str, Any] = {"retry_initial_s": 0.01, "retry_max_s": 0.02, "send_interval_s": 60}
    tailsight.configure(service="ranker", endpoint=collector.url, **(quick | options))


def one_request() -> None:
    with tailsight.request():
        pass


# --- decorators -----------------------------------------------------------------------------------------------------


def test_stage_without_parentheses_decorates_and_warns_once(
    captured: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    @tailsight.stage
    def tokenize(x: int) -> int:
        return x + 1

    assert tailsight.stage(tokenize.__wrapped__)(1) == 2  # type: ignore[attr-defined]
    assert tokenize(1) == 2
    assert [span.stage for span in captured.spans] == ["tokenize", "tokenize"]
    (line,) = [record.getMessage() for record in caplog.records]
    assert "tokenize" in line

    @tailsight.stage
    class Model: ...

    assert isinstance(Model, type)


def test_a_cached_function_keeps_its_cache_methods(captured: Capture) -> None:
    @tailsight.stage("compute")
    @functools.lru_cache
    def double(x: int) -> int:
        return 2 * x

    assert (double(2), double(2)) == (4, 4)
    assert double.cache_info().hits == 1
    double.cache_clear()
    assert double.cache_info().currsize == 0
    assert len(captured.spans) == 2


def test_a_generator_based_coroutine_can_still_be_awaited(captured: Capture) -> None:
    @tailsight.stage("network")
    @types.coroutine
    def pause() -> Iterator[None]:
        assert get_current_span().is_recording()
        yield
        return 7  # type: ignore[return-value]

    async def main() -> Any:
        return await pause()  # type: ignore[misc]

    assert asyncio.run(main()) == 7
    assert captured.one(stage="network").attributes == {}


def test_a_callable_object_is_left_as_it_is(captured: Capture, caplog: pytest.LogCaptureFixture) -> None:
    class Model:
        training = True

        def __call__(self, x: int) -> int:
            return x

    model = Model()
    assert tailsight.stage("compute")(model) is model
    assert "cannot be decorated" in caplog.text
    part = tailsight.stage("compute")(functools.partial(pow, 2))
    assert part(3) == 8
    assert len(captured.spans) == 1


def test_an_async_generator_is_known_to_the_loop_by_its_wrapper_only(captured: Capture) -> None:
    cleaned: list[int] = []
    problems: list[Any] = []
    kept: list[Any] = []

    @tailsight.stage("compute")
    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
        finally:
            await asyncio.sleep(0.001)
            cleaned.append(1)

    async def in_a_cycle() -> None:
        stream = numbers()
        await anext(stream)
        cycle: dict[str, Any] = {"stream": stream}
        cycle["self"] = cycle

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        await in_a_cycle()
        gc.collect()
        await asyncio.sleep(0.05)
        assert cleaned == [1]
        kept.append(numbers())
        await anext(kept[0])
        assert len(_stream._open_streams) == 1

    hooks = sys.get_asyncgen_hooks()
    asyncio.run(main())
    assert cleaned == [1, 1]
    assert problems == []
    assert not _stream._open_streams
    assert sys.get_asyncgen_hooks() == hooks
    assert [span.attributes["tailsight.stream.abandoned"] for span in captured.spans] == [True, True]


# --- delivery -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [None, 0.0, 2.0, 100.0])
def test_a_retry_after_below_the_backoff_does_not_shorten_it(said: float | None) -> None:
    waits: list[float] = []

    class Collector:
        url = "http://collector"

        def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
            if len(waits) < 2:
                return Answer(status="503", accepted=False, retryable=True, retry_after_s=said)
            return Answer(status="200", accepted=True)

        def close(self) -> None: ...

    class Patience:
        def now(self) -> float:
            return 0

        def deadline(self) -> None:
            return None

        def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
            waits.append(seconds)
            return True

    policy = RetryPolicy(4, 8, 1000)
    assert Delivery(Collector(), policy, Counters(), Patience(), jitter=lambda: 0.0).deliver(b"", 1)
    assert waits == [max(2.0, said or 0), max(4.0, said or 0)]


def test_an_absurd_retry_after_is_ignored() -> None:
    assert _http._retry_after("9" * 400) is None
    assert _http._retry_after("9" * 5000) is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://[::1]/v1/traces", "::1", 80),
        ("https://[2001:db8::7]/v1/traces", "2001:db8::7", 443),
        ("http://[::1]:4318/v1/traces", "::1", 4318),
        ("https://collector/v1/traces", "collector", 443),
    ],
)
def test_the_port_is_never_guessed_from_an_ipv6_address(url: str, host: str, port: int) -> None:
    collector = _http.Collector(url, headers={}, compression="none", timeout_s=1)
    kind = _http.http.client.HTTPConnection
    connection = kind(collector._host, collector._port)
    assert (connection.host, connection.port) == (host, port)


def test_a_flush_that_waits_in_vain_leaves_nothing_behind(collector: FakeCollector) -> None:
    collector.gate = threading.Event()
    configure(collector)
    one_request()
    for _ in range(3):
        assert not tailsight.flush(timeout=0.01)
    sender = _runtime._runtime.transport
    assert sender is not None
    assert not sender._flushes
    collector.gate.set()
    assert tailsight.flush()


def test_a_flush_from_the_senders_own_thread_returns_at_once(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list[tuple[bool, float]] = []
    accepted = _delivery.count_accepted

    def flushing(*args: Any) -> None:
        began = time.monotonic()
        results.append((tailsight.flush(timeout=5), time.monotonic() - began))
        accepted(*args)

    monkeypatch.setattr(_delivery, "count_accepted", flushing)
    configure(collector)
    one_request()
    assert tailsight.flush()
    ((result, took),) = results
    assert result is False
    assert took < 2


def test_seconds_over_what_platforms_can_wait_for_are_rejected(caplog: pytest.LogCaptureFixture) -> None:
    for option in ("timeout_s", "send_interval_s", "retry_initial_s", "retry_max_s", "flush_timeout_s"):
        assert getattr(resolve({option: 1e10}, {}), option) == getattr(resolve({}, {}), option)
        assert getattr(resolve({option: 3600}, {}), option) == 3600
    assert len(caplog.records) == 5
    assert resolve({"retry_for_s": 1e10}, {}).retry_for_s == 1e10


def test_absurd_timeouts_of_calls_are_fine(collector: FakeCollector) -> None:
    configure(collector)
    one_request()
    assert tailsight.flush(timeout=1e300)
    tailsight.flush(timeout=-1)
    one_request()
    tailsight.shutdown(timeout=1e300)
    assert len(collector.spans) == 2


def test_a_sender_thread_that_died_is_started_again(collector: FakeCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    configure(collector)
    sender = _runtime._runtime.transport
    assert sender is not None
    with monkeypatch.context() as patched:
        patched.setattr(_sender.Sender, "_pause", lambda _: sys.exit())
        one_request()
        thread = sender._thread
        assert thread is not None
        thread.join(5)
        assert not thread.is_alive()
    one_request()
    assert sender.alive
    assert tailsight.flush()
    assert len(collector.spans) == 2


def test_one_span_that_cannot_be_encoded_does_not_take_the_others_with_it(
    collector: FakeCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = _otlp._span

    def picky(span: SpanRecord, *rest: Any) -> bytes:
        if span.name == "bad":
            raise OverflowError
        return encode(span, *rest)

    monkeypatch.setattr(_otlp, "_span", picky)
    configure(collector)
    with tailsight.request(), tailsight.stage("compute"), tailsight.stage("x", name="bad"):
        pass
    assert tailsight.flush()
    assert {span.name for span in collector.spans} == {"request", "compute"}
    assert (tailsight.stats().sent, tailsight.stats().dropped) == (2, {"internal_error": 1})
    assert tailsight.stats().internal_errors == 1
    _runtime.counters.internal_errors = 0


def test_one_span_that_cannot_be_packed_does_not_take_the_others_with_it(captured: Capture) -> None:
    with tailsight.request(), tailsight.stage("compute"), tailsight.stage("x") as s:
        s._attributes["bad"] = object()  # type: ignore[index,assignment]
    assert {span.name for span in captured.spans} == {"request", "compute"}
    assert tailsight.stats().dropped == {"internal_error": 1}
    _runtime.counters.internal_errors = 0


def test_odd_events_and_links_do_no_harm(collector: FakeCollector) -> None:
    configure(collector)
    with tailsight.request() as r:
        r.add_event("float", timestamp=1.7e18)  # type: ignore[arg-type]
        r.add_event("numpy", timestamp=np.int64(1_700_000_000_000_000_000))  # type: ignore[arg-type]
        r.add_link(SpanContext(2**130, 1, False))
        r.add_link(SpanContext(1, 2**70, False))
        r.add_link(SpanContext(1, 1, False))
    assert tailsight.flush()
    (span,) = collector.spans
    assert [event.time_unix_nano for event in span.events] == [1_700_000_000_000_000_000] * 2
    assert len(span.links) == 1
    assert span.dropped_links_count == 2


# --- threads --------------------------------------------------------------------------------------------------------


def test_a_shared_stage_leaks_nothing_when_its_first_use_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILSIGHT_ENDPOINT", "http://127.0.0.1:1")
    slow = _runtime.resolve

    def slowly(arguments: Any) -> Any:
        time.sleep(0.05)
        return slow(arguments)

    monkeypatch.setattr(_runtime, "resolve", slowly)
    current.recorder = None
    shared = tailsight.stage("compute")
    left: list[int] = []

    def work() -> None:
        with shared:
            time.sleep(0.01)
        left.append(len(get_current()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [0, 0, 0, 0]


def test_a_stage_that_was_not_recorded_can_be_entered_again(captured: Capture) -> None:
    shared = tailsight.stage("compute")
    with tailsight.extract({"traceparent": f"00-{1:032x}-{1:016x}-00"}):
        for _ in range(2):
            with shared:
                pass
    assert captured.spans == []
    with shared, shared:
        pass
    assert len(captured.spans) == 2
    assert len(get_current()) == 0


def test_a_request_in_another_thread_keeps_the_decision_not_to_sample(captured: Capture) -> None:
    headers: list[Any] = []

    def work(context: Any) -> None:
        with tailsight.request(context=context) as r:
            headers.append((tailsight.inject()["traceparent"], r.span_id))
            with tailsight.stage("compute"):
                pass
        headers.append(len(get_current()))

    with tailsight.request(context=tailsight.extract({"traceparent": f"00-{7:032x}-{1:016x}-00"})):
        thread = threading.Thread(target=work, args=(get_current(),))
        thread.start()
        thread.join()
    (written, span_id), left = headers
    assert written == f"00-{7:032x}-{span_id}-00"
    assert left == 0
    assert captured.spans == []


def test_drops_are_counted_exactly_and_can_be_read_meanwhile() -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    counted = Counters()
    reasons = list(DropReason)
    try:

        def work() -> None:
            for number in range(5000):
                counted.drop(reasons[number % len(reasons)], 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            counted.snapshot(pending_bytes=0)
        assert sum(counted.dropped.values()) == 20_000
    finally:
        sys.setswitchinterval(before)


def test_stats_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError

    monkeypatch.setattr(Counters, "snapshot", broken)
    assert tailsight.stats().internal_errors == 1
    _runtime.counters.internal_errors = 0


# --- values, clock and the rest -------------------------------------------------------------------------------------


def test_the_characters_of_a_nested_value_are_bounded_as_a_whole() -> None:
    value: Any = clean(["x" * 100] * 100, 150)
    assert value == ["x" * 100, "x" * 50]
    value = clean([b"x" * 100] * 100, 150)
    assert value == [b"x" * 100, b"x" * 50]
    value = clean({"k" * 100 + str(n): "v" * 100 for n in range(100)}, 150)
    assert sum(len(key) + len(item) for key, item in value.items()) == 150


def test_numpys_bool_becomes_a_bool() -> None:
    assert clean(np.bool_(True), 10) is True
    assert clean([np.bool_(False)], 10) == [False]


def test_an_empty_key_is_dropped_and_counted(captured: Capture) -> None:
    with tailsight.stage("compute") as s:
        s.set("", 1)
        s.add_event("e", {"": 1, "a": 2})
    (span,) = captured.spans
    assert span.attributes == {}
    assert span.dropped_attributes == 1
    assert span.events[0].attributes == {"a": 2}


@pytest.mark.parametrize(("code", "status"), [(0, "UNSET"), (None, "UNSET"), (1, "ERROR"), (["x"], "ERROR")])
def test_an_exit_that_means_success_is_no_error(captured: Capture, code: Any, status: str) -> None:
    with pytest.raises(SystemExit), tailsight.stage("compute"):
        sys.exit(code)
    assert captured.spans[0].status == status


@pytest.mark.parametrize("step", [3_600_000_000_000, -3_600_000_000_000, ANCHOR_TOLERANCE_NS, -ANCHOR_TOLERANCE_NS])
def test_the_next_request_knows_that_the_wall_clock_was_set(step: int) -> None:
    clock = FakeClock(unix_ns=10**18)
    with capture(clock=clock) as captured:
        with tailsight.request("before"):
            clock.step_wall_clock(step)
            clock.advance(7)
        with tailsight.request("after"):
            clock.advance(7)
    before, after = captured.one(name="before"), captured.one(name="after")
    assert (before.start_unix_ns, before.duration_ns) == (10**18, 7)
    assert (after.start_unix_ns, after.duration_ns) == (10**18 + 7 + step, 7)


def test_the_clock_is_renewed_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(_runtime._runtime, "clock", clock)
    clock.step_wall_clock(5)
    _runtime._after_fork()
    assert clock.anchor_ns == 1_700_000_000_000_000_000 + 5


def test_opentelemetrys_traces_endpoint_is_taken_as_it_is() -> None:
    for address in ("http://c:4318/custom/", "http://c:4318/", "http://c:4318/a?b=c"):
        assert resolve({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": address}).endpoint == address
    assert resolve({}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318"}).endpoint == "http://c:4318/"


@pytest.mark.parametrize("host", ["a..b", "x" * 64, ".a"])
def test_a_host_that_cannot_be_looked_up_is_rejected(host: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        _parse.endpoint(f"http://{host}:4318", "/v1/traces")


def test_handing_on_exchanges_the_list_without_anything_in_between() -> None:
    # Making a list may collect garbage, and so run a finalizer that ends a span and hands on the same list.
    steps = [step for step in dis.get_instructions(_trace.Trace.hand_on) if step.opname != "CACHE"]
    stored = next(n for n, step in enumerate(steps) if step.opname == "STORE_ATTR" and step.argval == "records")
    read = max(n for n in range(stored) if steps[n].opname == "LOAD_ATTR" and steps[n].argval == "records")
    between = [step.opname for step in steps[read + 1 : stored]]
    assert not [name for name in between if name.startswith(("BUILD", "CALL", "LOAD_ATTR", "LOAD_METHOD"))]


def test_a_retry_after_of_0_is_no_leave_to_hammer(collector: FakeCollector) -> None:
    collector.replies = [Reply(503, {"Retry-After": "0"})] * 3
    configure(collector, retry_initial_s=0.2, retry_max_s=0.2)
    one_request()
    assert tailsight.flush()
    times = [received.at for received in collector.received]
    assert all(later - earlier >= 0.1 for earlier, later in itertools.pairwise(times))


def test_flush_sends_of_an_open_request_only_whole_lots(collector: FakeCollector) -> None:
    configure(collector)
    with tailsight.request():
        for _ in range(130):
            with tailsight.stage("compute"):
                pass
        assert tailsight.flush()
        assert len(collector.spans) == 128
    assert tailsight.flush()
    assert len(collector.spans) == 131


def test_what_ends_after_a_shutdown_is_counted(collector: FakeCollector) -> None:
    configure(collector)
    with tailsight.request():
        with tailsight.stage("compute"):
            pass
        tailsight.shutdown()
    assert collector.spans == []
    assert tailsight.stats().dropped == {"shutdown": 2}


def test_a_shared_request_inside_itself_stays_current_when_it_is_not_sampled(captured: Capture) -> None:
    shared = tailsight.request()
    with tailsight.extract({"traceparent": f"00-{7:032x}-{1:016x}-00"}):
        outside = get_current()
        with shared:
            before = tailsight.inject()
            with shared:
                pass
            assert tailsight.inject() == before
        assert get_current() is outside
    assert captured.spans == []
