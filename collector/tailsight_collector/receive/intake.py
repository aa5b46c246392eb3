"""One signal's way from a request's bytes into its journal, whatever protocol brought them.

What is written down is a message that every reader reads alike: as it came, where it is written as every encoder writes
it, or else encoded again as it was understood. Duplicated fields and odd wire types would be read by the database in
another way than by the check, and the client must be told what really happens.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.repeats import Repeats
from tailsight_collector.receive.signals import Signal
from tailsight_collector.watch.durations import ACKNOWLEDGEMENT_BOUNDS_S, Durations

T = TypeVar("T")

# Above this, decoding would hold up everybody else on the event loop.
INLINE_BYTES = 256 * 1024


@dataclass(slots=True)
class Counts:
    """What came in of one signal since the start: spans of traces, data points of metrics.

    `refused_requests` counts by HTTP status; what came by gRPC counts under the status that stands for its code.
    `answers` counts by protocol and status, and `received_bytes` by protocol.
    """

    requests: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refused_requests: Counter[int] = field(default_factory=Counter)
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    received_bytes: Counter[str] = field(default_factory=Counter)
    acknowledgements: Durations = field(default_factory=lambda: Durations(ACKNOWLEDGEMENT_BOUNDS_S))

    def answer(self, protocol: str, status: int, size_bytes: int, took_s: float) -> None:
        """Count a request that was answered: how large it was on the wire, and how long that took, if it was taken."""
        self.answers[protocol, status] += 1
        self.received_bytes[protocol] += size_bytes
        if status == 200:
            self.acknowledgements.observe(took_s)


class Log(Protocol):
    """Where records are written down: a journal, or a file that somebody records into."""

    def append(self, record: bytes) -> Future[None]:
        """Write a record down; the future resolves once it is, or fails with OSError or JournalError."""


class Intake:
    """Takes requests of one signal: decoded and checked, in the journal, synced; then they may be acknowledged."""

    def __init__(self, signal: Signal, journal: Log, threads: Executor, *, max_request_bytes: int) -> None:
        self.signal = signal
        self.counts = Counts()
        self.repeats = Repeats()
        self.max_request_bytes = max_request_bytes
        self._journal = journal
        self._threads = threads

    async def take(self, body: bytes, encoding: str) -> bytes:
        """Take a request's unpacked body and return the answer's, in the same encoding.

        Raises BadRequestError where it cannot be decoded, JournalError or OSError where it cannot be written down now.
        """
        received = await self.maybe_elsewhere(len(body), lambda: self.signal.decode(body, encoding))
        answer = self.signal.success(received.outcome, encoding)
        batch = received.outcome.batch
        checksum = zlib.crc32(received.encoded) if batch else 0
        if batch and await self.repeats.is_taken(batch, checksum):
            return answer
        if received.outcome.is_worth_storing:
            record = encode_record(received.encoded, received.received_ns)
            written = asyncio.wrap_future(self._journal.append(record))
            if batch:
                self.repeats.take(batch, checksum, written)
            await asyncio.shield(written)  # it is written down although whoever waits for it may leave
        self.counts.accepted += received.outcome.total - received.outcome.rejected.total()
        self.counts.rejected.update(received.outcome.rejected)
        return answer

    async def maybe_elsewhere(self, size: int, work: Callable[[], T]) -> T:
        """Do small work here and large work in a thread of the receivers' own."""
        if size <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
