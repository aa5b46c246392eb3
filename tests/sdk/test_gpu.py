"""gpu_stage(): the device's own times, on the host's clock, and nobody waits for them. No real GPU took part."""

import asyncio
import inspect
import os
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

import tailsight
from tailsight import _gpu, _gpu_backends, _gpu_pending
from tailsight import attributes as keys
from tailsight._gpu_backends import CuPy, Torch
from tailsight._gpu_clock import ANCHOR_LASTS_NS, DeviceClock
from tailsight._stats import counters
from tailsight.testing import Capture, FakeClock, FakeDevice, capture, fake_device

MS = 1_000_000
QUESTION = 200  # ns that each reading of the clock takes in most tests


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(tick_ns=QUESTION)


@pytest.fixture
def captured_here(clock: FakeClock) -> Iterator[Capture]:
    with capture(clock=clock) as spans:
        yield spans


@pytest.fixture
def device(clock: FakeClock, captured_here: Capture) -> Iterator[FakeDevice]:
    with fake_device(clock, latency_ns=3_000) as fake:
        yield fake
        assert fake.synchronized == 0, "tailsight waited for the device"


def monotonic(span: Any) -> int:
    return int(span.start_unix_ns) - 1_700_000_000_000_000_000


pytestmark = pytest.mark.usefixtures("no_internal_errors")


def test_the_span_has_the_devices_times_not_the_time_of_the_launch(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    with tailsight.request("rank") as r, tailsight.stage("compute") as compute:
        with tailsight.gpu_stage("gpu_kernel", name="matmul") as g:
            g.set("shape", [2, 3])
            entered = clock.peek()
            device.launch(40 * MS)
        launched = clock.peek()
    assert captured_here.find(stage="gpu_kernel") == [], "the request has ended, and did not wait for the device"
    assert captured_here.one(name="rank").duration_ns < 1 * MS
    clock.advance(100 * MS)
    assert device.resolve() == 1
    kernel = captured_here.one(stage="gpu_kernel")
    assert (kernel.name, kernel.trace_id, kernel.parent_span_id) == ("matmul", r.trace_id, compute.span_id)
    assert kernel.duration_ns == pytest.approx(40 * MS, abs=5_000)
    assert launched - entered < 10_000
    assert monotonic(kernel) == pytest.approx(entered, abs=10_000)
    assert kernel.attributes == {"shape": [2, 3]}
    assert kernel.thread_id == threading.get_ident()


def test_work_that_waits_behind_other_work_begins_when_the_device_begins_it(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    with tailsight.request():
        device.launch(30 * MS)
        with tailsight.gpu_stage():
            entered = clock.peek()
            device.launch(5 * MS)
    clock.advance(50 * MS)
    device.resolve()
    kernel = captured_here.one(stage="gpu_kernel")
    assert kernel.duration_ns == pytest.approx(5 * MS, abs=1_000)
    assert monotonic(kernel) - entered == pytest.approx(30 * MS, abs=10_000)


@pytest.mark.parametrize("pause_ns", [1 * MS, ANCHOR_LASTS_NS // 2, 10 * ANCHOR_LASTS_NS, 3600 * 1_000 * MS])
@pytest.mark.parametrize("drift_ppm", [0.0, 30.0, -30.0])
def test_device_times_lie_on_the_hosts_clock_within_the_anchors_error(
    clock: FakeClock, captured_here: Capture, pause_ns: int, drift_ppm: float
) -> None:
    """Also after an hour of drift, where one anchor for all would be off by 100 ms, and float32 by 0.25 ms."""
    with fake_device(clock, offset_ns=12_345_678_901_234, drift_ppm=drift_ppm, latency_ns=3_000) as device:
        expected = []
        for _ in range(4):
            with tailsight.request(), tailsight.gpu_stage():
                expected.append(clock.peek())
                device.launch(2 * MS)
            clock.advance(3 * MS)
            device.resolve()
            clock.advance(pause_ns)
        assert device.pending.count == 0
        clock_of_device = device.pending.clocks[id(device)]
        error = clock_of_device.error_ns(0)
    assert error is not None
    assert error <= 2 * QUESTION, "the last no and the first yes enclose the moment"
    drift_within_an_anchors_life = abs(drift_ppm) * 1e-6 * ANCHOR_LASTS_NS
    rounding = 100  # float32 of up to a second
    for kernel, start in zip(captured_here.find(stage="gpu_kernel"), expected, strict=True):
        assert abs(monotonic(kernel) - start) <= error + 3 * QUESTION + drift_within_an_anchors_life + rounding + 3_000
        assert kernel.duration_ns == pytest.approx(2 * MS, abs=1_500)


def test_streams_get_done_out_of_order(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    with tailsight.request():
        for name, duration in [("slow", 50 * MS), ("fast", 1 * MS), ("middle", 20 * MS)]:
            with device.stream(name), tailsight.gpu_stage("gpu_kernel", name=name):
                device.launch(duration)
    order = []
    for _ in range(3):
        clock.advance(2 * MS if not order else 25 * MS)
        device.resolve()
        order = [span.name for span in captured_here.find(stage="gpu_kernel")]
        assert len(order) in {1, 2, 3}
    durations = {span.name: round(span.duration_ns / MS) for span in captured_here.find(stage="gpu_kernel")}
    assert durations == {"slow": 50, "fast": 1, "middle": 20}


def test_the_end_is_recorded_on_the_stream_of_the_beginning(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    with tailsight.request():
        stage = tailsight.gpu_stage()
        with device.stream("one"):
            stage.__enter__()
            device.launch(4 * MS)
        with device.stream("two"):
            device.launch(40 * MS)
            stage.__exit__(None, None, None)
    clock.advance(100 * MS)
    device.resolve()
    assert captured_here.one(stage="gpu_kernel").duration_ns == pytest.approx(4 * MS, abs=1_000)


def test_an_exception_inside_marks_the_span_and_passes(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    @tailsight.gpu_stage("gpu_kernel")
    def broken() -> None:
        device.launch(1 * MS)
        raise ValueError("the host's")

    with tailsight.request(), pytest.raises(ValueError, match="the host's"):
        broken()
    clock.advance(5 * MS)
    device.resolve()
    kernel = captured_here.one(stage="gpu_kernel")
    assert (kernel.status, kernel.status_message) == ("ERROR", "ValueError: the host's")
    assert kernel.events[0].attributes[keys.EXCEPTION_TYPE] == "ValueError"
    assert kernel.duration_ns == pytest.approx(1 * MS, abs=1_000)


def test_functions_of_all_kinds_can_be_decorated(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    @tailsight.gpu_stage("gpu_kernel")
    def plain(x: int) -> int:
        device.launch(1 * MS)
        return x

    @tailsight.gpu_stage("gpu_kernel")
    async def later(x: int) -> int:
        device.launch(2 * MS)
        return x

    @tailsight.gpu_stage("gpu_kernel")
    def numbers() -> Iterator[int]:
        for n in range(3):
            device.launch(1 * MS)
            yield n

    with tailsight.request():
        assert (plain(1), asyncio.run(later(2)), list(numbers())) == (1, 2, [0, 1, 2])
    clock.advance(100 * MS)
    device.resolve()
    spans = captured_here.find(stage="gpu_kernel")
    assert [span.name.split(".")[-1] for span in spans] == ["plain", "later", "numbers"]
    assert [round(span.duration_ns / MS) for span in spans] == [1, 2, 3]
    assert inspect.iscoroutinefunction(later)
    assert inspect.isgeneratorfunction(numbers)


def test_events_are_used_again(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    for _ in range(100):
        with tailsight.request(), tailsight.gpu_stage():
            device.launch(1_000)
        clock.advance(1 * MS)
        device.resolve()
    assert len(captured_here.find(stage="gpu_kernel")) == 100
    assert device.events_made < 20, "two for the stages, five for the anchor"


def test_what_never_gets_done_is_bounded_and_counted(
    clock: FakeClock, captured_here: Capture, device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_gpu_pending, "MAX_PENDING", 50)
    with tailsight.request():
        with device.stream("hangs"):
            device.hang()
            for _ in range(40):
                with tailsight.gpu_stage(name="hangs"):
                    pass
        for n in range(30):
            with device.stream("works"), tailsight.gpu_stage(name=str(n)):
                device.launch(1_000 * MS)
    assert device.pending.count == 50
    assert tailsight.stats().dropped == {"device_pending": 20}
    clock.advance(60_000 * MS)
    assert device.resolve() == 30, "one stream that hangs does not hold up the others"
    assert {span.name for span in captured_here.find(stage="gpu_kernel")} == {str(n) for n in range(30)}
    assert device.pending.count == 20


def test_a_device_that_fails_costs_its_spans_and_nothing_else(
    clock: FakeClock, captured_here: Capture, device: FakeDevice, caplog: pytest.LogCaptureFixture
) -> None:
    with tailsight.request():
        for _ in range(3):
            with tailsight.gpu_stage():
                device.launch(1 * MS)
    device.fails = RuntimeError("CUDA error: device-side assert triggered")
    with tailsight.request("next"), tailsight.gpu_stage():
        pass
    device.resolve()
    assert device.pending.count == 0
    assert tailsight.stats().dropped == {"device_pending": 3}
    assert captured_here.find(name="next")
    assert 1 <= len(caplog.records) <= 2


def test_graph_captures_are_left_alone(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    with tailsight.request():
        device.capturing = True
        with tailsight.gpu_stage():
            device.launch(1 * MS)
        device.capturing = False
        with tailsight.gpu_stage():
            device.capturing = True
        device.capturing = False
    clock.advance(10 * MS)
    assert device.resolve() == 0
    assert device.pending.count == 0


def test_unsampled_or_disabled_nothing_is_recorded_on_the_device(clock: FakeClock) -> None:
    with capture(clock=clock), fake_device(clock) as device:
        with use_span(NonRecordingSpan(SpanContext(1, 2, is_remote=True))):
            with tailsight.gpu_stage():
                pass
            with tailsight.request(), tailsight.gpu_stage() as g:
                g.set("a", 1)
        assert device.events_made == 0
    with capture(clock=clock, enabled=False), fake_device(clock) as device:
        with tailsight.request(), tailsight.gpu_stage():
            pass
        assert device.events_made == 0


def test_without_a_request_the_stage_is_a_trace_of_its_own(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    with tailsight.gpu_stage():
        device.launch(1 * MS)
        assert trace_api.get_current_span() is trace_api.INVALID_SPAN
    clock.advance(10 * MS)
    device.resolve()
    assert captured_here.one(stage="gpu_kernel").parent_span_id is None


def test_in_a_batch_each_request_gets_the_kernel(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    carriers = []
    for _ in range(3):
        with tailsight.request():
            carriers.append(tailsight.carrier())
    with tailsight.batch(carriers, requests=carriers), tailsight.gpu_stage():
        device.launch(7 * MS)
    clock.advance(20 * MS)
    device.resolve()
    kernels, computes = captured_here.find(stage="gpu_kernel"), captured_here.find(stage="compute")
    assert len(kernels) == 3
    assert {(k.trace_id, k.parent_span_id) for k in kernels} == {(c.trace_id, c.span_id) for c in computes}
    assert len({k.span_id for k in kernels}) == 3


def test_a_thread_resolves_what_is_pending_and_ends_with_it() -> None:
    with capture() as captured:
        real = tailsight._recorder.current.recorder  # type: ignore[attr-defined]
        with fake_device(real.clock, threaded=True) as device:

            def work() -> None:
                for _ in range(20):
                    with tailsight.request(), tailsight.stage("compute"), tailsight.gpu_stage():
                        device.launch(100_000)

            for _ in range(2):  # and another thread the next time
                threads = [threading.Thread(target=work) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                resolver = device.pending.thread
                while resolver is not None:
                    assert resolver is not threading.current_thread()
                    assert resolver.daemon
                    resolver.join(20)
                    assert not resolver.is_alive()
                    resolver = device.pending.thread
            assert device.pending.count == 0
            assert device.synchronized == 0
    kernels = captured.find(stage="gpu_kernel")
    assert len(kernels) == 160
    computes = {(span.trace_id, span.span_id, span.thread_id) for span in captured.find(stage="compute")}
    assert {(span.trace_id, span.parent_span_id, span.thread_id) for span in kernels} == computes


def test_where_a_thread_may_not_ask_the_next_stages_do() -> None:
    with capture() as captured:
        real = tailsight._recorder.current.recorder  # type: ignore[attr-defined]
        with fake_device(real.clock, threaded=True) as device:
            device.usable_in_threads = False
            until = time.monotonic() + 20
            while len(captured.find(stage="gpu_kernel")) < 5 and time.monotonic() < until:
                with tailsight.request(), tailsight.gpu_stage():
                    device.launch(1_000)
            assert not device.pending.threaded
    assert len(captured.find(stage="gpu_kernel")) >= 5


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forks beside threads
def test_a_forked_child_has_nothing_pending_and_no_thread() -> None:
    with capture():
        real = tailsight._recorder.current.recorder  # type: ignore[attr-defined]
        with fake_device(real.clock, threaded=True) as device:
            with tailsight.request(), tailsight.gpu_stage():
                device.launch(3_600_000 * MS)
            assert device.pending.thread is not None
            child = os.fork()
            if child == 0:  # pragma: no cover
                pending = _gpu_pending.pending
                os._exit(0 if pending.count == 0 and pending.thread is None and not pending._heads() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert device.pending.count == 1
            resolver = device.pending.thread
    assert resolver is not None
    resolver.join(20)
    assert not resolver.is_alive(), "it ends with what is pending"


def test_at_the_end_of_the_process_the_rest_is_counted(
    clock: FakeClock, captured_here: Capture, device: FakeDevice
) -> None:
    with tailsight.request():
        for duration in (1 * MS, 1_000 * MS):
            with tailsight.gpu_stage():
                device.launch(duration)
    clock.advance(5 * MS)
    device.pending.give_up()
    assert len(captured_here.find(stage="gpu_kernel")) == 1
    assert tailsight.stats().dropped == {"device_pending": 1}


# --- which device -----------------------------------------------------------------------------------------------------


class CudaEvent:
    def __init__(self, device: FakeDevice) -> None:
        self.event = device.new_event()
        self.device = device

    def record(self, stream: Any) -> None:
        self.device.record(self.event, stream.name)

    def query(self) -> bool:
        return self.device.done(self.event)

    @property
    def done(self) -> bool:
        return self.device.done(self.event)

    def elapsed_time(self, end: "CudaEvent") -> float:
        return self.device.elapsed_ms(self.event, end.event)

    def synchronize(self) -> None:
        self.device.synchronize()


class CudaStream:
    def __init__(self, name: Any, device: FakeDevice) -> None:
        self.name, self.fake, self.device = name, device, types.SimpleNamespace(index=0)
        self.cuda_stream = self.ptr = 1

    def is_capturing(self) -> bool:
        return self.fake.capturing

    def synchronize(self) -> None:
        self.fake.synchronize()


def torch_with(device: FakeDevice, **changes: Any) -> Any:
    """Something with the part of PyTorch's interface that is used. No CUDA build was at hand to compare it with."""
    cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        is_available=lambda: True,
        is_current_stream_capturing=lambda: device.capturing,
        current_stream=lambda: CudaStream("default", device),
        Stream=lambda device: CudaStream("side", device),
        Event=lambda enable_timing=False: CudaEvent(device),
        synchronize=device.synchronize,
    )
    for name, value in changes.items():
        setattr(cuda, name, value)
    return types.SimpleNamespace(cuda=cuda, version=types.SimpleNamespace(hip=None))


def cupy_with(device: FakeDevice) -> Any:
    class Device:
        def __init__(self, number: int) -> None:
            assert number == 0

        def __enter__(self) -> None: ...
        def __exit__(self, *args: object) -> None: ...

    cuda = types.SimpleNamespace(
        is_available=lambda: True,
        get_current_stream=lambda: CudaStream("default", device),
        runtime=types.SimpleNamespace(getDevice=lambda: 0),
        Device=Device,
        Stream=lambda non_blocking=False: CudaStream("side", device),
        Event=lambda: CudaEvent(device),
        get_elapsed_time=lambda start, end: start.elapsed_time(end),
    )
    return types.SimpleNamespace(cuda=cuda)


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_the_librarys_events_are_used(
    clock: FakeClock, captured_here: Capture, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    device = FakeDevice(clock, offset_ns=99, latency_ns=1_000)
    monkeypatch.setattr(_gpu_backends, "_found", {})
    monkeypatch.setitem(sys.modules, "torch", torch_with(device, is_initialized=lambda: library == "torch"))
    monkeypatch.setitem(sys.modules, "cupy", cupy_with(device))
    monkeypatch.setattr(_gpu_pending, "pending", _gpu_pending.Pending(threaded=False))
    with tailsight.request(), tailsight.gpu_stage():
        entered = clock.peek()
        device.launch(3 * MS, stream="default")
    clock.advance(10 * MS)
    assert _gpu_pending.pending.poll() == 1
    kernel = captured_here.one(stage="gpu_kernel")
    assert kernel.duration_ns == pytest.approx(3 * MS, abs=1_000)
    assert monotonic(kernel) == pytest.approx(entered, abs=5_000)
    assert isinstance(_gpu_backends.active(), Torch if library == "torch" else CuPy)
    device.capturing = True
    with tailsight.request(), tailsight.gpu_stage():
        pass
    assert _gpu_pending.pending.count == 0
    assert device.synchronized == 0


def must_not_be_called(*args: object, **kwargs: object) -> Any:
    raise AssertionError("this would initialize the device")


@pytest.mark.parametrize("why", ["not initialized", "rocm", "no torch", "half imported"])
def test_without_a_device_nothing_is_recorded_and_nothing_breaks(
    captured: Capture, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    device = FakeDevice(FakeClock())
    unused = dict.fromkeys(["current_stream", "Stream", "Event", "synchronize", "is_available"], must_not_be_called)
    torch = torch_with(device, is_initialized=lambda: why != "not initialized", **unused)
    if why == "rocm":
        torch.version.hip = "6.1"
    monkeypatch.setattr(_gpu_backends, "_found", {})
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    if why == "half imported":
        monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())
        monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace())
    elif why != "no torch":
        monkeypatch.setitem(sys.modules, "torch", torch)
    before = set(sys.modules)
    with tailsight.request(), tailsight.gpu_stage() as g:
        g.set("a", 1)
    assert captured.find(stage="gpu_kernel") == []
    assert len(captured.spans) == 1
    assert set(sys.modules) - before == set(), "nothing is imported"


def test_pytorch_without_cuda(captured: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(_gpu_backends, "_found", {})
    if torch.cuda.is_available():
        pytest.skip("this is about the build for processors")

    @tailsight.gpu_stage("gpu_kernel")
    def model(x: Any) -> Any:
        return x @ x

    with tailsight.request():
        assert model(torch.ones(2, 2)).sum().item() == 8
        with tailsight.gpu_stage() as g:
            g.set("tensor", torch.ones(2))
    assert [span.stage for span in captured.spans] == [None]
    assert not torch.cuda.is_initialized()


def test_a_tensor_as_an_attribute_is_not_shown(clock: FakeClock, captured_here: Capture, device: FakeDevice) -> None:
    class Tensor:
        def __str__(self) -> str:
            raise AssertionError("this waits for the device")

    Tensor.__module__ = "torch"
    with tailsight.request(), tailsight.gpu_stage() as g:
        g.set("x", Tensor())
    clock.advance(1 * MS)
    device.resolve()
    assert captured_here.one(stage="gpu_kernel").attributes == {"x": "<Tensor>"}


def test_an_idle_stream_that_does_not_answer_is_given_up(clock: FakeClock) -> None:
    device = FakeDevice(clock)
    device.hang(stream=("side", 0))
    asked = DeviceClock(device)
    event = device.new_event()
    device.record(event, "default")
    assert asked.place(event, device=0, entered_ns=clock.peek(), now=clock.now) is None


def test_of_several_anchors_the_least_disturbed_one_counts(clock: FakeClock) -> None:
    disturbances = iter([9_000, 50_000, 1_000, 70_000, 3_000])

    class Disturbed(FakeDevice):
        def record(self, event: Any, stream: Any) -> None:
            super().record(event, stream)
            clock.advance(next(disturbances, 0) if stream == ("side", 0) else 0)

    device = Disturbed(clock)
    asked = DeviceClock(device)
    event = device.new_event()
    device.record(event, "default")
    placed = asked.place(event, device=0, entered_ns=clock.peek(), now=clock.now)
    assert placed is not None
    assert (asked.error_ns(0) or 0) < 1_000
    assert abs(placed) <= (asked.error_ns(0) or 0) + 10


def test_no_thread_without_pending_work(captured: Capture) -> None:
    assert _gpu_pending.pending.thread is None
    assert not [thread for thread in threading.enumerate() if thread.name == "tailsight-device"]


def test_an_internal_error_reaches_nobody(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise LookupError("injected")

    for where, name in [
        (_gpu, "get_current"),
        (_gpu, "Launched"),
        (_gpu, "is_recorded"),
        (_gpu, "clean"),
        (_gpu_backends, "active"),
        (_gpu_pending, "emit"),
        (_gpu_pending.Pending, "event"),
        (_gpu_pending.Pending, "add"),
        (_gpu_pending.Pending, "poll"),
    ]:
        with capture(clock=clock), fake_device(clock) as device, monkeypatch.context() as patch:
            patch.setattr(where, name, fail)
            for _ in range(2):
                with tailsight.request(), tailsight.gpu_stage() as g:
                    g.set("x", 1)
                    device.launch(1)
        assert counters.internal_errors > 0, name
        counters.reset()
