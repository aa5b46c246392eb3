"""The batches that wait while the collector is away: on disk, bounded, and found again after a restart.

Each sender has a folder of its own below the spool, with a file for each batch, whose name says what is needed to
decide about it: number, spans, priority. A lock tells a living sender's folder from one that was left behind. Whoever
starts next, and sends to the same endpoint, sends what was left as well. Without a disk that can be written, batches
wait in memory instead, in less of it.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ._batches import NORMAL
from ._folders import make_private
from ._guard import warn_once

_NAME = re.compile(r"(\d{12})-(\d{1,12})-(high|normal)\.otlp")
_LOCK = "lock"
_ENDPOINT = "endpoint"
_MAX_ENDPOINT_BYTES = 8192


class Waiting(NamedTuple):
    """A batch in the spool."""

    folder: Path
    number: int
    spans: int
    priority: str
    size: int
    own: bool  # False: another sender left it behind
    body: bytes | None = None  # None: it is on disk

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / f"{self.number:012d}-{self.spans}-{self.priority}.otlp"


class Spool:
    """A sender's folder, and those that it took over. Used by one thread."""

    def __init__(
        self,
        root: Path,
        sender_id: str,
        endpoint: str,
        *,
        limit_bytes: int,
        memory_bytes: int,
        lowest_value_first: bool,
    ) -> None:
        """Nothing is written before the first put(). With a `limit_bytes` of 0 nothing is written at all."""
        self._root = root
        self._folder = root / sender_id
        self._endpoint = endpoint
        self._on_disk = limit_bytes > 0
        self._limit_bytes = limit_bytes or memory_bytes
        self._memory_bytes = memory_bytes
        self._lowest_value_first = lowest_value_first
        self._waiting: list[Waiting] = []  # the oldest first
        self._locks: dict[Path, int] = {}
        self.bytes = 0
        self.spans = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, number: int, priority: str, spans: int, body: bytes) -> list[Waiting]:
        """Keep a batch. Return the ones that had to make room, this one perhaps: they are no longer kept."""
        waiting = Waiting(self._folder, number, spans, priority, len(body), own=True)
        gone = self._make_room_for(waiting)
        if waiting in gone:
            return gone
        if self._on_disk:
            try:
                self._write(waiting, body)
            except OSError as error:
                self._on_disk = False
                self._limit_bytes = self._memory_bytes
                warn_once(
                    ("the spool", self._root),
                    "batches that wait for the collector cannot be kept on disk: %s. They wait in memory instead, at "
                    "most buffer_bytes, and are lost with the process. Set TAILSIGHT_SPOOL_DIR to a folder that can be "
                    "written",
                    error,
                )
        self._add(waiting if self._on_disk else waiting._replace(body=body))
        return gone

    def _write(self, waiting: Waiting, body: bytes) -> None:
        if self._folder not in self._locks:
            make_private(self._root)
            self._claim(self._folder)
        temporary = self._folder / "next"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(body)
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.replace(waiting.path)

    def oldest(self) -> tuple[Waiting, bytes] | None:
        """Return the batch to send next. One that cannot be read any more is forgotten."""
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.body is not None:
                return waiting, waiting.body
            try:
                return waiting, waiting.path.read_bytes()
            except OSError:
                self.remove(waiting)
        return None

    def remove(self, waiting: Waiting) -> None:
        """Forget a batch: it arrived, or nobody wants it."""
        if waiting.body is None:
            with contextlib.suppress(OSError):
                waiting.path.unlink()
        self._waiting.remove(waiting)
        self.bytes -= waiting.size
        self.spans -= waiting.spans
        if not waiting.own and not any(other.folder == waiting.folder for other in self._waiting):
            self._discard(waiting.folder)

    def take_over(self) -> int:
        """Take over what senders that are gone left for the same endpoint. Return how many batches."""
        found = 0
        if not self._on_disk:
            return 0
        for folder in self._left_behind():
            batches = sorted(self._batches_in(folder), key=lambda waiting: waiting.number)
            if not batches:
                self._discard(folder)
                continue
            found += len(batches)
            for waiting in batches:
                self._add(waiting)
        # What others left is older than anything of one's own.
        self._waiting.sort(key=lambda waiting: waiting.own)
        return found

    def close(self) -> int:
        """Let go of the folders: what waits there stays for the next sender. Return how many spans waited in memory."""
        lost = sum(waiting.spans for waiting in self._waiting if waiting.body is not None)
        for folder in list(self._locks):
            if any(waiting.folder == folder for waiting in self._waiting):
                os.close(self._locks.pop(folder))
            else:
                self._discard(folder)
        return lost

    def _add(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self.bytes += waiting.size
        self.spans += waiting.spans

    def _make_room_for(self, new: Waiting) -> list[Waiting]:
        gone: list[Waiting] = []
        while self.bytes + new.size > self._limit_bytes:
            victim = self._victim(new)
            gone.append(victim)
            if victim is new:
                break
            self.remove(victim)
        return gone

    def _victim(self, new: Waiting) -> Waiting:
        candidates = (*self._waiting, new)
        if self._lowest_value_first:
            return next((waiting for waiting in candidates if waiting.priority == NORMAL), candidates[0])
        return candidates[0]

    def _claim(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        if not self._lock(folder):
            raise BlockingIOError(f"{folder} is locked by another sender")
        (folder / _ENDPOINT).write_text(self._endpoint, encoding="utf-8")

    def _lock(self, folder: Path) -> bool:
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._locks[folder] = fd
        return True

    def _left_behind(self) -> Iterator[Path]:
        """Yield the folders of dead senders to the same endpoint, locked."""
        with contextlib.suppress(OSError):
            for folder in sorted(self._root.iterdir()):
                if folder in self._locks or folder.is_symlink() or not folder.is_dir():
                    continue
                try:
                    with (folder / _ENDPOINT).open("rb") as file:
                        endpoint = file.read(_MAX_ENDPOINT_BYTES).decode(errors="replace")
                    if endpoint == self._endpoint and self._lock(folder):
                        yield folder
                except OSError:  # gone in the meantime, or not ours
                    continue

    def _batches_in(self, folder: Path) -> Iterator[Waiting]:
        for path in folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match:
                yield Waiting(folder, int(match[1]), int(match[2]), match[3], path.stat().st_size, own=False)

    def _discard(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        fd = self._locks.pop(folder, None)
        if fd is not None:
            os.close(fd)
