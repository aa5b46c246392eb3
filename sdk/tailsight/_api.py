"""stage() and request(): what users write."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar, overload

from opentelemetry.context import Context

from . import attributes as keys
from ._accelerator import native
from ._core import FRESH, NATIVE, Prepared
from ._guard import caught, warn_once
from ._span import Span, new_span
from ._stream import each_of
from ._values import Value, text

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MAX_NAME_LENGTH = 1024
_MAX_UNIX_SECONDS = 2**33  # the year 2242: more is no number of seconds


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
    span._attributes = span._trace = span._reuse_of = span._prepared = None
    span._state = FRESH
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
        return new_span(name, None)(function)
    except Exception as error:
        caught("stage", error)
        return function


@overload
def stream(source: AsyncIterable[T], *, stage: str = "compute", name: str | None = None) -> AsyncIterator[T]: ...


@overload
def stream(source: Iterable[T], *, stage: str = "compute", name: str | None = None) -> Iterator[T]: ...


def stream(source: Any, *, stage: str = "compute", name: str | None = None) -> Any:
    """Measure somebody else's iterator or async iterator as a stage, from the first step to the end.

        async for token in tailsight.stream(client.generate(prompt)):
            ...

    What a decorated generator records is recorded. The source is not closed. Never raises.
    """
    try:
        return _named_stage(stage, name or stage)(each_of(source))(source)
    except Exception as error:
        caught("stream", error)
        return source


def _named_stage(name_of_stage: str, name: str) -> Span:
    return stage(name_of_stage, name=name)


@overload
def request(name: F, /) -> F: ...


@overload
def request(
    name: str | None = None,
    *,
    context: Context | None = None,
    intended_start: float | datetime | None = None,
    deadline_ms: float | None = None,
) -> Span: ...


def request(
    name: Any = None,
    *,
    context: Context | None = None,
    intended_start: float | datetime | None = None,
    deadline_ms: float | None = None,
) -> Any:
    """Measure one unit of work as its caller sees it: as a context manager, or as a decorator (parentheses optional).

    `name` is the span's name: by default "request", or the decorated function's qualified name. `context` is the
    OpenTelemetry context that it continues, such as extract() returns; by default the current one. With a parent in
    another process its kind is SERVER, otherwise INTERNAL.

    `intended_start` is when the work should have begun: Unix seconds as time.time() returns them, or a datetime with a
    time zone. A load generator, a scheduler or a camera knows it; without it, time that a request waited
    before it could begin is missing from every figure ("coordinated omission"). `deadline_ms` is how long it may take:
    one that takes longer is always kept. Never raises.
    """
    try:
        prepared = None
        if context is not None or intended_start is not None or deadline_ms is not None:
            prepared = _prepared(context, intended_start, deadline_ms)
        if name is None or type(name) is str:
            return new_span(None, name, prepared)
        if callable(name) and not isinstance(name, str):
            return new_span(None, None)(name)
        return new_span(None, text(name, _MAX_NAME_LENGTH), prepared)
    except Exception as error:
        caught("request", error)
        return new_span(None, None)


if NATIVE and native is not None:  # the plain ones are made in C
    try:
        stage, request = native.bind_factories(Span, stage, request)
    except Exception as error:  # this module was loaded a second time: those in Python make the same spans
        caught("binding stage() and request()", error)


def _prepared(context: Context | None, intended_start: object, deadline_ms: object) -> Prepared:
    attributes: dict[str, Value] = {}
    if intended_start is not None:
        seconds = intended_start
        if isinstance(seconds, datetime):
            try:
                seconds = seconds.timestamp()
            except (OverflowError, OSError, ValueError):  # before the year 1, say
                seconds = None
        if isinstance(seconds, int | float) and 0 < seconds < _MAX_UNIX_SECONDS:
            attributes[keys.INTENDED_START_UNIX_NANO] = int(seconds * 1_000_000_000)
        else:
            _warn_of("intended_start", intended_start, "Unix seconds (time.time()) or a datetime")
    if deadline_ms is not None:
        if isinstance(deadline_ms, int | float) and deadline_ms > 0:
            attributes[keys.DEADLINE_MS] = deadline_ms
        else:
            _warn_of("deadline_ms", deadline_ms, "a number of milliseconds over 0")
    return Prepared(context, attributes or None)


def _warn_of(option: str, value: object, expected: str) -> None:
    warn_once(
        ("request", option),
        "request(%s=%s) is ignored: expected %s",
        option,
        text(repr(value), 100),
        expected,
    )
