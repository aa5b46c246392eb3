"""The journal: what makes an acknowledged span safe before the database has it.

One thread writes. It takes every request that waits, appends them in one write, calls fdatasync once for all of them
(group commit), and only then are they acknowledged. A segment that is old or large enough is closed and handed to the
loader. Names:

    journal/20261122T071104.123456789-1f3a9c0e.open     being written; after a crash its whole records are kept
    journal/20261122T071104.123456789-1f3a9c0e.otlp     closed: its content never changes, its name is the load token
    journal/quarantine/…                                refused by the database, with its error beside it
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tailsight_collector.errors import JournalError, JournalFullError
from tailsight_collector.records import whole_records

log = logging.getLogger(__name__)

OPEN_SUFFIX = ".open"
CLOSED_SUFFIX = ".otlp"
# What waits for the disk lies in memory: beyond this, clients are told to come again.
MAX_WAITING_BYTES = 128 * 1024 * 1024
_CLOSE_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment. `token` is its name without suffix: the database's deduplication token."""

    path: Path

    @property
    def token(self) -> str:
        """Unique among all segments of all collectors: a time and random bits."""
        return self.path.stem


@dataclass(slots=True)
class _Pending:
    record: bytes
    done: Future[None]


class Journal:
    """Appends records and returns futures that resolve when they are on the disk."""

    def __init__(
        self,
        folder: Path,
        *,
        segment_bytes: int,
        segment_age_s: float,
        max_bytes: int,
        on_closed: Callable[[Segment], None],
    ) -> None:
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._max_bytes = max_bytes
        self._on_closed = on_closed
        self._changed = threading.Condition()
        self._pending: list[_Pending] = []
        self._batch: list[_Pending] = []  # what is being written
        self._pending_bytes = 0
        self._stored_bytes = 0  # closed segments that are not loaded, and the open one
        self._stopping = False
        self._file: _OpenSegment | None = None
        self._unclosed: list[_OpenSegment] = []  # finishing them failed; it is tried again
        self.failure = ""
        self._thread = threading.Thread(target=self._write_loop, name="tailsight-journal", daemon=True)
        self._lock_fd = -1

    def start(self) -> list[Segment]:
        """Take the folder, close what a crash left open, and return the segments to load, oldest first.

        Raises JournalError where the folder cannot be written or another collector uses it.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in sorted(self.folder.glob(f"*{OPEN_SUFFIX}")):
                _recover(path)
            segments = [Segment(path) for path in sorted(self.folder.glob(f"*{CLOSED_SUFFIX}"))]
            self._stored_bytes = sum(segment.path.stat().st_size for segment in segments)
        except BlockingIOError:
            raise JournalError(
                f"journal {self.folder} is in use by another collector; stop that one or give another --data"
            ) from None
        except OSError as error:
            raise JournalError(
                f"journal {error.filename or self.folder} cannot be used: {error.strerror}; "
                "give a writable folder with --data"
            ) from None
        self._thread.start()
        return segments

    def append(self, record: bytes) -> Future[None]:
        """Queue a record; the future resolves once it is synced, or fails with OSError or JournalError.

        Raises JournalFullError at once where the journal holds as much as it may.
        """
        done: Future[None] = Future()
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it: the record may be on the disk already
        with self._changed:
            if self._stopping:
                raise JournalError("the collector is shutting down")
            if self.failure:
                raise JournalError(f"the journal has failed: {self.failure}")
            if self._stored_bytes + self._pending_bytes + len(record) > self._max_bytes:
                raise JournalFullError(f"the journal holds {self._stored_bytes} bytes, of {self._max_bytes} at most")
            if self._pending and self._pending_bytes + len(record) > MAX_WAITING_BYTES:
                raise JournalFullError(f"{self._pending_bytes} bytes wait for the disk")
            self._pending.append(_Pending(record, done))
            self._pending_bytes += len(record)
            self._changed.notify()
        return done

    def forget(self, segment: Segment) -> None:
        """Delete a segment whose rows the database has confirmed."""
        size = segment.path.stat().st_size
        segment.path.unlink()
        with self._changed:
            self._stored_bytes -= size

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk that are not loaded yet."""
        return self._stored_bytes

    def close(self) -> None:
        """Write and sync what waits, close the open segment (the loader gets it), and give the folder back."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- the writing thread ---------------------------------------------------------------------------------------

    def _write_loop(self) -> None:
        try:
            while self._write_once():
                pass
        except Exception as error:  # a defect: whoever waits must hear of it, and whoever comes
            log.exception("the journal has failed")
            with self._changed:
                self.failure = f"{type(error).__name__}: {error}"
                for pending in (*self._batch, *self._pending):
                    if not pending.done.done():
                        pending.done.set_exception(JournalError(self.failure))
                self._pending.clear()

    def _write_once(self) -> bool:
        """Wait for something to do and do it; False when that was the last."""
        with self._changed:
            if not self._pending and not self._stopping:
                self._changed.wait(self._wait_s())
            self._batch = self._take_batch()
            stopping = self._stopping and not self._pending
        if self._batch:
            self._write(self._batch)
        if self._file and (
            stopping or self._file.size >= self._segment_bytes or self._file.age_left_s(self._segment_age_s) <= 0
        ):
            self._close_segment()
        for file in tuple(self._unclosed):
            self._finish(file)
        return not stopping

    def _wait_s(self) -> float | None:
        """How long nothing has to be done; None: until somebody comes."""
        waits = [max(0.0, self._file.age_left_s(self._segment_age_s))] if self._file else []
        waits += [_CLOSE_AGAIN_S] if self._unclosed else []
        return min(waits, default=None)

    def _take_batch(self) -> list[_Pending]:
        """Take what fits into a segment, and one record at least."""
        count = size = 0
        for pending in self._pending:
            if count and size + len(pending.record) > self._segment_bytes:
                break
            count, size = count + 1, size + len(pending.record)
        batch = self._pending[:count]
        del self._pending[:count]
        self._pending_bytes -= size
        return batch

    def _write(self, batch: list[_Pending]) -> None:
        try:
            if self._file is None:
                self._file = _OpenSegment.create(self.folder)
            written = self._file.append(b"".join(pending.record for pending in batch))
        except Exception as error:
            log.error("journal %s: %s; clients are told to try again", self.folder, error)
            # What the disk holds after a failed write or sync is unknown: nothing more goes into this segment.
            if self._file is not None:
                self._close_segment()
            for pending in batch:
                pending.done.set_exception(error)
            return
        with self._changed:
            self._stored_bytes += written
        for pending in batch:
            pending.done.set_result(None)

    def _close_segment(self) -> None:
        assert self._file is not None  # noqa: S101 - both callers have just asked
        file, self._file = self._file, None
        self._unclosed.append(file)
        self._finish(file)

    def _finish(self, file: _OpenSegment) -> None:
        try:
            segment = file.finish()
        except OSError as error:
            log.warning("journal segment %s cannot be closed yet: %s", file.path, error)
            return
        self._unclosed.remove(file)
        if segment:
            self._on_closed(segment)


class _OpenSegment:
    """The file that is being written. `size` counts synced bytes only."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size = 0
        self._fd = fd
        self._born = time.monotonic()

    @classmethod
    def create(cls, folder: Path) -> _OpenSegment:
        now_ns = time.time_ns()
        stamp = datetime.fromtimestamp(now_ns // 10**9, UTC).strftime("%Y%m%dT%H%M%S")
        path = folder / f"{stamp}.{now_ns % 10**9:09}-{secrets.token_hex(4)}{OPEN_SUFFIX}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            sync_folder(folder)  # the name itself must survive a power cut
        except OSError:
            os.close(fd)
            raise
        return cls(path, fd)

    def age_left_s(self, age_s: float) -> float:
        return self._born + age_s - time.monotonic()

    def append(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        os.fdatasync(self._fd)
        self.size += len(data)
        return len(data)

    def finish(self) -> Segment | None:
        """Cut off what was never acknowledged, and give the file its closed name; may be called again if it fails."""
        if self._fd >= 0:
            os.ftruncate(self._fd, self.size)
            os.fsync(self._fd)  # so that no recovery finds what a client was told to send again
            os.close(self._fd)
            self._fd = -1
        if not self.size:
            self.path.unlink()
            return None
        closed = self.path.with_suffix(CLOSED_SUFFIX)
        self.path.rename(closed)
        return Segment(closed)


def _recover(path: Path) -> None:
    """Keep the whole records of a segment that a crash left open; the torn one behind them was never acknowledged."""
    data = path.read_bytes()
    end = 0
    for _, record_end in whole_records(data):
        end = record_end
    if end < len(data):
        log.warning("journal segment %s: cut off %d bytes of an unfinished write", path.name, len(data) - end)
    if not end:
        path.unlink()
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    path.rename(path.with_suffix(CLOSED_SUFFIX))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
