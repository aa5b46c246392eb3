"""asyncio's queue, measured. In a module of its own, imported when it is used: asyncio takes 18 ms to import."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import _taken
from ._guard import caught
from ._queue import Waiting, arriving, done, entering, leaving, put_in, took, took_out

T = TypeVar("T")


class AsyncQueue(asyncio.Queue[T]):
    """An asyncio.Queue whose waiting time is the `queue` stage of the request that waits. As Queue otherwise.

    Before Python 3.12 `asyncio.wait_for(queue.get(), …)` takes the item in another task, and its context stays there:
    use `with tailsight.carried(item)`.
    """

    _tailsight: Waiting

    def __init__(self, maxsize: int = 0, *, carry: bool = True) -> None:
        super().__init__(maxsize)
        self._tailsight = Waiting(carry=carry)

    async def put(self, item: T) -> None:
        """Do as asyncio.Queue.put() does. The time that it blocks counts as waiting."""
        token = None
        try:
            carrier = arriving()
            if carrier is not None:
                token = entering.set(carrier)
        except Exception as error:
            caught("putting into a queue", error)
        try:
            await super().put(item)
        finally:
            try:
                if token is not None:
                    entering.reset(token)
            except ValueError:  # closed by another task than began it
                pass

    def get(self) -> Coroutine[Any, Any, T]:
        """Do as asyncio.Queue.get() does."""
        try:
            task = asyncio.current_task()
            if task is not None:
                _taken.begin(id(task))  # here, in the caller's context: wait_for() runs the rest in a task of its own
        except Exception as error:
            if not isinstance(error, RuntimeError):  # no running loop: called here, awaited there
                caught("taking from a queue", error)
        return super().get()

    def get_nowait(self) -> T:
        """Do as asyncio.Queue.get_nowait() does."""
        item = super().get_nowait()
        try:
            carrier = leaving.get()
            leaving.set(None)
            took(item, carrier, self._tailsight, id(self))
        except Exception as error:
            caught("taking from a queue", error)
        return item

    def task_done(self) -> None:
        """Do as asyncio.Queue.task_done() does. The item's context stays behind."""
        super().task_done()
        done(self)

    def _put(self, item: T) -> None:
        depth = self.qsize()
        super()._put(item)
        put_in(self._tailsight, item, depth)

    def _get(self) -> T:
        item = super()._get()
        took_out(self._tailsight, item)
        return item
