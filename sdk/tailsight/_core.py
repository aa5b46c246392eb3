"""The hot path: what happens when a stage is entered, is left, and gets an attribute.

Everything here runs in the middle of the user's work. So: slots, no locks, one object per span, and each entry point
has its own try/except (free until something is raised), because nothing of ours may reach the application. Whatever is
not the plain case is left to the methods of Span.

sdk/native/core.c says the same in C, for the plain case: what is changed here is changed there. Which of the two runs
is decided at the end of this module.
"""

import sys
import time
from contextvars import Token
from dataclasses import dataclass
from threading import get_ident
from types import TracebackType
from typing import TYPE_CHECKING, Self

from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from ._accelerator import native
from ._details import Details
from ._guard import caught
from ._otel import SPAN_KEY, attach, get_current, reset, with_span
from ._record import FIELDS
from ._recorder import Recorder, current
from ._trace import WAITING_VALUES, Trace
from ._values import Value

# What a span has been used for. Anything but FRESH takes the slow way in.
FRESH = 0  # not entered; or entered in vain, since there was nothing to record
PREPARED = 1  # a request that brings its own parent, or attributes
ENTERED = 2
SHARED = 3  # entered again, perhaps by another thread that is still inside: further spans stand for it


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request brings before it is entered."""

    context: Context | None = None  # None: whatever is current
    attributes: dict[str, Value] | None = None


class PureCore:
    """What a span is made of, and its three hot methods. Span is the only subclass."""

    __slots__ = (
        "_attributes",
        "_details",
        "_id",
        "_name",
        "_parent_id",
        "_prepared",
        "_reuse_of",
        "_span_context",
        "_stage",
        "_start",
        "_state",
        "_token",
        "_trace",
    )

    _stage: str | None  # None: a request
    _name: str | None  # None: called as its stage
    _state: int
    _trace: Trace | None  # None: not entered, or not recorded
    _attributes: dict[str, Value] | None  # None: not open
    _prepared: Prepared | None
    # From here on: set when it is entered.
    _token: Token[Context] | None
    _id: int
    _parent_id: int
    _start: int
    _details: Details | None
    _span_context: SpanContext | None
    _reuse_of: "PureCore | None"

    def __enter__(self) -> Self:
        before: Context | None = None
        try:
            # No call between these two lines: CPython switches threads after calls, and only one may be the first.
            if self._state:
                return self._enter_specially()
            self._state = ENTERED
            self._token = None
            before = get_current()
            parent = before.get(SPAN_KEY)
            if (
                type(parent) is not type(self)
                or (trace := parent._trace) is None
                or trace.recorder is not current.recorder
            ):
                return self._enter_first(before, parent)
            if trace.records is None:
                self._state = FRESH
                return self
            # Called through a local name: CPython calls what a slot holds twice as fast that way.
            new_span_id, now = trace.new_span_id, trace.now
            self._trace = trace
            self._id = new_span_id()
            self._parent_id = parent._id
            self._details = self._span_context = None
            self._attributes = {}
            self._start = now()  # before it is current: whatever happens then, it can be closed
            # Nothing but the span key? A key of somebody else's must be kept.
            self._token = attach(Context({SPAN_KEY: self}) if len(before) == 1 else with_span(before, self))
        except Exception as error:
            if before is not None:
                self._leave(before)
            caught("entering a span", error)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        token: Token[Context] | None = None
        try:
            if self._state != ENTERED:  # of a fresh one there is nothing to leave
                return self._exit_again(exc) if self._state == SHARED else None
            token = self._token
            if token is None:
                return None
            self._token = None
            try:
                attributes = self._attributes
                if exc is not None or attributes is None or self._details is not None:
                    self._close(exc)
                    return None
                # What _close() does, without the call: a stage that just ends, as most do.
                trace: Trace = self._trace  # type: ignore[assignment]  # an open span has a trace
                now = trace.now
                end = now()
                self._attributes = None
                span_id = self._id
                record = (
                    self._name,
                    self._stage,
                    span_id,
                    self._parent_id,
                    self._start,
                    end,
                    get_ident(),
                    attributes,
                    None,
                )
                if trace.records is not None:
                    trace.records.extend(record)  # no call between this line and the one above, see Trace.hand_on()
                    if trace.entry_id == span_id or trace.ended or len(trace.records) >= WAITING_VALUES:
                        self._was_recorded(trace, end, attributes)
            finally:  # whatever happens, the application must not go on inside our span
                try:  # noqa: SIM105  contextlib.suppress costs more than the rest of a span
                    reset(token)
                except ValueError:
                    # In another context than attach()'s (a generator that another task finishes, say) there is nothing
                    # to undo: that context never saw our span.
                    pass
        except Exception as error:
            if token is not None:
                self._leave(getattr(token, "old_value", None))
            caught("leaving a span", error)
        return None

    def set(self, key: str, value: object) -> None:
        """Set an attribute: text, bool, int, float, bytes, None, lists and dicts of those; of others, str(value)."""
        attributes = self._attributes
        if attributes is None:
            return
        try:
            trace: Trace = self._trace  # type: ignore[assignment]  # an open span has a trace
            kind = type(value)
            if (
                (kind is int or kind is float or kind is bool or (type(value) is str and len(value) <= trace.max_text))
                and type(key) is str
                and len(attributes) < trace.max_attributes
            ):
                attributes[key] = value  # type: ignore[assignment]  # of a type that needs no cleaning
            else:
                self._set_cleaned(key, value, attributes)
        except Exception as error:
            caught("setting an attribute", error)

    if TYPE_CHECKING:  # Span's

        def _enter_specially(self) -> Self: ...
        def _enter_first(self, before: Context, parent: object) -> Self: ...
        def _exit_again(self, exc: BaseException | None) -> None: ...
        def _close(self, exc: BaseException | None) -> None: ...
        def _was_recorded(self, trace: Trace, end: int, attributes: dict[str, Value]) -> None: ...
        def _leave(self, before: object) -> None: ...
        def _set_cleaned(self, key: object, value: object, attributes: dict[str, Value]) -> None: ...


def _chosen() -> type[PureCore]:
    if native is None:
        return PureCore
    # The thread's own number and the system's monotonic clock need no call, where they are what Python uses as well.
    plain_thread = getattr(get_ident, "__module__", None) == "_thread"
    plain_clock = sys.platform == "linux" and (
        time.get_clock_info("perf_counter").implementation == "clock_gettime(CLOCK_MONOTONIC)"
    )
    try:
        return native.bind(
            trace=Trace,
            recorder=Recorder,
            current=current,
            fields=FIELDS,
            waiting_values=WAITING_VALUES,
            variable=getattr(get_current, "__self__", None),
            get_current=get_current,
            attach=attach,
            reset=reset,
            context=Context,
            span_key=SPAN_KEY,
            default_state=DEFAULT_TRACE_STATE,
            with_span=with_span,
            caught=caught,
            clock=time.perf_counter_ns if plain_clock else None,
            get_ident=None if plain_thread else get_ident,
        )
    except Exception:  # a second copy of tailsight in the process, or an OpenTelemetry that it does not know
        return PureCore


if TYPE_CHECKING:
    Core = PureCore
else:
    Core = _chosen()

NATIVE = Core is not PureCore
"""Whether the hot path is the C one."""

leave_step = native.leave_step if NATIVE and native is not None and hasattr(get_current, "__self__") else None
"""What a generator does after each step, in one call; None where Python does it."""
