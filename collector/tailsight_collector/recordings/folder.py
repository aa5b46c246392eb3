"""The folder in which recordings wait until the spans that they belong to are in the store. Small, and bounded.

A file a recording, as it was sent. Of one that is done an empty mark stays for a while: whoever sends it again, because
the answer got lost, has it joined once.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from tailsight_collector.errors import BusyError
from tailsight_collector.keep.synced import make_folder, write_synced
from tailsight_collector.recordings.sent import read_sent

MAX_WAITING = 64
MAX_WAITING_BYTES = 256 * 1024 * 1024
MAX_MARKS = 1_000
_KEPT, _DONE = ".json", ".done"
_HALF_WRITTEN = ".tmp"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A recording that waits. `since_s`: Unix time of its arrival."""

    id: str
    path: Path
    since_s: float
    size_bytes: int


class RecordingFolder:
    """Keeps recordings. One thread keeps, another one is done with them."""

    def __init__(self, folder: Path) -> None:
        """Make the folder, and clear what a crash left half written. Raises OSError."""
        self._folder = folder
        make_folder(folder)
        for half in folder.glob(f"*{_HALF_WRITTEN}"):
            half.unlink(missing_ok=True)

    def keep(self, data: bytes) -> tuple[str, bool]:
        """Check a recording and write it; returns its id, and whether it is new. Raises BadRequestError, BusyError."""
        sent = read_sent(data)
        path = self._folder / f"{sent.id}{_KEPT}"
        if path.exists() or path.with_suffix(_DONE).exists():
            return sent.id, False
        waiting = self.waiting()
        if len(waiting) >= MAX_WAITING or sum(each.size_bytes for each in waiting) + len(data) > MAX_WAITING_BYTES:
            raise BusyError(f"{len(waiting)} recordings wait for their spans already")
        try:
            write_synced(path, data)
        except OSError as error:
            raise BusyError(f"the recording cannot be written: {error}") from None
        return sent.id, True

    def waiting(self) -> list[Waiting]:
        """List what waits, the oldest first."""
        found = []
        for path in self._folder.glob(f"*{_KEPT}"):
            with contextlib.suppress(OSError):
                said = path.stat()
                found.append(Waiting(path.stem, path, said.st_mtime, said.st_size))
        return sorted(found, key=lambda each: (each.since_s, each.id))

    def done(self, waiting: Waiting) -> None:
        """Let go of a recording: a mark stays."""
        with contextlib.suppress(OSError):
            waiting.path.with_suffix(_DONE).touch()
            waiting.path.unlink(missing_ok=True)
            marks = sorted(self._folder.glob(f"*{_DONE}"), key=lambda path: path.stat().st_mtime)
            for old in marks[:-MAX_MARKS]:
                old.unlink(missing_ok=True)
