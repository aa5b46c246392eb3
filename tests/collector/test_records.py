import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span

from tailsight_collector.records import TRAILER_BYTES, encode_record, encode_varint, split_messages, whole_records

REQUESTS = st.lists(st.binary(max_size=300), max_size=6)


@given(REQUESTS)
def test_every_whole_record_is_found(requests):
    data = b"".join(encode_record(each, 1) for each in requests)
    bodies = [data[start:end] for start, end in whole_records(data)]
    assert bodies == [encode_record(each, 1) for each in requests]


@given(REQUESTS, st.data())
def test_a_file_cut_anywhere_keeps_exactly_the_records_before_the_cut(requests, data):
    records = [encode_record(each, 1) for each in requests]
    whole = b"".join(records)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [end for _, end in whole_records(whole[:cut])]
    kept = [sum(map(len, records[: count + 1])) for count in range(len(records))]
    assert ends == [end for end in kept if end <= cut]


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=4), st.data())
def test_a_changed_byte_ends_the_whole_records_before_it(requests, data):
    records = [encode_record(each, 1) for each in requests]
    whole = bytearray(b"".join(records))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] ^= data.draw(st.integers(1, 255))
    damaged, end = 0, 0
    for damaged, record in enumerate(records):  # noqa: B007
        end += len(record)
        if position < end:
            break
    assert len(list(whole_records(bytes(whole)))) <= damaged


@given(st.lists(st.binary(max_size=300)))
def test_zeros_behind_the_records_are_no_records(requests):
    """A power cut may leave a file longer than what was written."""
    data = b"".join(encode_record(each, 1) for each in requests)
    assert len(list(whole_records(data + bytes(64)))) == len(requests)


def test_a_record_is_still_the_request_that_was_sent():
    sent = request([span()])
    record = encode_record(sent.SerializeToString(), 1_700_000_000_000_000_000)
    [body] = split_messages(record)
    received = ExportTraceServiceRequest.FromString(bytes(body))
    received.DiscardUnknownFields()
    assert received == sent
    assert len(record) == len(encode_varint(len(body))) + sent.ByteSize() + TRAILER_BYTES


def test_a_cut_off_message_is_an_error():
    with pytest.raises(ValueError, match="cut off"):
        list(split_messages(b"\x05abc"))
