"""The sidecar: a process beside the service that reads its rings, encodes OTLP and sends it.

It is started by the service (_sidecar.py), ends with it, and imports neither OpenTelemetry nor anything of the user's.
One thread does everything in turn, because nothing here may wait for long: a round empties the rings, sends a batch or
puts it into the spool, and says in the shared memory what came of it.
"""

import contextlib
import fcntl
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import _otlp
from . import attributes as keys
from ._batches import Batcher, Counts
from ._collectors import for_traces, usable
from ._courier import Courier
from ._delivery import Collector, RetryPolicy
from ._destination import same_destination
from ._folders import spool_folder
from ._guard import caught
from ._left_behind import Finisher, commit, go_on
from ._resource import resource_attributes
from ._ring import MAX_REASONS, READER_SUFFIX, RingFile, RingReader, Word
from ._sampling import Reason
from ._shared_counts import counts_in
from ._sidecar_config import READY, Config
from ._sidecar_devices import Devices
from ._spool import Spool
from ._stats import DropReason, counters

if TYPE_CHECKING:
    from ._profiler import Profiler

_MAX_PAUSE_S = 1.0
_LOOK_AROUND_S = 30.0  # how often it looks for what other sidecars left behind
_LOOK_FOR_UNREAD_S = 1.0  # how often for what nobody ever read: children that ended at once may be many
_AFTER_THE_SERVICE_S = 10.0  # how long it goes on trying once the service is gone without a word
_SETTLE_S = 0.000_2  # between reading a ring's head and its bytes, see _ring.py
_LOCK_PATIENCE_S = 5.0
_NICE = 10
_LONGEST_LINE = 65_536


class Loop:
    """One sidecar's work."""

    def __init__(
        self,
        config: Config,
        file: RingFile,
        service: socket.socket,
        *,
        collector: Collector | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destination = config.destination
        settings = usable(config.settings, in_sidecar=True)
        config = Config(settings, pid=config.pid, ring=config.ring)
        self._config = config
        self._settings = settings
        self._file = file
        self._reader = RingReader(file)
        self._words = file.words
        self._service = service
        self._now = now
        self._service_is_gone = False
        self._deadline: float | None = None
        self._collector = collector or for_traces(settings, pid=config.pid)
        self._resource = _otlp.resource(resource_attributes(settings, pid=config.pid))
        defaults = {keys.MODEL: settings.model} if settings.model else {}
        file.describe({**config.plain(secrets=False), "resource": self._resource.hex()})
        self._batcher = Batcher(
            lambda: self._resource,
            defaults,
            counts=self._counts,
            drop=lambda spans: counters.drop(DropReason.INTERNAL_ERROR, spans),
        )
        go_on(self._batcher, self._words)
        self._spool = self._spool_for(self._batcher.id)
        self._courier = Courier(
            self._collector,
            RetryPolicy.of(settings),
            counters,
            self._spool,
            timeout_s=settings.timeout_s,
            now=now,
        )
        _begin_with(self._words)
        self._next_look_around = 0.0
        self._next_look_for_unread = 0.0
        self._finisher = Finisher(
            file,
            self._collector,
            is_for_us=self._is_for_us,
            spool_for=self._spool_for,
            batch_bytes=settings.batch_bytes,
        )
        self._devices = Devices(settings, config.pid, self._resource)
        self._heard = b""
        self._profiler: Profiler | None = None  # once the service asks for one

    def run(self) -> None:
        """Work until the service ends, and a little longer."""
        over = False
        while not over:
            try:
                over = self._is_over()
                if not over:
                    self.round()
                    self._wait()
            except Exception as error:
                caught("the sidecar", error)
                time.sleep(0.1)  # whatever it is, it must not take a whole processor
                over = self._deadline is not None and self._now() > self._deadline
        self._finish()

    def round(self) -> None:
        """Empty the rings once, send or keep what was in them, and say so."""
        wanted = self._words[Word.FLUSH_WANTED]
        self._drain()
        self._courier.retry()
        self._report()  # before: whoever waits for the flush may ask for the counts next
        if self._courier.settled:
            self._words[Word.FLUSH_DONE] = wanted
        self._look_around()
        self._devices.sample(self._now(), away=self._courier.away)
        if self._profiler is not None:
            self._profiler.step()
        self._report()

    def _drain(self) -> None:
        reader = self._reader
        reader.look()
        time.sleep(_SETTLE_S)
        for packed in reader.take():
            self._batcher.add(packed)
            if self._batcher.bytes >= self._settings.batch_bytes:
                self._ship()
        self._ship()
        if reader.damaged:
            counters.drop(DropReason.INTERNAL_ERROR, reader.damaged)
            reader.damaged = 0

    def _ship(self, *, last: bool = False) -> None:
        """Send or keep what is encoded; only then the rings' room is given back."""
        for batch in self._batcher.take(split=self._courier.away, last=last):
            try:
                self._courier.deliver(batch)
            except Exception as error:
                counters.drop(DropReason.INTERNAL_ERROR, batch.spans)
                caught("delivering a batch", error)
        commit(self._batcher, self._reader, self._words)

    def _wait(self) -> None:
        """Wait for the service to say something, or for the next round."""
        pause_s = min(self._settings.send_interval_s, _MAX_PAUSE_S)
        if self._devices.interval_s:
            pause_s = min(pause_s, self._devices.interval_s)
        if self._profiler is not None and self._profiler.pause_s is not None:
            pause_s = min(pause_s, self._profiler.pause_s)
        if self._courier.away or not self._courier.settled:
            pause_s = min(pause_s, max(0.0, self._courier.next_attempt_at - self._now()))
        if self._service_is_gone:
            time.sleep(min(pause_s, 0.05))
            return
        poll = select.poll()  # select() knows descriptors below 1024 only
        poll.register(self._service, select.POLLIN)
        if not poll.poll(pause_s * 1000):
            return
        try:
            said = self._service.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:
            self._service_is_gone = True
        self._hear(said)

    def _hear(self, said: bytes) -> None:
        """Take what the service says: signs that only wake this process, and lines that ask for profiles."""
        self._heard = (self._heard + said)[-_LONGEST_LINE:]
        *lines, self._heard = self._heard.lstrip(b"!").split(b"\n")
        for line in lines:
            from ._profile_ask import heard
            from ._profiler import Profiler  # who does not profile does without it

            asked = heard(line.lstrip(b"!"))
            if self._profiler is None:
                self._profiler = Profiler(self._settings, self._config.pid, self._config.ring.parent, self._now)
                self._batcher.on_request = self._profiler.observe
            self._profiler.hear(asked)
            self._profiler.step()

    def _is_over(self) -> bool:
        """Tell whether there is nothing left to do, or no time left to do it."""
        closing = self._words[Word.CLOSING]
        if self._deadline is None and (closing or self._service_is_gone):
            self._deadline = closing / 1e9 if closing else self._now() + _AFTER_THE_SERVICE_S
            self._drain()
            if self._profiler is not None:
                self._profiler.hurry()
        if self._deadline is None:
            return False
        self._drain()
        # A service that never reached a collector has none: do not keep it from exiting.
        hopeless = self._courier.away and not self._courier.was_reached
        if self._is_still_recording() and not hopeless and self._now() < self._deadline:
            return False
        return self._courier.settled or hopeless or self._now() > self._deadline

    def _is_still_recording(self) -> bool:
        if self._profiler is not None:
            self._profiler.step()
        return self._profiler is not None and self._profiler.is_recording

    def _finish(self) -> None:
        try:
            if self._profiler is not None:
                self._profiler.close()
            self._drain()
            self._ship(last=True)
            self._report()
            if self._courier.settled:
                self._words[Word.FLUSH_DONE] = self._words[Word.FLUSH_WANTED]
            counters.drop(DropReason.SHUTDOWN, self._spool.close())
            self._report()
            self._finisher.look_for_unread(away=self._courier.away, until=self._deadline or self._now())
        except Exception as error:
            caught("the sidecar's end", error)
        self._report()
        self._file.path.unlink(missing_ok=True)
        self._collector.close()

    def _look_around(self) -> None:
        now = self._now()
        try:
            if now >= self._next_look_around:
                self._next_look_around = now + _LOOK_AROUND_S
                self._finisher.look(away=self._courier.away)
                self._spool.take_over()
            elif now >= self._next_look_for_unread:
                self._next_look_for_unread = now + _LOOK_FOR_UNREAD_S
                self._finisher.look_for_unread(away=self._courier.away)
        except OSError as error:
            caught("looking for what was left behind", error)

    def _spool_for(self, sender_id: str) -> Spool:
        settings = self._settings
        endpoint, headers = self._destination
        return Spool(
            spool_folder(settings.spool_dir),
            sender_id,
            endpoint,
            headers=headers,
            limit_bytes=settings.spool_bytes,
            memory_bytes=settings.buffer_bytes,
            lowest_value_first=settings.spool_policy == "lowest-value-first",
        )

    def _is_for_us(self, mark: str) -> bool:
        """Tell whether what that service recorded goes where this one's goes, as the same tenant's."""
        return same_destination(mark, *self._destination)

    def _counts(self) -> Counts:
        return counts_in(self._words, counters)

    def _report(self) -> None:
        """Write the counters where the service's stats() reads them."""
        words = self._words
        words[Word.SENT] = counters.sent
        words[Word.POSTS] = counters.posts
        words[Word.RETRIES] = counters.retries
        words[Word.FAILURES] = counters.failures
        words[Word.INTERNAL_ERRORS] = counters.internal_errors
        words[Word.SPOOLED_BYTES] = self._spool.bytes
        for index, reason in enumerate(DropReason):
            words[Word.DROPPED_THERE + index] = counters.dropped.get(reason, 0)


def _begin_with(words: memoryview) -> None:
    """Go on counting where an earlier sidecar of the same service left off."""
    counters.sent, counters.posts = words[Word.SENT], words[Word.POSTS]
    counters.retries, counters.failures = words[Word.RETRIES], words[Word.FAILURES]
    counters.internal_errors = words[Word.INTERNAL_ERRORS]
    for index, reason in enumerate(DropReason):
        if words[Word.DROPPED_THERE + index]:
            counters.dropped[reason] = words[Word.DROPPED_THERE + index]


class _ToTheService(logging.Handler):
    """Passes log lines on to the service's own logger, which is where its users look. The first word is "ready"."""

    def __init__(self, service: socket.socket, words: memoryview) -> None:
        super().__init__()
        self._service = service
        self._words = words
        self._before_ready: list[bytes] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        line = json.dumps({"level": record.levelno, "message": self.format(record)[:8000]}).encode() + b"\n"
        if self._before_ready is None:
            self._pass_on(line)
        else:
            self._before_ready.append(line)

    def ready(self) -> None:
        """Tell the service that its sidecar works, and then what there was to say before that."""
        with contextlib.suppress(OSError):  # it was killed just now
            self._service.send(READY)
        early, self._before_ready = self._before_ready or [], None
        for line in early:
            self._pass_on(line)

    def _pass_on(self, line: bytes) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody listens any more
            self._service.send(line, socket.MSG_DONTWAIT)
            self._words[Word.MESSAGES] += 1


def main(service: socket.socket) -> None:
    """Read the configuration from the service, attach to its rings, say that it is ready, and work."""
    with service.makefile("rb") as lines:
        config = Config.from_json(lines.readline())
    file = RingFile.attach(config.ring)
    reader = config.ring.with_suffix(READER_SUFFIX)
    reader_fd = os.open(reader, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    _lock(reader_fd)
    try:
        service.setblocking(False)
        if _is_at_its_end(service):  # it was killed meanwhile: somebody else may be about to finish its rings
            _lock(file.fd)
        if config.ring.exists():  # or has done so
            _work(service, config, file)
    finally:
        reader.unlink(missing_ok=True)


def _work(service: socket.socket, config: Config, file: RingFile) -> None:
    handler = _ToTheService(service, file.words)
    logger = logging.getLogger("tailsight")
    logger.addHandler(handler)
    logger.propagate = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so is what stops the service's group; see docs/sdk.md
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICE)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # it never pushes a running service off its core
    loop = Loop(config, file, service)
    file.words[Word.SIDECAR_PID] = os.getpid()
    loop._report()
    handler.ready()
    loop.run()


def _lock(fd: int) -> None:
    """Become the one who reads. Another sidecar may hold the lock for a moment, to look; or one that ends just now."""
    until = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _is_at_its_end(service: socket.socket) -> bool:
    try:
        return service.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


assert len(DropReason) <= MAX_REASONS  # noqa: S101  the words in shared memory have room for so many
assert len(Reason) <= MAX_REASONS  # noqa: S101
