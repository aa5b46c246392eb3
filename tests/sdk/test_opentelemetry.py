"""Parents and children in both directions, with OpenTelemetry's own SDK."""

import threading
from collections.abc import Iterator

import pytest
from opentelemetry import baggage
from opentelemetry import context as context_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TraceState

import tailsight
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[Tracer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("test")
    provider.shutdown()


def test_an_opentelemetry_span_inside_a_stage_is_its_child(
    captured: Capture, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with tailsight.request(), tailsight.stage("compute") as s, tracer.start_as_current_span("sql"):
        pass
    (sql,) = exporter.get_finished_spans()
    assert sql.parent is not None
    assert (f"{sql.parent.trace_id:032x}", f"{sql.parent.span_id:016x}") == (s.trace_id, s.span_id)
    assert not sql.parent.is_remote


def test_a_stage_inside_an_opentelemetry_span_is_its_child(
    captured: Capture, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.start_as_current_span("http") as http, tailsight.request(), tailsight.stage("compute"):
        pass
    above = http.get_span_context()
    request = captured.one(name="request")
    assert (request.trace_id, request.parent_span_id) == (f"{above.trace_id:032x}", f"{above.span_id:016x}")
    assert request.kind == "INTERNAL", "the parent is in this process"
    assert captured.one(stage="compute").parent_span_id == request.span_id


def test_layers_may_alternate(captured: Capture, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    with tailsight.request() as r, tracer.start_as_current_span("middle") as middle, tailsight.stage("compute"):
        pass
    compute = captured.one(stage="compute")
    assert compute.parent_span_id == f"{middle.get_span_context().span_id:016x}"
    assert compute.trace_id == r.trace_id
    assert captured.one(name="request").span_id == r.span_id


def test_a_remote_parent_makes_a_request_a_server_span(captured: Capture) -> None:
    remote = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("v", "1")]))
    token = context_api.attach(trace_api.set_span_in_context(NonRecordingSpan(remote)))
    with tailsight.request(), tailsight.stage("compute"):
        pass
    context_api.detach(token)
    request, compute = captured.spans
    assert (request.kind, compute.kind) == ("SERVER", "INTERNAL")
    assert (request.trace_id, request.parent_span_id) == (f"{5:032x}", f"{6:016x}")
    assert request.trace_state == "v=1"


def test_a_context_with_one_foreign_key_is_neither_taken_for_a_span_nor_lost(captured: Capture) -> None:
    token = context_api.attach(context_api.Context({"tenant": "blue"}))
    with tailsight.request() as r:
        assert context_api.get_value("tenant") == "blue"
        with tailsight.stage("compute"):
            assert context_api.get_value("tenant") == "blue"
    context_api.detach(token)
    assert captured.one(stage="compute").parent_span_id == r.span_id
    assert captured.one(name="request").parent_span_id is None


def test_baggage_set_inside_a_stage_stays_visible_to_inner_stages(captured: Capture) -> None:
    with tailsight.request():
        token = context_api.attach(baggage.set_baggage("user", "7"))
        with tailsight.stage("compute"):
            assert baggage.get_baggage("user") == "7"
        context_api.detach(token)
    assert len(captured.spans) == 2


def test_something_that_is_no_span_under_the_span_key_is_no_parent(captured: Capture) -> None:
    token = context_api.attach(trace_api.set_span_in_context("not a span"))  # type: ignore[arg-type]
    with tailsight.stage("compute"):
        pass
    context_api.detach(token)
    assert captured.spans[0].parent_span_id is None


def test_an_invalid_parent_is_no_parent(captured: Capture) -> None:
    with trace_api.use_span(trace_api.INVALID_SPAN), tailsight.stage("compute"):
        pass
    assert captured.spans[0].parent_span_id is None


def test_what_others_set_on_the_current_span_is_recorded(captured: Capture) -> None:
    with tailsight.stage("network"):
        span = trace_api.get_current_span()
        assert span.is_recording()
        span.set_attribute("http.route", "/rank")
        span.set_attributes({"http.status": 200})
        span.add_event("connected", {"reused": True})
        span.update_name("GET /rank")
        span.set_status(trace_api.StatusCode.ERROR, "late")
    (recorded,) = captured.spans
    assert recorded.attributes == {"http.route": "/rank", "http.status": 200}
    assert (recorded.name, recorded.stage) == ("GET /rank", "network")
    assert recorded.events[0].attributes == {"reused": True}
    assert (recorded.status, recorded.status_message) == ("ERROR", "late")


def test_under_an_unsampled_parent_nothing_is_recorded_and_the_decision_travels_on(captured: Capture) -> None:
    unsampled = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(0)))
    with trace_api.use_span(unsampled):
        with tailsight.stage("compute") as s:
            s.set("ignored", 1)
            assert not s.is_recording()
            assert trace_api.get_current_span() is unsampled, "a stage leaves the context alone"
        with tailsight.request() as r, tailsight.stage("compute"):
            here = trace_api.get_current_span().get_span_context()
            assert (here.trace_id, here.trace_flags) == (5, 0)
            assert here.span_id != 6, "what goes out names a new parent"
            assert not r.is_recording()
        assert trace_api.get_current_span() is unsampled
    assert captured.spans == []


def test_an_unsampled_stage_keeps_opentelemetrys_children_unsampled(
    captured: Capture, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    off = TracerProvider(sampler=ALWAYS_OFF).get_tracer("off")
    with off.start_as_current_span("dropped"), tailsight.stage("compute"), tracer.start_as_current_span("child"):
        pass
    assert captured.spans == []
    assert exporter.get_finished_spans() == ()


def test_another_thread_without_the_context_begins_its_own_trace(captured: Capture) -> None:
    def work() -> None:
        with tailsight.stage("compute"):
            pass

    with tailsight.request() as r:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert captured.one(stage="compute").trace_id != r.trace_id
