"""The finished batches that wait to be sent: bounded, and never in the way of the thread that adds one."""

from collections import deque

from ._stats import Counters, DropReason


class Backlog:
    """A queue of packed batches with a bound on their bytes. Full means: the new batch is dropped and counted.

    Any thread adds; one thread at a time takes. There is no lock: the deque's operations are atomic, and the count of
    bytes is allowed to be off by a little until the queue is empty, when it is put right.
    """

    __slots__ = ("_batches", "_counters", "_limit", "bytes")

    def __init__(self, limit_bytes: int, counters: Counters) -> None:
        self._batches: deque[bytes] = deque()
        self._limit = limit_bytes
        self._counters = counters
        self.bytes = 0

    def add(self, packed: bytes, spans: int) -> bool:
        """Add a batch; return whether there was room."""
        size = len(packed)
        if self.bytes + size > self._limit:
            self._counters.drop(DropReason.BUFFER_FULL, spans)
            return False
        self.bytes += size
        self._batches.append(packed)
        return True

    def take(self) -> bytes | None:
        """Take the oldest batch, or None if there is none."""
        try:
            packed = self._batches.popleft()
        except IndexError:
            self.bytes = 0
            return None
        size = len(packed)
        self.bytes -= size
        return packed

    def __len__(self) -> int:
        return len(self._batches)
