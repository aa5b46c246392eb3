"""What only some spans have: events, links, a status, and how an exception becomes those."""

import traceback

from opentelemetry.trace import SpanContext, Status, StatusCode
from opentelemetry.util import types as otel_types

from . import attributes as keys
from ._pace import Packed
from ._record import STATUS_ERROR, STATUS_OK, STATUS_UNSET, EventRecord, Extra, LinkRecord
from ._recorder import Limits
from ._values import Value, clean, text

MAX_STACK_FRAMES = 64

_STATUS = {StatusCode.UNSET: STATUS_UNSET, StatusCode.OK: STATUS_OK, StatusCode.ERROR: STATUS_ERROR}


class Details:
    """The mutable counterpart of Extra, made when it is needed first."""

    __slots__ = (
        "dropped_attributes",
        "dropped_events",
        "dropped_links",
        "events",
        "kind",
        "links",
        "pace",
        "status",
        "status_message",
    )

    def __init__(self) -> None:
        self.status = STATUS_UNSET
        self.status_message = ""
        self.events: list[EventRecord] = []
        self.links: list[LinkRecord] = []
        self.dropped_attributes = 0
        self.dropped_events = 0
        self.dropped_links = 0
        self.kind = 0  # OTLP's number; 0: what follows from the span's place
        self.pace: Packed | None = None

    def packed(self) -> tuple[object, ...]:
        """Return an Extra made of plain tuples, the only ones that marshal takes."""
        return tuple(
            Extra(
                self.status,
                self.status_message,
                tuple(tuple(event) for event in self.events),  # type: ignore[misc]
                tuple(tuple(link) for link in self.links),  # type: ignore[misc]
                self.dropped_attributes,
                self.dropped_events,
                self.dropped_links,
                self.kind,
                self.pace,
            )
        )

    def add_event(self, name: str, attributes: otel_types.Attributes, time_ns: int, limits: Limits) -> None:
        """Keep an event, or count it."""
        if len(self.events) >= limits.events:
            self.dropped_events += 1
            return
        self.events.append(EventRecord(time_ns, text(name, limits.value_length), _plain(attributes, limits)))

    def add_link(self, context: SpanContext, attributes: otel_types.Attributes, limits: Limits) -> None:
        """Keep a link, or count it."""
        if len(self.links) >= limits.events or not context.is_valid:  # OTLP has no room for ids of another size
            self.dropped_links += 1
            return
        state = context.trace_state.to_header() if context.trace_state else ""
        self.links.append(
            LinkRecord(
                int(context.trace_id),
                int(context.span_id),
                state,
                int(context.trace_flags) & 0xFF,
                _plain(attributes, limits),
            )
        )

    def set_status(self, status: Status | StatusCode, description: str | None) -> None:
        """Set the outcome; only an error has a message."""
        code = status if isinstance(status, StatusCode) else status.status_code
        if isinstance(status, Status):
            description = status.description
        self.status = _STATUS[code]
        self.status_message = text(description, 1024) if description and self.status == STATUS_ERROR else ""

    def add_exception(
        self, exception: BaseException, attributes: otel_types.Attributes, time_ns: int, limits: Limits
    ) -> None:
        """Keep an exception as OpenTelemetry's `exception` event."""
        stack = "".join(traceback.format_exception(exception, limit=MAX_STACK_FRAMES))
        described: dict[str, otel_types.AttributeValue] = {
            keys.EXCEPTION_TYPE: _type_name(exception),
            keys.EXCEPTION_MESSAGE: text(exception, limits.value_length),
            # The end of a stack says more than its beginning: that is where it was raised.
            keys.EXCEPTION_STACKTRACE: stack[-limits.value_length :],
        }
        described.update(attributes or {})
        self.add_event(keys.EXCEPTION_EVENT, described, time_ns, limits)

    def fail(self, exception: BaseException, time_ns: int, limits: Limits) -> None:
        """Let the exception that ended a span be its outcome."""
        if self.status == STATUS_UNSET:  # what the user decided stands
            self.status = STATUS_ERROR
            self.status_message = f"{type(exception).__name__}: {text(exception, 1024)}"
        self.add_exception(exception, None, time_ns, limits)


def describe_end(exc: BaseException) -> str | None:
    """Return the attribute that marks an end from outside, or None if the exception is the stage's own.

    A consumer that closes a stream (GeneratorExit) and a caller that cancels a task (asyncio.CancelledError, and what
    other event loops raise: all derive from BaseException alone) are no failures of the stage.
    """
    if isinstance(exc, GeneratorExit):
        return keys.STREAM_ABANDONED
    if isinstance(exc, Exception | KeyboardInterrupt | SystemExit | BaseExceptionGroup):
        return None
    return keys.CANCELLED


def _type_name(exception: BaseException) -> str:
    kind = type(exception)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _plain(attributes: otel_types.Attributes, limits: Limits) -> dict[str, Value]:
    pairs = list((attributes or {}).items())[: limits.attributes]
    return {text(key, limits.value_length): clean(value, limits.value_length) for key, value in pairs if key != ""}
