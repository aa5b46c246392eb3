"""How much of one port's unanswered requests may lie in memory, for a receiver that cannot see a request grow.

Most requests arrive in milliseconds, and need no more than a limit on their number and on the bytes that are whole. One
that takes longer needs one of a few places: each of them may be holding nearly a request of the largest size. So slow
clients, however many, take neither the memory nor the places of the quick ones. A receiver that sees its requests grow
needs no such places: where room is short, those that take longest make room for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from tailsight_collector.errors import BusyError

MAX_REQUESTS = 1_000
# Whole requests, packed and unpacked, that are being checked or wait for the disk.
MAX_WHOLE_BYTES = 256 * 1024 * 1024
# Requests that arrive slowly: so many of the largest size.
MAX_SLOW_BYTES = 512 * 1024 * 1024
# How long a request that is seen to grow may take before it makes room for others.
PATIENCE_S = 2.0


class InFlight:
    """Counts what is unanswered; all of its methods raise BusyError where there is no more room. For one event loop."""

    def __init__(self, max_request_bytes: int) -> None:
        self.requests = 0
        self.whole_bytes = 0
        self.slow = 0
        self.max_slow = max(1, MAX_SLOW_BYTES // max_request_bytes)
        self._arriving: dict[Held, float] = {}  # when each began, the longest first

    @contextmanager
    def request(self, *, is_there: bool = True) -> Iterator[Held]:
        """Let a request in, until it is answered; what is not there yet takes a place when it is (`Held.arrive`)."""
        held = Held(self)
        if is_there:
            held.arrive()
        try:
            yield held
        finally:
            self.requests -= held.places
            self.whole_bytes -= held.held_bytes

    def check_room(self, size_bytes: int) -> None:
        """Say whether there is room for a request of such a size, before anything of it has come."""
        if self.whole_bytes and self.whole_bytes + size_bytes > MAX_WHOLE_BYTES:
            others_bytes = self.whole_bytes - sum(held.held_bytes for held in self._slow())
            if others_bytes and others_bytes + size_bytes > MAX_WHOLE_BYTES:
                raise BusyError(f"requests of {others_bytes} bytes are not answered yet")

    def _slow(self) -> list[Held]:
        """List what has been arriving for long, the longest first."""
        latest_s = asyncio.get_running_loop().time() - PATIENCE_S
        return [held for held, began_s in self._arriving.items() if began_s < latest_s]

    def _make_room(self, wanted_bytes: int, but: Held) -> None:
        for held in self._slow():
            if self.whole_bytes + wanted_bytes <= MAX_WHOLE_BYTES:
                return
            if held is not but and held.held_bytes:
                held.make_room()

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """Let a request take its time to arrive."""
        if self.slow >= self.max_slow:
            raise BusyError(f"{self.slow} requests arrive slowly already")
        self.slow += 1
        try:
            yield
        finally:
            self.slow -= 1


class Held:
    """The bytes that one request holds."""

    def __init__(self, in_flight: InFlight) -> None:
        self.held_bytes = 0
        self.places = 0
        self._in_flight = in_flight
        self._patience: asyncio.Timeout | None = None
        self._made_room = False

    @asynccontextmanager
    async def arriving(self) -> AsyncIterator[None]:
        """Read the request inside; it ends with a BusyError where it takes long and others need the room."""
        self._in_flight._arriving[self] = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(None) as self._patience:
                yield
        except TimeoutError:
            if not self._made_room:
                raise
        finally:
            self._in_flight._arriving.pop(self, None)
        if self._made_room:
            raise BusyError("this one arrived slowly, and made room for others")

    def make_room(self) -> None:
        """Give up while it arrives."""
        self._in_flight._arriving.pop(self, None)
        self._in_flight.whole_bytes -= self.held_bytes
        self.held_bytes = 0
        self._made_room = True
        if self._patience is not None:
            self._patience.reschedule(asyncio.get_running_loop().time())

    def arrive(self) -> None:
        """Take a place: from here on the request is ours to answer."""
        if self._in_flight.requests >= MAX_REQUESTS:
            raise BusyError(f"{self._in_flight.requests} requests are not answered yet")
        self.places = 1
        self._in_flight.requests += 1

    def add(self, size_bytes: int) -> None:
        """Hold more, where there is room or nobody else holds anything."""
        if self._made_room:
            return
        if self._in_flight.whole_bytes + size_bytes > MAX_WHOLE_BYTES:
            self._in_flight._make_room(size_bytes, self)
        others_bytes = self._in_flight.whole_bytes - self.held_bytes
        if others_bytes and self._in_flight.whole_bytes + size_bytes > MAX_WHOLE_BYTES:
            raise BusyError(f"requests of {self._in_flight.whole_bytes} bytes are not answered yet")
        self.held_bytes += size_bytes
        self._in_flight.whole_bytes += size_bytes
