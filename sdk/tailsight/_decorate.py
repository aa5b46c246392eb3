"""Spans around functions of every kind.

A plain function and a coroutine are simply run inside the span. A generator is not: between its steps the consumer's
code runs, in the consumer's context. So the span becomes current before each step and stops being current after it,
and it ends when the generator ends, however that happens.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from opentelemetry.context import Context

from . import attributes as keys
from ._guard import caught, warn

F = TypeVar("F", bound=Callable[..., Any])


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


def decorate(function: F, named: Callable[[str], NewSpan]) -> F:
    """Wrap `function` so that each call makes a span. `named` turns the function's name into a maker of spans."""
    if isinstance(function, staticmethod | classmethod):
        return cast("F", type(function)(decorate(function.__func__, named)))
    if not callable(function) or isinstance(function, type):
        warn("%r cannot be decorated: expected a function, it is left as it is", function)
        return function
    try:
        new_span = named(getattr(function, "__qualname__", None) or type(function).__qualname__)
        if inspect.isasyncgenfunction(function):
            wrap = _async_generator
        elif inspect.iscoroutinefunction(function):
            wrap = _coroutine
        elif inspect.isgeneratorfunction(function):
            wrap = _generator
        else:
            wrap = _plain
        return cast("F", wrap(function, new_span))
    except Exception as error:
        caught("decorating a function", error)
        return function


def _plain(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with new_span():
            return function(*args, **kwargs)

    return wrapper


def _coroutine(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with new_span():
            return await function(*args, **kwargs)

    return wrapper


def _generator(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inner = function(*args, **kwargs)
        steps = _Steps(new_span())
        step: Callable[[Any], Any] = inner.send
        passed: list[Any] = [None]  # popped when it is used: an exception kept here would form a cycle with this frame
        while True:
            steps.enter()
            try:
                item = step(passed.pop())
            except StopIteration as stop:
                steps.end()
                return stop.value
            except BaseException as exc:
                steps.end(exc)
                raise
            try:
                passed.append((yield steps.leave(item)))
                step = inner.send
            except BaseException as exc:  # whatever the consumer throws in, GeneratorExit included, is passed on
                steps.thrown_in(exc)
                passed.append(exc)
                step = inner.throw

    return wrapper


def _async_generator(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        inner = function(*args, **kwargs)
        steps = _Steps(new_span())
        step: Callable[[Any], Any] = inner.asend
        passed: list[Any] = [None]  # popped when it is used: an exception kept here would form a cycle with this frame
        while True:
            steps.enter()
            try:
                item = await step(passed.pop())
            except StopAsyncIteration:
                steps.end()
                return
            except BaseException as exc:
                steps.end(exc)
                raise
            try:
                passed.append((yield steps.leave(item)))
                step = inner.asend
            except BaseException as exc:  # whatever the consumer throws in, GeneratorExit included, is passed on
                steps.thrown_in(exc)
                passed.append(exc)
                step = inner.athrow

    return wrapper


class _Steps:
    """A generator's span, and the context that the generator has between two steps. No method raises.

    A generator ends in the midst of a step, always: what the consumer throws in goes through the generator first.
    """

    __slots__ = ("_context", "_items", "_span", "_started")

    def __init__(self, span: SpanLike) -> None:
        self._span = span
        self._items = 0
        self._started = False
        self._context: Context | None = None

    def enter(self) -> None:
        try:
            if self._started:
                self._span.resume(self._context)
            else:
                self._started = True
                self._span.__enter__()
        except Exception as error:
            caught("entering a generator's step", error)

    def leave(self, item: Any) -> Any:
        """Leave a step that yielded `item`, and return it."""
        self._items += 1
        try:
            self._context = self._span.suspend()
        except Exception as error:
            caught("leaving a generator's step", error)
        return item

    def thrown_in(self, exc: BaseException) -> None:
        if isinstance(exc, GeneratorExit):
            self._span.set(keys.STREAM_ABANDONED, True)

    def end(self, exc: BaseException | None = None) -> None:
        self._span.set(keys.STREAM_ITEMS, self._items)
        self._span.__exit__(None, exc, None)
