import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import request, span

from tailsight_collector.keep.records import (
    TRAILER_BYTES,
    Piece,
    encode_record,
    encode_varint,
    pieces,
    read_varint,
    split_messages,
    whole_records,
)

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


@given(REQUESTS, st.data())
def test_a_segment_is_taken_apart_without_losing_a_byte(requests, data):
    """Damage anywhere: every byte is in a piece, and every record that was not touched is whole."""
    records = [encode_record(each, number) for number, each in enumerate(requests)]
    whole = bytearray(b"".join(records))
    damaged = data.draw(st.sets(st.integers(0, max(0, len(whole) - 1)), max_size=4)) if whole else set()
    for position in damaged:
        whole[position] ^= data.draw(st.integers(1, 255))
    found = list(pieces(bytes(whole)))
    assert [piece.start for piece in found] == [0, *[piece.end for piece in found[:-1]]][: len(found)]
    assert (found[-1].end if found else 0) == len(whole)
    kept = {(piece.start, piece.end) for piece in found if piece.is_whole}
    position = 0
    for record in records:
        end = position + len(record)
        assert ((position, end) in kept) == damaged.isdisjoint(range(position, end))
        position = end


def test_a_record_cut_at_every_byte_is_one_damaged_piece():
    first, second = encode_record(b"first", 1), encode_record(bytes(range(200)), 2)
    for cut in range(len(second)):
        found = list(pieces(first + second[:cut]))
        assert found[0] == Piece(0, len(first), is_whole=True)
        assert found[1:] == ([Piece(len(first), len(first) + cut, is_whole=False)] if cut else [])


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


def test_trailers_in_a_strangers_bytes_do_not_make_the_search_endless(monkeypatch):
    """A torn record whose spans hold what looks like ends of records, and like lengths that reach to them."""
    monkeypatch.setattr("tailsight_collector.keep.records._SEARCHED_BYTES", 1000)
    monkeypatch.setattr("tailsight_collector.keep.records._CHECKED_BYTES", 100_000)
    looked_at: list[int] = []
    real = read_varint
    monkeypatch.setattr(
        "tailsight_collector.keep.records.read_varint", lambda view, at: looked_at.append(at) or real(view, at)
    )
    trailers = encode_record(b"", 7)[1:] * 3000
    whole = encode_record(b"first", 1)
    data = whole + encode_record(trailers, 1)[:-6]
    assert list(pieces(data)) == [Piece(0, len(whole), is_whole=True), Piece(len(whole), len(data), is_whole=False)]
    assert len(looked_at) < 2 * 1000 + 2 * 3000


def test_a_record_behind_damage_is_found_whatever_it_holds():
    trailers = encode_record(b"", 7)[1:] * 50
    first, second = bytearray(encode_record(b"first" + trailers, 1)), encode_record(b"second" + trailers, 2)
    first[3] ^= 1
    assert list(pieces(bytes(first) + second))[-1] == Piece(len(first), len(first) + len(second), is_whole=True)
