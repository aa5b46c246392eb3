"""The background thread that encodes what was recorded and sends it.

It is a daemon, it is started with the first finished request, and it is the only one that encodes or talks to the
network. flush() and close() speak to it through queues, whose put() is reentrant: a signal handler may flush while it
interrupts another flush.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue

from . import _record
from ._answer import Unreachable
from ._backlog import Backlog
from ._batches import Batcher, Counts
from ._delivery import Collector, Delivery, RetryPolicy
from ._guard import caught, run_guarded
from ._options import Settings
from ._otel import attach, detach, suppressed
from ._parse import waitable
from ._stats import Counters, DropReason, Stats
from ._values import Value

THREAD_NAME = "tailsight-sender"

_TURN_SPANS = 64  # encoded in one turn: about half a millisecond, in which no other thread runs
_REST_S = 0.000_5
_PAUSE_AFTER_ERROR_S = 0.1
_GOODBYE_TIMEOUT_S = 1.0


class Sender:
    """Owns a backlog and the thread that empties it."""

    def __init__(
        self,
        settings: Settings,
        *,
        collector: Collector,
        resource: Callable[[], bytes],
        defaults: Mapping[str, Value],
        counters: Counters,
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self.backlog = Backlog(settings.buffer_bytes, counters)
        self._settings = settings
        self._collector = collector
        self._delivery = Delivery(collector, RetryPolicy.of(settings), counters, self)
        self._counters = counters
        self._on_start = on_start
        before = _counts(counters)
        self._batcher = Batcher(
            resource,
            defaults,
            counts=lambda: _since(before, _counts(counters)),
            drop=lambda spans: counters.drop(DropReason.INTERNAL_ERROR, spans),
        )
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._draining = threading.Lock()
        self._wake: SimpleQueue[None] = SimpleQueue()  # ends the pause between two rounds
        self._hurry: SimpleQueue[None] = SimpleQueue()  # ends the wait for a retry
        self._closing = False
        self._deadline: float | None = None
        self._flushes: deque[SimpleQueue[None]] = deque()

    # --- called by the application's threads ------------------------------------------------------------------------

    def push(self, packed: bytes, spans: int) -> None:
        """Take a finished batch. Never blocks, never raises."""
        try:
            if self._closing:
                self._counters.drop(DropReason.SHUTDOWN, spans)
                return
            self.backlog.add(packed, spans)
            if not self.alive:
                self._start()
            elif self.backlog.bytes > self._settings.buffer_bytes // 2 and self._wake.empty():
                self._wake.put(None)  # do not wait for the interval when the buffer fills
        except Exception as error:
            caught("queueing a batch", error)

    def flush(self, timeout_s: float) -> bool:
        """Send what was pushed before this call. Return whether all of it was delivered or dropped in time."""
        if self._thread is None and not self.backlog:
            return True
        if self._thread is threading.current_thread():  # a log handler, say: it would wait for itself
            return False
        done: SimpleQueue[None] = SimpleQueue()
        self._flushes.append(done)
        try:
            self._start()
            self._wake.put(None)
            done.get(timeout=waitable(timeout_s))
        except Empty:
            return False
        finally:
            try:  # noqa: SIM105  it is there only if nobody took it up
                self._flushes.remove(done)
            except ValueError:
                pass
        return True

    def close(self, timeout_s: float, *, wait: bool = True) -> None:
        """Send what is pending, for `timeout_s` seconds at most, and end. What is left then is dropped and counted."""
        timeout_s = waitable(timeout_s)
        self._deadline = time.monotonic() + timeout_s
        self._closing = True
        self._hurry.put(None)
        self._wake.put(None)
        thread = self._thread
        if not wait or thread is threading.current_thread():
            return
        if thread is not None and thread.is_alive():
            thread.join(timeout_s)
        elif self.backlog:
            # The thread could not be started, or is gone: the interpreter is on its way out. Do its work here.
            run_guarded("the sender", self._run)
        self._drop_rest()

    def stats(self) -> Stats:
        """Return what waits here. What happened to spans is in the process's counters."""
        return Stats(0, {}, self.backlog.bytes, 0, 0, 0, 0)

    def abandon(self) -> None:
        """Let go of everything, in a forked child: the parent's thread does not exist there."""
        self._closing = True

    @property
    def name(self) -> str:
        """What carries the spans."""
        return "thread"

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
        while not self._closing:
            left = until - time.monotonic()
            if left <= 0:
                return True
            with contextlib.suppress(Empty):
                self._hurry.get(timeout=left)
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
            if not self.alive and not self._closing:
                thread = threading.Thread(
                    target=run_guarded, args=("the sender", self._run), name=THREAD_NAME, daemon=True
                )
                self._thread = thread  # before: it may ask who it is at once
                thread.start()
                self._on_start()
        finally:
            self._starting.release()

    def _run(self) -> None:
        token = attach(suppressed())  # our own requests must not become spans of the application
        try:
            while True:
                closing = self._closing
                flushes = self._taken_flushes()
                try:
                    self._drain()
                except Exception as error:
                    caught("the sender", error)
                for flush in flushes:
                    flush.put(None)
                if closing:
                    self._say_goodbye()
                    return
                try:
                    self._pause()
                except Exception as error:
                    caught("the sender's pause", error)
                    time.sleep(_PAUSE_AFTER_ERROR_S)
        finally:
            try:
                self._collector.close()
                detach(token)
            except Exception as error:
                caught("the sender's end", error)

    def _taken_flushes(self) -> list[SimpleQueue[None]]:
        taken: list[SimpleQueue[None]] = []
        try:
            while True:
                taken.append(self._flushes.popleft())
        except IndexError:
            return taken

    def _pause(self) -> None:
        """Wait for the next round, or for somebody in a hurry."""
        try:
            self._wake.get(timeout=waitable(self._settings.send_interval_s))
            while True:
                self._wake.get_nowait()
        except Empty:
            pass

    def _drain(self) -> None:
        """Send until the backlog is empty."""
        with self._draining:
            while self._encode_one_request():
                for batch in self._batcher.take():
                    try:
                        self._delivery.deliver(batch.body, batch.spans)
                    except Exception as error:
                        self._counters.drop(DropReason.INTERNAL_ERROR, batch.spans)
                        caught("delivering a request", error)
                if self._deadline is not None and time.monotonic() > self._deadline:
                    return

    def _say_goodbye(self) -> None:
        """Report the final counts, once: whoever has the batches then knows that nothing more comes."""
        try:
            left_s = (self._deadline or 0.0) - time.monotonic()
            if left_s > 0 and not self.backlog:
                for batch in self._batcher.take(last=True):
                    self._collector.post(batch.body, timeout_s=min(left_s, _GOODBYE_TIMEOUT_S))
        except Unreachable:
            pass
        except Exception as error:
            caught("the last batch", error)

    def _encode_one_request(self) -> bool:
        """Encode until one request is full, in small turns. Return whether there was anything."""
        since_rest = 0
        any_at_all = False
        while self._batcher.bytes < self._settings.batch_bytes:
            packed = self.backlog.take()
            if packed is None:
                break
            any_at_all = True
            since_rest += self._batcher.add(packed)
            if since_rest >= _TURN_SPANS and not self._closing:
                since_rest = 0
                time.sleep(_REST_S)  # whoever waits for the interpreter gets it now, and not after 5 ms
        return any_at_all

    def _drop_rest(self) -> None:
        while (packed := self.backlog.take()) is not None:
            self._counters.drop(DropReason.SHUTDOWN, _record.count(packed))


def _counts(counters: Counters) -> Counts:
    """Return what these counters say."""
    dropped = counters.dropped.copy()
    return Counts(
        dropped.get(DropReason.BUFFER_FULL, 0) + dropped.get(DropReason.SHUTDOWN, 0),
        {reason.value: spans for reason, spans in dropped.items()},
        {reason.value: requests for reason, requests in counters.kept.copy().items()},
        {reason.value: requests for reason, requests in counters.sampled_out.copy().items()},
    )


def _since(before: Counts, now: Counts) -> Counts:
    """Return what was added: the counters are the process's, and this sender is not its first."""

    def added(earlier: Mapping[str, int], later: Mapping[str, int]) -> Mapping[str, int]:
        return {key: count - earlier.get(key, 0) for key, count in later.items() if count > earlier.get(key, 0)}

    return Counts(
        now.never_taken_in - before.never_taken_in,
        added(before.dropped, now.dropped),
        added(before.kept, now.kept),
        added(before.sampled_out, now.sampled_out),
    )
