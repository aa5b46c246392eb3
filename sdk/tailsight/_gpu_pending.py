"""Device work that has been launched and not yet been resolved, and the thread that resolves it.

Nobody waits for the device. A daemon thread asks for the oldest event of each stream, some hundred times a second while
work is pending, and ends with it. What happens on one stream happens in order, so one question a stream is enough.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.context import Context

from ._details import Details
from ._emit import emit
from ._gpu_backends import Backend, Stream
from ._gpu_clock import DeviceClock
from ._guard import caught, warn_once
from ._signals import raise_if_host_signal
from ._stats import DropReason, counters
from ._values import Value

MAX_PENDING = 10_000
MAX_POOLED_EVENTS = 256
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.05


@dataclass(slots=True)
class Launched:
    """One stage on a device, between two events."""

    backend: Backend
    stream: Stream
    start: Any
    end: Any
    entered_ns: int
    now: Callable[[], int]
    context: Context
    stage: str
    name: str | None
    thread_id: int
    attributes: dict[str, Value] = field(default_factory=dict)
    details: Details | None = None


class Pending:
    """All that is pending in this process."""

    def __init__(self, *, threaded: bool = True) -> None:
        self.threaded = threaded
        self.count = 0
        self.thread: threading.Thread | None = None
        self.clocks: dict[int, DeviceClock] = {}
        self._streams: dict[tuple[int, Hashable], deque[Launched]] = {}
        self._pools: dict[tuple[int, Hashable], list[Any]] = {}
        self._polling = threading.Lock()  # never waited for
        self._starting = threading.Lock()  # likewise
        self._registered = False

    # --- the calling thread -------------------------------------------------------------------------------------------

    def event(self, backend: Backend, device: Hashable) -> Any:
        """Return an event to record, a used one if there is one."""
        pool = self._pools.get((id(backend), device))
        try:
            return pool.pop() if pool else backend.new_event()
        except IndexError:  # another thread took the last one
            return backend.new_event()

    def add(self, launched: Launched) -> None:
        """Keep it until the device is done with it."""
        key = (id(launched.backend), launched.stream.key)
        waiting = self._streams.get(key)
        if waiting is None:
            waiting = self._streams.setdefault(key, deque())
        waiting.append(launched)
        self.count += 1
        if self.count > MAX_PENDING:
            self._drop_oldest()
        if self.threaded:
            if self.thread is None:
                self._start()
        else:
            self.poll(limit=4)  # asking must not happen in a thread of ours

    def _drop_oldest(self) -> None:
        oldest = None
        for waiting in list(self._streams.values()):
            if waiting and (oldest is None or waiting[0].entered_ns < oldest[0].entered_ns):
                oldest = waiting
        try:
            if oldest is not None:
                oldest.popleft()
                self.count -= 1
                counters.drop(DropReason.DEVICE_PENDING, 1)
        except IndexError:  # resolved in the meantime
            pass

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            if self.thread is not None:
                return
            if not self._registered:
                self._registered = True
                atexit.register(self.give_up)
            thread = threading.Thread(target=self._run, name="tailsight-device", daemon=True)
            self.thread = thread
            try:
                thread.start()
            except BaseException:
                self.thread = None
                raise
        finally:
            self._starting.release()

    # --- resolving ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = _FIRST_PAUSE_S
        prepared: set[int] = set()
        while True:
            for launched in self._heads():
                if id(launched.backend) not in prepared:
                    prepared.add(id(launched.backend))
                    if not launched.backend.prepare_thread():
                        self.threaded, self.thread = False, None
                        return
            pause = _FIRST_PAUSE_S if self.poll() else min(_LONGEST_PAUSE_S, 2 * pause)
            if not self._heads():
                self.thread = None  # whoever adds from here on starts another one …
                if not self._heads() or not self._go_on():  # … and who came just before is not forgotten
                    return
            time.sleep(pause)

    def _go_on(self) -> bool:
        if not self._starting.acquire(blocking=False):
            return False
        try:
            if self.thread is not None:
                return False
            self.thread = threading.current_thread()
            return True
        finally:
            self._starting.release()

    def _heads(self) -> list[Launched]:
        return [waiting[0] for waiting in list(self._streams.values()) if waiting]

    def poll(self, limit: int | None = None) -> int:
        """Emit the spans of what is done, `limit` at most, and return how many there were."""
        if not self._polling.acquire(blocking=False):
            return 0
        resolved = 0
        try:
            for key, waiting in list(self._streams.items()):
                while limit is None or resolved < limit:
                    try:
                        launched = waiting.popleft()
                    except IndexError:
                        break
                    if not self._resolve(launched):
                        waiting.appendleft(launched)
                        break
                    self.count -= 1
                    resolved += 1
                if not waiting and len(self._streams) > 64:  # streams that were made for one use
                    self._streams.pop(key, None)
        finally:
            self._polling.release()
        return resolved

    def _resolve(self, launched: Launched) -> bool:
        """Emit the span, or drop it if the device says an error. False if it is not done yet."""
        backend, device = launched.backend, launched.stream.device
        try:
            if not backend.done(launched.end):
                return False
            clock = self.clocks.get(id(backend))
            if clock is None:
                clock = self.clocks[id(backend)] = DeviceClock(backend)
            duration_ns = round(backend.elapsed_ms(launched.start, launched.end) * 1e6)
            start_ns = clock.place(launched.start, device=device, entered_ns=launched.entered_ns, now=launched.now)
            if start_ns is None:
                return False
        except Exception as error:
            raise_if_host_signal(error)
            counters.drop(DropReason.DEVICE_PENDING, 1)
            warn_once(("device", type(error)), "the device does not say when its work was done: %s", error)
            return True
        try:
            start_ns = max(start_ns, launched.entered_ns)  # nothing begins before it was launched: the anchor's error
            emit(
                launched.context,
                stage=launched.stage,
                name=launched.name,
                start_ns=start_ns,
                end_ns=start_ns + duration_ns,
                attributes=launched.attributes,
                details=launched.details,
                thread_id=launched.thread_id,
            )
            pool = self._pools.setdefault((id(backend), device), [])
            if len(pool) < MAX_POOLED_EVENTS:
                pool += (launched.start, launched.end)
        except Exception as error:
            caught("emitting a device's span", error)
        return True

    def forget(self) -> None:
        """Drop all that is pending, uncounted: a test is over, or this is a forked child. The thread then ends."""
        self._streams.clear()
        self.count = 0

    def give_up(self) -> None:
        """Emit what is done, and count the rest as lost: the process ends."""
        try:
            self.poll()
            lost, self.count = self.count, 0
            self._streams.clear()
            counters.drop(DropReason.DEVICE_PENDING, lost)
        except Exception as error:
            caught("ending the device's measurement", error)


pending = Pending()


_abandoned: list[object] = []
"""The parent's events in a forked child: kept, since destroying them there would call the device."""


def _after_fork() -> None:
    """Begin anew in a forked child: it has neither the device nor the thread."""
    _abandoned.append((pending._streams, pending._pools, pending.clocks))
    pending.__init__(threaded=pending.threaded)  # type: ignore[misc]  # the same object, which others have imported


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
