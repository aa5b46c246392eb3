"""The batches that wait while the collector is away: on disk, bounded, and found again after a restart.

Each sender has a folder of its own below the spool, with a file for each batch, whose name says what is needed to
decide about it: number, spans, priority. A lock tells a living sender's folder from one that was left behind. Whoever
looks around next, and sends to the same endpoint with the same headers, takes over what was left: it sends it, and
until then it counts against the same limit. While the disk takes nothing, newer batches wait in memory, in less of it.

What lies in the spool is trusted only as far as it is this user's: plain files in folders that nobody else can write.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ._batches import NORMAL
from ._destination import destination_mark, same_destination
from ._folders import check_private, is_own_file, make_private, read_own
from ._guard import warn_once
from ._spool_files import ENDPOINT, MAX_BATCH_BYTES, Waiting, batches_in, is_older, since, write_file

DISK_AGAIN_S = 10.0
"""How long a disk that failed is left alone."""

EXPIRE_AFTER_S = 7 * 24 * 3600.0
"""What nobody claimed for so long, because nobody sends there any more, is removed."""

_LOCK = "lock"
_NEXT = "next"
_MAX_MARK_BYTES = 8192
_MAX_FOLDERS = 256  # held at once: each costs an open file
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOT_NOW = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})


class Spool:
    """A sender's folder, and those that it took over. Used by one thread. Nothing of it raises."""

    def __init__(
        self,
        root: Path,
        sender_id: str,
        endpoint: str,
        *,
        headers: Mapping[str, str] | None = None,
        limit_bytes: int,
        memory_bytes: int,
        lowest_value_first: bool,
        now: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is written before the first put(). With a `limit_bytes` of 0 nothing is written at all."""
        self._root = root
        self._folder = root / sender_id
        self._endpoint = endpoint
        self._headers = dict(headers or {})
        self._limit_bytes = limit_bytes
        self._memory_limit_bytes = memory_bytes
        self._lowest_value_first = lowest_value_first
        self._now = now
        self._unix_s = unix_s
        self._waiting: list[Waiting] = []  # the oldest first
        self._locks: dict[Path, int] = {}
        self._disk_again_at = 0.0
        self.disk_bytes = 0
        self.memory_bytes = 0
        self.bytes = 0
        """What waits, on disk and in memory."""
        self.spans = 0
        self.on_lost: Callable[[int], None] = lambda spans: None  # noqa: ARG005
        """Told how many spans cannot be read any more, or made room for others outside of put()."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, number: int, priority: str, spans: int, body: bytes) -> list[Waiting]:
        """Keep a batch. Return the ones that had to make room, this one perhaps: they are no longer kept."""
        new = Waiting(self._folder, number, spans, priority, len(body), own=True, body=body)
        if new.size > (self._limit_bytes or self._memory_limit_bytes):
            return [new]
        gone: list[Waiting] = []
        if self._limit_bytes and self._now() >= self._disk_again_at and self._to_disk([*self._in_memory(), new], gone):
            return gone
        victims = self._victims(self._in_memory(), new, self.memory_bytes, self._memory_limit_bytes)
        gone += victims
        for victim in victims:
            if victim is not new:
                self.remove(victim)
        if new not in victims:
            self._add(new)
        return gone

    def oldest(self) -> tuple[Waiting, bytes] | None:
        """Return the batch to send next. One that cannot be read any more is forgotten, and its spans are lost."""
        while self._waiting:
            waiting = self._waiting[0]
            if waiting.body is not None:
                return waiting, waiting.body
            try:
                body = read_own(waiting.path, at_most_bytes=MAX_BATCH_BYTES)
            except OSError as error:
                if error.errno in _NOT_NOW:
                    return None
                body = b""
            if body:
                return waiting, body
            self._lose(waiting)
        return None

    def remove(self, waiting: Waiting) -> None:
        """Forget a batch: it arrived, or nobody wants it."""
        self._waiting.remove(waiting)
        self._count(waiting, -1)
        if waiting.body is None:
            with contextlib.suppress(OSError):
                waiting.path.unlink()
        if not waiting.own and not any(other.folder == waiting.folder for other in self._waiting):
            self._discard(waiting.folder)

    def take_over(self) -> int:
        """Take over what senders that are gone left for the same destination. Return how many batches.

        Together with what is here already it must fit into the limit: the oldest of it goes first. What nobody claimed
        for a week is removed, wherever it was meant to go.
        """
        found = 0
        if not self._limit_bytes:
            return 0
        for folder in self._left_behind():
            if len(self._locks) >= _MAX_FOLDERS:
                break
            try:
                found += self._take_over_one(folder)
            except OSError:  # gone in the meantime, or not ours
                self._let_go(folder)
        self._make_room()
        return found

    def close(self) -> int:
        """Let go of the folders: what waits there stays for the next sender. Return how many spans waited in memory."""
        gone: list[Waiting] = []
        if self._limit_bytes and self.memory_bytes:
            self._to_disk(self._in_memory(), gone)
        lost = sum(waiting.spans for waiting in (*self._in_memory(), *gone))
        for folder in list(self._locks):
            if any(waiting.folder == folder and waiting.body is None for waiting in self._waiting):
                self._let_go(folder)
            else:
                self._discard(folder)
        return lost

    # --- what waits --------------------------------------------------------------------------------------------------

    def _in_memory(self) -> list[Waiting]:
        return [waiting for waiting in self._waiting if waiting.body is not None] if self.memory_bytes else []

    def _add(self, waiting: Waiting) -> None:
        self._waiting.append(waiting)
        self._count(waiting, 1)

    def _count(self, waiting: Waiting, sign: int) -> None:
        if waiting.body is None:
            self.disk_bytes += sign * waiting.size
        else:
            self.memory_bytes += sign * waiting.size
        self.bytes = self.disk_bytes + self.memory_bytes
        self.spans += sign * waiting.spans

    def _lose(self, waiting: Waiting) -> None:
        self.remove(waiting)
        self.on_lost(waiting.spans)

    def _make_room(self) -> None:
        """Drop the oldest of what was taken over until the limit is kept."""
        while self.disk_bytes > self._limit_bytes:
            adopted = (waiting for waiting in self._waiting if not waiting.own)
            victim = next(adopted, None)
            if victim is None:
                return
            self._lose(victim)

    def _victims(self, waiting: Iterable[Waiting], new: Waiting, used_bytes: int, limit_bytes: int) -> list[Waiting]:
        """Choose what makes room for `new`, which may be `new` itself."""
        candidates = [*waiting, new]
        victims: list[Waiting] = []
        if self._lowest_value_first:
            candidates.sort(key=lambda candidate: candidate.priority != NORMAL)  # stable: the oldest of them first
        over_bytes = used_bytes + new.size - limit_bytes
        for candidate in candidates:
            if over_bytes <= 0:
                break
            if candidate is new:  # without it there is room enough
                return [new]
            victims.append(candidate)
            over_bytes -= candidate.size
        return victims

    # --- the disk ----------------------------------------------------------------------------------------------------

    def _to_disk(self, batches: list[Waiting], gone: list[Waiting]) -> bool:
        """Write batches from memory, in order, and add what had to make room to `gone`. Return whether that worked."""
        try:
            for batch in batches:
                self._store(batch, gone)
        except OSError as error:
            self._disk_again_at = self._now() + DISK_AGAIN_S
            warn_once(
                ("the spool", self._root),
                "batches that wait for the collector cannot be kept on disk: %s. They wait in memory instead, at "
                "most buffer_bytes, until the disk takes them, and are lost with the process. Set TAILSIGHT_SPOOL_DIR "
                "to a folder that can be written",
                error,
            )
            return False
        return True

    def _store(self, batch: Waiting, gone: list[Waiting]) -> None:
        """Write one batch. Where the limit is reached, others make room once it is certain that the disk takes it."""
        known = any(waiting is batch for waiting in self._in_memory())
        victims: list[Waiting] = []
        if self.disk_bytes + batch.size > self._limit_bytes:
            on_disk = [waiting for waiting in self._waiting if waiting.body is None]
            victims = self._victims(on_disk, batch, self.disk_bytes, self._limit_bytes)
        if batch not in victims:
            try:
                self._write(batch)
            except OSError as error:
                if not victims or error.errno not in _NO_ROOM:
                    raise
                # The disk is full of the very batches that have to go.
                self._remove_all(victims, gone)
                victims = []
                self._write(batch)
        self._remove_all([victim for victim in victims if victim is not batch], gone)
        if batch in victims:
            gone.append(batch)
            if known:
                self.remove(batch)
        elif known:
            self._count(batch, -1)
            stored = self._waiting[self._waiting.index(batch)] = batch._replace(body=None)
            self._count(stored, 1)
        else:
            self._add(batch._replace(body=None))

    def _remove_all(self, victims: list[Waiting], gone: list[Waiting]) -> None:
        for victim in victims:
            self.remove(victim)
            gone.append(victim)

    def _write(self, batch: Waiting) -> None:
        if self._folder not in self._locks:
            make_private(self._root)
            self._claim()
        assert batch.body is not None  # noqa: S101  from memory
        temporary = self._folder / _NEXT
        try:
            write_file(temporary, batch.body, durable=True)
            temporary.replace(batch.path)
        except OSError:
            with contextlib.suppress(OSError):  # a part of it only takes room
                temporary.unlink()
            raise

    def _claim(self) -> None:
        """Make the folder, and say whose it is and where its batches go."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        check_private(self._folder)
        if not self._lock(self._folder):
            raise BlockingIOError(f"{self._folder} is locked by another sender")
        try:
            mark = destination_mark(self._endpoint, self._headers)
            write_file(self._folder / ENDPOINT, mark.encode(errors="surrogateescape"))
        except (OSError, ValueError) as error:
            self._discard(self._folder)
            raise error if isinstance(error, OSError) else OSError(str(error)) from error

    def _lock(self, folder: Path) -> bool:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        path = folder / _LOCK
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
            # Its owner may have removed it, with the folder, between the two lines above.
            ours = is_own_file(found) and os.path.samestat(found, path.stat(follow_symlinks=False))
        except OSError:
            ours = False
        if not ours:
            os.close(fd)
            return False
        self._locks[folder] = fd
        return True

    def _left_behind(self) -> list[Path]:
        """Return the folders that this sender does not hold, the oldest first."""
        found: list[tuple[float, Path]] = []
        with contextlib.suppress(OSError):
            check_private(self._root)
            for folder in self._root.iterdir():
                if folder != self._folder and folder not in self._locks:
                    with contextlib.suppress(OSError):
                        check_private(folder)
                        found.append((since(folder), folder))
        return [folder for _, folder in sorted(found)]

    def _take_over_one(self, folder: Path) -> int:
        """Return how many batches of a folder wait here now."""
        if not self._is_ours(folder):
            if is_older(folder, self._unix_s() - EXPIRE_AFTER_S) and self._lock(folder):
                self._discard(folder)
                warn_once(
                    ("expired", self._root),
                    "batches in %s that nobody sent for %d days are removed: no service here has their endpoint and "
                    "headers any more",
                    self._root,
                    EXPIRE_AFTER_S // 86_400,
                )
            return 0
        if not self._lock(folder):
            return 0
        batches = sorted(batches_in(folder), key=lambda waiting: waiting.number)
        if not batches:
            self._discard(folder)
            return 0
        # What others left is older than anything of one's own.
        at = sum(1 for waiting in self._waiting if not waiting.own)
        self._waiting[at:at] = batches
        for waiting in batches:
            self._count(waiting, 1)
        self._make_room()
        return len(batches)

    def _is_ours(self, folder: Path) -> bool:
        try:
            mark = read_own(folder / ENDPOINT, at_most_bytes=_MAX_MARK_BYTES).decode(errors="replace")
        except OSError:
            return False
        return same_destination(mark, self._endpoint, self._headers)

    def _discard(self, folder: Path) -> None:
        """Remove a folder that is locked, the lock last: until then nobody else takes it."""
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir(), key=lambda path: path.name == _LOCK):
                with contextlib.suppress(OSError):
                    path.unlink()
            folder.rmdir()
        self._let_go(folder)

    def _let_go(self, folder: Path) -> None:
        fd = self._locks.pop(folder, None)
        if fd is not None:
            os.close(fd)
