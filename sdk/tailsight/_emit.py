"""Spans that were measured elsewhere than in a `with` block: a wait in a queue, a share of a batch, a device's work."""

from collections.abc import Sequence
from threading import get_ident

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from ._otel import SPAN_KEY
from ._record import Extra, LinkRecord
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


def emit(
    context: Context,
    *,
    stage: str,
    name: str | None = None,
    start_ns: int,
    end_ns: int,
    attributes: dict[str, Value] | None = None,
    links: Sequence[SpanContext] = (),
) -> SpanContext | None:
    """Record a finished stage below the current span of `context`, and return its span context.

    `start_ns` and `end_ns` are stamps of the recorder's clock (`current.recorder.now()`); `attributes` must be clean.
    None is returned where nothing is recorded. Any thread may call it, also after the request has ended.
    """
    place = trace_of(context)
    if place is None:
        return None
    trace, parent_id = place
    span_id = trace.new_span_id()
    extra = None
    if links:
        packed = tuple(
            tuple(LinkRecord(link.trace_id, link.span_id, link.trace_state.to_header(), int(link.trace_flags), {}))
            for link in links
        )
        extra = tuple(Extra(links=packed))  # type: ignore[arg-type]  # marshal takes plain tuples only
    record = (name, stage, span_id, parent_id, start_ns, max(start_ns, end_ns), get_ident(), attributes or {}, extra)
    if not trace.entry_id:  # a part of its own, with this span alone
        trace.entry_id = span_id
        trace.ended = True
    if trace.records is not None:
        trace.records.extend(record)  # no call between this line and the one above, see Trace.hand_on()
        if trace.ended or len(trace.records) >= WAITING_VALUES:
            trace.hand_on()
    return SpanContext(trace.trace_id, span_id, False, trace_api.TraceFlags(trace.flags), trace.state)
