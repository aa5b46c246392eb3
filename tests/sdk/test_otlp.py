"""The encoder equals opentelemetry-proto's, byte by byte."""

import math
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tailsight import _otlp, _record
from tailsight import attributes as keys
from tailsight._record import EventRecord, Extra, LinkRecord, SpanRecord, TraceBatch

int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
values = st.recursive(
    texts | st.booleans() | int64 | st.floats() | st.binary(max_size=40) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
attributes = st.dictionaries(texts, values, max_size=5)
counts = st.integers(0, 2**32 - 1)
stamps = st.integers(0, 2**62)
span_ids = st.integers(1, 2**64 - 1)
trace_ids = st.integers(1, 2**128 - 1)

extras = st.builds(
    Extra,
    status=st.sampled_from([0, 1, 2]),
    status_message=texts,
    events=st.lists(st.builds(EventRecord, stamps, texts, attributes), max_size=3).map(tuple),
    links=st.lists(st.builds(LinkRecord, trace_ids, span_ids, texts, counts, attributes), max_size=3).map(tuple),
    dropped_attributes=counts,
    dropped_events=counts,
    dropped_links=counts,
    kind=st.just(0),
    pace=st.none(),
)
spans = st.builds(
    SpanRecord,
    name=texts,
    stage=st.none() | texts,
    kind=st.sampled_from([1, 2]),
    parent_is_remote=st.booleans(),
    span_id=span_ids,
    parent_id=st.just(0) | span_ids,
    start_ns=stamps,
    end_ns=stamps,
    thread_id=st.integers(0, 2**63 - 1),
    attributes=attributes,
    extra=st.none() | extras,
)
batches = st.builds(
    TraceBatch, trace_ids, texts, st.integers(0, 255), st.integers(0, 2**62), st.lists(spans, min_size=1, max_size=3)
)


def any_value(value: Any) -> AnyValue:
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
    return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))


def key_values(items: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=any_value(value)) for key, value in items.items()]


def official(span: SpanRecord, batch: TraceBatch) -> Span:
    extra = span.extra or Extra()
    own = ({} if span.stage is None else {keys.STAGE: span.stage}) | {keys.THREAD_ID: span.thread_id}
    return Span(
        trace_id=batch.trace_id.to_bytes(16),
        span_id=span.span_id.to_bytes(8),
        trace_state=batch.trace_state,
        parent_span_id=span.parent_id.to_bytes(8) if span.parent_id else b"",
        flags=batch.flags | 0x100 | (0x200 if span.parent_is_remote else 0),
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]
        start_time_unix_nano=span.start_ns + batch.anchor_ns,
        end_time_unix_nano=span.end_ns + batch.anchor_ns,
        attributes=key_values(own | span.attributes),
        dropped_attributes_count=extra.dropped_attributes,
        events=[
            Span.Event(
                time_unix_nano=event.time_ns + batch.anchor_ns, name=event.name, attributes=key_values(event.attributes)
            )
            for event in extra.events
        ],
        dropped_events_count=extra.dropped_events,
        links=[
            Span.Link(
                trace_id=link.trace_id.to_bytes(16),
                span_id=link.span_id.to_bytes(8),
                trace_state=link.trace_state,
                attributes=key_values(link.attributes),
                flags=link.flags,
            )
            for link in extra.links
        ],
        dropped_links_count=extra.dropped_links,
        status=Status(message=extra.status_message, code=extra.status)  # type: ignore[arg-type]
        if extra.status or extra.status_message
        else None,
    )


@given(attributes, attributes, st.lists(batches, min_size=1, max_size=2), texts, texts)
def test_the_encoding_equals_opentelemetry_protos(
    resource: dict[str, Any], scope: dict[str, Any], traces: list[TraceBatch], name: str, version: str
) -> None:
    ours = _otlp.export_request(
        _otlp.resource(resource),
        (_otlp.scope(name, version, scope), []),
        (_otlp.scope(name, version), [_otlp.spans(batch) for batch in traces]),
    )
    message = ExportTraceServiceRequest(
        resource_spans=[
            ResourceSpans(
                resource=Resource(attributes=key_values(resource)),
                scope_spans=[
                    ScopeSpans(scope=InstrumentationScope(name=name, version=version, attributes=key_values(scope))),
                    ScopeSpans(
                        scope=InstrumentationScope(name=name, version=version),
                        spans=[official(span, batch) for batch in traces for span in batch.spans],
                    ),
                ],
            )
        ]
    )
    assert ours == message.SerializeToString(deterministic=True)
    assert ExportTraceServiceRequest.FromString(ours).SerializeToString() == message.SerializeToString()


@given(batches)
def test_a_packed_batch_unpacks_to_itself(batch: TraceBatch) -> None:
    entry = batch.spans[0]  # the only one that may be of another kind without saying so itself
    spans = [entry, *[span._replace(kind=1, parent_is_remote=False) for span in batch.spans[1:]]]
    assume(len({span.span_id for span in spans}) == len(spans))
    assume(not any("" in span.attributes for span in spans))  # has a test of its own
    batch = batch._replace(spans=[span._replace(name=span.name or span.stage or "request") for span in spans])
    values: list[object] = []
    for span in batch.spans:
        extra = None if span.extra is None else plain_extra(span.extra)
        values += [
            *(span.name, span.stage, span.span_id, span.parent_id, span.start_ns, span.end_ns, span.thread_id),
            *(span.attributes, extra),
        ]
    unpacked = _record.load(
        _record.dump(
            batch.trace_id,
            batch.trace_state,
            batch.flags,
            batch.anchor_ns,
            (entry.span_id, entry.kind, entry.parent_is_remote),
            None,
            values,
        )
    )
    assert _otlp.spans(unpacked) == _otlp.spans(batch)  # NaN is not equal to itself, its encoding is


def plain_extra(extra: Extra) -> tuple[object, ...]:
    packed = extra._replace(
        events=tuple(tuple(event) for event in extra.events),  # type: ignore[misc]
        links=tuple(tuple(link) for link in extra.links),  # type: ignore[misc]
    )
    return tuple(packed)


def encoded(recorded: dict[str, Any], defaults: dict[str, Any] | None = None) -> Span:
    span = SpanRecord("n", None, 1, False, 1, 0, 1, 2, 3, recorded, None)
    content = _otlp.export_request(b"", (b"", [_otlp.spans(TraceBatch(1, "", 1, 0, [span]), defaults)]))
    return ExportTraceServiceRequest.FromString(content).resource_spans[0].scope_spans[0].spans[0]


def attribute(recorded: Any) -> AnyValue:
    (found,) = [item.value for item in encoded({"key": recorded}).attributes if item.key == "key"]
    return found


def test_an_int_that_64_bits_cannot_hold_becomes_text() -> None:
    assert attribute(2**63).string_value == str(2**63)
    assert attribute(-(2**63) - 1).string_value == str(-(2**63) - 1)
    assert attribute(10**5000).string_value == hex(10**5000)
    assert attribute(2**63 - 1).int_value == 2**63 - 1


def test_text_that_utf8_cannot_hold_is_replaced() -> None:
    assert attribute("a\ud800b").string_value == "a?b"
    assert encoded({"\udfff": 1}).attributes[1].key == "?"


def test_floats_that_are_no_numbers_survive() -> None:
    assert math.isnan(attribute(math.nan).double_value)
    assert attribute(-math.inf).double_value == -math.inf


def test_defaults_give_way_to_the_spans_own_attributes() -> None:
    found = {item.key: item.value.string_value for item in encoded({"m": "own"}, {"m": "default", "d": "x"}).attributes}
    assert (found["m"], found["d"]) == ("own", "x")


@given(st.integers(0, 2**63 - 1), texts)
def test_a_partial_success_is_read(rejected: int, message: str) -> None:
    answer = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
    )
    assert _otlp.partial_success(answer.SerializeToString()) == (rejected, message)


@given(st.binary(max_size=100))
def test_an_answer_of_garbage_is_read_without_an_error(answer: bytes) -> None:
    rejected, message = _otlp.partial_success(answer)
    assert rejected >= 0
    assert isinstance(message, str)
