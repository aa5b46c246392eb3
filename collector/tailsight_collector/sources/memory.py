"""What must be known of earlier requests: producers and consumers, events of children, and who sends phases as spans.

It is bounded, lives as long as the collector, and is only ever a help: a request is stored whatever it holds. Used by
several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

PRODUCERS = 50_000
CONSUMERS = 10_000
"""Of as many producers that have not come the consumers are remembered."""
A_PRODUCERS_CONSUMERS = 20
RESOURCE_BYTES = 4_096
"""A consumer whose resource is larger is not remembered: it has to come after its producer."""
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
        self.change(key, lambda _: value)

    def change(self, key: K, made: Callable[[V | None], V]) -> None:
        """Remember as the newest what is made of what was remembered."""
        with self._lock:
            self._entries[key] = made(self._entries.get(key))
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


@dataclass(frozen=True, slots=True)
class Consumer:
    """A span that waited for a producer's. `resource`: its own, encoded; `stage` and `source` are its rule's."""

    trace_id: bytes
    span_id: bytes
    start_ns: int
    host: str
    resource: bytes
    stage: str
    source: str


Ids = tuple[bytes, bytes]
"""A trace id and a span id."""


class Memory:
    """What one collector, or one import, remembers."""

    def __init__(self) -> None:
        self.producers: Recent[Ids, Producer] = Recent(PRODUCERS)
        self._consumers: Recent[Ids, tuple[Consumer, ...]] = Recent(CONSUMERS)
        self._events_below: Recent[Ids, Mapping[str, int]] = Recent(TRACES)
        self._phases_in: Recent[tuple[bytes, str], bool] = Recent(TRACES)
        self._phases_from: Recent[tuple[bytes, str], int] = Recent(SENDERS)

    def wait(self, producer: Ids, consumer: Consumer) -> None:
        """Note that a consumer is here, and what produced it not yet: its exporter may send later."""
        if len(consumer.resource) > RESOURCE_BYTES:
            return

        def added(known: tuple[Consumer, ...] | None) -> tuple[Consumer, ...]:
            others = (each for each in known or () if each.span_id != consumer.span_id)
            return (*others, consumer)[-A_PRODUCERS_CONSUMERS:]

        self._consumers.change(producer, added)

    def consumers(self, producer: Ids) -> tuple[Consumer, ...]:
        """Return who has waited for a producer's span in earlier requests."""
        return self._consumers.get(producer) or ()

    def events_come(self, parent: Ids, events: Mapping[str, int]) -> None:
        """Note when events of a span's child were; of several children the earliest counts, whichever comes first."""
        self._events_below.change(parent, lambda known: earliest(known or {}, events))

    def events_below(self, span: Ids) -> Mapping[str, int]:
        """Return when events of a span's children were, as far as they have come."""
        return self._events_below.get(span) or {}

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


def earliest(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    """Return of each event in either the earlier time."""
    return {**one, **{name: min(time_ns, one.get(name, time_ns)) for name, time_ns in other.items()}}
