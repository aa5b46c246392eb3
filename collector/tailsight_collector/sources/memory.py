"""What must be known of earlier requests: the ends of producers, and who sends the phases of its spans itself.

It is bounded, lives as long as the collector, and is only ever a help: a request is stored whatever it holds. Used by
several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

PRODUCERS = 50_000
TRACES = 50_000
SENDERS = 1_000
SENDER_NS = 600 * 10**9
"""So long somebody who has sent phases as spans is held to send them."""


class Recent(Generic[K, V]):
    """The last so many entries."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, key: K, value: V) -> None:
        """Remember an entry as the newest."""
        with self._lock:
            self._entries[key] = value
            self._entries.move_to_end(key)
            if len(self._entries) > self._limit:
                self._entries.popitem(last=False)

    def get(self, key: K) -> V | None:
        """Return what is remembered, or None."""
        with self._lock:
            return self._entries.get(key)


@dataclass(frozen=True, slots=True)
class Producer:
    """When a producer's span ended, and on which host: its clock is that host's."""

    end_ns: int
    host: str


class Memory:
    """What one collector, or one import, remembers."""

    def __init__(self) -> None:
        self.producers: Recent[tuple[bytes, bytes], Producer] = Recent(PRODUCERS)
        """By trace id and span id."""
        self._phases_in: Recent[tuple[bytes, str], bool] = Recent(TRACES)
        self._phases_from: Recent[tuple[bytes, str], int] = Recent(SENDERS)

    def phases_come(self, rule: str, trace_id: bytes, resource: bytes, received_ns: int) -> None:
        """Note that spans have come which stand for the phases of a rule, in this trace and from this resource."""
        self._phases_in.put((trace_id, rule), True)
        self._phases_from.put((resource, rule), received_ns)

    def has_phases(self, rule: str, trace_id: bytes, resource: bytes, received_ns: int) -> bool:
        """Whether the phases of a rule are there as spans, or will be: another process may send them a little later."""
        if self._phases_in.get((trace_id, rule)):
            return True
        last_ns = self._phases_from.get((resource, rule))
        return last_ns is not None and received_ns - last_ns < SENDER_NS
