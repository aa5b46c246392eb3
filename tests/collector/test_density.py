import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span

from tailsight_collector import BadRequestError
from tailsight_collector.receive.checks import FEW_SPANS, LEAST_SPAN_BYTES, check, look
from tailsight_collector.receive.density import (
    MAX_DECODED_BYTES,
    UNSUSPICIOUS_BYTES,
    check_json,
    check_protobuf,
    decoded_bytes,
)

TYPE = ExportTraceServiceRequest.DESCRIPTOR


def honest(size_bytes):
    """About so many bytes of spans with a few attributes each."""
    attributes = {"http.route": "/v1/users/{id}", "http.status": 200, "cached": False, "ratio": 0.5}
    spans = [span(attributes=attributes) for _ in range(500)]
    body = request(spans).SerializeToString()
    return body * (size_bytes // len(body) + 1)


def test_honest_bodies_are_decoded_up_to_the_limit_of_a_request():
    body = honest(40 * 1024 * 1024)
    check_protobuf(body, ExportTraceServiceRequest)
    assert decoded_bytes(body, TYPE) < MAX_DECODED_BYTES * 40 / 64


def test_small_bodies_are_not_looked_at():
    check_protobuf(b"\x0a\x00" * (UNSUSPICIOUS_BYTES // 2), ExportTraceServiceRequest)
    check_json(b"[" * UNSUSPICIOUS_BYTES)


@given(st.integers(1, 400), st.integers(0, 20), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_the_estimate_of_small_messages_is_exact(spans, attributes, events):
    """Nothing is sampled: what is counted is what is there, by a sum of fixed sizes."""
    message = request([span(attributes=dict.fromkeys(map(str, range(attributes)), 1)) for _ in range(spans)])
    for each in message.resource_spans[0].scope_spans[0].spans:
        for _ in range(events):
            each.events.add()
    one = decoded_bytes(request([]).SerializeToString(), TYPE)
    per_attribute = decoded_bytes(request([], {"a": 1, "b": 1}).SerializeToString(), TYPE) - decoded_bytes(
        request([], {"a": 1}).SerializeToString(), TYPE
    )
    body = message.SerializeToString()
    if len(body) <= 16 * 1024:
        found = decoded_bytes(body, TYPE) - one
        per_span = decoded_bytes(request([span()]).SerializeToString(), TYPE) - one
        assert found >= spans * (per_span + attributes * per_attribute)
        assert (found == spans * (per_span + attributes * per_attribute)) == (events == 0)


def test_specks_are_no_spans():
    few, many = b"\x12\x00" * FEW_SPANS, b"\x12\x00" * (FEW_SPANS + 1)
    assert check(scope_of(few), 0).spans == FEW_SPANS
    with pytest.raises(BadRequestError, match="larger") as caught:
        check(scope_of(many), 0)
    assert caught.value.status == 413
    real = request([span() for _ in range(FEW_SPANS + 1)])
    assert real.ByteSize() > (FEW_SPANS + 1) * LEAST_SPAN_BYTES
    assert check(real, 2**63).rejected == {}
    try:
        assert look(scope_of(many).SerializeToString(), 0) is None
    except BadRequestError as error:
        assert error.status == 413  # noqa: PT017 - the C module may be here or not


def scope_of(spans):
    message = ExportTraceServiceRequest()
    message.resource_spans.add().scope_spans.add().MergeFromString(spans)
    return message
