"""A numbered batch that comes again is acknowledged, and stored once: its sender did not hear that we had it.

tailsight's SDK numbers its batches (docs/analysis/delivery.md) and repeats one, byte for byte, until it is answered.
The last batches are remembered here: those that are on their way into the journal, those that are in it, and after a
start those that the store has. OTLP itself has no such number: what other clients send twice is stored twice.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from tailsight_collector.keep.records import request_in, whole_records
from tailsight_collector.receive.checks import batch_in
from tailsight_storage import Batch, Store, load_query
from tailsight_storage.source_rules import SOURCE

# At 600 batches a second, as one collector can take, that is the last five minutes; usually it is hours.
REMEMBERED = 200_000
_BY_RULES = SOURCE.encode()


class Repeats:
    """The batches that were taken; for use by one event loop. `count`: how many came again."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        # the checksum of the bytes; None where only the store knows of it
        self._taken: OrderedDict[Batch, int | None] = OrderedDict()
        self._coming: dict[tuple[Batch, int], asyncio.Future[None]] = {}
        self.count = 0

    def remember(self, store: Store, segments: Iterable[Path]) -> None:
        """Learn what the store has, and what waits to be loaded; raises StorageError or OSError."""
        recent = store.ask(load_query("tailsight_collector", "recent_batches"), limit=self._limit)
        for row in reversed(recent):
            self._remember((row["sender"], row["number"], row["spans"], row["recorded"], row["sent_total"]), None)
        for path in segments:
            data = path.read_bytes()
            for start, end in whole_records(data):
                body = request_in(memoryview(data)[start:end])
                if batch := batch_in(body):
                    # rules of sources may have changed it since it came
                    self._remember(batch, None if _BY_RULES in body else zlib.crc32(body))

    async def is_taken(self, batch: Batch, checksum: int) -> bool:
        """Whether a batch is safe already; while the same bytes (their CRC-32) are on their way, that is waited for."""
        while coming := self._coming.get((batch, checksum)):
            await asyncio.wait([coming])
        # the same number with other bytes would be a defect of its sender's, and is no reason to lose spans
        is_taken = batch in self._taken and self._taken[batch] in (None, checksum)
        self.count += is_taken
        return is_taken

    def take(self, batch: Batch, checksum: int, written: asyncio.Future[None]) -> None:
        """Remember a batch as soon as it is written down; if that fails it never came."""
        key = batch, checksum
        self._coming[key] = written
        written.add_done_callback(partial(self._arrived, key))

    def _arrived(self, key: tuple[Batch, int], written: asyncio.Future[None]) -> None:
        del self._coming[key]
        if not written.cancelled() and written.exception() is None:
            self._remember(*key)

    def _remember(self, batch: Batch, checksum: int | None) -> None:
        self._taken[batch] = checksum
        self._taken.move_to_end(batch)
        if len(self._taken) > self._limit:
            self._taken.popitem(last=False)
