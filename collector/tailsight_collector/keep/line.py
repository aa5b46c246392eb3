"""One signal's line, from its journal into the store: traces and metrics do not wait for each other."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tailsight_collector.keep.journal import Journal
from tailsight_collector.keep.keeper import DeleteAtOnce, Keeping
from tailsight_collector.keep.loader import Insert, Loader, LoaderState
from tailsight_collector.keep.power_cut import keeper_of
from tailsight_collector.keep.segments import Segment
from tailsight_storage import ChdbDsn, Store

# Every table that loading a signal fills, through whatever views: a checkpoint lists them together (power_cut.py).
TRACES_TABLES = ("spans", "rejected_spans", "stage_latency_1m", "sender_batches")
METRICS_TABLES = ("hardware_samples",)


@dataclass(frozen=True, slots=True)
class LineNumbers:
    """How a line is doing. Ages and durations are in seconds; an age is 0 where nothing waits."""

    journal_bytes: int
    kept_bytes: int
    max_bytes: int
    waiting_segments: int
    oldest_unloaded_age_s: float
    quarantined_records: int
    loads: int
    load_s: float
    last_load_s: float


class Line:
    """A journal and its loader: `open`, `load_into`, and at the end `stop_taking` and `close`."""

    def __init__(self, folder: Path, *, segment_bytes: int, segment_age_s: float, max_bytes: int) -> None:
        self.journal = Journal(
            folder,
            segment_bytes=segment_bytes,
            segment_age_s=segment_age_s,
            max_bytes=max_bytes,
            on_closed=self._offer,
            is_wanted=lambda: self._loader is None or self._loader.is_idle,
        )
        self._max_bytes = max_bytes
        self._left_over: list[Segment] = []
        self._loader: Loader | None = None
        self._is_unsafe = False
        self._keeping: Keeping = DeleteAtOnce(self.journal)

    def open(self) -> None:
        """Take the journal's folder and find what a crash left; raises JournalError."""
        self._left_over = self.journal.start()

    @property
    def left_over(self) -> list[str]:
        """The tokens of the segments that the last run left."""
        return [segment.token for segment in self._left_over]

    @property
    def left_over_paths(self) -> list[Path]:
        """The files of these."""
        return [segment.path for segment in self._left_over]

    def keeping_of(self, store: Store, name: str, tables: tuple[str, ...]) -> Keeping:
        """Choose how long loaded segments are kept: until they are safe in an embedded store; with a server, not.

        `store` is the connection that the line loads through. Raises StorageError or OSError.
        """
        if isinstance(store.dsn, ChdbDsn):
            return keeper_of(store, store.dsn, name, tables, self.journal)
        return DeleteAtOnce(self.journal)

    def load_into(self, insert: Insert, keeping: Keeping | None = None) -> None:
        """Begin to load, what was left first; without `keeping`, segments are deleted as soon as they are loaded."""
        self._keeping = keeping or DeleteAtOnce(self.journal)
        self._loader = Loader(insert, self.journal, self._keeping)
        for segment in self._left_over:
            self._loader.offer(segment)
        self._loader.start()

    def stop_taking(self) -> None:
        """Sync and close the journal: what is acknowledged is in the loader's hands, or on the disk."""
        self.journal.close()

    def close(self, timeout_s: float) -> bool:
        """Load what can be loaded in time, and delete what is safe; False where an insert is still running."""
        deadline_s = time.monotonic() + timeout_s
        finished = self._loader.close(timeout_s) if self._loader else True
        # what is not deleted in time is loaded again at the next start, to no effect
        self._is_unsafe = not self._keeping.close(max(1.0, deadline_s - time.monotonic()))
        return finished

    @property
    def failure(self) -> str:
        """Why only a restart helps; empty while it does not take one."""
        ended = "" if self._loader and self._loader.is_alive else "the loader has ended"
        return self.journal.failure or (self._loader.failure if self._loader else "") or ended

    @property
    def is_unsafe(self) -> bool:
        """Whether the store may hold what its disk does not: then only the last checkpoint counts."""
        return self._is_unsafe or bool(self._keeping.failure)

    @property
    def is_degraded(self) -> bool:
        """Whether loading fails at present."""
        return bool(self._loader and self._loader.state.last_error)

    def health(self) -> dict[str, object]:
        """Describe the journal and the loading, for `/healthz`."""
        return {
            "journal": {
                "bytes": self.journal.stored_bytes,
                "kept_bytes": self.journal.kept_bytes,
                "max_bytes": self._max_bytes,
            },
            "loading": asdict(self._loader.state) if self._loader else {},
        }

    def numbers(self) -> LineNumbers:
        """Say how the line is doing, for `/metrics`."""
        state = self._loader.state if self._loader else LoaderState()
        ages = (self.journal.open_since_s, self._loader.oldest_s if self._loader else None)
        oldest_s = min((age for age in ages if age is not None), default=None)
        return LineNumbers(
            journal_bytes=self.journal.stored_bytes,
            kept_bytes=self.journal.kept_bytes,
            max_bytes=self._max_bytes,
            waiting_segments=state.waiting_segments,
            oldest_unloaded_age_s=max(0.0, time.monotonic() - oldest_s) if oldest_s is not None else 0.0,
            quarantined_records=state.quarantined_records,
            loads=state.loaded_segments,
            load_s=state.total_load_s,
            last_load_s=state.last_load_s,
        )

    def _offer(self, segment: Segment) -> None:
        if self._loader:
            self._loader.offer(segment)
