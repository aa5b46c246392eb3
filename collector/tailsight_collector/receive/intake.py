"""One signal's way from a request's bytes into its journal, whatever protocol brought them.

What is written down is a message that every reader reads alike: as it came, where it is written as every encoder writes
it, or else encoded again as it was understood. Duplicated fields and odd wire types would be read by the database in
another way than by the check, and the client must be told what really happens.
"""

from __future__ import annotations

import asyncio
import functools
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.repeats import Repeats
from tailsight_collector.receive.signals import Received, Signal
from tailsight_collector.sources.matching import Found
from tailsight_collector.watch.durations import ACKNOWLEDGEMENT_BOUNDS_S, Durations

T = TypeVar("T")

# Above this, decoding would hold up everybody else on the event loop.
INLINE_BYTES = 256 * 1024
# The same for spans that rules of sources change: each takes as long as fifty others.
INLINE_CHANGES = 20


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


class Stages(Protocol):
    """Makes stages of the spans that other tools send (tailsight_collector.sources)."""

    def concerned(self, encoded: bytes) -> Sequence[Found]:
        """Find the spans of an encoded request that rules concern."""

    def changed(self, encoded: bytes, found: Sequence[Found], received_ns: int) -> bytes:
        """Return a request with what the rules say of these spans."""


class Intake:
    """Takes requests of one signal: decoded and checked, in the journal, synced; then they may be acknowledged."""

    def __init__(
        self,
        signal: Signal,
        journal: Log,
        threads: Executor,
        *,
        max_request_bytes: int,
        stages: Stages | None = None,
    ) -> None:
        self.signal = signal
        self._stages = stages
        self.counts = Counts()
        self.repeats = Repeats()
        self.max_request_bytes = max_request_bytes
        self._journal = journal
        self._threads = threads

    async def take(self, body: bytes, encoding: str) -> bytes:
        """Take a request's unpacked body and return the answer's, in the same encoding.

        Raises BadRequestError where it cannot be decoded, JournalError or OSError where it cannot be written down now.
        """
        received, concerned = await self.maybe_elsewhere(len(body), lambda: self._decoded(body, encoding))
        # before it is asked whether the batch is taken: from there on nobody may come between
        encoded = await self._staged(received, concerned)
        answer = self.signal.success(received.outcome, encoding)
        batch = received.outcome.batch
        checksum = zlib.crc32(received.encoded) if batch else 0
        if batch and await self.repeats.is_taken(batch, checksum):
            return answer
        if received.outcome.is_worth_storing:
            record = encode_record(encoded, received.received_ns)
            written = asyncio.wrap_future(self._journal.append(record))
            if batch:
                self.repeats.take(batch, checksum, written)
            await asyncio.shield(written)  # it is written down although whoever waits for it may leave
        self.counts.accepted += received.outcome.total - received.outcome.rejected.total()
        self.counts.rejected.update(received.outcome.rejected)
        return answer

    def _decoded(self, body: bytes, encoding: str) -> tuple[Received, Sequence[Found]]:
        """Decode and check a body; returns it, and which of its spans rules concern."""
        received = self.signal.decode(body, encoding)
        is_looked_at = self._stages is not None and received.outcome.is_worth_storing
        return received, self._stages.concerned(received.encoded) if self._stages and is_looked_at else ()

    async def _staged(self, received: Received, concerned: Sequence[Found]) -> bytes:
        """Return the message that is written down: with the stages of those spans."""
        stages = self._stages
        if stages is None or not concerned:
            return received.encoded
        size = len(received.encoded) if len(concerned) <= INLINE_CHANGES else INLINE_BYTES + 1
        work = functools.partial(stages.changed, received.encoded, concerned, received.received_ns)
        return await self.maybe_elsewhere(size, work)

    async def maybe_elsewhere(self, size: int, work: Callable[[], T]) -> T:
        """Do small work here and large work in a thread of the receivers' own."""
        if size <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
