"""Closed segments into the store, exactly once.

One thread, oldest segment first. The segment's name is the deduplication token, so that an insert which succeeded
without our learning of it changes nothing when it is repeated. A segment is deleted after the insert is confirmed,
never before. The database being away is waited out; bytes that it refuses are narrowed down to the record at fault,
which goes to the quarantine with the database's own message, while everything around it is loaded. Bytes that are no
longer what was written go there too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.keeper import DeleteAtOnce, Keeping
from tailsight_collector.keep.quarantine import Quarantine
from tailsight_collector.keep.records import Piece, encode_record, pieces, whole_records
from tailsight_collector.keep.segments import Segment
from tailsight_collector.keep.synced import write_synced
from tailsight_storage import DataRefusedError, StorageError
from tailsight_storage.store import MEMORY_LIMIT_CODE

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 10.0
# A single record that needs more memory than there is may find it later, but must not hold up the others for long.
MEMORY_ATTEMPTS = 4
# How often to look at what comes without a call: records to load again, and what is due for the loaded segments.
LOOK_EVERY_S = 1.0
# The database's own disk is full or broken (ClickHouse's ErrorCodes.cpp): no bytes are at fault, whatever they are.
DISK_CODES = frozenset({
    74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR
    75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
    76,  # CANNOT_OPEN_FILE
    77,  # CANNOT_CLOSE_FILE
    96,  # CANNOT_FSYNC
    191,  # CANNOT_FSTAT
    243,  # NOT_ENOUGH_SPACE
    481,  # PATH_ACCESS_DENIED
})  # fmt: skip
_FILE_SYSTEM_ERROR = "std::__1::__fs::filesystem::filesystem_error"  # a STD_EXCEPTION, as other defects are
# An ExportTraceServiceRequest with one empty ResourceSpans; of metrics it is the same bytes.
HARMLESS = b"\x0a\x00"

Insert = Callable[[bytes | memoryview, str], None]
"""Stores a segment under a token: a method of the store, one a signal."""


@dataclass(slots=True)
class LoaderState:
    """What `/healthz` says about loading. `last_error` is empty while loading works."""

    waiting_segments: int = 0
    loaded_segments: int = 0
    quarantined_records: int = 0
    last_error: str = ""
    last_load_s: float = 0.0
    total_load_s: float = 0.0


class Loader:
    """Loads what `offer` was given, in order, until `close`."""

    def __init__(self, insert: Insert, journal: Journal, keeping: Keeping | None = None) -> None:
        self._insert = insert
        self._journal = journal
        self._keeping = keeping or DeleteAtOnce(journal)
        self._queue: deque[Segment] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._give_up = threading.Event()
        self._quarantine = Quarantine(journal.folder)
        self._state = LoaderState(quarantined_records=len(self._quarantine))
        self._attempts = 0
        self._thread = threading.Thread(target=self._run, name="tailsight-loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def offer(self, segment: Segment) -> None:
        """Queue a closed segment."""
        with self._changed:
            self._queue.append(segment)
            self._changed.notify_all()

    @property
    def state(self) -> LoaderState:
        """A copy of the present state."""
        with self._changed:
            return replace(self._state, waiting_segments=len(self._queue))

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to load."""
        return not self._queue

    @property
    def oldest_s(self) -> float | None:
        """When the oldest record came that is not loaded, by the monotonic clock; None where all are."""
        with self._changed:
            return min((segment.born_s for segment in self._queue), default=None)

    @property
    def failure(self) -> str:
        """Why only a restart helps; empty while it does not take one."""
        return self._keeping.failure

    @property
    def is_alive(self) -> bool:
        """Whether it still loads."""
        return self._thread.is_alive()

    def close(self, timeout_s: float) -> bool:
        """Load what is queued and stop; what cannot be loaded in time stays in the journal for the next start.

        Returns False where an insert is still running: the store must not be closed under it.
        """
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is None:
            return True
        self._thread.join(timeout_s)
        self._give_up.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(1.0)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while segment := self._next():
            if not self._load_until_done(segment):
                break
            with self._changed:
                self._queue.popleft()
            if self.is_idle:
                self._journal.segment_wanted()
        self._keeping.tick(last=True)

    def _next(self) -> Segment | None:
        """Wait for the oldest segment that may be loaded now; None where it is time to end."""
        while True:
            self._keeping.tick()
            self._take_back()
            with self._changed:
                if self._give_up.is_set() or (self._stopping and (not self._queue or self._keeping.failure)):
                    return None
                if self._queue and not self._keeping.must_wait:
                    return self._queue[0]
                self._changed.wait(LOOK_EVERY_S)

    def _take_back(self) -> None:
        """Queue the records that somebody wants to be loaded again."""
        try:
            for segment in self._quarantine.take_back(self._journal):
                log.info("record %s is tried again", segment.token)
                self.offer(segment)
                left = len(self._quarantine)
                with self._changed:
                    self._state.quarantined_records = left
        except OSError as error:
            log.warning("records to be tried again cannot be taken: %s", error)

    def _load_until_done(self, segment: Segment) -> bool:
        """Load one segment however long it takes; False where the collector stops before it is done."""
        backoff_s = FIRST_BACKOFF_S
        self._attempts = 0
        while True:
            self._attempts += 1
            try:
                self._load(segment)
            except Exception as error:  # whatever it is, the thread must live: behind it wait acknowledged spans
                self._say(segment, error)
                with self._changed:
                    if self._changed.wait_for(lambda: self._stopping, backoff_s):
                        return False
                self._keeping.tick()
                backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
            else:
                with self._changed:
                    self._state.last_error = ""
                    self._state.loaded_segments += 1
                return True

    def _say(self, segment: Segment, error: Exception) -> None:
        if str(error) != self._state.last_error:
            log.warning("segment %s is not loaded yet: %s", segment.token, error, extra={"segment": segment.token})
        if not isinstance(error, StorageError | OSError):
            log.error("an unexpected error while loading", exc_info=error)
        with self._changed:
            self._state.last_error = str(error) or type(error).__name__

    def _load(self, segment: Segment) -> None:
        began_s = time.perf_counter()
        try:
            data = segment.path.read_bytes()
        except FileNotFoundError:
            log.error("segment %s has vanished: somebody removed it from the journal", segment.path)
            data = b""
        found = list(pieces(data))
        damaged = [piece for piece in found if not piece.is_whole]
        if damaged:
            self._put_damaged_aside(segment, data, damaged)
            data = b"".join(data[piece.start : piece.end] for piece in found if piece.is_whole)
        if data and not self._load_whole(segment, data):
            self._load_in_parts(segment, data)
        self._journal.confirm(segment)
        self._keeping.confirmed(segment)
        took_s = time.perf_counter() - began_s
        with self._changed:
            self._state.last_load_s = took_s
            self._state.total_load_s += took_s
        log.debug(
            "segment %s: %d bytes in %.3f s", segment.token, len(data), took_s,
            extra={"segment": segment.token, "bytes": len(data), "duration_s": round(took_s, 6)},
        )  # fmt: skip

    def _load_whole(self, segment: Segment, data: bytes) -> bool:
        """Load a segment as a whole; False where it is loaded in parts from now on, for good.

        A part has another token than the whole, and its halves have others again: to go back to what was taken apart,
        because memory has become free meanwhile or after a crash, would store some of it twice. So what is taken apart
        is written down before the first of its parts is loaded.
        """
        if segment.parts_mark.exists():
            return False
        try:
            self._insert_checked(data, segment.token)
        except DataRefusedError as error:
            if error.code == MEMORY_LIMIT_CODE and self._attempts < MEMORY_ATTEMPTS:
                raise  # others may have had it; and the whole may be in the store already, without our knowing
            self._check_that_the_store_is_well(segment)
            log.warning("segment %s was refused: %s; looking for the record at fault", segment.token, error)
            write_synced(segment.parts_mark, b"")
            self._attempts = 1
            return False
        return True

    def _insert_checked(self, data: bytes | memoryview, token: str) -> None:
        """Insert, and tell a database that cannot write from one that objects to these bytes."""
        try:
            self._insert(data, token)
        except DataRefusedError as error:
            if error.code in DISK_CODES or _FILE_SYSTEM_ERROR in error.detail:
                raise StorageError(f"the database cannot write: {error}") from error
            raise

    def _put_damaged_aside(self, segment: Segment, data: bytes, damaged: list[Piece]) -> None:
        for piece in damaged:
            where = f"bytes {piece.start} to {piece.end} of segment {segment.token}"
            error = f"{where} are not what was written: the checksum is wrong"
            path = self._quarantine.put_damaged(segment.token, piece.start, data[piece.start : piece.end], error)
            log.error("%s; they are in %s, and the whole records around them are loaded", error, path)
        with self._changed:
            self._state.quarantined_records = len(self._quarantine)

    def _check_that_the_store_is_well(self, segment: Segment) -> None:
        """See whether an empty request is taken: a store that refuses that too does not object to our bytes."""
        try:
            self._insert_checked(encode_record(HARMLESS, time.time_ns()), f"{segment.token}/probe")
        except DataRefusedError as error:
            raise StorageError(f"the store takes nothing at all: {error}") from error

    def _load_in_parts(self, segment: Segment, data: bytes) -> None:
        """Load a refused segment by halves, so that only what is at fault is kept back.

        The parts and their tokens follow from the segment and its mark: doing it all again after a crash adds nothing.
        """
        records = list(whole_records(data))
        split = segment.parts_mark.read_text(encoding="ascii").split()

        def load(first: int, last: int) -> None:
            part = memoryview(data)[records[first][0] : records[last - 1][1]]
            name = f"{first}-{last}"
            if name not in split:
                try:
                    self._insert_checked(part, f"{segment.token}/{name}")
                except DataRefusedError as error:
                    if last - first == 1:
                        if error.code == MEMORY_LIMIT_CODE and self._attempts < MEMORY_ATTEMPTS:
                            raise
                        self._put_aside(segment, first, part, error)
                        return
                    split.append(name)
                    write_synced(segment.parts_mark, " ".join(split).encode())
                else:
                    return
            middle = (first + last) // 2
            load(first, middle)
            load(middle, last)

        if records:
            load(0, len(records))

    def _put_aside(self, segment: Segment, number: int, record: memoryview, error: DataRefusedError) -> None:
        """Keep a refused record for good before its segment is deleted."""
        path = self._quarantine.put(segment.token, number, record, str(error))
        with self._changed:
            self._state.quarantined_records = len(self._quarantine)
        log.error(
            "record %d of segment %s (%d bytes) is in %s: %s", number, segment.token, len(record), path, error,
            extra={"segment": segment.token, "record": number, "bytes": len(record), "path": path},
        )  # fmt: skip
