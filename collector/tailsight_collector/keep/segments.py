"""A segment of the journal as a file: open while it is written, closed for ever after, and what a crash left of it."""

from __future__ import annotations

import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tailsight_collector.keep.records import pieces
from tailsight_collector.keep.synced import sync_folder

log = logging.getLogger(__name__)

OPEN_SUFFIX = ".open"
CLOSED_SUFFIX = ".otlp"
PARTS_SUFFIX = ".parts"


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed segment. `token` is its name without suffix: the database's deduplication token.

    `born_s` is when its first record came, by the monotonic clock.
    """

    path: Path
    size_bytes: int = 0
    born_s: float = field(default_factory=time.monotonic)

    @property
    def token(self) -> str:
        """Unique among all segments of all collectors: a time and random bits."""
        return self.path.stem

    @property
    def parts_mark(self) -> Path:
        """The file that says: this segment is loaded in parts, whose tokens are not the whole's."""
        return self.path.with_suffix(PARTS_SUFFIX)


class OpenSegment:
    """The file that is being written. `size` counts synced bytes only."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size = 0
        self.born_s = time.monotonic()
        self._fd = fd

    @classmethod
    def create(cls, folder: Path) -> OpenSegment:
        """Make a new file; its name is a time and random bits. Raises OSError."""
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
        """How long until it is that old."""
        return self.born_s + age_s - time.monotonic()

    def append(self, data: bytes) -> int:
        """Write and sync; returns the number of bytes. Raises OSError."""
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
        closed = self.path.with_suffix(CLOSED_SUFFIX)
        if not self.size:
            self.path.unlink(missing_ok=True)
        elif self.path.exists():  # or else only the folder was not synced, the time before
            self.path.rename(closed)
        sync_folder(self.path.parent)
        return Segment(closed, self.size, self.born_s) if self.size else None


def recover(path: Path) -> None:
    """Keep the whole records of a segment that a crash left open; the torn one behind them was never acknowledged.

    Whole records behind a damaged place are kept with it: the loader puts the damaged bytes aside.
    """
    data = path.read_bytes()
    end = max((piece.end for piece in pieces(data) if piece.is_whole), default=0)
    if end < len(data):
        log.warning("journal segment %s: cut off %d bytes of an unfinished write", path.name, len(data) - end)
    if not end:
        path.unlink()
        sync_folder(path.parent)
        return
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, end)
        os.fsync(fd)
    finally:
        os.close(fd)
    path.rename(path.with_suffix(CLOSED_SUFFIX))
    sync_folder(path.parent)


def left_over(path: Path) -> Segment:
    """Make a segment of a file of before; how old it is only the wall clock knows, which may have been set since."""
    status = path.stat()
    return Segment(path, status.st_size, time.monotonic() - max(0.0, time.time() - status.st_mtime))
