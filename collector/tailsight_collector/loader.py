"""Closed segments into the store, exactly once.

One thread, oldest segment first. The segment's name is the deduplication token, so that an insert which succeeded
without our learning of it changes nothing when it is repeated. A segment is deleted after the insert is confirmed,
never before. The database being away is waited out; bytes that it refuses are narrowed down to the record at fault,
which goes to the quarantine with the database's own message, while everything around it is loaded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tailsight_collector.journal import Journal, Segment, sync_folder
from tailsight_collector.records import split_messages, whole_records
from tailsight_storage import DataRefusedError, StorageError, Store

log = logging.getLogger(__name__)

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 10.0
QUARANTINE = "quarantine"


@dataclass(slots=True)
class LoaderState:
    """What `/healthz` says about loading. `last_error` is empty while loading works."""

    waiting_segments: int = 0
    loaded_segments: int = 0
    quarantined_records: int = 0
    last_error: str = ""


class Loader:
    """Loads what `offer` was given, in order, until `close`."""

    def __init__(self, store: Store, journal_of: Callable[[], Journal]) -> None:
        self._store = store
        self._journal_of = journal_of
        self._queue: deque[Segment] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._give_up = threading.Event()
        self._state = LoaderState()
        self._thread = threading.Thread(target=self._run, name="tailsight-loader", daemon=True)

    def start(self) -> None:
        """Begin to load."""
        self._thread.start()

    def offer(self, segment: Segment) -> None:
        """Queue a closed segment."""
        with self._changed:
            self._queue.append(segment)
            self._changed.notify()

    @property
    def state(self) -> LoaderState:
        """A copy of the present state."""
        with self._changed:
            state = self._state
            return LoaderState(len(self._queue), state.loaded_segments, state.quarantined_records, state.last_error)

    def close(self, timeout_s: float) -> None:
        """Load what is queued and stop; what cannot be loaded in time stays in the journal for the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.ident is None:
            return
        self._thread.join(timeout_s)
        self._give_up.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if not self._queue or self._give_up.is_set():
                    return
                segment = self._queue[0]
            if not self._load_until_done(segment):
                return
            with self._changed:
                self._queue.popleft()

    def _load_until_done(self, segment: Segment) -> bool:
        """Load one segment however long it takes; False where the collector gives up because it is stopping."""
        backoff_s = FIRST_BACKOFF_S
        while True:
            try:
                self._load(segment)
                self._journal_of().forget(segment)
            except (StorageError, OSError) as error:
                if str(error) != self._state.last_error:
                    log.warning("segment %s is not loaded yet: %s", segment.token, error)
                self._state.last_error = str(error)
                if self._give_up.wait(backoff_s) or self._stopping:
                    return False
                backoff_s = min(backoff_s * 2, LAST_BACKOFF_S)
            else:
                self._state.last_error = ""
                self._state.loaded_segments += 1
                return True

    def _load(self, segment: Segment) -> None:
        data = segment.path.read_bytes()
        began = time.perf_counter()
        try:
            self._store.insert_otlp_traces(data, segment.token)
        except DataRefusedError as error:
            log.warning("segment %s was refused: %s; looking for the record at fault", segment.token, error)
            records = list(whole_records(data))
            self._load_in_parts(segment, memoryview(data), records, 0, len(records))
        log.debug("segment %s: %d bytes in %.3f s", segment.token, len(data), time.perf_counter() - began)

    def _load_in_parts(
        self, segment: Segment, data: memoryview, records: list[tuple[int, int]], first: int, last: int
    ) -> None:
        """Load records [first, last) of a refused segment by halves, so that only what is at fault is kept back.

        The parts and their tokens follow from the segment alone: doing it all again after a crash adds nothing.
        """
        if first == last:
            return
        part = data[records[first][0] : records[last - 1][1]]
        try:
            self._store.insert_otlp_traces(part, f"{segment.token}/{first}-{last}")
        except DataRefusedError as error:
            if last - first == 1:
                self._quarantine(segment, first, part, error)
                return
            middle = (first + last) // 2
            self._load_in_parts(segment, data, records, first, middle)
            self._load_in_parts(segment, data, records, middle, last)

    def _quarantine(self, segment: Segment, number: int, record: memoryview, error: DataRefusedError) -> None:
        folder = segment.path.parent / QUARANTINE
        folder.mkdir(exist_ok=True)
        path = folder / f"{segment.token}.{number}.otlp"
        path.write_bytes(record)
        path.with_suffix(".error").write_text(f"{error}\n", encoding="utf-8")
        sync_folder(folder)
        self._state.quarantined_records += 1
        bytes_refused = sum(len(message) for message in split_messages(record))
        log.error("record %d of segment %s (%d bytes) is in %s: %s", number, segment.token, bytes_refused, path, error)
