"""Spans around functions of every kind.

A plain function and a coroutine are simply run inside the span. A generator is not, see _stream.py.
"""

import functools
import inspect
import types
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from ._guard import caught, warn
from ._stream import NewSpan
from ._stream import async_generator as _async_generator
from ._stream import generator as _generator

F = TypeVar("F", bound=Callable[..., Any])

_CACHE_METHODS = ("cache_info", "cache_clear", "cache_parameters")


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
