"""A span around a generator: current while the generator runs, and never in between.

Between two steps the consumer's code runs, in the consumer's context. So the span becomes current before each step and
stops being current after it, and it ends when the generator ends, however that happens.

What an item costs is written out in the two wrappers rather than called: one ContextVar set and reset, and one stamp.
"""

import functools
import sys
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from itertools import repeat
from types import TracebackType
from typing import Any, Protocol, TypeVar

from opentelemetry.context import Context

from . import attributes as keys
from ._core import leave_step
from ._guard import caught, run_guarded
from ._otel import attach, detach, get_current, reset
from ._pace import BLOCK, Pace
from ._signals import raise_if_host_signal

T = TypeVar("T")


class SpanLike(Protocol):
    """What is needed of a span here."""

    def __enter__(self) -> object: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def suspend(self) -> Context | None: ...
    def resume(self, context: Context | None) -> None: ...
    def set(self, key: str, value: object) -> None: ...


NewSpan = Callable[[], SpanLike]

_open_streams: set[object] = set()
"""Async generators that have begun behind their wrappers. Only the wrapper may end one: held here, none is collected
before it."""


def generator(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    """Wrap a generator function."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        steps = _Steps(new_span())
        context = steps.begin()
        if context is None:
            with steps:
                return (yield from inner)
        pace = steps.pace
        # Local names: CPython finds them faster.
        step, now, enter, inside, leave, at_once = inner.send, steps.now, attach, get_current, reset, leave_step
        fresh, stamp = pace.fresh, pace.fresh.append
        token = sent = None
        passed: list[BaseException] = []  # popped when it is used: kept here, one would form a cycle with this frame
        try:
            while True:
                for _ in repeat(None, BLOCK):
                    try:
                        token = enter(context)
                    except Exception as error:
                        caught("entering a generator's step", error)
                    item = step(sent)
                    try:
                        # What is current now is not only the span: a `with stage()` around the yield comes back.
                        if at_once is not None:
                            context = at_once(fresh, now, token)
                        else:
                            stamp(now())
                            context = inside()
                            leave(token)  # type: ignore[arg-type]  # None only after an error, which is caught
                    except Exception as error:
                        steps.failed(error)
                    while True:
                        try:
                            sent = yield item
                            break
                        except BaseException as exc:  # all that the consumer throws in, GeneratorExit included
                            passed.append(exc)
                        item, context = steps.throw(inner, context, passed)
                pace.turn()
        except StopIteration as stop:
            run_guarded("ending a generator", functools.partial(steps.end, None, context, token))
            return stop.value
        except BaseException as exc:
            run_guarded("ending a generator", functools.partial(steps.end, exc, context, token))
            raise

    return wrapper


def async_generator(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    """Wrap an async generator function."""

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        steps = _Steps(new_span())
        context = steps.begin()
        recorded = context is not None
        pace = steps.pace
        step: Callable[[Any], Any] = functools.partial(_first_asend, inner)
        fresh, stamp, now, at_once = pace.fresh, pace.fresh.append, steps.now, leave_step
        token = sent = None
        passed: list[BaseException] = []  # popped when it is used: kept here, one would form a cycle with this frame
        _open_streams.add(inner)
        try:
            while True:
                for _ in repeat(None, BLOCK):
                    if recorded:
                        try:
                            token = attach(context)  # type: ignore[arg-type]  # it is recorded: there is a context
                        except Exception as error:
                            caught("entering a generator's step", error)
                    item = await step(sent)
                    if recorded:
                        try:
                            if at_once is not None:
                                context = at_once(fresh, now, token)
                            else:
                                stamp(now())
                                context = get_current()
                                reset(token)  # type: ignore[arg-type]  # None only after an error, which is caught
                        except Exception as error:
                            steps.failed(error)
                    while True:
                        try:
                            sent = yield item
                            break
                        except BaseException as exc:  # all that the consumer throws in, GeneratorExit included
                            passed.append(exc)
                        item, context = await steps.athrow(inner, context, passed)
                    step = inner.asend
                pace.turn()
        except StopAsyncIteration:
            run_guarded("ending a generator", functools.partial(steps.end, None, context, token))
        except BaseException as exc:
            run_guarded("ending a generator", functools.partial(steps.end, exc, context, token))
            raise
        finally:
            _open_streams.discard(inner)

    return wrapper


def _first_asend(inner: AsyncGenerator[Any, Any], value: Any) -> Any:
    """Begin `inner` unknown to the event loop.

    The loop closes the generators that it knows when they are collected or when it ends itself. It must know the
    wrapper alone, which closes `inner`: with both, one would be closed while the other is running it.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return inner.asend(value)
    finally:
        sys.set_asyncgen_hooks(*hooks)


class _Steps:
    """A generator's span, and what happens to it once, or seldom.

    A generator ends in the midst of a step, always: what the consumer throws in goes through the generator first.
    """

    __slots__ = ("_ended", "_span", "now", "pace")

    def __init__(self, span: SpanLike) -> None:
        self._span = span
        self._ended = False
        self.pace = Pace()
        self.now: Callable[[], int] = _no_time

    def begin(self) -> Context | None:
        """Begin the span. Return the context of the generator's first step, None if there is none of its own."""
        self._span.__enter__()
        try:
            trace = getattr(self._span, "_trace", None)
            if trace is not None:
                self.now = trace.now
            return self._span.suspend()
        except Exception as error:
            self._span.__exit__(None, None, None)
            caught("beginning a generator", error)
            return None

    def __enter__(self) -> None:
        """Do nothing: the span has begun."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._span.__exit__(exc_type, exc, tb)

    def failed(self, error: Exception) -> None:
        """Account for an error when a step was left. That it was left in another context is none."""
        if isinstance(error, ValueError):
            raise_if_host_signal(error)
        else:
            caught("leaving a generator's step", error)

    def throw(
        self, inner: Generator[Any, Any, Any], context: Context, passed: list[BaseException]
    ) -> tuple[Any, Context]:
        """Throw into the generator what the consumer threw. Return what it yields, and the context after it."""
        token = self._thrown_in(context, passed[0])
        try:
            item = inner.throw(passed.pop())
        except StopIteration:
            self.end(None, context, token)
            raise
        except BaseException as exc:
            self.end(exc, context, token)
            raise
        return item, self._yielded(context, token)

    async def athrow(
        self, inner: AsyncGenerator[Any, Any], context: Context | None, passed: list[BaseException]
    ) -> tuple[Any, Context | None]:
        """Do as throw() does, for an async generator."""
        token = self._thrown_in(context, passed[0])
        try:
            item = await inner.athrow(passed.pop())
        except StopAsyncIteration:
            self.end(None, context, token)
            raise
        except BaseException as exc:
            self.end(exc, context, token)
            raise
        return item, self._yielded(context, token)

    def _thrown_in(self, context: Context | None, exc: BaseException) -> Any:
        try:
            token = None if context is None else attach(context)
        except Exception as error:
            caught("entering a generator's step", error)
            token = None
        if isinstance(exc, GeneratorExit):
            self._span.set(keys.STREAM_ABANDONED, True)
        return token

    def _yielded(self, context: Any, token: Any) -> Any:
        if token is None:
            return context
        try:
            self.pace.fresh.append(self.now())
            if len(self.pace.fresh) > 2 * BLOCK:  # a consumer that always throws
                self.pace.turn()
            context = get_current()
            reset(token)
        except Exception as error:
            self.failed(error)
        return context

    def end(self, exc: BaseException | None, context: Context | None, token: Any) -> None:
        """End the span, in the midst of the last step. Only the first call counts."""
        if self._ended:
            return
        self._ended = True
        try:
            if context is not None:
                self._span.resume(context)
                keep = getattr(self._span, "keep_pace", None)
                if keep is not None:
                    keep(self.pace)
        except Exception as error:
            caught("ending a generator", error)
        self._span.__exit__(None if exc is None else type(exc), exc, None)
        try:
            if token is not None:
                detach(token)
        except Exception as error:
            caught("ending a generator", error)


def _no_time() -> int:
    return 0


async def _each_of_async(source: AsyncIterable[T]) -> AsyncGenerator[T, None]:
    async for item in source:
        yield item


def _each_of(source: Iterable[T]) -> Generator[T, None, None]:
    for item in source:  # noqa: UP028  `yield from` would close a source that the consumer may want to read on
        yield item


def each_of(source: object) -> Callable[..., Any]:
    """Return the generator function that iterates over `source`, which is an iterable or an async iterable."""
    return _each_of_async if hasattr(source, "__aiter__") else _each_of
