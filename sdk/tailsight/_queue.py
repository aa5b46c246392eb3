"""Queues: the time that an item waits is the `queue` stage of its request, and the request's context goes with it.

The queues are the standard library's own, with its hooks overridden: items lie in them as they are, in their order, and
beside them lies for each item where it came from. A carrier is found by its item's identity, which is certain while the
item is in the queue. No lock is added; `_put` and `_get` run under the queue's own.
"""

import queue
import sys
from contextvars import ContextVar
from threading import get_ident
from typing import Any, TypeVar

from . import _taken
from . import attributes as keys
from ._carry import CarriedContext, Carrier, carry, put_down
from ._emit import emit
from ._guard import caught, warn_once
from ._otel import SPAN_KEY, get_current
from ._recorder import current

T = TypeVar("T")

QUEUE_STAGE = "queue"

entering: ContextVar[Carrier | None] = ContextVar("tailsightentering", default=None)
"""What put() was called with, while it waits for room."""

leaving: ContextVar[Carrier | None] = ContextVar("tailsightleaving", default=None)
"""What took_out() found, on its way to get(), which emits the span when the queue's lock is released."""


class Waiting:
    """Where the items of one queue came from."""

    __slots__ = ("_carriers", "_newest_first", "_slack", "carry")

    def __init__(self, *, carry: bool, newest_first: bool = False, slack: int = 0) -> None:
        self.carry = carry
        self._slack = slack  # how many items may be on their way in or out
        self._newest_first = newest_first
        self._carriers: dict[int, Carrier | list[Carrier | None] | None] = {}

    def entered(self, item: object, carrier: Carrier | None, depth: int) -> None:
        """Keep the carrier of an item, before which `depth` others wait."""
        carriers = self._carriers
        if len(carriers) > depth + self._slack:  # somebody emptied the queue behind its back
            carriers.clear()
        if carrier is not None:
            carrier.depth = depth
        key = id(item)
        if key not in carriers:
            carriers[key] = carrier
            return
        before = carriers[key]  # one object, several times in the queue: a number, or a sentinel
        if isinstance(before, list):
            before.append(carrier)
        else:
            carriers[key] = [before, carrier]

    def left(self, item: object) -> Carrier | None:
        """Take the carrier of an item."""
        found = self._carriers.pop(id(item), None)
        if not isinstance(found, list):
            return found
        carrier = found.pop(-1 if self._newest_first else 0)
        if found:
            self._carriers[id(item)] = found
        return carrier


def arriving() -> Carrier | None:
    """Capture the putter's request. None if it is in none, or nothing is recorded."""
    recorder = current.recorder or current.get()
    if recorder is None or not recorder.enabled:
        return None
    context = get_current()
    if type(context) is CarriedContext:
        context = context.carrier.context  # itself, or contexts would hang on one another from queue to queue
    return Carrier(context, recorder.now()) if SPAN_KEY in context else None


def took(item: object, carrier: Carrier | None, waiting: Waiting, place: int) -> None:
    """Emit the span of an item's waiting, and let its context go with it."""
    recorder = current.recorder or current.get()
    if recorder is None or not recorder.enabled:
        return
    if carrier is not None:
        carrier.taken_ns = recorder.now()
        emit(
            carrier.context,
            stage=QUEUE_STAGE,
            start_ns=carrier.entered_ns,
            end_ns=carrier.taken_ns,
            attributes={keys.QUEUE_DEPTH: carrier.depth},
        )
    _taken.remember(item, carrier, place)
    if waiting.carry:
        carry(carrier, place)


class Queue(queue.Queue[T]):
    """A queue.Queue whose waiting time is the `queue` stage of the request that waits.

    Whoever takes an item and is in no span of its own goes on in the request of the one who put it, until it takes
    the next item, calls task_done(), or begins a batch. With carry=False it does not: for a queue of results, say.
    """

    _tailsight: Waiting

    def __init__(self, maxsize: int = 0, *, carry: bool = True) -> None:
        super().__init__(maxsize)
        self._tailsight = Waiting(carry=carry)

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Do as queue.Queue.put() does. The time that it blocks counts as waiting."""
        token = None
        try:
            carrier = arriving()
            if carrier is not None:
                token = entering.set(carrier)
        except Exception as error:
            caught("putting into a queue", error)
        try:
            super().put(item, block, timeout)
        finally:
            if token is not None:
                entering.reset(token)

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Do as queue.Queue.get() does."""
        item = super().get(block, timeout)
        try:
            _taken.begin(get_ident())
            carrier = leaving.get()
            leaving.set(None)
            took(item, carrier, self._tailsight, id(self))
        except Exception as error:
            caught("taking from a queue", error)
        return item

    def task_done(self) -> None:
        """Do as queue.Queue.task_done() does. The item's context stays behind."""
        super().task_done()
        done(self)

    def _put(self, item: T) -> None:
        depth = self._qsize()
        super()._put(item)
        put_in(self._tailsight, item, depth)

    def _get(self) -> T:
        item = super()._get()
        took_out(self._tailsight, item)
        return item


class _SimpleQueue:
    """A queue.SimpleQueue seen from outside: it has no hooks. Whoever holds the original can go on using it."""

    def __init__(self, inner: "queue.SimpleQueue[Any]", *, carry: bool) -> None:
        self._inner = inner
        self._tailsight = Waiting(carry=carry, slack=1000)  # there is no lock: other threads are between two lines here

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        try:
            self._tailsight.entered(item, arriving(), self._inner.qsize())
        except Exception as error:
            caught("putting into a queue", error)
        self._inner.put(item, block, timeout)

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        item = self._inner.get(block, timeout)
        try:
            _taken.begin(get_ident())
            took(item, self._tailsight.left(item), self._tailsight, id(self))
        except Exception as error:
            caught("taking from a queue", error)
        return item

    def get_nowait(self) -> Any:
        return self.get(block=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def wrap_queue(queue_: T, *, carry: bool = True) -> T:
    """Have a queue that exists already measured as Queue and AsyncQueue are, and return it.

    For queue.Queue and asyncio.Queue and what is derived from them: they are changed in place, so everybody who holds
    one is measured. A queue.SimpleQueue cannot be: use what is returned instead. Of another object nothing is changed.
    """
    try:
        if hasattr(queue_, "_tailsight"):
            return queue_
        kind = type(queue_)
        if isinstance(queue_, queue.SimpleQueue):
            return _SimpleQueue(queue_, carry=carry)  # type: ignore[return-value]  # used as one
        ours, newest_first, plain = _counterpart(queue_)
        if ours is None:
            warn_once(
                ("wrap_queue", kind),
                "wrap_queue() got a %s: expected a queue of the modules queue or asyncio. It is left as it is",
                kind,
            )
            return queue_
        queue_._tailsight = Waiting(carry=carry, newest_first=newest_first)  # type: ignore[attr-defined]
        queue_.__class__ = ours if plain else type(kind.__name__, (ours, kind), {})
    except Exception as error:
        caught("wrap_queue", error)
    return queue_


def _counterpart(queue_: object) -> tuple[type[Any] | None, bool, bool]:
    """Return our class for a queue, whether it hands out the newest first, and whether it is the standard one."""
    if isinstance(queue_, queue.Queue):
        return Queue, isinstance(queue_, queue.LifoQueue), type(queue_) is queue.Queue
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and isinstance(queue_, asyncio.Queue):
        from ._async_queue import AsyncQueue

        return AsyncQueue, isinstance(queue_, asyncio.LifoQueue), type(queue_) is asyncio.Queue
    return None, False, False


def put_in(waiting: Waiting, item: object, depth: int) -> None:
    try:
        waiting.entered(item, entering.get() or arriving(), depth)
    except Exception as error:
        caught("putting into a queue", error)


def took_out(waiting: Waiting, item: object) -> None:
    try:
        leaving.set(waiting.left(item))
    except Exception as error:
        caught("taking from a queue", error)


def done(queue_: object) -> None:
    try:
        _taken.done(id(queue_))
        put_down(id(queue_))
    except Exception as error:
        caught("finishing an item of a queue", error)
