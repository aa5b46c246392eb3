"""A device for tests: time passes when the test says so, and waiting for it is counted."""

import struct
import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from . import _gpu_backends, _gpu_pending
from ._clock import Clock
from ._gpu_backends import Stream

NEVER = 2**62


class FakeEvent:
    """An event of a FakeDevice."""

    __slots__ = ("device", "done_ns")

    def __init__(self, device: "FakeDevice") -> None:
        self.device = device
        self.done_ns: int | None = None  # on the host's clock; None: not recorded

    def synchronize(self) -> None:
        """Do what tailsight must never do."""
        self.device.synchronized += 1


class FakeDevice:
    """A GPU whose work takes exactly as long as launch() says, on any number of streams.

    Its clock shows other values than the host's, `offset_ns` more, and runs `drift_ppm` millionths faster; the time
    between two events is a 32-bit float of milliseconds, as CUDA's is. An event is seen `latency_ns` after it was
    recorded, at the earliest. Made by fake_device().
    """

    def __init__(self, clock: Clock, *, offset_ns: int = 0, drift_ppm: float = 0.0, latency_ns: int = 0) -> None:
        self._clock = clock
        self._read = getattr(clock, "peek", clock.now)  # reading a FakeClock with a tick would move it
        self._offset_ns = offset_ns
        self._drift = drift_ppm / 1e6
        self._latency_ns = latency_ns
        self._busy_until: dict[Hashable, int] = {}
        self._local = threading.local()
        self.capturing = False
        self.usable_in_threads = True
        self.fails: Exception | None = None
        """Raised by whatever asks for an event, as after an error on a real device."""
        self.synchronized = 0
        """How often somebody waited for the device."""
        self.events_made = 0
        self.pending = _gpu_pending.Pending(threaded=False)

    # --- what the test does -------------------------------------------------------------------------------------------

    def launch(self, duration_ns: int, *, stream: Hashable = None) -> None:
        """Begin work when the stream is free: on the current stream, or on `stream`."""
        stream = self._current() if stream is None else stream
        self._busy_until[stream] = max(self._read(), self._busy_until.get(stream, 0)) + duration_ns

    def hang(self, *, stream: Hashable = None) -> None:
        """Never get done again on this stream."""
        self._busy_until[self._current() if stream is None else stream] = NEVER

    @contextmanager
    def stream(self, name: Hashable) -> Iterator[None]:
        """Make another stream current in this thread."""
        before, self._local.stream = self._current(), name
        try:
            yield
        finally:
            self._local.stream = before

    def resolve(self) -> int:
        """Emit the spans of what is done by now, and return how many there were."""
        return self.pending.poll()

    def synchronize(self) -> None:
        """Wait for the device, as only the host may."""
        self.synchronized += 1

    def _current(self) -> Hashable:
        return getattr(self._local, "stream", "default")

    # --- what tailsight does: see _gpu_backends.Backend ---------------------------------------------------------------

    def current_stream(self) -> Stream | None:
        """Return the current stream, or None while capturing."""
        if self.capturing:
            return None
        name = self._current()
        return Stream(0, name, name)

    def side_stream(self, device: Hashable) -> Any:
        """Return a stream that is always idle."""
        return ("side", device)

    def new_event(self) -> FakeEvent:
        """Return an event."""
        self.events_made += 1
        return FakeEvent(self)

    def record(self, event: FakeEvent, stream: Any) -> None:
        """Have the event happen behind what was launched on the stream."""
        self._fail()
        event.done_ns = max(self._read(), self._busy_until.get(stream, 0))

    def done(self, event: FakeEvent) -> bool:
        """Tell whether the event has happened."""
        self._fail()
        return event.done_ns is not None and self._read() >= event.done_ns + self._latency_ns

    def elapsed_ms(self, start: FakeEvent, end: FakeEvent) -> float:
        """Return the time between two events by the device's clock."""
        self._fail()
        if start.done_ns is None or end.done_ns is None or not self.done(start) or not self.done(end):
            raise RuntimeError("CUDA error: device not ready")
        if end.done_ns < start.done_ns:
            raise RuntimeError("the later event came first: no device promises an answer")
        elapsed_ns = self._shown(end.done_ns) - self._shown(start.done_ns)
        (rounded,) = struct.unpack("f", struct.pack("f", elapsed_ns / 1e6))
        return float(rounded)

    def prepare_thread(self) -> bool:
        """Say whether events may be asked for in a thread of tailsight's."""
        return self.usable_in_threads

    def _shown(self, host_ns: int) -> float:
        return host_ns * (1 + self._drift) + self._offset_ns

    def _fail(self) -> None:
        if self.fails is not None:
            raise self.fails


@contextmanager
def fake_device(
    clock: Clock,
    *,
    offset_ns: int = 7_000_000_000,
    drift_ppm: float = 0.0,
    latency_ns: int = 0,
    threaded: bool = False,
) -> Iterator[FakeDevice]:
    """Stand a FakeDevice in for the GPU until the block ends.

    Spans are emitted when the test calls resolve(), or by the next gpu_stage; with `threaded` by tailsight's thread.
    """
    device = FakeDevice(clock, offset_ns=offset_ns, drift_ppm=drift_ppm, latency_ns=latency_ns)
    before, _gpu_pending.pending = _gpu_pending.pending, device.pending
    device.pending.threaded = threaded
    _gpu_backends._replaced.append(device)
    try:
        yield device
    finally:
        _gpu_backends._replaced.remove(device)
        _gpu_pending.pending = before
        device.pending.forget()
