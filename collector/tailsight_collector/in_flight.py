"""How much of one port's unanswered requests may lie in memory, for a receiver that cannot see a request grow.

Most requests arrive in milliseconds, and need no more than a limit on their number and on the bytes that are whole. One
that takes longer needs one of a few places: each of them may be holding nearly a request of the largest size. So slow
clients, however many, take neither the memory nor the places of the quick ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tailsight_collector.errors import BusyError

MAX_REQUESTS = 1_000
# Whole requests, packed and unpacked, that are being checked or wait for the disk.
MAX_WHOLE_BYTES = 256 * 1024 * 1024
# Requests that arrive slowly: so many of the largest size.
MAX_SLOW_BYTES = 512 * 1024 * 1024


class InFlight:
    """Counts what is unanswered; all of its methods raise BusyError where there is no more room. For one event loop."""

    def __init__(self, max_request_bytes: int) -> None:
        self.requests = 0
        self.whole_bytes = 0
        self.slow = 0
        self.max_slow = max(1, MAX_SLOW_BYTES // max_request_bytes)

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
            raise BusyError(f"requests of {self.whole_bytes} bytes are not answered yet")

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

    def arrive(self) -> None:
        """Take a place: from here on the request is ours to answer."""
        if self._in_flight.requests >= MAX_REQUESTS:
            raise BusyError(f"{self._in_flight.requests} requests are not answered yet")
        self.places = 1
        self._in_flight.requests += 1

    def add(self, size_bytes: int) -> None:
        """Hold more, where there is room or nobody else holds anything."""
        others_bytes = self._in_flight.whole_bytes - self.held_bytes
        if others_bytes and self._in_flight.whole_bytes + size_bytes > MAX_WHOLE_BYTES:
            raise BusyError(f"requests of {self._in_flight.whole_bytes} bytes are not answered yet")
        self.held_bytes += size_bytes
        self._in_flight.whole_bytes += size_bytes
