"""stage() and request(): what users write."""

from collections.abc import Callable
from typing import Any, TypeVar, overload

from opentelemetry.context import Context

from ._guard import caught, warn_once
from ._span import Span, new_span
from ._values import text

F = TypeVar("F", bound=Callable[..., Any])

_MAX_NAME_LENGTH = 1024


@overload
def stage(stage: F, /) -> F: ...


@overload
def stage(stage: str, *, name: str | None = None) -> Span: ...


def stage(stage: Any, *, name: str | None = None) -> Any:
    """Measure a named part of a request: as a context manager, or as a decorator.

    `stage` is one of preprocess, serialize, network, queue, compute, gpu_kernel, postprocess, or a word of your own.
    `name` is the span's name: by default the stage, or the decorated function's qualified name.

        with tailsight.stage("preprocess") as s:
            s.set("tokens", 128)

        @tailsight.stage("postprocess")
        def decode(y): ...

    Works for functions, coroutine functions, generators and async generators, and in `async with`. The object may be
    entered any number of times, by several threads as well. Never raises.
    """
    # Written out rather than calling new_span(): this is the hot path.
    span = Span()
    if type(stage) is str:
        span._stage = stage
    elif callable(stage) and not isinstance(stage, str):
        return _stage_without_parentheses(stage)
    else:
        span._stage = text(stage, _MAX_NAME_LENGTH)
    span._name = name if name is None or type(name) is str else text(name, _MAX_NAME_LENGTH)
    span._base = span._trace = span._attributes = span._token = None
    span._reused = span._entered = False
    return span


def _stage_without_parentheses(function: F) -> F:
    """Do what `@tailsight.stage` probably meant: the function's name is the stage."""
    try:
        name = text(getattr(function, "__name__", None) or type(function).__name__, _MAX_NAME_LENGTH)
        warn_once(
            ("stage without parentheses", name),
            'stage() got the function %s where the name of a stage belongs: "%s" is taken as the stage. '
            'Write @tailsight.stage("compute"), for example',
            name,
            name,
        )
        return new_span(name, None, None)(function)
    except Exception as error:
        caught("stage", error)
        return function


@overload
def request(name: F, /) -> F: ...


@overload
def request(name: str | None = None, *, context: Context | None = None) -> Span: ...


def request(name: Any = None, *, context: Context | None = None) -> Any:
    """Measure one unit of work as its caller sees it: as a context manager, or as a decorator (parentheses optional).

    `name` is the span's name: by default "request", or the decorated function's qualified name. `context` is the
    OpenTelemetry context that it continues, such as extract() returns; by default the current one. With a parent in
    another process its kind is SERVER, otherwise INTERNAL. Never raises.
    """
    if name is None or type(name) is str:
        return new_span(None, name, context)
    try:
        if callable(name) and not isinstance(name, str):
            return new_span(None, None, None)(name)
        return new_span(None, text(name, _MAX_NAME_LENGTH), context)
    except Exception as error:
        caught("request", error)
        return new_span(None, None, None)
