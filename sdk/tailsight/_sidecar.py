"""The service's side of the sidecar: the rings, the process that reads them, and a thread where none can be started.

The sidecar is started with the first finished request, by a thread of a moment; what is recorded meanwhile waits in
memory. A push looks at the shared memory now and then: a sidecar whose heart no longer beats is started again on the
same rings, and what it had to say goes to the service's log.
"""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Callable

from . import _record
from ._backlog import Backlog
from ._guard import caught, logger, warn_once
from ._options import Settings
from ._parse import waitable
from ._ring import READER_SUFFIX, RingFile, RingReader, RingWriter, Word
from ._sampling import Reason
from ._sender import Sender
from ._sidecar_start import CannotStart, make_rings, start
from ._stats import Counters, DropReason, Stats

_LOOK_EVERY_NS = 1_000_000_000
_BEATS_AT_LEAST_EVERY_NS = 15_000_000_000  # longer than a collector may take to answer
_MAX_STARTS = 5  # in a row, without one that lasted
_POLL_S = 0.001

_REASONS = {reason: index for index, reason in enumerate(DropReason)}
_SAMPLING_REASONS = {reason: index for index, reason in enumerate(Reason)}


class Sidecar:
    """Takes packed batches to a process of its own; or to a thread, where there is none to be had."""

    def __init__(
        self,
        settings: Settings,
        counters: Counters,
        fallback: Callable[[], Sender],
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._counters = counters
        self._make_fallback = fallback
        self._on_start = on_start
        self._early = Backlog(settings.buffer_bytes, counters)  # until the rings are there
        self._tallies: dict[int, int] = {}  # what the words of this side say, also before they are there
        self._begun = False
        self._file: RingFile | None = None
        self._writer: RingWriter | None = None
        self._sender: Sender | None = None
        self._service_end: socket.socket | None = None
        self._nudge_over = 0
        self._next_look_ns = 0
        self._messages_seen = 0
        self._starts = 0
        self._flushes = 0
        self._launching = threading.Lock()
        self._launcher: threading.Thread | None = None
        self._closing = False
        self._ended: Stats | None = None
        counters.on_drop, counters.on_decision = self.dropped, self.decided

    # --- called by the application's threads ------------------------------------------------------------------------

    def push(self, packed: bytes, spans: int) -> None:
        """Take a finished batch. Never blocks, never raises."""
        try:
            if self._closing:
                self._counters.drop(DropReason.SHUTDOWN, spans)
                return
            writer = self._writer
            if writer is None:
                self._push_early(packed)
                return
            waiting = writer.push(packed)
            if not waiting:
                self._counters.drop(DropReason.BUFFER_FULL, spans)
            elif waiting > self._nudge_over >= waiting - len(packed) - 16:  # half of a ring is full, since now
                self._nudge()
            now_ns = time.monotonic_ns()
            if now_ns > self._next_look_ns:
                self._next_look_ns = now_ns + _LOOK_EVERY_NS
                self._look(now_ns)
        except Exception as error:
            caught("passing a batch to the sidecar", error)

    def flush(self, timeout_s: float) -> bool:
        """Have everything sent that was pushed before this call. Return whether that was done in time.

        A collector that is away keeps it from being done: what waits on disk is not sent.
        """
        until = time.monotonic() + waitable(timeout_s)
        if not self._is_launched(until):
            return not self._begun
        file = self._file
        mine = 0
        nudge_again_at = 0.0
        # Polled, since a signal handler may flush in the midst of a flush: it must find nothing held.
        while (sender := self._sender) is None and file is not None:
            words = file.words
            if not mine:
                self._flushes += 1
                mine = max(self._flushes, words[Word.FLUSH_WANTED] + 1)
            if words[Word.FLUSH_DONE] >= mine:
                return True
            now = time.monotonic()
            if now >= until:
                return False
            words[Word.FLUSH_WANTED] = max(words[Word.FLUSH_WANTED], mine)
            if now >= nudge_again_at:
                self._nudge()
                self._look(time.monotonic_ns())
                nudge_again_at = now + 0.05
            time.sleep(_POLL_S)
        return sender is None or sender.flush(max(0.0, until - time.monotonic()))

    def close(self, timeout_s: float, *, wait: bool = True) -> None:
        """Let the sidecar send what is pending, for `timeout_s` seconds at most, and end.

        What is left then goes to the spool, or is dropped and counted. The sidecar does that on its own: the end of the
        service does not depend on it.
        """
        until = time.monotonic() + waitable(timeout_s)
        self._closing = True
        launcher = self._launcher
        if wait and launcher is not None and launcher is not threading.current_thread():
            launcher.join(max(0.0, until - time.monotonic()))
        sender, file, service_end = self._sender, self._file, self._service_end
        if sender is not None:
            sender.close(max(0.0, until - time.monotonic()), wait=wait)
            return
        if file is not None:
            file.words[Word.CLOSING] = max(1, int(until * 1e9))
            self._nudge()
        if not wait:
            return
        if service_end is not None:
            self._await_end(service_end, until)
            self._listen_now()
            self._ended = self.stats()
            service_end.close()
            self._file = self._writer = None
        elif self._early:
            self._send_early_here(max(0.0, until - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether something works on what was pushed."""
        if self._sender is not None:
            return self._sender.alive
        return self._service_end is not None and not _is_at_its_end(self._service_end)

    @property
    def name(self) -> str:
        """What carries the spans: a process, or the thread in its place."""
        if self._sender is not None:
            return "thread"
        return "" if self._writer is None else self._settings.transport

    def stats(self) -> Stats:
        """Return what the other side counted. What was counted on this side is in the process's counters."""
        if self._ended is not None:
            return self._ended
        file, writer = self._file, self._writer
        if self._sender is not None:
            return Stats(0, {}, self._sender.backlog.bytes, 0, 0, 0, 0)
        if file is None or writer is None:
            return Stats(0, {}, self._early.bytes, 0, 0, 0, 0)
        words = file.words
        return Stats(
            sent=words[Word.SENT],
            dropped={reason.value: spans for reason, n in _REASONS.items() if (spans := words[Word.DROPPED_THERE + n])},
            pending_bytes=writer.waiting_bytes(),
            posts=words[Word.POSTS],
            retries=words[Word.RETRIES],
            failures=words[Word.FAILURES],
            internal_errors=words[Word.INTERNAL_ERRORS],
            spooled_bytes=words[Word.SPOOLED_BYTES],
        )

    def abandon(self) -> None:
        """Let go of everything, in a forked child: it is the parent's."""
        self._closing = True
        service_end, file = self._service_end, self._file
        self._service_end = self._file = self._writer = None
        if service_end is not None:
            service_end.close()
        if file is not None:
            file.close()

    # --- what the shared memory is told -----------------------------------------------------------------------------

    def dropped(self, reason: DropReason, spans: int) -> None:
        """Pass on that spans were dropped on this side."""
        self._tell(Word.DROPPED + _REASONS[reason], spans)

    def decided(self, reason: Reason, kept: bool) -> None:
        """Pass on what sampling decided about a request."""
        self._tell((Word.KEPT if kept else Word.SAMPLED_OUT) + _SAMPLING_REASONS[reason], 1)

    def _tell(self, word: int, more: int) -> None:
        """Add to a word that this side writes. Under the counters' lock."""
        tally = self._tallies[word] = self._tallies.get(word, 0) + more
        file = self._file
        if file is not None:
            file.words[word] = tally

    # --- before the rings are there ---------------------------------------------------------------------------------

    def _push_early(self, packed: bytes) -> None:
        if not self._begun:
            self._begun = True
            self._on_start()
        self._early.add(packed, _record.count(packed))
        if self._writer is not None or self._sender is not None:
            self._move_early()  # they came in the meantime
        else:
            self._begin_launch()

    def _begin_launch(self) -> None:
        if self._launcher is None or not self._launcher.is_alive():
            self._launcher = threading.Thread(target=self._launch, name="tailsight-launch", daemon=True)
            self._launcher.start()

    def _is_launched(self, until: float) -> bool:
        """Wait for the sidecar, or the thread in its place. False if there is nothing to launch it for, or no time."""
        while self._service_end is None and self._sender is None:
            if not self._begun or self._closing or time.monotonic() >= until:
                return False
            self._begin_launch()
            time.sleep(_POLL_S)
        return True

    def _move_early(self) -> None:
        while (packed := self._early.take()) is not None:
            if self._writer is None:
                if self._sender is not None:
                    self._sender.push(packed, _record.count(packed))
            elif not self._writer.push(packed):
                self._counters.drop(DropReason.BUFFER_FULL, _record.count(packed))

    def _send_early_here(self, timeout_s: float) -> None:
        """Send what no sidecar was started for, in this thread: the interpreter is on its way out."""
        if self._early:
            sender = self._make_fallback()
            while (packed := self._early.take()) is not None:
                sender.backlog.add(packed, _record.count(packed))
            sender.close(timeout_s)

    # --- the process ------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Make the rings and start the sidecar, or the thread in its place. In a thread of a moment."""
        if not self._launching.acquire(blocking=False):
            return
        try:
            if self._service_end is None and self._sender is None:
                try:
                    self._make_rings()
                    self._move_early()  # from here on a kill -9 loses nothing
                    self._start_process()
                except Exception as error:
                    self._fall_back(error)
            self._move_early()
        except Exception as error:
            caught("starting the sidecar", error)
        finally:
            self._launching.release()

    def _make_rings(self) -> None:
        file = make_rings(self._settings)
        self._nudge_over = file.words[Word.RING_BYTES] // 2
        self._next_look_ns = time.monotonic_ns() + _LOOK_EVERY_NS
        self._file = file
        for word, tally in self._tallies.copy().items():
            file.words[word] = tally
        self._writer = RingWriter(file)

    def _fall_back(self, error: Exception) -> None:
        warn_once(
            "the sidecar",
            "no sidecar process can be started (%s): a thread inside this process encodes and sends instead, which "
            "costs the service processor time. TAILSIGHT_TRANSPORT=thread chooses it without this line",
            error if isinstance(error, CannotStart | OSError) else f"{type(error).__name__}: {error}",
        )
        file, self._file = self._file, None
        service_end, self._service_end = self._service_end, None
        self._writer = None
        if service_end is not None:
            service_end.close()
        sender = self._make_fallback()
        if file is not None:
            reader = RingReader(file)
            reader.look()
            for packed in reader.take():
                sender.push(packed, _record.count(packed))
            for path in (file.path, file.path.with_suffix(READER_SUFFIX)):
                path.unlink(missing_ok=True)
        self._sender = sender

    def _start_process(self) -> None:
        if self._file is None:
            return
        before, self._service_end = self._service_end, start(self._settings, self._file)
        if before is not None:
            before.close()

    def _look(self, now_ns: int) -> None:
        """See whether the sidecar lives, and has something to say."""
        file = self._file
        if file is None or self._launching.locked():
            return
        if file.words[Word.MESSAGES] != self._messages_seen:
            self._messages_seen = file.words[Word.MESSAGES]
            threading.Thread(target=self._listen_now, name="tailsight-log", daemon=True).start()
        elif self._is_gone(now_ns):
            threading.Thread(target=self._revive, name="tailsight-launch", daemon=True).start()

    def _is_gone(self, now_ns: int) -> bool:
        file, service_end = self._file, self._service_end
        if file is None or service_end is None or self._closing:
            return False
        return now_ns - file.words[Word.BEAT] > _BEATS_AT_LEAST_EVERY_NS or _is_at_its_end(service_end)

    def _revive(self) -> None:
        """Start another sidecar on the same rings. After a few in vain the thread takes over."""
        if not self._launching.acquire(blocking=False):
            return
        try:
            if self._file is None or not self._is_gone(time.monotonic_ns()):
                return
            self._starts += 1
            if self._starts > _MAX_STARTS:
                raise CannotStart(f"it ended {_MAX_STARTS} times")
            self._start_process()
        except Exception as error:
            self._fall_back(error)
        finally:
            self._launching.release()

    def _nudge(self) -> None:
        """Wake the sidecar."""
        if self._service_end is not None:
            with contextlib.suppress(OSError):  # its buffer is full: it is awake. It is gone: _look() finds that
                self._service_end.send(b"!", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _await_end(self, service_end: socket.socket, until: float) -> None:
        """Wait until the sidecar closes its end."""
        while (left := until - time.monotonic()) > 0:
            try:
                ready, _, _ = select.select([service_end], [], [], left)
                if not ready or service_end.recv(1, socket.MSG_PEEK) == b"":
                    return
                self._listen_now()
            except (OSError, ValueError):
                return

    def _listen_now(self) -> None:
        """Pass what the sidecar has to say to this process's logger."""
        service_end = self._service_end
        if service_end is None:
            return
        said = b""
        with contextlib.suppress(OSError):
            while chunk := service_end.recv(65536, socket.MSG_DONTWAIT):
                said += chunk
        for line in said.splitlines():
            try:
                message = json.loads(line)
                logger.log(int(message["level"]), "%s (the sidecar)", message["message"])
            except Exception as error:  # half a line, or a log handler that raises
                caught("reading what the sidecar says", error)


def _is_at_its_end(service_end: socket.socket) -> bool:
    """Tell whether the sidecar has closed the connection: it has ended."""
    try:
        return service_end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
