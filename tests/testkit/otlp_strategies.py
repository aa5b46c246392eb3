"""Any request that protobuf allows, for hypothesis: with wrong ids and times, all kinds of values, events and links."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from testkit.otlp import any_value

NOW_NS = time.time_ns()
# surrogates have no UTF-8
TEXTS = st.one_of(
    st.sampled_from(["", "a", 'é/\\"\n\t\x00\x1f\x7f\u2028\u2029😀', "x" * 127, "y" * 128, "z" * 300]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
KEYS = st.one_of(
    st.sampled_from([
        "service.name", "host.name", "tailsight.stage", "tailsight.model", "thread.id", "tailsight.hardware",
        "tailsight.sampling.weight", "tailsight.intended_start_unix_nano", "gen_ai.request.model", "",
    ]),
    TEXTS,
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([0, 1, -1, 2**63 - 1, -(2**63)]),
    st.floats(),
    st.floats(width=16),
    st.binary(max_size=20),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
ATTRIBUTES = st.lists(st.tuples(KEYS, VALUES), max_size=6)


def ids(length: int) -> st.SearchStrategy[bytes]:
    """Mostly right ones."""
    return st.one_of(
        st.binary(min_size=length, max_size=length), st.just(bytes(length)), st.binary(max_size=length + 2)
    )


TIMES_NS = st.one_of(
    st.integers(NOW_NS - 10**15, NOW_NS),
    st.sampled_from(
        [0, 1, 946_684_800 * 10**9 - 1, 946_684_800 * 10**9, NOW_NS + 2 * 86_400 * 10**9, 2**63, 2**64 - 1]
    ),
)
EVENTS = st.fixed_dictionaries({"time": TIMES_NS, "name": TEXTS, "attributes": ATTRIBUTES})
LINKS = st.fixed_dictionaries({"trace_id": ids(16), "span_id": ids(8), "attributes": ATTRIBUTES})
SPANS = st.fixed_dictionaries({
    "trace_id": ids(16), "span_id": ids(8), "parent_span_id": st.just(b"") | ids(8), "trace_state": TEXTS, "name": TEXTS,
    "kind": st.integers(0, 5) | st.sampled_from([-1, 99, 2**31 - 1, -(2**31)]), "start": TIMES_NS, "end": TIMES_NS | st.none(),
    "attributes": ATTRIBUTES, "events": st.lists(EVENTS, max_size=3), "links": st.lists(LINKS, max_size=3),
    "code": st.integers(0, 2) | st.just(7), "message": TEXTS, "flags": st.integers(0, 2**32 - 1),
    "dropped": st.integers(0, 9),
})  # fmt: skip
SCOPES = st.fixed_dictionaries({
    "name": TEXTS, "version": TEXTS, "attributes": ATTRIBUTES, "spans": st.lists(SPANS, max_size=5), "url": TEXTS,
})  # fmt: skip
RESOURCES = st.fixed_dictionaries({"attributes": ATTRIBUTES, "scopes": st.lists(SCOPES, max_size=3), "url": TEXTS})


def _fill(attributes: Any, pairs: list[tuple[str, Any]]) -> None:
    for key, value in pairs:
        added = attributes.add(key=key)
        if value is not None:  # no value at all, and not an empty one
            added.value.CopyFrom(any_value(value))


def request_of(resources: list[dict[str, Any]]) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    for resource in resources:
        resource_spans = message.resource_spans.add(schema_url=resource["url"])
        _fill(resource_spans.resource.attributes, resource["attributes"])
        for scope in resource["scopes"]:
            scope_spans = resource_spans.scope_spans.add(schema_url=scope["url"])
            scope_spans.scope.name, scope_spans.scope.version = scope["name"], scope["version"]
            _fill(scope_spans.scope.attributes, scope["attributes"])
            for fields in scope["spans"]:
                start_ns = fields["start"]
                span = scope_spans.spans.add(
                    start_time_unix_nano=start_ns,
                    end_time_unix_nano=min(start_ns + 12_345, 2**64 - 1) if fields["end"] is None else fields["end"],
                    dropped_attributes_count=fields["dropped"],
                    **{
                        key: fields[key]
                        for key in ("trace_id", "span_id", "parent_span_id", "trace_state", "name", "kind", "flags")
                    },
                )
                span.status.code, span.status.message = fields["code"], fields["message"]
                _fill(span.attributes, fields["attributes"])
                for event in fields["events"]:
                    added = span.events.add(time_unix_nano=event["time"], name=event["name"])
                    _fill(added.attributes, event["attributes"])
                for link in fields["links"]:
                    linked = span.links.add(trace_id=link["trace_id"], span_id=link["span_id"])
                    _fill(linked.attributes, link["attributes"])
    return message


REQUESTS: st.SearchStrategy[ExportTraceServiceRequest] = st.lists(RESOURCES, max_size=3).map(request_of)
