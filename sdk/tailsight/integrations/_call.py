"""One half of a call between services: a span that may outlive the block in which it began.

A response is read long after the function that asked for it has returned, perhaps by another thread. So the span is
current while the framework works for it and never in between (pause, resume), and it ends when the last byte has come.
"""

import traceback
from typing import Self

from opentelemetry.context import Context
from opentelemetry.trace import StatusCode

import tailsight
from tailsight import Span, attributes

from .. import attributes as keys
from .._guard import caught


def client_span(name: str | None = None) -> Span:
    """Make the span of a call to another service, as its caller sees it."""
    return tailsight.stage("network", name=name)


class Call:
    """A span with a beginning and an end in different places. No method raises, and only the first end counts."""

    __slots__ = ("_context", "_open", "_paused", "_secret", "span")

    _to_another_service = False  # True: the span is of kind CLIENT

    def __init__(self, span: Span, *, secret: str = "") -> None:
        """Take a span that has not begun. `secret` is removed from what is recorded of exceptions."""
        self.span = span
        self._secret = secret
        self._open = False
        self._paused = False
        self._context: Context | None = None

    def begin(self) -> Self:
        """Begin, and be current."""
        self.span.__enter__()
        if self._to_another_service:
            self.span.as_client()
        # Invalid if there is nothing to record or to send on: the SDK is disabled, or the caller decided not to sample.
        self._open = self.span.get_span_context().is_valid
        return self

    @property
    def active(self) -> bool:
        """Tell whether the span has begun and not ended."""
        return self._open

    def pause(self) -> None:
        """Stop being current: the host goes on with something else."""
        try:
            if self._open and not self._paused:
                self._paused = True
                self._context = self.span.suspend()
        except Exception as error:
            caught("pausing a call", error)

    def resume(self) -> None:
        """Be current again, perhaps in another thread."""
        try:
            if self._open and self._paused:
                self._paused = False
                self.span.resume(self._context)
        except Exception as error:
            caught("resuming a call", error)

    def end(self, error: BaseException | None = None) -> None:
        """End, with the exception that ended the work if there was one."""
        if not self._open:
            return
        try:
            self.resume()
            self._open = False
            self.describe()
            if isinstance(error, Exception):
                self.span.set(keys.ERROR_TYPE, type_name(error))
                if self._secret:
                    self._record_without_secret(error)
                    error = None
        except Exception as internal:
            caught("ending a call", internal)
        finally:
            self._open = False
            self.span.__exit__(None if error is None else type(error), error, None)

    def abandon(self) -> None:
        """End because nobody wants the rest of it. That is no error."""
        if self._open:
            self.span.set(attributes.STREAM_ABANDONED, True)
            self.end()

    def describe(self) -> None:
        """Set what is known at the end only."""

    def fail(self, error_type: str) -> None:
        """Have the outcome of an error that is not an exception."""
        self.span.set(keys.ERROR_TYPE, error_type)
        self.span.set_status(StatusCode.ERROR)

    def _record_without_secret(self, error: Exception) -> None:
        stack = "".join(traceback.format_exception(error))
        message = self._redacted(str(error))
        cleaned = {attributes.EXCEPTION_MESSAGE: message, attributes.EXCEPTION_STACKTRACE: self._redacted(stack)}
        self.span.record_exception(error, cleaned)
        self.span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {message}")

    def _redacted(self, text: str) -> str:
        return text.replace(self._secret, "…")

    def __del__(self) -> None:
        """Nobody will end it any more: a response that was dropped instead of closed."""
        if getattr(self, "_open", False):
            self.abandon()


def type_name(error: BaseException) -> str:
    """Return an exception's full name, as OpenTelemetry's error.type has it."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
