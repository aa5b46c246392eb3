"""The background thread that encodes what was recorded and sends it.

It is a daemon, it is started with the first finished request, and it is the only one that encodes or talks to the
network. flush() and close() speak to it through events.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping

from . import _otlp, _record
from ._backlog import Backlog
from ._clock import Clock
from ._delivery import Collector, Delivery, RetryPolicy
from ._guard import caught
from ._options import Settings
from ._otel import attach, detach, suppressed
from ._resource import SDK_NAME, sdk_version
from ._stats import Counters, DropReason
from ._values import Value

THREAD_NAME = "tailsight-sender"


class Sender:
    """Owns a backlog and the thread that empties it."""

    def __init__(
        self,
        settings: Settings,
        *,
        collector: Collector,
        resource: Callable[[], Mapping[str, Value]],
        defaults: Mapping[str, Value],
        clock: Clock,
        counters: Counters,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.backlog = Backlog(settings.buffer_bytes, counters)
        self._settings = settings
        self._collector = collector
        self._delivery = Delivery(collector, RetryPolicy.of(settings), counters, self)
        self._resource = resource
        self._defaults = defaults
        self._clock = clock
        self._counters = counters
        self._on_start = on_start
        self._resource_bytes: bytes | None = None
        self._scope_bytes = _otlp.scope(SDK_NAME, sdk_version())
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._draining = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline: float | None = None
        self._flushes: deque[threading.Event] = deque()

    # --- called by the application's threads ------------------------------------------------------------------------

    def push(self, packed: bytes, spans: int) -> None:
        """Take a finished batch. Never blocks, never raises."""
        try:
            if self._closing.is_set():
                self._counters.drop(DropReason.SHUTDOWN, spans)
                return
            self.backlog.add(packed, spans)
            if self._thread is None:
                self._start()
            elif self.backlog.bytes > self._settings.buffer_bytes // 2:
                self._wake.set()  # do not wait for the interval when the buffer fills
        except Exception as error:
            caught("queueing a batch", error)

    def flush(self, timeout_s: float) -> bool:
        """Send what was pushed before this call. Return whether all of it was delivered or dropped in time."""
        if self._thread is None and not self.backlog:
            return True
        done = threading.Event()
        self._flushes.append(done)
        self._start()
        self._wake.set()
        return done.wait(timeout_s)

    def close(self, timeout_s: float, *, wait: bool = True) -> None:
        """Send what is pending, for `timeout_s` seconds at most, and end. What is left then is dropped and counted."""
        self._deadline = time.monotonic() + timeout_s
        self._closing.set()
        self._wake.set()
        thread = self._thread
        if not wait or thread is threading.current_thread():
            return
        if thread is not None and thread.is_alive():
            thread.join(timeout_s)
        elif self.backlog:
            # The thread could not be started, or is gone: the interpreter is on its way out. Do its work here.
            self._run()
        self._drop_rest()

    @property
    def alive(self) -> bool:
        """Whether the thread still works."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    # --- the delivery's patience ------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    def deadline(self) -> float | None:
        """Return when the last flush must be over, or None."""
        return self._deadline

    def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
        """Wait before a retry; a close() in the meantime decides anew."""
        until = time.monotonic() + seconds
        if not self._closing.wait(seconds):
            return True
        if not also_at_exit:
            return False
        deadline = self._deadline
        if deadline is not None and until > deadline:
            return False
        time.sleep(max(0.0, until - time.monotonic()))
        return True

    # --- the thread -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            if not self.alive and not self._closing.is_set():
                thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
                thread.start()
                self._thread = thread
                self._on_start()
        finally:
            self._starting.release()

    def _run(self) -> None:
        token = attach(suppressed())  # our own requests must not become spans of the application
        try:
            while True:
                closing = self._closing.is_set()
                flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
                try:
                    self._clock.renew_if_due()
                    self._drain()
                except Exception as error:
                    caught("the sender", error)
                for flush in flushes:
                    flush.set()
                if closing:
                    return
                self._wake.wait(self._settings.send_interval_s)
                self._wake.clear()
        finally:
            self._collector.close()
            detach(token)

    def _drain(self) -> None:
        """Send until the backlog is empty."""
        with self._draining:
            while True:
                parts, spans = self._next_request()
                if not spans:
                    return
                try:
                    self._delivery.deliver(self._request(parts), spans)
                except Exception as error:
                    self._counters.drop(DropReason.INTERNAL_ERROR, spans)
                    caught("delivering a request", error)
                if self._deadline is not None and time.monotonic() > self._deadline:
                    return

    def _request(self, parts: list[bytes]) -> bytes:
        if self._resource_bytes is None:
            self._resource_bytes = _otlp.resource(self._resource())
        return _otlp.export_request(self._resource_bytes, self._scope_bytes, parts)

    def _next_request(self) -> tuple[list[bytes], int]:
        """Encode batches until one request is full. Return the parts and their number of spans."""
        parts: list[bytes] = []
        size = spans = 0
        while size < self._settings.batch_bytes:
            packed = self.backlog.take()
            if packed is None:
                break
            batch = _record.load(packed)
            try:
                part = _otlp.spans(batch, self._defaults)
            except Exception as error:
                self._counters.drop(DropReason.INTERNAL_ERROR, len(batch.spans))
                caught("encoding a batch", error)
                continue
            parts.append(part)
            size += len(part)
            spans += len(batch.spans)
        return parts, spans

    def _drop_rest(self) -> None:
        while (packed := self.backlog.take()) is not None:
            self._counters.drop(DropReason.SHUTDOWN, len(_record.load(packed).spans))
