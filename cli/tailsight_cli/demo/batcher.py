"""The bounded queue and the dynamic batcher: what makes an inference service fast, and what its requests wait for.

A batch starts when the model is idle and the batch is full, or its oldest item has waited long enough. While the
model works, items gather; an item behind a slow batch waits for all of it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

DEFAULT_MAX_BATCH = 4
DEFAULT_MAX_WAIT_S = 0.003
DEFAULT_MAX_QUEUE = 64

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFullError(Exception):
    """The queue is at its bound: the caller should come back later."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """The items that are executed together."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[Item, Result]):
    """An item on its way.

    `started` and `finished` are awaited by whoever submitted it, so that its spans stay in its own trace: the batcher
    itself knows nothing of traces.
    """

    item: Item
    depth: int  # how many items were in the queue before it
    enqueued_s: float  # the event loop's clock
    started: asyncio.Future[Batch[Item]]
    finished: asyncio.Future[Result]


class Batcher(Generic[Item, Result]):
    """Gathers items into batches and runs them, one batch at a time, in a thread of its own.

    `run` gets the items of a batch and returns as many results, in their order. `max_wait_s` is how long an item may
    wait for others while the model is idle. All methods belong to the event loop's thread.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_batch: int = DEFAULT_MAX_BATCH,
        max_wait_s: float = DEFAULT_MAX_WAIT_S,
        max_queue: int = DEFAULT_MAX_QUEUE,
    ) -> None:
        if max_batch < 1 or max_queue < 1 or max_wait_s < 0:
            raise ValueError(
                f"max_batch={max_batch}, max_queue={max_queue}, max_wait_s={max_wait_s}: "
                "the first two must be at least 1, the last at least 0"
            )
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._max_queue = max_queue
        self._waiting: deque[Job[Item, Result]] = deque()
        self._arrived = asyncio.Event()

    def submit(self, item: Item) -> Job[Item, Result]:
        """Put an item into the queue.

        Raises QueueFullError at once if there is no room: waiting outside the queue would only hide the wait.
        """
        depth = len(self._waiting)
        if depth >= self._max_queue:
            raise QueueFullError(f"the queue holds {depth} requests and takes no more: come back later")
        loop = asyncio.get_running_loop()
        job: Job[Item, Result] = Job(item, depth, loop.time(), loop.create_future(), loop.create_future())
        self._waiting.append(job)
        self._arrived.set()
        return job

    async def serve(self) -> NoReturn:
        """Execute batches until cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="model") as executor:
            while True:
                jobs = [job for job in await self._next_jobs() if not job.finished.cancelled()]
                if not jobs:
                    continue
                batch = Batch(tuple(job.item for job in jobs))
                for job in jobs:
                    if not job.started.done():
                        job.started.set_result(batch)
                try:
                    results = await loop.run_in_executor(executor, self._run, batch.items)
                except Exception as error:
                    for job in jobs:
                        if not job.finished.done():
                            job.finished.set_exception(error)
                else:
                    for job, result in zip(jobs, results, strict=True):
                        if not job.finished.done():
                            job.finished.set_result(result)

    async def _next_jobs(self) -> list[Job[Item, Result]]:
        loop = asyncio.get_running_loop()
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        until = self._waiting[0].enqueued_s + self._max_wait_s
        while len(self._waiting) < self._max_batch and loop.time() < until:
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._arrived.wait()
            except TimeoutError:
                break
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), self._max_batch))]
