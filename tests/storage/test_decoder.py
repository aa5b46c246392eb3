"""OTLP decoded in C, against the database's own decoding of the same bytes, and against protobuf's own classes."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import struct
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import any_value, request, span
from testkit.otlp_strategies import NOW_NS, REQUESTS, request_of
from testkit.senders import Sidecar, apart

from tailsight_collector.errors import BadRequestError
from tailsight_collector.keep.loader import HARMLESS
from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.checks import REASONS, check, look
from tailsight_storage import DataRefusedError, StorageError, decoder
from tailsight_storage.store import MEMORY_LIMIT_CODE, Store

if decoder.decoder is None:
    if os.environ.get("TAILSIGHT_TEST_REQUIRE_NATIVE") == "1":
        pytest.fail(f"the C module is wanted: {decoder.why_not}", pytrace=False)
    pytest.skip(f"the C module is not here: {decoder.why_not}", allow_module_level=True)

NATIVE = decoder.decoder
SOURCES = Path(__file__).parents[2] / "storage/native"
TABLES = ("spans", "rejected_spans", "sender_batches")
_tokens = itertools.count(1)


def record(message: ExportTraceServiceRequest, received_ns: int = NOW_NS) -> bytes:
    return encode_record(message.SerializeToString(), received_ns)


def rows(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Everything that is stored, as text, and nothing afterwards."""
    found = {table: sorted(store.rows(f"SELECT toString(tuple(*)) FROM {table}")) for table in TABLES}
    found["roll-up"] = store.rows(
        "SELECT toString((minute, stage, service, hardware, model, sum(spans), sum(errors), sum(duration_sum_ns), "
        "max(duration_max_ns), max(max_weight), quantilesDDMerge(0.01, 0.5, 0.99)(duration_quantiles))) "
        "FROM stage_latency_1m GROUP BY minute, stage, service, hardware, model ORDER BY 1"
    )
    for table in (*TABLES, "stage_latency_1m"):
        store.run(f"TRUNCATE TABLE {table}")
    return found


def both_ways(store: Store, segment: bytes) -> tuple[object, object]:
    store.insert_otlp_traces(segment, f"here-{next(_tokens)}", decoded_here=True)
    here = rows(store)
    store.insert_otlp_traces(segment, f"there-{next(_tokens)}", decoded_here=False)
    return here, rows(store)


def test_the_package_names_the_source_that_it_belongs_to() -> None:
    tag = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCES.glob("*.[ch]")))).hexdigest()[:12]
    assert tag == decoder.BUILD, f'write BUILD = "{tag}" in decoder.py, and run hatch_build.py'


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=st.lists(REQUESTS, min_size=1, max_size=3))
def test_both_ways_store_the_same(store: Store, messages: list[ExportTraceServiceRequest]) -> None:
    segment = b"".join(record(each, NOW_NS + number * 10**6) for number, each in enumerate(messages))
    NATIVE.columns(segment, NOW_NS, 1 << 30)  # none of it is left to the other way
    here, there = both_ways(store, segment)
    assert here == there


def test_every_type_of_value_at_every_depth_is_stored_the_same(store: Store) -> None:
    scalars = [
        None,
        "",
        "a/b",
        True,
        False,
        0,
        -5,
        1.0,
        -0.0,
        1e21,
        1e20,
        0.000001,
        1e-7,
        float("nan"),
        float("-inf"),
        b"",
        b"\0",
    ]
    values = [
        *scalars,
        scalars,
        dict(zip(map(str, range(99)), scalars, strict=False)),
        [scalars],
        [[scalars]],
        {"a": {"b": {"c": [1]}}},
        [],
    ]
    attributes = {f"k{number}": value for number, value in enumerate(values)}
    message = request([span(attributes=attributes), span(attributes={})], attributes)
    message.resource_spans[0].scope_spans[0].scope.attributes.add(key="s", value=any_value(values))
    here, there = both_ways(store, record(message))
    assert here == there
    assert len(here["spans"]) == 2  # type: ignore[index]


def test_numbered_batches_are_stored_the_same(store: Store) -> None:
    sidecar = Sidecar()
    sidecar.drop("ring_full", 7)
    sidecar.kept["tail"] += 3
    wrong = [span(trace_id=b"short"), span(), span(span_id=bytes(8))]
    plain = request([span()])
    messages = [sidecar.batch(5), apart(sidecar.batch(wrong)), plain, sidecar.batch(wrong), sidecar.batch(0, last=True)]
    here, there = both_ways(store, b"".join(map(record, messages)))
    assert here == there
    assert len(here["sender_batches"]) == 4  # type: ignore[index]


def test_unknown_fields_in_what_a_sender_says_do_not_hold_up_its_spans(store: Store) -> None:
    """Protobuf's readers skip them, whatever they are: in a map, a value, a pair, a resource."""
    message = request([span()], {"service.name": "s", "map": {"a": 1}})
    [scopes] = message.resource_spans
    scope = scopes.scope_spans[0].scope
    unknown = b"\xa1\x3e12345678" + b"\xa2\x3e\x02ab" + b"\xa8\x3e\x05" + b"\xad\x3e1234"  # of each wire type
    pairs = {"tailsight.sender.id": "odd", "tailsight.batch.number": 7, "tailsight.sender.dropped": {"why": 3}}
    for key, value in pairs.items():
        scope.attributes.add(key=key, value=any_value(value))
    for pair in (*scope.attributes, *scopes.resource.attributes):
        if pair.value.WhichOneof("value") == "kvlist_value":
            pair.value.kvlist_value.MergeFromString(b"\x10\x05" + unknown)
        pair.value.MergeFromString(unknown)
        pair.MergeFromString(unknown)
    scope.MergeFromString(unknown)
    scopes.resource.MergeFromString(unknown)
    body = message.SerializeToString()
    seen = decoder.scan(body, NOW_NS)
    assert seen is not None
    assert seen.batch == ("odd", 7, 0, 0, 0)
    here, there = both_ways(store, record(message))
    assert here == there
    assert len(here["sender_batches"]) == len(here["spans"]) == 1  # type: ignore[index]


def test_many_numbered_scopes_beside_a_large_resource_unfold_too_far() -> None:
    message = Sidecar().batch(0)
    message.resource_spans[0].resource.attributes.add(key="wide", value=any_value("w" * 1_000_000))
    scope = message.resource_spans[0].scope_spans[0]
    message.resource_spans[0].scope_spans.extend([scope] * 30)
    body = message.SerializeToString()
    for look_at_it in (lambda: look(body, NOW_NS), lambda: check(message, NOW_NS)):
        assert look_at_it() is not None
    numbered = NATIVE.columns(record(message), NOW_NS, 1 << 30)[2]
    assert len({id(resource) for _, resource, *_ in numbered}) == 1
    with pytest.raises(OverflowError):
        NATIVE.columns(record(message), NOW_NS, 200_000_000)
    message.resource_spans[0].scope_spans.extend([scope] * 10)
    body = message.SerializeToString()
    for refused in (lambda: look(body, NOW_NS), lambda: check(message, NOW_NS)):
        with pytest.raises(BadRequestError, match="unfold"):
            refused()


def test_a_store_that_takes_nothing_says_so_of_nothing_too(store: Store) -> None:
    """The loader asks with an empty request whether a refusal is one of the bytes'."""
    empty = encode_record(HARMLESS, NOW_NS)
    store.insert_otlp_traces(empty, "empty", decoded_here=True)
    store.run("RENAME TABLE rejected_spans TO away")
    try:
        with pytest.raises(DataRefusedError):
            store.insert_otlp_traces(empty, "empty again", decoded_here=True)
    finally:
        store.run("RENAME TABLE away TO rejected_spans")
    store.insert_otlp_traces(empty, "empty again", decoded_here=True)


def test_a_block_ends_and_the_next_begins_between_two_requests(store: Store) -> None:
    """Each request unfolds to more than a block may have."""
    wide = request([span(name=f"n{number}") for number in range(70)], {"service.name": "s", "wide": "w" * 2_000_000})
    segment = record(wide) * 2
    blocks, count, _ = NATIVE.columns(segment, NOW_NS, 1 << 30)
    assert count == 140
    assert blocks.count(b"received_at") == 2
    store.insert_otlp_traces(segment, "blocks", decoded_here=True)
    assert store.rows("SELECT count(), min(length(resource['wide'])) FROM spans") == [(140, 2_000_000)]


def test_the_same_token_again_changes_nothing(store: Store) -> None:
    segment = record(Sidecar().batch(9))
    for _ in range(3):
        store.insert_otlp_traces(segment, "once", decoded_here=True)
    assert store.rows("SELECT count() FROM spans") == [(9,)]
    assert store.rows("SELECT sum(spans) FROM stage_latency_1m") == [(9,)]
    assert store.rows("SELECT count() FROM sender_batches") == [(1,)]


def test_a_hundred_thousand_keys_and_names_are_stored(store: Store) -> None:
    spans = [
        span(name=f"name-{first}", attributes={f"key-{number}": "" for number in range(first, first + 1000)})
        for first in range(0, 100_000, 1000)
    ]
    store.insert_otlp_traces(record(request(spans)), "keys", decoded_here=True)
    assert store.rows("SELECT uniqExact(key), uniqExact(name) FROM spans ARRAY JOIN mapKeys(attributes) AS key") == [
        (100_000, 100)
    ]


def test_a_segment_that_unfolds_too_far_is_refused_like_one_that_needs_too_much_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailsight_storage.store.MAX_COLUMNS_BYTES", 10_000)
    with pytest.raises(DataRefusedError, match="10000 bytes") as caught:
        store.insert_otlp_traces(record(request([span() for _ in range(100)])), "large", decoded_here=True)
    assert caught.value.code == MEMORY_LIMIT_CODE


def test_without_the_module_a_segment_of_its_own_way_is_not_stored_another_way(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "decoder", None)
    assert store.decodes_here is False
    with pytest.raises(StorageError, match="decoded in C"):
        store.insert_otlp_traces(record(request([span()])), "lost", decoded_here=True)


# --- what a request holds -------------------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(message=REQUESTS)
def test_a_request_is_counted_as_by_protobufs_own_classes(message: ExportTraceServiceRequest) -> None:
    found = decoder.scan(message.SerializeToString(), NOW_NS)
    checked = check(message, NOW_NS)
    assert found is not None
    assert found.spans == checked.spans
    assert dict(zip(REASONS, found.rejected, strict=True)) == {reason: checked.rejected[reason] for reason in REASONS}
    assert found.is_report == checked.is_report


def mutated(body: bytes, dice: random.Random) -> bytes:
    """Flip bits, cut, repeat or put in bytes."""
    out = bytearray(body)
    for _ in range(dice.randint(1, 3)):
        at = dice.randrange(len(out) + 1)
        match dice.randrange(4):
            case 0 if at < len(out):
                out[at] ^= 1 << dice.randrange(8)
            case 1:
                del out[at : at + dice.randint(1, 8)]
            case 2:
                out[at:at] = out[at : at + dice.randint(1, 30)]
            case _:
                out[at:at] = dice.randbytes(dice.randint(1, 3))
    return bytes(out)


@settings(max_examples=120, deadline=None)
@given(message=REQUESTS, seed=st.integers(0, 2**32))
@example(message=request([span(attributes={"a": [1, {"b": 2.5}]})]), seed=1)
@example(
    message=request_of([{"attributes": [("service.name", [None]), ("service.name", [])], "scopes": [], "url": ""}]),
    seed=0,
)
def test_what_is_taken_as_plain_is_read_alike_by_everybody(message: ExportTraceServiceRequest, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(10):
        body = mutated(message.SerializeToString(), dice)
        found = decoder.scan(body, NOW_NS)
        segment = encode_record(body, NOW_NS)
        if found is None:
            continue
        read = ExportTraceServiceRequest.FromString(body)  # which raises where it does not agree
        checked = check(read, NOW_NS)
        assert (found.spans, sum(found.rejected)) == (checked.spans, checked.rejected.total())
        read.DiscardUnknownFields()
        again = encode_record(read.SerializeToString(), NOW_NS)
        assert NATIVE.columns(segment, NOW_NS, 1 << 30)[:2] == NATIVE.columns(again, NOW_NS, 1 << 30)[:2]


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=200), seed=st.integers(0, 2**32))
def test_no_bytes_do_harm(body: bytes, seed: int) -> None:
    for each in (body, mutated(body, random.Random(seed))):
        decoder.scan(each, NOW_NS)
        try:
            NATIVE.columns(each, NOW_NS, 1 << 20)
        except (ValueError, OverflowError):
            continue


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b"\x0a\x00\xff", id="cut off"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\xc1\x3e" + bytes(8), id="the journal's own field"),
        pytest.param(b"\x08\x01", id="another wire type"),
        pytest.param(b"\x0a\x0c\x0a\x00\x0a\x00\x12\x06\x0a\x04\x0a\x02a\xff", id="a resource twice"),
        pytest.param(b"\x0a\x04\x12\x00\x0a\x00", id="out of order"),
        pytest.param(b"\x0a\x09\x12\x07\x12\x05\x2a\x03a\xffb", id="no UTF-8"),
        pytest.param(b"\x0a\x07\x0a\x05\x1a\x03\x0a\x01\xeb", id="an entity of the resource without UTF-8"),
        pytest.param(b"\x0a\x06\x0a\x04\x1a\x02\x08\x05", id="an entity that is none"),
        pytest.param(b"\x0a\x0e\x0a\x0c\x0a\x0a\x12\x08\x0a\x04abcd\x40\x01", id="a text and its number in a dictionary"),
    ],
)  # fmt: skip
def test_an_odd_request_is_left_to_others(odd: bytes) -> None:
    assert decoder.scan(odd, NOW_NS) is None


def test_nesting_has_an_end() -> None:
    def nested(depth: int) -> ExportTraceServiceRequest:
        value: object = "x"
        for _ in range(depth):
            value = [value]
        return request([span(attributes={"deep": value})])

    assert decoder.scan(nested(20).SerializeToString(), NOW_NS) is not None
    body = nested(1).SerializeToString()
    assert decoder.scan(body, NOW_NS) is not None
    inner = b""
    for _ in range(10_000):
        inner = b"\x2a" + varint(len(inner) + 1 + len(varint(len(inner)))) + b"\x0a" + varint(len(inner)) + inner
    attribute = b"\x12" + varint(len(inner)) + inner
    a_span = b"\x4a" + varint(len(attribute)) + attribute
    for number in (0x12, 0x12, 0x0A):
        a_span = bytes([number]) + varint(len(a_span)) + a_span
    assert decoder.scan(a_span, NOW_NS) is None


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


# --- doubles --------------------------------------------------------------------------------------------------------


@settings(max_examples=2000, deadline=None)
@given(number=st.floats(allow_nan=False, allow_infinity=False))
@example(5e-324)
@example(1.7976931348623157e308)
@example(9007199254740993.0)
@example(2.0**-1074)
@example(2.0**1023)
def test_a_double_is_written_as_short_as_it_can_be(number: float) -> None:
    text = NATIVE.double_text(number)
    assert struct.pack("<d", float(text)) == struct.pack("<d", number)
    assert Decimal(text) == Decimal(repr(number))


def test_doubles_are_written_as_the_database_writes_them(store: Store) -> None:
    dice = random.Random(7)
    numbers = [
        float(f"{sign}{digits}e{power}")
        for sign in "+-"
        for digits in ("1", "1.5", "9.87654321")
        for power in range(-30, 30)
    ]
    numbers += [struct.unpack("<d", dice.randbytes(8))[0] for _ in range(20_000)]
    numbers += [dice.random() * 10.0 ** dice.randint(-8, 22) for _ in range(20_000)]
    numbers += [float(dice.getrandbits(dice.randint(1, 70))) for _ in range(5_000)]
    raw = struct.pack(f"<{len(numbers)}d", *numbers)
    [(texts,)] = store.rows(
        "SELECT arrayMap(i -> toString(reinterpretAsFloat64(substring(unhex({raw:String}), i * 8 + 1, 8))), range({count:UInt32}))",
        raw=raw.hex(),
        count=len(numbers),
    )
    assert [NATIVE.double_text(number) for number in numbers] == list(texts)  # type: ignore[call-overload]
