"""A few read-only sessions of the embedded engine, shared by all who ask: who runs, who waits, who is ended.

A query may take time, memory, rows and threads, and no more; a caller may hold all sessions but one. The loader keeps a
processor for itself. The engine does not count the memory of an answer's text, which names of columns alone can make a
hundred times as large as its data: so the process itself is watched, and queries end before it takes the machine's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from starlette.requests import ClientDisconnect

from tailsight_storage import ChdbDsn, EmbeddedReader, QueryFailedError, Store

log = logging.getLogger(__name__)

READERS = 4
READERS_A_CALLER = 3
MAX_WAITING = 64
PATIENCE_S = 15.0
# ClickHouse's own codes
TOO_MANY_QUERIES = 202
MEMORY_LIMIT_EXCEEDED = 241
# Of the memory that there is, this process's part beyond which queries end.
MEMORY_PART = 0.6
_LOOK_S = 0.2
_KILL_AGAIN_S = 0.5
_LAST_PATIENCE_S = 3.0
_GIB = 1024**3
_LEAST_MEMORY_BYTES = _GIB // 2
_MOST_MEMORY_BYTES = 4 * _GIB

Work = Callable[[EmbeddedReader, str], bytes]
"""What is run in a session; the text is the tag that a query must carry, so that it can be ended."""


def reader_limits() -> dict[str, int]:
    """Return what one query may take; `readonly` comes on top (EmbeddedReader)."""
    return {
        "max_execution_time": 120,
        # all together at most half of what the machine has
        "max_memory_usage": min(max(memory_bytes() // (2 * READERS), _LEAST_MEMORY_BYTES), _MOST_MEMORY_BYTES),
        # what sorting and grouping write to the disk that the journal needs
        "max_temporary_data_on_disk_size_for_query": 2 * _GIB,
        "max_result_rows": 20_000_000,
        "max_result_bytes": _GIB,
        # one processor is the loader's, where there are several
        "max_threads": max(1, (os.cpu_count() or 1) - 1),
        # without effect where the process may not set it
        "os_threads_nice_value_query": 10,
        # work within one row is not ended by time
        "function_range_max_elements_in_block": 50_000_000,
        "max_hyperscan_regexp_length": 1000,
        "max_hyperscan_regexp_total_length": 10_000,
    }


def memory_bytes() -> int:
    """Return how much memory there is for this process: the machine's, or its container's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return machine


def resident_bytes() -> int:
    """Return how much memory this process has; 0 where that cannot be told."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Readers:
    """Runs work in sessions, one each. `owner` is a connection of its own for ending queries."""

    def __init__(self, dsn: ChdbDsn, owner: Store, *, patience_s: float = PATIENCE_S) -> None:
        self._owner = owner
        self._patience_s = patience_s
        self._most_bytes = int(memory_bytes() * MEMORY_PART)
        limits = reader_limits()
        self._all = [EmbeddedReader(dsn, limits) for _ in range(READERS)]
        self._idle = list(self._all)
        self._running: dict[str, str] = {}  # caller by tag
        self._at_work: set[Future[bytes]] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._queued = 0
        # threads of their own: slow queries must not hold up the receiver's decoding
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="tailsight-sql")

    @property
    def running(self) -> int:
        """How many queries run."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """How many queries wait for a session."""
        return self._queued

    async def run(self, work: Work, *, caller: str, leaving: asyncio.Future[None]) -> bytes:
        """Run work for a caller, and end it when the client leaves.

        Raises QueryFailedError, also where no session comes free in time; ClientDisconnect where the client has left.
        """
        reader = await self._reader_for(caller, leaving)
        tag = f"tailsight-{secrets.token_hex(16)}"
        self._running[tag] = caller
        at_work = self._threads.submit(work, reader, tag)
        self._at_work.add(at_work)
        at_work.add_done_callback(self._at_work.discard)
        running = asyncio.wrap_future(at_work)
        running.add_done_callback(lambda _: self._give_back(reader, tag))
        waiting: list[asyncio.Future[Any]] = [running, leaving]
        ended = False
        while not await _first_of(waiting, _LOOK_S) and not ended:
            ended = resident_bytes() > self._most_bytes
        while not running.done():  # again and again: it may be on its way from the check to the run
            await asyncio.to_thread(self._owner.kill, tag)
            await asyncio.wait([running], timeout=_KILL_AGAIN_S)
        try:
            return await running
        except QueryFailedError as error:
            if not ended:
                raise
            raise QueryFailedError(
                f"queries were ended, because this process has more than {self._most_bytes} bytes of memory; "
                "an answer's text counts too",
                MEMORY_LIMIT_EXCEEDED,
            ) from error

    def close(self) -> bool:
        """End running queries and the sessions; False where one does not end.

        Within one row the engine looks at no clock and hears no KILL: a regular expression over a long text can take
        days. Its thread keeps the process from ending by itself.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline_s = time.monotonic() + _LAST_PATIENCE_S
        while self._at_work and time.monotonic() < deadline_s:
            for tag in tuple(self._running):  # again and again, as above
                self._owner.kill(tag)
            wait(tuple(self._at_work), timeout=_KILL_AGAIN_S)
        if self._at_work:
            log.error("%d queries at the SQL port cannot be ended; they end with this process", len(self._at_work))
            return False
        for reader in self._all:
            reader.close()
        return True

    async def _reader_for(self, caller: str, leaving: asyncio.Future[None]) -> EmbeddedReader:
        if not self._has_place(caller) and self._queued >= MAX_WAITING:
            raise QueryFailedError(f"{MAX_WAITING} queries wait already; try again later", TOO_MANY_QUERIES)
        deadline_s = time.monotonic() + self._patience_s
        self._queued += 1
        try:
            while not self._has_place(caller):
                turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                left_s = deadline_s - time.monotonic()
                await asyncio.wait([turn, leaving], timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    raise ClientDisconnect
                if not turn.done():
                    raise QueryFailedError(
                        f"{self.running} queries run, up to {READERS} may, {READERS_A_CALLER} of one caller; "
                        "try again later",
                        TOO_MANY_QUERIES,
                    )
            return self._idle.pop()
        finally:
            self._queued -= 1

    def _has_place(self, caller: str) -> bool:
        return bool(self._idle) and Counter(self._running.values())[caller] < READERS_A_CALLER

    def _give_back(self, reader: EmbeddedReader, tag: str) -> None:
        del self._running[tag]
        self._idle.append(reader)
        while self._waiting:  # all of them, in their order: the first may have to wait for its own queries
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)


async def _first_of(futures: list[asyncio.Future[Any]], timeout_s: float) -> bool:
    """Wait for a while; returns whether one of them is done."""
    done, _ = await asyncio.wait(futures, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)
