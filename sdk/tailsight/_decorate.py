"""Spans around functions of every kind.

A plain function and a coroutine are simply run inside the span. A generator is not: between its steps the consumer's
code runs, in the consumer's context. So the span becomes current before each step and stops being current after it,
and it ends when the generator ends, however that happens.
"""

import functools
import inspect
import sys
import types
from collections.abc import AsyncGenerator, Callable, Generator
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

from opentelemetry.context import Context

from . import attributes as keys
from ._guard import caught, warn

F = TypeVar("F", bound=Callable[..., Any])

_CACHE_METHODS = ("cache_info", "cache_clear", "cache_parameters")


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


def decorate(function: F, named: Callable[[str], NewSpan]) -> F:
    """Wrap `function` so that each call makes a span. `named` turns the function's name into a maker of spans."""
    if isinstance(function, staticmethod | classmethod):
        return cast("F", type(function)(decorate(function.__func__, named)))
    if not callable(function) or isinstance(function, type):
        warn("%r cannot be decorated: expected a function, it is left as it is", function)
        return function
    try:
        if not _is_function(function):
            warn(
                "an object of %s cannot be decorated: the wrapper would hide its attributes. It is left as it is; "
                "decorate the __call__ of its class, or a function that calls it",
                type(function),
            )
            return function
        new_span = named(getattr(function, "__qualname__", None) or type(function).__qualname__)
        if inspect.isasyncgenfunction(function):
            wrap = _async_generator
        elif inspect.iscoroutinefunction(function):
            wrap = _coroutine
        elif _is_iterable_coroutine(function):
            wrap = _iterable_coroutine
        elif inspect.isgeneratorfunction(function):
            wrap = _generator
        else:
            wrap = _plain
        wrapper = wrap(function, new_span)
        for name in _CACHE_METHODS:  # functools.lru_cache's, which functools.wraps() does not copy
            if hasattr(function, name):
                setattr(wrapper, name, getattr(function, name))
        return cast("F", wrapper)
    except Exception as error:
        caught("decorating a function", error)
        return function


def _is_function(function: Callable[..., Any]) -> bool:
    """Tell whether this is something that is only called, other than a model that happens to be callable."""
    return (
        inspect.isroutine(function)
        or isinstance(function, functools.partial | functools.partialmethod)
        or hasattr(function, "__wrapped__")
    )


def _is_iterable_coroutine(function: Callable[..., Any]) -> bool:
    """Tell whether this was made by types.coroutine(): a generator function whose generators can be awaited."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & inspect.CO_ITERABLE_COROUTINE)


def _iterable_coroutine(function: Callable[..., Any], new_span: NewSpan) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with new_span():
            return (yield from function(*args, **kwargs))

    return cast("Callable[..., Any]", types.coroutine(wrapper))


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
        step: Callable[[Any], Any] = functools.partial(_first_asend, inner)
        _open_streams.add(inner)
        passed: list[Any] = [None]  # popped when it is used: an exception kept here would form a cycle with this frame
        while True:
            steps.enter()
            try:
                item = await step(passed.pop())
            except StopAsyncIteration:
                _open_streams.discard(inner)
                steps.end()
                return
            except BaseException as exc:
                _open_streams.discard(inner)
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
