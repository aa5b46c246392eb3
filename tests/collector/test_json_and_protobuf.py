"""A request means the same in both of OTLP's encodings: whatever it holds, both store the same columns.

The JSON is made by protobuf's own JSON mapping, with the ids in hex as OTLP wants them, and not by anything of ours.
"""

import base64
import json
import uuid
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import any_value
from testkit.processes import CollectorProcess

from tailsight_collector.receive.otlp_json import parse_traces
from tailsight_storage import decode_attributes, open_store

JSON = {"Content-Type": "application/json"}
IDS = ("traceId", "spanId", "parentSpanId")
NUMBERS = ("intValue", "timeUnixNano", "startTimeUnixNano", "endTimeUnixNano")
MAX_DEPTH = 4

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(),
    st.sampled_from(["", 0, False, 0.0, -0.0, b"", [], {}, True, -(2**63), 2**63 - 1]),
    TEXTS,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.just(float("nan")),  # JSON has one NaN
    st.binary(max_size=12),
)


def values(depth: int = MAX_DEPTH) -> st.SearchStrategy[Any]:
    if depth == 0:
        return SCALARS
    inner = values(depth - 1)
    return st.one_of(SCALARS, st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3))


# pairs, not a dictionary: a key that comes twice is legal on the wire
ATTRIBUTES = st.lists(st.tuples(TEXTS, values()), max_size=5)
LAST_NS = 1_790_000_000 * 10**9
STARTS = st.integers(1_000_000_000 * 10**9, LAST_NS)
SOMETIMES_WRONG = st.one_of(st.none(), st.none(), st.none(), st.binary(max_size=20))


@st.composite
def spans(draw):
    start_ns = draw(STARTS)
    wrong = draw(SOMETIMES_WRONG)
    return {
        "trace_id": draw(st.binary(min_size=16, max_size=16)) if wrong is None else wrong,
        "parent_span_id": draw(st.one_of(st.just(b""), st.binary(min_size=8, max_size=8))),
        "trace_state": draw(TEXTS),
        "flags": draw(st.integers(0, 2**32 - 1)),
        "name": draw(TEXTS),
        "kind": draw(st.integers(0, 6)),
        "start_time_unix_nano": start_ns,
        "end_time_unix_nano": draw(st.integers(start_ns, LAST_NS)),
        "attributes": draw(ATTRIBUTES),
        "events": draw(st.lists(st.tuples(STARTS, TEXTS, ATTRIBUTES), max_size=2)),
        "links": draw(
            st.lists(
                st.tuples(st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), TEXTS, ATTRIBUTES),
                max_size=2,
            )
        ),
        "status": draw(st.one_of(st.none(), st.tuples(st.integers(0, 2), TEXTS))),
    }


SCOPES = st.tuples(TEXTS, TEXTS, ATTRIBUTES, st.lists(spans(), min_size=1, max_size=3))
RESOURCES = st.tuples(ATTRIBUTES, st.lists(SCOPES, min_size=1, max_size=2))


def put(owner, attributes):
    for key, value in attributes:
        owner.attributes.add(key=key).value.CopyFrom(any_value(value))


def message_of(resources, service):
    message = ExportTraceServiceRequest()
    number = 0
    for attributes, scopes in resources:
        resource_spans = message.resource_spans.add()
        put(resource_spans.resource, [("service.name", service), *attributes])
        for name, version, scope_attributes, scoped in scopes:
            scope_spans = resource_spans.scope_spans.add()
            scope_spans.scope.name, scope_spans.scope.version = name, version
            put(scope_spans.scope, scope_attributes)
            for fields in scoped:
                number += 1
                fill(scope_spans.spans.add(span_id=number.to_bytes(8, "big")), fields)
    return message


def fill(target, fields):
    for name, value in fields.items():
        if name not in ("attributes", "events", "links", "status"):
            setattr(target, name, value)
    put(target, fields["attributes"])
    for time_ns, name, attributes in fields["events"]:
        put(target.events.add(time_unix_nano=time_ns, name=name), attributes)
    for trace, span, state, attributes in fields["links"]:
        put(target.links.add(trace_id=trace, span_id=span, trace_state=state), attributes)
    if fields["status"] is not None:
        code, text = fields["status"]
        target.status.code, target.status.message = code, text


def as_json(message, *, numbers, capitals):
    """OTLP/JSON: protobuf's mapping with numbers for enums and hex for ids; 64 bits as strings or as numbers."""

    def mapped(value):
        if isinstance(value, list):
            return [mapped(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: converted(key, item) for key, item in value.items()}

    def converted(key, item):
        if key in IDS and isinstance(item, str):
            text = base64.b64decode(item).hex()
            return text.upper() if capitals else text
        if key in NUMBERS and isinstance(item, str) and numbers:
            return int(item)
        return mapped(item)

    return json.dumps(mapped(MessageToDict(message, use_integers_for_enums=True))).encode()


@pytest.fixture(scope="module")
def collector(tmp_path_factory):
    with CollectorProcess(tmp_path_factory.mktemp("encodings"), "--segment-age", "0.02") as running:
        yield running


@pytest.fixture(scope="module")
def store(collector):
    with open_store(collector.store) as opened:
        yield opened


def stored(store, service):
    resource = "mapFilter((key, value) -> key != 'service.name', resource) AS resource"
    kept = store.rows(
        f"SELECT * EXCEPT (received_at, service) REPLACE ({resource}) FROM spans WHERE service = {{service:String}} "
        "ORDER BY span_id",
        service=service,
    )
    rejected = store.rows(
        f"SELECT * EXCEPT (received_at, service) REPLACE ({resource}) FROM rejected_spans "
        "WHERE service = {service:String} ORDER BY span_id_hex",
        service=service,
    )
    return kept, rejected


EVERYTHING = [
    ("text", "grüße"), ("", "no key"), ("empty", ""), ("no", False), ("yes", True), ("zero", 0), ("nothing", 0.0),
    ("less", -0.0), ("least", -(2**63)), ("most", 2**63 - 1), ("nan", float("nan")), ("endless", float("-inf")),
    ("bytes", b"\x00\xff"), ("no bytes", b""), ("unset", None), ("none", []), ("nobody", {}),
    ("deep", [1, [2.5, [None, [b"x", {"k": ""}]]]]), ("map", {"a": {"b": {"c": {"d": [0, False, "", None]}}}}),
]  # fmt: skip
FULL = [
    (
        EVERYTHING,
        [
            (
                "scope",
                "1.0",
                EVERYTHING,
                [
                    {
                        "trace_id": bytes(range(1, 17)),  "parent_span_id": bytes(range(2, 10)),
                        "trace_state": "a=1", "flags": 0x101, "name": "full", "kind": 3, "start_time_unix_nano": LAST_NS - 1,
                        "end_time_unix_nano": LAST_NS, "attributes": EVERYTHING, "events": [(LAST_NS, "e", EVERYTHING)],
                        "links": [(bytes(range(16)), bytes(range(8)), "b=2", EVERYTHING)], "status": (2, "boom"),
                    }
                ],
            )
        ],
    )
]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(resources=st.lists(RESOURCES, min_size=1, max_size=2), numbers=st.booleans(), capitals=st.booleans())
@example(resources=FULL, numbers=False, capitals=False)
@example(resources=FULL, numbers=True, capitals=True)
def test_S19_S29_a_request_is_stored_the_same_from_json_and_from_protobuf(
    collector, store, resources, numbers, capitals
):
    number = uuid.uuid4().hex[:12]
    binary, text = f"protobuf-{number}", f"json-{number}"
    from_protobuf = collector.post(message_of(resources, binary).SerializeToString())
    from_json = collector.post(as_json(message_of(resources, text), numbers=numbers, capitals=capitals), JSON)
    assert (from_protobuf.status_code, from_json.status_code) == (200, 200), (from_protobuf.content, from_json.content)
    collector.wait_until_loaded()
    assert collector.health()["loading"]["quarantined_records"] == 0
    kept, rejected = stored(store, binary)
    assert (kept, rejected) == stored(store, text)
    total = sum(len(scoped) for _, scopes in resources for *_, scoped in scopes)
    assert len(kept) + len(rejected) == total


@settings(max_examples=60, deadline=None)
@given(resources=st.lists(RESOURCES, max_size=2), numbers=st.booleans(), capitals=st.booleans())
@example(resources=FULL, numbers=True, capitals=False)
def test_S19_S29_what_is_journaled_is_the_same_message_to_the_byte(resources, numbers, capitals):
    message = message_of(resources, "same")
    parsed = parse_traces(as_json(message, numbers=numbers, capitals=capitals))
    assert parsed.SerializeToString() == message.SerializeToString()


def test_the_values_that_are_compared_are_the_ones_that_were_sent(collector, store):
    """Two empty columns would be equal as well."""
    service = f"sent-{uuid.uuid4().hex[:12]}"
    message = message_of(FULL, service)
    assert collector.post(as_json(message, numbers=False, capitals=True), JSON).json() == {}
    collector.wait_until_loaded()
    columns = (
        "attributes, attribute_types, resource, resource_types, events.attributes[1], events.attribute_types[1], "
        "links.attributes[1], links.attribute_types[1]"
    )
    [row] = store.rows(f"SELECT {columns} FROM spans WHERE service = {{service:String}}", service=service)
    sent = {key: value for key, value in EVERYTHING if key != "nan"}
    for place in range(0, len(row), 2):
        kept = decode_attributes(row[place], row[place + 1])
        assert str(kept.pop("nan")) == "nan"
        assert kept.pop("service.name", service) == service
        assert kept == sent
