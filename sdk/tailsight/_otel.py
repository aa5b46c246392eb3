"""The one place that touches OpenTelemetry's context: what is current, and how to change it.

The public functions cost twice as much as the ContextVar behind them, so the variable is used directly where it is what
OpenTelemetry uses by default. With another runtime context (OTEL_PYTHON_CONTEXT) the public functions do the work.
"""

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.context import Context

# The key has a random suffix, and no public name: a context with nothing but a span has nothing but this key.
SPAN_KEY: str = next(iter(trace_api.set_span_in_context(trace_api.INVALID_SPAN, Context())))

get_current: Callable[[], Context]
attach: Callable[[Context], Token[Context]]
reset: Callable[[Token[Context]], Any]

_variable = getattr(getattr(context_api, "_RUNTIME_CONTEXT", None), "_current_context", None)
if isinstance(_variable, ContextVar):
    get_current, attach, reset = _variable.get, _variable.set, _variable.reset
else:
    get_current, attach, reset = context_api.get_current, context_api.attach, context_api.detach


def detach(token: Token[Context]) -> None:
    """Make current again what was current before attach().

    In another context than attach()'s (a generator finished by another task, say) there is nothing to undo: that
    context never saw our span.
    """
    try:  # noqa: SIM105  contextlib.suppress costs more than the rest of a span
        reset(token)
    except ValueError:
        pass


def with_span(context: Context, span: object) -> Context:
    """Return `context` with `span` as its current span, and everything else that it holds."""
    values = dict(context)
    values[SPAN_KEY] = span
    return Context(values)


def suppressed() -> Context:
    """Return a context in which OpenTelemetry's instrumentations record nothing: for the sender's own requests."""
    values: dict[str, object] = {"suppress_instrumentation": True}
    for name in ("_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY"):
        key = getattr(context_api, name, None)
        if isinstance(key, str):
            values[key] = True
    return Context(values)
