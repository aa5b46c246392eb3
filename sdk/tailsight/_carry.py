"""A request's context travels: to other threads, through queues, and back.

A Carrier is a request's place: the OpenTelemetry context in which something was put, or captured. What a queue hands
over finds its carrier again by identity, where that can be told for certain: see _taken.py.
"""

import functools
import inspect
from collections.abc import Callable
from contextvars import Token
from types import TracebackType
from typing import Any, TypeVar, cast

from opentelemetry import trace as trace_api
from opentelemetry.context import Context

from ._guard import caught, warn_once
from ._otel import SPAN_KEY, attach, detach, get_current, with_span
from ._taken import find

F = TypeVar("F", bound=Callable[..., Any])


class Carrier:
    """A request's place, captured by carrier() or by a queue."""

    __slots__ = ("context", "depth", "entered_ns", "taken_ns")

    def __init__(self, context: Context, entered_ns: int = 0, depth: int = 0) -> None:
        self.context = context
        self.entered_ns = entered_ns  # when put() was called
        self.depth = depth  # how many items the queue had then
        self.taken_ns: int | None = None  # when it was taken; None: not from a queue, or it has been in a batch since


class CarriedContext(Context):
    """The context of whoever took an item from a queue and has none of its own."""

    carrier: Carrier
    base: Context
    """What was current before."""
    queue: int
    """The id() of the queue."""


def carry(carrier: Carrier | None, queue: int) -> None:
    """Make the context of the item just taken current, unless the taker is in a span of its own."""
    here = get_current()
    if type(here) is CarriedContext:
        here = here.base
        if carrier is None:
            attach(here)
            return
    elif carrier is None or SPAN_KEY in here:
        return
    carried = CarriedContext(carrier.context)
    carried.carrier, carried.base, carried.queue = carrier, here, queue
    attach(carried)


def put_down(queue: int | None = None) -> None:
    """Go on without the context that the last item brought; of `queue` only, if given."""
    here = get_current()
    if type(here) is CarriedContext and (queue is None or here.queue == queue):
        attach(here.base)


def carrier() -> Carrier:
    """Capture the current request, for `batch(requests=…)` or `carried()`, in any thread and at any later time."""
    try:
        here = get_current()
        return here.carrier if type(here) is CarriedContext else Carrier(here)
    except Exception as error:
        caught("carrier", error)
        return Carrier(Context())


def carrier_of(source: object) -> Carrier | None:
    """Find the request that `source` stands for: a Carrier, a context, a span, or an item taken from a queue."""
    if isinstance(source, Carrier):
        return source
    if isinstance(source, Context):
        return Carrier(source)
    if isinstance(source, trace_api.Span):
        return Carrier(with_span(Context(), source))
    return find(source)


class carried:  # noqa: N801  used like a function
    """Work for one request, inside `with`: `source` is an item that came from a queue, or what carrier() returned.

        for item, y in zip(items, model(batch)):
            with tailsight.carried(item):
                respond(item, y)

    Also takes a span or an OpenTelemetry context. Of an item whose request is not known, the block is
    in no item's request.
    """

    __slots__ = ("_source", "_tokens")

    def __init__(self, source: object) -> None:
        self._source = source
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> None:
        try:
            found, here = carrier_of(self._source), get_current()
            if found is not None:
                here = found.context
            elif type(here) is CarriedContext:  # another item's
                here = here.base
            self._tokens.append(attach(here))
        except Exception as error:
            caught("carried", error)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            if self._tokens:
                detach(self._tokens.pop())
        except Exception as error:
            caught("carried", error)


def propagate(function: F) -> F:
    """Wrap `function` so that each call runs in the OpenTelemetry context that is current now.

        executor.submit(tailsight.propagate(work), x)
        threading.Thread(target=tailsight.propagate(work)).start()

    For functions and coroutine functions, and anything else that is called. Afterwards the worker thread is as it was.
    """
    if not callable(cast("object", function)):
        warn_once(
            ("propagate", type(function)), "propagate() got %r, which cannot be called: it is left as it is", function
        )
        return function
    try:
        context = get_current()
        wrapper = _async_in(context, function) if inspect.iscoroutinefunction(function) else _in(context, function)
        return cast("F", wrapper)
    except Exception as error:
        caught("propagate", error)
        return function


def _in(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        token = _enter(context)
        try:
            return function(*args, **kwargs)
        finally:
            _leave(token)

    return wrapper


def _async_in(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        token = _enter(context)
        try:
            return await function(*args, **kwargs)
        finally:
            _leave(token)

    return wrapper


def _enter(context: Context) -> Token[Context] | None:
    try:
        return attach(context)
    except Exception as error:
        caught("entering a propagated context", error)
        return None


def _leave(token: Token[Context] | None) -> None:
    try:
        if token is not None:
            detach(token)
    except Exception as error:
        caught("leaving a propagated context", error)
