"""The span: what `with tailsight.stage(…) as s` gives, and a real OpenTelemetry span.

The hot path is in _core.py; here is everything that does not happen to every span.
"""

from collections.abc import Callable, Mapping
from functools import partial
from threading import get_ident
from types import TracebackType
from typing import Any, Self, TypeVar

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, Status, StatusCode, TraceFlags
from opentelemetry.trace.span import DEFAULT_TRACE_STATE
from opentelemetry.util import types as otel_types

from . import _decorate
from . import attributes as keys
from ._core import ENTERED, FRESH, PREPARED, SHARED, Core, Prepared
from ._details import Details, describe_end
from ._guard import caught
from ._otel import SPAN_KEY, attach, detach, get_current, with_span
from ._pace import Pace
from ._record import KIND_CLIENT, KIND_SERVER, STATUS_ERROR
from ._recorder import Recorder, current
from ._trace import SAMPLED, WAITING_VALUES, Trace
from ._values import Value, clean, text

F = TypeVar("F", bound=Callable[..., Any])


class Span(Core, trace_api.Span):
    """One execution of a stage, or one request. Made by stage() and request(); works once entered.

    It is OpenTelemetry's current span while it is open, so what other instrumentation sets on the current span is
    recorded here. No method raises, and none does anything before the span is entered or after it has ended.
    """

    __slots__ = ()

    # --- entering and leaving, beside Core's hot path ---------------------------------------------------------------

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, tb)

    def __call__(self, function: F) -> F:
        """Decorate a function, coroutine function, generator function or async generator function."""
        try:
            return _decorate.decorate(
                function, lambda name: partial(new_span, self._stage, self._name or name, self._prepared)
            )
        except Exception as error:
            caught("decorating a function", error)
            return function

    def suspend(self) -> Context | None:
        """Stop being current, without ending: a generator yields. Return what resume() needs, None if nothing."""
        token, self._token = self._token, None
        if token is None:
            return None
        # Not only this span: a `with stage()` around the yield must be current again in the next step.
        context = get_current()
        detach(token)
        return context

    def resume(self, context: Context | None) -> None:
        """Be current again, as before suspend()."""
        if context is not None:
            self._token = attach(context)

    def keep_pace(self, pace: Pace) -> None:
        """Take what is known of a stream's items. The statistics are made where the record is encoded."""
        if self._attributes is not None:
            self._more().pace = pace.packed()

    def _close(self, exc: BaseException | None) -> None:
        """End, with the exception that ended the work if there was one. A second time does nothing."""
        attributes = self._attributes
        if attributes is None:
            return
        trace: Trace = self._trace  # type: ignore[assignment]  # an open span has a trace
        now = trace.now
        end = now()
        if exc is not None:
            self._end_with(exc, end, attributes)
        self._attributes = None
        details = self._details
        extra = None
        if details is not None:
            extra = details.packed()
            if details.status == STATUS_ERROR:
                trace.failed = True
        record = (
            self._name,
            self._stage,
            self._id,
            self._parent_id,
            self._start,
            end,
            get_ident(),
            attributes,
            extra,
        )
        if trace.records is None:  # the sampler dropped the request in the meantime
            return
        trace.records.extend(record)  # no call between this line and the one above, see Trace.hand_on()
        if trace.entry_id == self._id or trace.ended or len(trace.records) >= WAITING_VALUES:
            self._was_recorded(trace, end, attributes)

    def _was_recorded(self, trace: Trace, end: int, attributes: dict[str, Value]) -> None:
        """Go on with a record that does not just wait for the end of its request."""
        if trace.entry_id == self._id:
            trace.entry_ended(self._name or self._stage or "", end - self._start, attributes.get(keys.DEADLINE_MS))
        else:
            trace.hand_on()

    # --- what can be recorded ---------------------------------------------------------------------------------------

    def record_exception(
        self,
        exception: BaseException,
        attributes: otel_types.Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,  # noqa: ARG002  OpenTelemetry's signature; the convention dropped the attribute
    ) -> None:
        """Record an exception that the stage handled itself, as an event. The status stays as it is."""
        if self._attributes is None or self._trace is None:
            return
        try:
            self._more().add_exception(exception, attributes, self._stamp(timestamp), self._trace.recorder.limits)
        except Exception as error:
            caught("recording an exception", error)

    def set_attribute(self, key: str, value: otel_types.AttributeValue) -> None:
        """Do as set() does, under OpenTelemetry's name."""
        self.set(key, value)

    def set_attributes(self, attributes: Mapping[str, otel_types.AttributeValue]) -> None:
        """Set several attributes."""
        try:
            for key, value in attributes.items():
                self.set(key, value)
        except Exception as error:
            caught("setting attributes", error)

    def add_event(self, name: str, attributes: otel_types.Attributes = None, timestamp: int | None = None) -> None:
        """Record that something happened, now or at `timestamp` (nanoseconds of Unix time)."""
        if self._attributes is None or self._trace is None:
            return
        try:
            self._more().add_event(name, attributes, self._stamp(timestamp), self._trace.recorder.limits)
        except Exception as error:
            caught("adding an event", error)

    def add_link(self, context: SpanContext, attributes: otel_types.Attributes = None) -> None:
        """Point to a span of this or another trace."""
        if self._attributes is None or self._trace is None:
            return
        try:
            self._more().add_link(context, attributes, self._trace.recorder.limits)
        except Exception as error:
            caught("adding a link", error)

    def update_name(self, name: str) -> None:
        """Change the span's name."""
        if self._attributes is not None:
            self._name = text(name, 1024)

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Set the outcome. Without this it is ERROR if an exception ended the span, else UNSET."""
        if self._attributes is None:
            return
        try:
            self._more().set_status(status, description)
        except Exception as error:
            caught("setting the status", error)

    def end(self, end_time: int | None = None) -> None:  # noqa: ARG002  OpenTelemetry's signature
        """End now, before the `with` block does. The span stays current until the block ends."""
        try:
            self._close(None)
        except Exception as error:
            caught("ending a span", error)

    # --- what can be asked ------------------------------------------------------------------------------------------

    def is_recording(self) -> bool:
        """Tell whether what is set now will be kept."""
        return self._attributes is not None

    def get_span_context(self) -> SpanContext:
        """Return OpenTelemetry's handle. It is made when somebody asks: most spans are never asked."""
        trace = self._trace
        if trace is None:
            return INVALID_SPAN_CONTEXT
        try:
            if self._span_context is None:
                self._span_context = SpanContext(trace.trace_id, self._id, False, TraceFlags(trace.flags), trace.state)
            return self._span_context
        except Exception as error:
            caught("making a span context", error)
            return INVALID_SPAN_CONTEXT

    @property
    def trace_id(self) -> str:
        """The trace's id, 32 hexadecimal digits; zeros if this span is not recorded."""
        return f"{0 if self._trace is None else self._trace.trace_id:032x}"

    @property
    def span_id(self) -> str:
        """The span's id, 16 hexadecimal digits; zeros if this span is not recorded."""
        return f"{0 if self._trace is None else self._id:016x}"

    # --- off the hot path -------------------------------------------------------------------------------------------

    def _enter_specially(self) -> Self:
        """Enter an object that is not fresh: one that was entered before, or a request with a context of its own."""
        if self._state != PREPARED:
            again = new_span(self._stage, self._name, self._prepared)
            again._reuse_of = self
            self._state = SHARED
            return again.__enter__()  # type: ignore[return-value]  # Self is Span, there are no subclasses
        self._state = ENTERED
        self._token = None
        before = get_current()
        base = self._prepared.context if self._prepared is not None else None
        return self._enter_first(before, (before if base is None else base).get(SPAN_KEY))

    def _enter_first(self, before: Context, parent: object) -> Self:
        """Enter where the parent is foreign, of another process, or missing; or where something was prepared."""
        recorder = current.recorder or current.get()
        prepared = self._prepared
        base = before if prepared is None or prepared.context is None else prepared.context
        if recorder is None or not recorder.enabled:
            return self._not_entered()
        if type(parent) is Span and (trace := parent._trace) is not None and trace.recorder is recorder:
            # Of a shared object each entry is current, recorded or not: its exit must not end the one around it.
            if trace.records is None and base is before and self._reuse_of is None:
                return self._not_entered()
            self._id = recorder.new_span_id()
            self._parent_id = parent._id
        else:
            begun = self._begin_trace(recorder, parent)
            if begun is None:
                return self._not_entered()
            trace = begun
        self._trace = trace
        self._details = self._span_context = None
        if trace.records is not None:
            self._attributes = {} if prepared is None or prepared.attributes is None else prepared.attributes.copy()
        # Nothing but the span key, or nothing? One key may be a foreign one, which must be kept.
        alone = len(base) == (parent is not None)
        entered = Context({SPAN_KEY: self}) if alone else with_span(base, self)
        self._start = recorder.now()
        self._token = attach(entered)
        return self

    def _not_entered(self) -> Self:
        self._state = FRESH if self._prepared is None else PREPARED
        return self

    def _begin_trace(self, recorder: Recorder, parent: object) -> Trace | None:
        """Begin the trace's part in this process."""
        above = None
        if parent is not None and isinstance(parent, trace_api.Span):
            above = parent.get_span_context()
            if not above.is_valid:
                above = None
        if above is None:
            trace = Trace(recorder, recorder.new_trace_id() or 1, SAMPLED, DEFAULT_TRACE_STATE)
        else:
            trace = Trace(recorder, above.trace_id, int(above.trace_flags), above.trace_state)
        if trace.records is None and self._stage is not None:
            return None  # the caller decided not to sample: a stage costs nothing then, and leaves no mark
        # A request that is not sampled becomes current all the same: what it sends on must name a new parent id.
        self._id = trace.entry_id = recorder.new_span_id()
        self._parent_id = 0
        if above is not None:
            self._parent_id = above.span_id
            trace.entry_is_remote = above.is_remote
            if above.is_remote and self._stage is None:
                trace.entry_kind = KIND_SERVER
        return trace

    def _leave(self, before: object) -> None:
        """Make sure not to be current, after an error: make `before` current instead."""
        try:
            if get_current().get(SPAN_KEY) is self:
                self._token = None
                attach(before if isinstance(before, Context) else Context())
        except Exception as error:
            caught("leaving a span", error)

    def as_client(self) -> None:
        """Say that this is a call to another service, as its caller sees it: kind CLIENT. Once it is entered."""
        if self._attributes is not None:
            self._more().kind = KIND_CLIENT

    def _more(self) -> Details:
        details = self._details
        if details is None:
            details = self._details = Details()
        return details

    def _set_cleaned(self, key: object, value: object, attributes: dict[str, Value]) -> None:
        """Set what set() could not take as it is."""
        limits = self._trace.recorder.limits  # type: ignore[union-attr]  # an open span has a trace
        if type(key) is not str:
            key = text(key, limits.value_length)
        if len(attributes) >= limits.attributes and key not in attributes:
            self._more().dropped_attributes += 1
            return
        attributes[key] = clean(value, limits.value_length)

    def _stamp(self, unix_ns: int | None) -> int:
        trace = self._trace
        assert trace is not None  # noqa: S101  open spans only
        return trace.recorder.now() if unix_ns is None else int(unix_ns) - trace.anchor_ns

    def _end_with(self, exc: BaseException, end_ns: int, attributes: dict[str, Value]) -> None:
        try:
            mark = describe_end(exc)
            if mark is not None:
                attributes[mark] = True
            elif isinstance(exc, StopIteration | StopAsyncIteration):  # how __next__ says "no more", not a failure
                pass
            elif not (isinstance(exc, SystemExit) and (exc.code is None or exc.code == 0)):  # sys.exit(0) is success
                self._more().fail(exc, end_ns, self._trace.recorder.limits)  # type: ignore[union-attr]
        except Exception as error:
            caught("recording how a span ended", error)

    def _exit_again(self, exc: BaseException | None) -> None:
        """Leave an object that several spans share: the current context tells which of them ends here."""
        span = get_current().get(SPAN_KEY)
        if type(span) is Span and (span is self or span._reuse_of is self):
            token, span._token = span._token, None
            span._close(exc)
            if token is not None:
                detach(token)


def new_span(stage: str | None, name: str | None, prepared: Prepared | None = None) -> Span:
    """Make a span that has not begun."""
    span = Span()
    span._stage = stage
    span._name = name
    span._attributes = span._trace = span._reuse_of = None
    span._prepared = prepared
    span._state = FRESH if prepared is None else PREPARED
    return span
