"""One signal's line, from its journal into the store: traces and metrics do not wait for each other."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tailsight_collector.journal import Journal, Segment
from tailsight_collector.loader import Insert, Loader


class Line:
    """A journal and its loader: `open`, `load_into`, and at the end `stop_taking` and `close`."""

    def __init__(self, folder: Path, *, segment_bytes: int, segment_age_s: float, max_bytes: int) -> None:
        self.journal = Journal(
            folder,
            segment_bytes=segment_bytes,
            segment_age_s=segment_age_s,
            max_bytes=max_bytes,
            on_closed=self._offer,
        )
        self._max_bytes = max_bytes
        self._left_over: list[Segment] = []
        self._loader: Loader | None = None

    def open(self) -> None:
        """Take the journal's folder and find what a crash left; raises JournalError."""
        self._left_over = self.journal.start()

    def load_into(self, insert: Insert) -> None:
        """Begin to load, what was left first."""
        self._loader = Loader(insert, self.journal)
        for segment in self._left_over:
            self._loader.offer(segment)
        self._loader.start()

    def stop_taking(self) -> None:
        """Sync and close the journal: what is acknowledged is in the loader's hands, or on the disk."""
        self.journal.close()

    def close(self, timeout_s: float) -> bool:
        """Load what can be loaded in time; False where an insert is still running."""
        return self._loader.close(timeout_s) if self._loader else True

    @property
    def failure(self) -> str:
        """Why only a restart helps; empty while it does not take one."""
        return self.journal.failure or ("" if self._loader and self._loader.is_alive else "the loader has ended")

    @property
    def is_degraded(self) -> bool:
        """Whether loading fails at present."""
        return bool(self._loader and self._loader.state.last_error)

    def health(self) -> dict[str, object]:
        """Describe the journal and the loading, for `/healthz`."""
        return {
            "journal": {"bytes": self.journal.stored_bytes, "max_bytes": self._max_bytes},
            "loading": asdict(self._loader.state) if self._loader else {},
        }

    def _offer(self, segment: Segment) -> None:
        if self._loader:
            self._loader.offer(segment)
