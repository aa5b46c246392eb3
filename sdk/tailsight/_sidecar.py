"""The service's side of the sidecar: the rings, the process that reads them, and a thread where none can be started.

The first finished request makes the rings (_early.py) and has a thread of a moment start the sidecar. A push looks at
the shared memory now and then: a sidecar whose heart no longer beats is started again on the same rings, and what it
had to say goes to the service's log.
"""

import contextlib
import dataclasses
import select
import socket
import threading
import time
from collections.abc import Callable

from . import _record, _unread
from ._early import Early, remove
from ._guard import caught, warn_once
from ._options import Settings
from ._parse import waitable
from ._profile_asking import Asking, Lasts
from ._ring import RingFile, RingWriter, Word
from ._sampling import Reason
from ._sender import Sender
from ._shared_counts import read_to_the_end, stats_in, word_of_decision, word_of_drop
from ._sidecar_start import PYTHON, CannotStart, is_at_its_end, pass_on, start, thread_for
from ._stats import Counters, DropReason, Stats

_LOOK_EVERY_NS = 1_000_000_000
_MAX_STARTS = 5  # in a row, without one that lasted
_LASTED_S = 60.0
_POLL_S = 0.001
_LAUNCH_WAITS_S = 1.0  # for the thread that makes the rings


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
        self._early = Early(settings, counters, self._adopt, self._use)  # until the rings are whole
        self._asking = Asking(settings.profile)
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
        self._started_at = 0.0
        self._before = Stats(0, {}, 0, 0, 0, 0, 0)  # what a sidecar counted before the thread took over
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
                self._look()
        except Exception as error:
            caught("passing a batch to the sidecar", error)

    def flush(self, timeout_s: float) -> bool:
        """Have everything sent that was pushed before this call. Return whether that was done in time.

        A collector that is away keeps it from being done: what waits on disk is not sent.
        """
        until = time.monotonic() + waitable(timeout_s)
        if not self._is_launched(until):
            return not self._begun
        mine = 0
        nudge_again_at = 0.0
        # Polled, since a signal handler may flush in the midst of a flush: it must find nothing held.
        while self._ended is None:
            now = time.monotonic()
            sender, file = self._sender, self._file
            if sender is not None:
                return sender.flush(max(0.0, until - now))
            if file is not None:  # None: the thread is taking over
                words = file.words
                if not mine:
                    self._flushes += 1
                    mine = max(self._flushes, words[Word.FLUSH_WANTED] + 1)
                if words[Word.FLUSH_DONE] >= mine:
                    return True
                words[Word.FLUSH_WANTED] = max(words[Word.FLUSH_WANTED], mine)
            if now >= until:
                return False
            if now >= nudge_again_at:
                self._nudge()
                self._look()
                nudge_again_at = now + 0.05
            time.sleep(_POLL_S)
        return self._ended.pending_bytes == 0

    def close(self, timeout_s: float, *, wait: bool = True) -> None:
        """Let the sidecar send what is pending, for `timeout_s` seconds at most, and end.

        What is left then goes to the spool, or is dropped and counted. The sidecar does that on its own.
        """
        until = time.monotonic() + waitable(timeout_s)
        self._closing = True
        if wait and not self._begun and _unread.has_children() and _unread.is_there(self._settings, python=PYTHON):
            self._begun = True  # for what children left
            self._launch()
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
        if not wait or (launcher is not None and launcher.is_alive()):  # it lets the sidecar know when it has one
            return
        if service_end is not None and file is not None:
            self._await_end(service_end, until)
            self._listen_now()
            if is_at_its_end(service_end):
                self._finish_here(file, max(0.0, until - time.monotonic()))
            self._ended = self.stats()
            self._file = self._writer = self._service_end = None
            service_end.close()
        elif file is not None or self._early.backlog:
            self._send_early_here(file, max(0.0, until - time.monotonic()))

    @property
    def alive(self) -> bool:
        """Whether something works on what was pushed."""
        if self._sender is not None:
            return self._sender.alive
        if self._launcher is not None and self._launcher.is_alive():
            return True
        return self._service_end is not None and not is_at_its_end(self._service_end)

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
        file, sender = self._file, self._sender
        if sender is not None:
            return dataclasses.replace(self._before, pending_bytes=sender.backlog.bytes)
        return stats_in(file) if file is not None else Stats(0, {}, self._early.backlog.bytes, 0, 0, 0, 0)

    def profile(self, line: bytes, lasts: Lasts) -> bool:
        """Ask the sidecar for recordings of this process' code. False: it cannot be told."""
        file = self._file
        return self._asking.ask(line, lasts, self._service_end, file.words[Word.SIDECAR_PID] if file else 0)

    def abandon(self) -> None:
        """Let go of everything, in a forked child: it is the parent's."""
        self._closing = True
        self._service_end = self._file = self._writer = None  # closed by _fork.py

    # --- what the shared memory is told -----------------------------------------------------------------------------

    def dropped(self, reason: DropReason, spans: int) -> None:
        """Pass on that spans were dropped on this side."""
        self._tell(word_of_drop(reason), spans)

    def decided(self, reason: Reason, kept: bool) -> None:
        """Pass on what sampling decided about a request."""
        self._tell(word_of_decision(reason, kept=kept), 1)

    def _tell(self, word: int, more: int) -> None:
        """Add to a word that this side writes. Under the counters' lock."""
        tally = self._tallies[word] = self._tallies.get(word, 0) + more
        file = self._file
        if file is not None:
            file.words[word] = tally

    # --- before the rings are there ---------------------------------------------------------------------------------

    def _push_early(self, packed: bytes) -> None:
        try:
            if not self._begun:
                self._begun = True
                self._on_start()
                if self._launching.acquire(blocking=False):
                    try:
                        self._early.begin()
                    finally:
                        self._launching.release()
        finally:
            self._early.push(packed)
        if self._writer is not None or self._sender is not None:
            self._move_early()  # they came in the meantime
        else:
            self._begin_launch()

    def _begin_launch(self) -> None:
        if self._launcher is None or not self._launcher.is_alive():
            launcher = thread_for("launch", self._launch)
            try:
                launcher.start()
            except RuntimeError:  # no more threads, or the interpreter is on its way out: close() does it then
                return
            self._launcher = launcher

    def _is_launched(self, until: float) -> bool:
        """Wait for the sidecar, or the thread in its place. False if there is nothing to launch it for, or no time."""
        while self._service_end is None and self._sender is None:
            if not self._begun or self._closing or time.monotonic() >= until:
                return False
            self._begin_launch()
            time.sleep(_POLL_S)
        return True

    def _move_early(self) -> None:
        while (packed := self._early.backlog.take()) is not None:
            if self._writer is None:
                if self._sender is not None:
                    self._sender.push(packed, _record.count(packed))
            elif not self._writer.push(packed):
                self._counters.drop(DropReason.BUFFER_FULL, _record.count(packed))

    def _send_early_here(self, file: RingFile | None, timeout_s: float) -> None:
        """Send what no sidecar was started for, in this thread: the interpreter is on its way out."""
        sender = self._make_fallback()
        if file is not None:
            self._file = None
            self._early.retire()
            read_to_the_end(file, sender.backlog.add)
            remove(file)
        while (packed := self._early.backlog.take()) is not None:
            sender.backlog.add(packed, _record.count(packed))
        sender.close(timeout_s)

    def _finish_here(self, file: RingFile, timeout_s: float) -> None:
        """Send what a sidecar that is gone left in the rings: nothing, if it ended as it should."""
        if RingWriter(file).waiting_bytes():
            sender = self._make_fallback()
            if read_to_the_end(file, sender.backlog.add):
                sender.close(timeout_s)
                remove(file)

    # --- the process ------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Make the rings and start the sidecar, or the thread in its place. In a thread of a moment."""
        if not self._launching.acquire(timeout=_LAUNCH_WAITS_S):
            return
        try:
            if self._service_end is None and self._sender is None:
                try:
                    if self._writer is None:
                        self._early.complete(self._file)
                    self._move_early()  # from here on a kill -9 loses nothing
                    self._start_process()
                except Exception as error:
                    self._fall_back(error)
            self._move_early()
            if self._closing and self._file is not None:  # close() came and went
                self._file.words[Word.CLOSING] = self._file.words[Word.CLOSING] or time.monotonic_ns()
                self._nudge()
        except Exception as error:
            caught("starting the sidecar", error)
        finally:
            self._launching.release()

    def _adopt(self, file: RingFile) -> None:
        self._nudge_over = file.words[Word.RING_BYTES] // 2
        self._next_look_ns = time.monotonic_ns() + _LOOK_EVERY_NS
        self._file = file
        for word, tally in self._tallies.copy().items():
            file.words[word] = tally

    def _use(self, writer: RingWriter) -> None:
        self._writer = writer

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
        self._early.retire()
        if service_end is not None:
            service_end.close()
        sender = self._make_fallback()
        if file is not None:
            self._before = stats_in(file)
            read_to_the_end(file, sender.push)
            remove(file)
        self._sender = sender

    def _start_process(self) -> None:
        if self._file is None:
            return
        before, self._service_end = self._service_end, start(self._settings, self._file)
        self._started_at = time.monotonic()
        self._asking.begin(self._service_end, self._file.words[Word.SIDECAR_PID])
        if before is not None:
            before.close()

    def _look(self) -> None:
        """See whether the sidecar lives, and has something to say."""
        file = self._file
        if file is None or self._launching.locked():
            return
        if self._writer is not None:
            self._writer.look_after()
        if file.words[Word.MESSAGES] != self._messages_seen:
            self._messages_seen = file.words[Word.MESSAGES]
            thread_for("log", self._listen_now).start()
        elif self._is_gone():
            thread_for("launch", self._revive).start()

    def _is_gone(self) -> bool:
        """Tell whether the sidecar has ended. One that is only silent is stopped, or waits for a slow collector."""
        service_end = self._service_end
        return service_end is not None and not self._closing and is_at_its_end(service_end)

    def _revive(self) -> None:
        """Start another sidecar on the same rings. After a few in vain the thread takes over."""
        if not self._launching.acquire(blocking=False):
            return
        try:
            if self._file is None or not self._is_gone():
                return
            lasted_s = time.monotonic() - self._started_at
            self._starts = 1 if lasted_s > _LASTED_S else self._starts + 1
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
        poll = select.poll()  # select() knows descriptors below 1024 only
        poll.register(service_end, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            try:
                if not poll.poll(left * 1000) or is_at_its_end(service_end):
                    return
                self._listen_now()
            except (OSError, ValueError):
                return

    def _listen_now(self) -> None:
        """Pass what the sidecar has to say to this process's logger."""
        if self._service_end is not None:
            pass_on(self._service_end)
