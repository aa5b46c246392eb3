"""The journal: what makes an acknowledged span safe before the database has it.

One thread writes. It takes every request that waits, appends them in one write, calls fdatasync once for all of them
(group commit), and only then are they acknowledged. A segment that is old or large enough is closed and handed to the
loader. Names:

    journal/20261122T071104.123456789-1f3a9c0e.open     being written; after a crash its whole records are kept
    journal/20261122T071104.123456789-1f3a9c0e.otlp     closed: its content never changes, its name is the load token
    journal/20261122T071104.123456789-1f3a9c0e.parts    the same one was refused as a whole, and is loaded in parts
    journal/quarantine/…                                refused by the database, with its error beside it

A segment that the database has confirmed may be needed once more while what the database wrote is not on the disk
itself: it is told with `confirm`, and deleted with `forget` (power_cut.py). Every name that is made, changed or removed
is synced with its folder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from tailsight_collector.errors import JournalError, JournalFullError
from tailsight_collector.keep.segments import (
    CLOSED_SUFFIX,
    OPEN_SUFFIX,
    PARTS_SUFFIX,
    OpenSegment,
    Segment,
    left_over,
    recover,
)
from tailsight_collector.keep.synced import make_folder, sync_folder

log = logging.getLogger(__name__)

# What waits for the disk lies in memory: beyond this, clients are told to come again.
MAX_WAITING_BYTES = 128 * 1024 * 1024
_CLOSE_AGAIN_S = 1.0


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
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_wanted`: whether whoever loads segments waits for one; `segment_wanted` says that this has changed."""
        self.folder = folder
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._max_bytes = max_bytes
        self._on_closed = on_closed
        self._is_wanted = is_wanted
        self._is_told = False
        self._changed = threading.Condition()
        self._pending: list[_Pending] = []
        self._batch: list[_Pending] = []  # what is being written
        self._pending_bytes = 0
        self._stored_bytes = 0  # closed segments that are not loaded, and the open one
        self._kept_bytes = 0  # segments that are loaded, and kept until the database's parts are safe
        self._stopping = False
        self._file: OpenSegment | None = None
        self._unclosed: list[OpenSegment] = []  # finishing them failed; it is tried again
        self.failure = ""
        self._thread = threading.Thread(target=self._write_loop, name="tailsight-journal", daemon=True)
        self._lock_fd = -1

    def start(self) -> list[Segment]:
        """Take the folder, close what a crash left open, and return the segments to load, oldest first.

        Raises JournalError where the folder cannot be written or another collector uses it.
        """
        try:
            make_folder(self.folder)
            self._lock_fd = os.open(self.folder / "lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for path in sorted(self.folder.glob(f"*{OPEN_SUFFIX}")):
                recover(path)
            segments = [left_over(path) for path in sorted(self.folder.glob(f"*{CLOSED_SUFFIX}"))]
            for mark in {*self.folder.glob(f"*{PARTS_SUFFIX}")} - {segment.parts_mark for segment in segments}:
                mark.unlink()
            self._stored_bytes = sum(segment.size_bytes for segment in segments)
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

    def segment_wanted(self) -> None:
        """Close the open segment, if it is old enough: whoever loads segments has nothing to do."""
        with self._changed:
            self._is_told = True
            self._changed.notify()

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
            held_bytes = self._stored_bytes + self._kept_bytes
            if held_bytes + self._pending_bytes + len(record) > self._max_bytes:
                raise JournalFullError(f"the journal holds {held_bytes} bytes, of {self._max_bytes} at most")
            if self._pending and self._pending_bytes + len(record) > MAX_WAITING_BYTES:
                raise JournalFullError(f"{self._pending_bytes} bytes wait for the disk")
            self._pending.append(_Pending(record, done))
            self._pending_bytes += len(record)
            self._changed.notify()
        return done

    def confirm(self, segment: Segment) -> None:
        """Count a segment as loaded: the database has confirmed its rows."""
        with self._changed:
            self._stored_bytes -= segment.size_bytes
            self._kept_bytes += segment.size_bytes

    def forget(self, segments: Iterable[Segment]) -> None:
        """Delete confirmed segments; one that cannot be deleted is loaded again after the next start, to no effect."""
        for segment in segments:
            try:
                segment.path.unlink(missing_ok=True)
                segment.parts_mark.unlink(missing_ok=True)  # after it: as long as it is there, it says how to load it
            except OSError as error:
                log.warning("journal segment %s cannot be deleted: %s", segment.path, error)
            with self._changed:
                self._kept_bytes -= segment.size_bytes
        sync_folder(self.folder)

    def adopt(self, path: Path) -> Segment:
        """Take a file of whole records from elsewhere in this folder's file system as a closed segment."""
        size_bytes = path.stat().st_size
        closed = self.folder / path.name
        path.rename(closed)
        with self._changed:
            self._stored_bytes += size_bytes
        try:
            sync_folder(self.folder)
            sync_folder(path.parent)
        except OSError as error:  # after a power cut it lies where it was, and is taken from there
            log.warning("the folders of %s cannot be synced: %s", closed, error)
        return Segment(closed, size_bytes)

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk that are not loaded yet."""
        return self._stored_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes on the disk that are loaded, and kept until a power cut could not take them from the database."""
        return self._kept_bytes

    @property
    def max_bytes(self) -> int:
        """How much both may be together."""
        return self._max_bytes

    @property
    def open_since_s(self) -> float | None:
        """When the oldest record came that is not in a closed segment, by the monotonic clock; None: there is none."""
        files = [file for file in (*self._unclosed, self._file) if file is not None]
        return min((file.born_s for file in files), default=None)

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
            if not self._pending and not self._stopping and not self._is_told:
                self._changed.wait(self._wait_s())
            self._is_told = False
            self._batch = self._take_batch()
            stopping = self._stopping and not self._pending
        if self._batch:
            self._write(self._batch)
        if self._file and (stopping or self._is_due(self._file)):
            self._close_segment()
        for file in tuple(self._unclosed):
            self._finish(file)
        return not stopping

    def _is_due(self, file: OpenSegment) -> bool:
        """Whether a segment is closed: once it is large enough, or old enough and would be loaded at once.

        While another is being loaded it may as well grow: one large insert costs the database less than two.
        """
        if file.size >= self._segment_bytes:
            return True
        return file.age_left_s(self._segment_age_s) <= 0 and self._is_wanted()

    def _wait_s(self) -> float | None:
        """How long nothing has to be done; None: until somebody comes."""
        age_left_s = self._file.age_left_s(self._segment_age_s) if self._file else 0.0
        waits = [age_left_s] if age_left_s > 0 else []  # an old one is still open because nobody waits for it
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
                self._file = OpenSegment.create(self.folder)
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

    def _finish(self, file: OpenSegment) -> None:
        try:
            segment = file.finish()
        except OSError as error:
            log.warning("journal segment %s cannot be closed yet: %s", file.path, error)
            return
        self._unclosed.remove(file)
        if segment:
            self._on_closed(segment)
