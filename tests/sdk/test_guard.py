"""No error of ours reaches the application: every internal function is made to raise."""

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from sdk.fake_collector import FakeCollector

import tailsight
from tailsight import (
    _core,
    _decorate,
    _details,
    _guard,
    _http,
    _options,
    _otlp,
    _propagate,
    _record,
    _resource,
    _runtime,
    _sender,
    _span,
    _trace,
    _values,
)
from tailsight._backlog import Backlog
from tailsight._batches import Batcher
from tailsight._clock import Clock
from tailsight._delivery import Delivery
from tailsight._recorder import Recorder
from tailsight._sender import Sender


class InjectedError(Exception):
    pass


def application(flush_s: float = 2) -> list[Any]:
    """Use everything, and return what the application would see."""
    seen: list[Any] = []

    @tailsight.request
    def handle(x: int) -> int:
        with tailsight.stage("preprocess") as s:
            s.set("plain", 1)
            s.set("list", [object()])
            s.set_attributes({"a": 1})
            s.add_event("tick")
            s.add_link(s.get_span_context())
            s.record_exception(KeyError())
            s.set_status(StatusCode.ERROR)
        reused = tailsight.stage("compute")
        with reused, reused:
            pass
        return x

    @tailsight.stage("compute")
    def numbers() -> Iterator[int]:
        yield 1
        yield 2

    @tailsight.stage("compute")
    async def async_numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    @tailsight.stage("postprocess")
    async def main() -> list[int]:
        async with tailsight.stage("network"):
            return [number async for number in async_numbers()]

    @tailsight.stage("serialize")
    def broken() -> None:
        raise ValueError("the application's own")

    seen.append(handle(7))
    seen.append(list(numbers()))
    seen.append(asyncio.run(main()))
    with pytest.raises(ValueError, match="the application's own"):
        broken()
    with tailsight.extract({"traceparent": f"00-{1:032x}-{1:016x}-01"}) as context, tailsight.request(context=context):
        seen.append(type(tailsight.inject({})))
    tailsight.flush(timeout=flush_s)
    tailsight.stats()
    tailsight.shutdown(timeout=0.1)
    return seen


EXPECTED = [7, [1, 2], [1, 2], dict]

# What PureCore calls. The C one does not look these up: test_native.py makes fail what it calls, and runs this file with
# PureCore as well.
OF_PURE_CORE: list[tuple[Any, str]] = [
    (_core, "attach"),
    (_core, "get_current"),
    (_core, "with_span"),
    (_core, "get_ident"),
    (_core, "reset"),
    (_core, "Context"),
]

INTERNALS: list[tuple[Any, str]] = [
    *(() if _core.NATIVE else OF_PURE_CORE),
    (_span, "attach"),
    (_span, "detach"),
    (_span, "get_current"),
    (_span, "with_span"),
    (_span, "get_ident"),
    (_span, "clean"),
    (_span, "text"),
    (_span, "describe_end"),
    (_span, "Context"),
    (_span, "Trace"),
    (_span, "Details"),
    (_span, "SpanContext"),
    (_span.Span, "_begin_trace"),
    (_span.Span, "_close"),
    (_span.Span, "_more"),
    (_span.Span, "_stamp"),
    (_span.Span, "_end_with"),
    (_span.Span, "_enter_specially"),
    (_span.Span, "_enter_first"),
    (_span.Span, "_was_recorded"),
    (_span.Span, "_set_cleaned"),
    (_span.Span, "_exit_again"),
    (_span.Span, "suspend"),
    (_span.Span, "resume"),
    (_details.Details, "packed"),
    (_details.Details, "add_event"),
    (_details.Details, "add_link"),
    (_details.Details, "set_status"),
    (_details.Details, "add_exception"),
    (_details.Details, "fail"),
    (_details, "clean"),
    (_details, "text"),
    (_values, "text"),
    (_trace.Trace, "hand_on"),
    (_trace.Trace, "entry_ended"),
    (_record, "dump"),
    (_record, "load"),
    (_otlp, "spans"),
    (_otlp, "resource"),
    (_otlp, "export_request"),
    (_otlp, "partial_success"),
    (_resource, "detect"),
    (_runtime, "resource_attributes"),
    (_runtime, "resolve"),
    (_runtime, "install"),
    (_runtime, "_start"),
    (_runtime, "Sender"),
    (_runtime, "Recorder"),
    (_options, "_decide"),
    (_propagate, "_trace_headers"),
    (_propagate, "attach"),
    (_propagate, "detach"),
    (_propagate, "with_span"),
    (_decorate, "_plain"),
    (_decorate, "_coroutine"),
    (_decorate, "_generator"),
    (_decorate, "_async_generator"),
    (Backlog, "add"),
    (Backlog, "take"),
    (Clock, "fresh_anchor_ns"),
    (Delivery, "deliver"),
    (Sender, "push"),
    (Sender, "flush"),
    (Sender, "close"),
    (Sender, "_start"),
    (Sender, "_drain"),
    (Sender, "_encode_one_request"),
    (Batcher, "add"),
    (Batcher, "take"),
    (_http.Collector, "post"),
    (_http, "_retry_after"),
    (_sender.threading, "Thread"),
    (_guard.logger, "log"),
]


@pytest.mark.parametrize(("where", "name"), INTERNALS, ids=[f"{getattr(w, '__name__', w)}.{n}" for w, n in INTERNALS])
def test_an_internal_error_does_not_reach_the_application(
    monkeypatch: pytest.MonkeyPatch, collector: FakeCollector, where: Any, name: str
) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise InjectedError(name)

    monkeypatch.setenv("TAILSIGHT_ENDPOINT", collector.url)
    tailsight.configure(service="x")
    monkeypatch.setattr(where, name, fail)
    tailsight.configure(service="y", send_interval_s=0.01)
    try:
        # In a context of its own: where detach() itself fails, the span stays current.
        assert contextvars.copy_context().run(application) == EXPECTED
    finally:
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["now", "new_span_id", "new_trace_id", "push"])
def test_an_error_of_clock_ids_or_sink_does_not_reach_the_application(
    monkeypatch: pytest.MonkeyPatch, collector: FakeCollector, name: str
) -> None:
    def fail(*args: object) -> Any:
        raise InjectedError(name)

    init = Recorder.__init__

    def broken(self: Recorder, **kwargs: Any) -> None:
        init(self, **kwargs)
        setattr(self, name, fail)

    monkeypatch.setattr(Recorder, "__init__", broken)
    tailsight.configure(service="x", endpoint=collector.url)
    assert application() == EXPECTED
    assert tailsight.stats().internal_errors > 0


def test_an_internal_error_is_logged_once_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, collector: FakeCollector
) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise InjectedError

    tailsight.configure(endpoint=collector.url)
    monkeypatch.setattr(_trace.Trace, "__init__", fail)
    for _ in range(10):
        with tailsight.stage("compute"):
            pass
    assert tailsight.stats().internal_errors == 10
    (record,) = caplog.records
    assert "internal error in entering a span: the application is not affected" in record.getMessage()
    assert record.exc_info


def test_a_log_handler_that_uses_the_sdk_does_not_recurse(monkeypatch: pytest.MonkeyPatch) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            with tailsight.stage("serialize"):
                emitted.append(record.getMessage())

    def fail(*args: object, **kwargs: object) -> Any:
        raise InjectedError

    emitted: list[str] = []
    handler = Handler()
    _guard.logger.addHandler(handler)
    monkeypatch.setattr(_trace.Trace, "__init__", fail)
    try:
        with tailsight.stage("compute"):
            pass
    finally:
        _guard.logger.removeHandler(handler)
    assert len(emitted) == 1


def test_spans_that_cannot_be_packed_are_counted(collector: FakeCollector) -> None:
    tailsight.configure(endpoint=collector.url)
    with tailsight.request() as r, tailsight.stage("compute") as s:
        for span in (r, s):
            span._attributes["bad"] = object()  # type: ignore[index,assignment]
    assert tailsight.stats().dropped == {"internal_error": 2}
