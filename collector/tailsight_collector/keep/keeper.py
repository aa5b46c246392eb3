"""Which loaded segments are still needed: those whose rows a power cut could take from the database."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from tailsight_collector.keep.checkpoints import Checkpoint, CheckpointFile, boot_id
from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.segments import Segment
from tailsight_storage import StorageError

log = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 3.0
# With nothing to load, merges still replace parts: their results are listed this often.
IDLE_CHECKPOINT_EVERY_S = 10.0
# While the disk takes longer than this, nothing is loaded: the engine deletes what was merged after a while.
SYNC_PATIENCE_S = 60.0
LAST_PATIENCE_S = 5.0
KEPT_PART = 4  # at most this part of the journal's bytes is kept between two checkpoints


class DamagedPartError(Exception):
    """The engine has written a part that is not whole."""


class Keeping(Protocol):
    """What the loader tells of confirmed segments. It calls all of it from its one thread, between inserts."""

    failure: str

    def confirmed(self, segment: Segment) -> None:
        """Take charge of a segment whose insert was confirmed."""

    def tick(self, *, last: bool = False) -> None:
        """Do what is due; `last`: do all of it now."""

    @property
    def must_wait(self) -> bool:
        """Whether nothing more may be loaded for now."""

    def close(self, timeout_s: float) -> bool:
        """Finish what is being done; False where it takes longer."""


class DeleteAtOnce:
    """For a server: what it has confirmed is its own to keep (docs/decisions/0011)."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.failure = ""
        self.must_wait = False

    def confirmed(self, segment: Segment) -> None:
        """Delete the segment."""
        try:
            self._journal.forget([segment])
        except OSError as error:
            log.warning("the journal's folder cannot be synced: %s", error)

    def tick(self, *, last: bool = False) -> None:
        """Nothing is ever due."""

    def close(self, timeout_s: float) -> bool:  # noqa: ARG002 - as the others
        """Nothing is being done."""
        return True


class Keeper:
    """Keeps loaded segments until a checkpoint, and makes one every few seconds; syncing has a thread of its own.

    `list_parts` gives the present parts by table's folder and raises StorageError; `sync` returns when all that was
    written before its call is on the disk, and raises OSError.
    """

    def __init__(
        self,
        journal: Journal,
        file: CheckpointFile,
        *,
        list_parts: Callable[[], Mapping[str, Sequence[str]]],
        sync: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._file = file
        self._list_parts = list_parts
        self._sync = sync
        self._clock = clock
        self._changed = threading.Condition()
        self._kept: list[Segment] = []
        self._cut: tuple[Checkpoint, list[Segment]] | None = None  # what the thread works on
        self._last_tables: Mapping[str, Sequence[str]] = {}  # as listed last
        self._safe = Checkpoint({})  # as written last
        self._boot = boot_id()
        self._last_cut_s = clock()
        self._stopping = False
        self.failure = ""
        self.checkpoints = 0
        self._thread = threading.Thread(target=self._run, name="tailsight-checkpoint", daemon=True)

    def start(self) -> None:
        """Write the first checkpoint, before anything is loaded; raises StorageError or OSError."""
        self._last_tables = self._list_parts()
        self._sync()
        self._safe = Checkpoint(self._last_tables, boot=self._boot)
        self._file.write(self._safe)
        self._thread.start()

    def confirmed(self, segment: Segment) -> None:
        """Keep a segment whose insert was confirmed."""
        with self._changed:
            self._kept.append(segment)

    def tick(self, *, last: bool = False) -> None:
        """List the parts if it is time for that, and hand the list to the thread; no insert may be running."""
        if last:
            self.wait_until_synced(LAST_PATIENCE_S)
        if self.failure or self._cut is not None or not (last or self._is_due()):
            return
        try:
            tables = self._list_parts()
        except DamagedPartError as error:
            self._fail(
                f"{error}: make room on the store's disk and restart the collector, which goes back to before it"
            )
            return
        except Exception as error:  # whatever it is, the loader must live
            log.warning("no checkpoint now: %s", error, exc_info=not isinstance(error, StorageError))
            self._last_cut_s = self._clock()
            return
        with self._changed:
            self._last_cut_s = self._clock()
            if not self._kept and tables == self._last_tables:
                return
            self._last_tables = tables
            self._cut = (Checkpoint(tables, boot=self._boot), self._kept)
            self._kept = []
            self._changed.notify_all()

    @property
    def must_wait(self) -> bool:
        """Whether the loader must wait for the disk: too much is kept, or a sync takes too long."""
        if self.failure:
            return True
        if self._cut is None:
            return False
        return self._clock() - self._last_cut_s > SYNC_PATIENCE_S or self._is_much

    def wait_until_synced(self, timeout_s: float) -> bool:
        """Wait until no list is being worked on."""
        with self._changed:
            return self._changed.wait_for(lambda: self._cut is None, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Finish the list that was handed over last; False where the disk does not answer in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def _is_much(self) -> bool:
        return self._journal.kept_bytes > self._journal.max_bytes // KEPT_PART

    def _is_due(self) -> bool:
        every_s = CHECKPOINT_EVERY_S if self._kept else IDLE_CHECKPOINT_EVERY_S
        return self._clock() - self._last_cut_s >= every_s or (bool(self._kept) and self._is_much)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._cut is not None or self._stopping)
                cut = self._cut
            if cut is None:
                return
            try:
                self._work_on(*cut)
            except Exception as error:  # a defect: whoever asks must hear of it
                self.failure = self.failure or f"{type(error).__name__}: {error}"
                log.exception("checkpoints have failed")
            with self._changed:
                self._cut = None
                self._changed.notify_all()

    def _fail(self, why: str) -> None:
        """Stop for good, and make the next start go back to the last checkpoint."""
        self.failure = why
        log.error("%s", why)
        try:
            self._file.write(replace(self._safe, boot=""))
        except OSError as error:
            log.error("checkpoint %s cannot be marked: %s", self._file.path, error)

    def _work_on(self, checkpoint: Checkpoint, segments: list[Segment]) -> None:
        try:
            self._sync()
        except OSError as error:
            # Which pages were lost nobody knows, and the next sync would not say so again: only going back to the
            # checkpoint before helps, and loading what is kept once more. The next start does that.
            self._fail(f"the store's disk could not be synced: {error.strerror}; mend it and restart the collector")
            return
        try:
            self._file.write(checkpoint)
        except OSError as error:
            log.warning("checkpoint %s cannot be written: %s; its segments are kept", self._file.path, error)
            with self._changed:
                self._kept = segments + self._kept
            return
        self._safe = checkpoint
        self.checkpoints += 1
        try:
            self._journal.forget(segments)
        except OSError as error:
            log.warning("the journal's folder cannot be synced: %s", error)
