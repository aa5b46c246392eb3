"""W3C trace context in and out.

OpenTelemetry's propagator reads traceparent and writes both headers. What is added: headers in any shape that servers
have them in, two `traceparent` headers count as none, and tracestate by level 2 of the specification.
"""

from collections.abc import Iterable, Mapping, MutableMapping
from contextvars import Token
from types import TracebackType
from typing import Self

from opentelemetry import trace as trace_api
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from . import _tracestate
from ._guard import caught, guarded
from ._otel import attach, detach, get_current, with_span

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

Headers = Mapping[str, object] | Iterable[tuple[str | bytes, object]]

_propagator = TraceContextTextMapPropagator()


class RemoteContext(Context):
    """An OpenTelemetry context that continues the caller's trace.

    Pass it to `request(context=…)`, or enter it with `with`: then it is current inside the block.
    """

    _token: Token[Context] | None = None

    def __enter__(self) -> Self:
        try:
            self._token = attach(self)
        except Exception as error:
            caught("entering a remote context", error)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            token, self._token = self._token, None
            if token is not None:
                detach(token)
        except Exception as error:
            caught("leaving a remote context", error)


@guarded("extract", lambda: RemoteContext(get_current()))
def extract(headers: Headers) -> RemoteContext:
    """Read `traceparent` and `tracestate` from a request's headers.

    `headers` is a mapping or an iterable of pairs, as HTTP libraries and ASGI's `scope["headers"]`
    have them: names in any case, values as str, bytes or lists of those. Without a valid traceparent the result is the
    current context unchanged, so a request made with it continues what is current, or begins a new trace. If the
    current span already belongs to the caller's trace, because another instrumentation has read the same headers, it
    stays the parent.
    """
    context = get_current()
    found = _trace_headers(headers)
    if len(found[TRACEPARENT]) != 1:
        return RemoteContext(context)
    extracted = _propagator.extract({TRACEPARENT: found[TRACEPARENT][0]}, Context())
    caller = trace_api.get_current_span(extracted).get_span_context()
    here = trace_api.get_current_span(context).get_span_context()
    if not caller.is_valid or here.trace_id == caller.trace_id:
        return RemoteContext(context)
    state = _tracestate.parse(found[TRACESTATE])
    remote = SpanContext(caller.trace_id, caller.span_id, True, caller.trace_flags, state)
    return RemoteContext(with_span(context, NonRecordingSpan(remote)))


def inject(headers: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Write the current span's `traceparent`, and `tracestate` if there is one, into `headers` and return them.

    Without an argument the headers are a new dict. Without a current span nothing is written.
    """
    carrier: MutableMapping[str, str] = {} if headers is None else headers
    try:
        _propagator.inject(carrier)
    except Exception as error:
        caught("inject", error)
    return carrier


def _trace_headers(headers: Headers) -> dict[str, list[str]]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    found: dict[str, list[str]] = {TRACEPARENT: [], TRACESTATE: []}
    for name, value in pairs:
        values = found.get(_text(name).lower())
        if values is not None:
            values.extend(_text(item) for item in (value if isinstance(value, list | tuple) else [value]))
    return found


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
