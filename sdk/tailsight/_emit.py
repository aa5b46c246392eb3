"""Spans that were measured elsewhere than in a `with` block: a wait in a queue, a share of a batch, a device's work."""

from collections.abc import Sequence
from threading import get_ident

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from ._details import Details
from ._otel import SPAN_KEY
from ._record import STATUS_ERROR
from ._recorder import current
from ._span import Span
from ._trace import SAMPLED, WAITING_VALUES, Trace
from ._values import Value


def trace_of(context: Context) -> tuple[Trace, int] | None:
    """Find where a span below the current span of `context` belongs: the trace's part in this process, and the parent.

    None where nothing is recorded: the SDK is off, or the trace is not sampled.
    """
    recorder = current.recorder or current.get()
    if recorder is None or not recorder.enabled:
        return None
    parent = context.get(SPAN_KEY)
    if type(parent) is Span and (trace := parent._trace) is not None and trace.recorder is recorder:
        return None if trace.records is None else (trace, parent._id)
    above = parent.get_span_context() if isinstance(parent, trace_api.Span) else None
    if above is None or not above.is_valid:
        trace = Trace(recorder, recorder.new_trace_id() or 1, SAMPLED, DEFAULT_TRACE_STATE)
        parent_id = 0
    else:
        trace = Trace(recorder, above.trace_id, int(above.trace_flags), above.trace_state)
        parent_id = above.span_id
        trace.entry_is_remote = above.is_remote
    return None if trace.records is None else (trace, parent_id)


def is_recorded(context: Context) -> bool:
    """Tell whether a span below the current span of `context` would be recorded, without making anything."""
    parent = context.get(SPAN_KEY)
    if type(parent) is Span and parent._trace is not None:
        return parent._trace.records is not None
    above = parent.get_span_context() if isinstance(parent, trace_api.Span) else None
    return above is None or not above.is_valid or bool(int(above.trace_flags) & SAMPLED)


def emit(
    context: Context,
    *,
    stage: str,
    name: str | None = None,
    start_ns: int,
    end_ns: int,
    attributes: dict[str, Value] | None = None,
    links: Sequence[SpanContext] = (),
    details: Details | None = None,
    thread_id: int | None = None,
) -> None:
    """Record a finished stage below the current span of `context`, if anything is recorded there.

    `start_ns` and `end_ns` are stamps of the recorder's clock (`current.recorder.now()`); `attributes` must be clean;
    `details` may hold a status and events. Any thread may call it, also after the request has ended.
    """
    place = trace_of(context)
    if place is None:
        return
    trace, parent_id = place
    span_id = trace.new_span_id()
    extra = None
    if links or details is not None:
        details = details or Details()
        for link in links:
            details.add_link(link, None, trace.recorder.limits)
        extra = details.packed()
        if details.status == STATUS_ERROR:
            trace.failed = True
    record = (
        name,
        stage,
        span_id,
        parent_id,
        start_ns,
        max(start_ns, end_ns),
        thread_id or get_ident(),
        attributes or {},
        extra,
    )
    if not trace.entry_id:  # a part of its own, with this span alone
        trace.entry_id = span_id
        trace.ended = True
    if trace.records is not None:
        trace.records.extend(record)  # no call between this line and the one above, see Trace.hand_on()
        if trace.ended or len(trace.records) >= WAITING_VALUES:
            trace.hand_on()
