"""The memory between a service and its sidecar: a file with a few rings, mapped by both processes.

The service writes packed batches, the sidecar reads them. A push borrows a ring from a free list for the time that it
takes to copy the bytes, so each ring has one writer at any moment, whatever number of threads there are, and a
signal handler or a finalizer that records in the midst of a push simply borrows another one. There is no lock and no
system call. What a writer left is in the file: the sidecar reads it even if the service was killed.

Layout, in 64-bit words of this machine's byte order, then bytes:

    page 0      words: what the file is, counters of the service, counters of the sidecar, each ring's head and tail
    16 pages    JSON that describes the service (see describe())
    then        the rings, `ring_bytes` each

A ring is a byte queue. `head` and `tail` only grow; the position is their remainder by the ring's size. A record is a
word with its length, its bytes, and padding to a multiple of 8. Records do not wrap: SKIP says "go on at the start".
The head is published after the bytes. On processors that may show another core the two stores in another order (ARM),
the reader looks at the head one system call before it looks at the bytes, which is long enough for any store buffer.
"""

import contextlib
import fcntl
import json
import mmap
import os
import stat
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

MAGIC = 0x7461_696C_7369_6768  # "tailsigh"
FORMAT = 1

RING_SUFFIX = ".ring"
READER_SUFFIX = ".reader"
"""Beside each ring file lies one that its sidecar has locked. The ring file itself is locked by the service."""

PAGE = 4096
DESCRIPTION_BYTES = 16 * PAGE
RINGS = 8
MIN_RING_BYTES = 64 * 1024
EARLY_BYTES = MIN_RING_BYTES
"""So much of the first ring is reserved when the file is made, which takes no time; the rest comes in a thread."""
MAX_REASONS = 16  # words between two tables of counters
_WORD = 8
_SKIP = 2**64 - 1
_SKIP_BYTES = b"\xff" * _WORD
_FIRST_RING_WORD = 256
_LOST_AFTER_LOOKS = 3
_RETIRE_S = 1.0
_WORDS_PER_RING = 16  # head and tail on cache lines of their own


class Word(IntEnum):
    """What the words of the first page mean. Each has one writer."""

    MAGIC = 0
    FORMAT = 1
    PYTHON = 2  # marshal's format differs between Python versions
    ZERO = 3  # stays 0
    RING_BYTES = 4
    # Written by the service.
    FLUSH_WANTED = 8  # counts calls of flush()
    CLOSING = 9  # monotonic ns by which everything must be over, once the service ends
    DROPPED = 16  # by reason, in DropReason's order
    KEPT = 32  # requests, by sampling reason
    SAMPLED_OUT = 48
    # Written by the sidecar.
    FLUSH_DONE = 65
    SENT = 66
    POSTS = 67
    RETRIES = 68
    FAILURES = 69
    INTERNAL_ERRORS = 70
    SPOOLED_BYTES = 71
    MESSAGES = 73  # lines that it has for the service's log
    SIDECAR_PID = 74
    DROPPED_THERE = 80
    # The sender, as of the last commit: whoever reads these rings next goes on with its numbers and counts.
    SENDER_ID = 100  # 0: there has been none
    NUMBER = 101
    TAKEN_IN = 102
    ENCODED = 103


class _Half:
    """One ring, from one side."""

    __slots__ = ("base", "head", "head_word", "mask", "size", "tail", "tail_word")

    def __init__(self, number: int, size: int) -> None:
        self.base = PAGE + DESCRIPTION_BYTES + number * size
        self.size = size
        self.mask = size - 1
        self.head_word = _FIRST_RING_WORD + number * _WORDS_PER_RING
        self.tail_word = self.head_word + _WORDS_PER_RING // 2
        self.head = self.tail = 0


class RingFile:
    """The mapped file. Made by the service with create(), opened by the sidecar with attach()."""

    def __init__(self, path: Path, fd: int) -> None:
        """Map an open file. Both of its descriptors, this one and the mapping's own, are closed by close()."""
        self.path = path
        self.memory = mmap.mmap(fd, 0)
        self.words = memoryview(self.memory)[:PAGE].cast("Q")
        self.fd = fd  # from here on its own

    @classmethod
    def create(cls, path: Path, buffer_bytes: int, *, python: int, early: bool = False) -> "RingFile":
        """Make the file and reserve its memory: a mapped page that cannot be had later would kill the process.

        If `early`, only what an early RingWriter needs, and reserve() the rest. Raises OSError where that is not
        possible.
        """
        size = ring_bytes(buffer_bytes)
        whole = PAGE + DESCRIPTION_BYTES + RINGS * size
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if early:
                os.ftruncate(fd, whole)
            os.posix_fallocate(fd, 0, PAGE + DESCRIPTION_BYTES + EARLY_BYTES if early else whole)
            file = cls(path, fd)
        except BaseException:
            os.close(fd)
            path.unlink(missing_ok=True)
            raise
        words = file.words
        words[Word.FORMAT], words[Word.PYTHON] = FORMAT, python
        words[Word.RING_BYTES] = size
        words[Word.MAGIC] = MAGIC
        return file

    @classmethod
    def attach(cls, path: Path) -> "RingFile":
        """Open an existing file. Raises OSError or ValueError: no such file, or not one of ours."""
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid():
                raise ValueError(f"{path} is not a file of this user's")
            if found.st_size < PAGE + DESCRIPTION_BYTES:
                raise ValueError(f"{path} is too short for a ring file")
            file = cls(path, fd)
        except BaseException:
            os.close(fd)
            raise
        words = file.words
        whole = PAGE + DESCRIPTION_BYTES + RINGS * words[Word.RING_BYTES]
        if words[Word.MAGIC] != MAGIC or words[Word.FORMAT] != FORMAT or len(file.memory) != whole:
            file.close()
            raise ValueError(f"{path} is not a ring file of this version")
        return file

    def reserve(self) -> None:
        """Reserve what an early file does not have yet. Raises OSError where that is not possible."""
        begin = PAGE + DESCRIPTION_BYTES + EARLY_BYTES
        if len(self.memory) > begin:
            os.posix_fallocate(self.fd, begin, len(self.memory) - begin)

    def describe(self, description: Mapping[str, Any]) -> None:
        """Leave word about the service, for whoever reads the rings when both it and its sidecar are gone."""
        content = json.dumps(description).encode()
        if len(content) >= DESCRIPTION_BYTES:
            content = b"{}"
        self.memory[PAGE : PAGE + len(content) + 1] = content + b"\0"

    def description(self) -> dict[str, Any]:
        """Return what describe() left, {} if nothing."""
        content = self.memory[PAGE : PAGE + DESCRIPTION_BYTES].partition(b"\0")[0]
        try:
            found = json.loads(content) if content else {}
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Let go of the memory, and of a lock if nobody else has this open file. The file stays."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
        self.words.release()
        self.memory.close()

    def __del__(self) -> None:
        """Close the descriptor of a file that somebody still used when it was given up."""
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def halves(self) -> list[_Half]:
        """Return a view of each ring, from where it stands."""
        size = self.words[Word.RING_BYTES]
        halves = [_Half(number, size) for number in range(RINGS)]
        for half in halves:
            half.head, half.tail = self.words[half.head_word], self.words[half.tail_word]
        return halves


def ring_bytes(buffer_bytes: int) -> int:
    """Return the size of each ring: the largest power of two with which all of them fit into `buffer_bytes`."""
    share = max(buffer_bytes // RINGS, MIN_RING_BYTES)
    return int(1 << (share.bit_length() - 1))


def _early_half() -> _Half:
    """Return the first ring's beginning as a ring: its room never comes back, so it does not wrap."""
    half = _Half(0, EARLY_BYTES)
    half.tail_word = Word.ZERO
    return half


class RingWriter:
    """The service's side. Any thread may push, also in the midst of another push."""

    __slots__ = ("_all", "_file", "_free", "_memory", "_missed", "_words")

    def __init__(self, file: RingFile, *, early: bool = False, beside: bool = False) -> None:
        """Write into all rings; or `early`: into what a file has before reserve(); or `beside` such a one."""
        self._file = file
        self._memory = file.memory
        self._words = file.words
        self._all = [_early_half()] if early else file.halves()[1 if beside else 0 :]
        self._free: deque[_Half] = deque(self._all)
        self._missed: dict[_Half, int] = {}

    def retire(self) -> bool:
        """Have an early one take no more: push() returns 0. False if a signal handler cut a push of it short."""
        until = time.monotonic() + _RETIRE_S
        while time.monotonic() < until:
            with contextlib.suppress(IndexError):
                self._free.pop()
                return True
            time.sleep(0)  # somebody is in the midst of a push
        return False

    def succeed(self, early: "RingWriter") -> None:
        """Write into the first ring too, where the early one leaves off."""
        if early.retire():
            first = self._file.halves()[0]
            self._all.append(first)
            self._free.appendleft(first)

    def push(self, packed: bytes) -> int:
        """Append a record. Return how many bytes wait in the ring it went to, or 0 if there was no room in any."""
        free = self._free
        full: list[_Half] = []
        waiting = 0
        try:
            while not waiting:
                ring = free.pop()
                full.append(ring)
                waiting = self._write(ring, packed)
        except IndexError:  # all are full, or borrowed
            pass
        finally:
            free.extend(reversed(full))  # the last one is where the next push looks first
        return waiting

    def look_after(self) -> None:
        """Put back rings that were lost. Called now and then, at least a second apart.

        A signal handler of the host that raises can cut a push short between taking a ring and putting it back. A push
        takes microseconds: a ring that is missing again and again is in nobody's hands.
        """
        free = set(self._free)
        missed: dict[_Half, int] = {}
        for ring in self._all:
            if ring not in free:
                missed[ring] = self._missed.get(ring, 0) + 1
                if missed[ring] > _LOST_AFTER_LOOKS:
                    del missed[ring]
                    self._free.appendleft(ring)
        self._missed = missed

    def _write(self, ring: _Half, packed: bytes) -> int:
        needed = (len(packed) + 2 * _WORD - 1) & -_WORD
        head = ring.head
        at = head & ring.mask
        skipped = ring.size - at if at + needed > ring.size else 0
        if head + skipped + needed - ring.tail > ring.size:
            ring.tail = self._words[ring.tail_word]
            if head + skipped + needed - ring.tail > ring.size:
                return 0
        memory = self._memory
        if skipped:
            start = ring.base + at
            memory[start : start + _WORD] = _SKIP_BYTES
            head += skipped
            at = 0
        start = ring.base + at
        memory[start : start + _WORD + len(packed)] = len(packed).to_bytes(_WORD, sys.byteorder) + packed
        ring.head = head = head + needed
        self._words[ring.head_word] = head
        return head - ring.tail

    def waiting_bytes(self) -> int:
        """Return how much the sidecar has not dealt with yet."""
        words = self._words
        return sum(words[ring.head_word] - words[ring.tail_word] for ring in self._file.halves())


class RingReader:
    """The sidecar's side. take() goes on; commit() gives the room back, so that a crash in between loses nothing."""

    def __init__(self, file: RingFile) -> None:
        self._memory = file.memory
        self._words = file.words
        self._rings = file.halves()
        self.damaged = 0
        """Rings that held what no writer of ours writes; what was in them is skipped."""

    def look(self) -> None:
        """See what there is. take() returns what was there at this moment."""
        for ring in self._rings:
            ring.head = self._words[ring.head_word]

    def take(self) -> Iterator[bytes]:
        """Return the records that look() saw, and remember how far that was."""
        for ring in self._rings:
            while ring.tail < ring.head:
                record = self._next(ring)
                if record is not None:
                    yield record

    def _next(self, ring: _Half) -> bytes | None:
        at = ring.tail & ring.mask
        start = ring.base + at
        size = int.from_bytes(self._memory[start : start + _WORD], sys.byteorder)
        if size == _SKIP:
            ring.tail += ring.size - at
            return None
        needed = (size + 2 * _WORD - 1) & -_WORD
        if at + needed > ring.size or ring.tail + needed > ring.head:
            self.damaged += 1
            ring.tail = ring.head
            return None
        ring.tail += needed
        return self._memory[start + _WORD : start + _WORD + size]

    def commit(self) -> None:
        """Give back the room of what was taken."""
        for ring in self._rings:
            self._words[ring.tail_word] = ring.tail

    def waiting_bytes(self) -> int:
        """Return how much there is that was not taken."""
        return sum(self._words[ring.head_word] - ring.tail for ring in self._rings)


class reader_lock:  # noqa: N801  used like a function
    """Hold the lock that says who reads a ring, if there is such a file. Raises OSError where somebody holds it."""

    def __init__(self, ring: Path) -> None:
        self._path = ring.with_suffix(READER_SUFFIX)
        self._fd = -1

    def __enter__(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # there never was a sidecar
            self._fd = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        if self._fd >= 0:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._fd)
                raise

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
