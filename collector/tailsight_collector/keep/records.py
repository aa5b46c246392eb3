"""The journal's record: an OTLP request that ClickHouse can read as it lies on the disk.

    varint length | ExportTraceServiceRequest bytes | field 1000: received_unix_nano | field 1001: crc32

Protobuf lets fields be appended to an encoded message, and readers skip the ones that they do not know. So a record is
at once a valid OTLP message, carries the time of its arrival, and proves that it was written whole; a file of records
is what `FORMAT Protobuf` expects, without another copy or another format.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_RECEIVED = struct.Struct("<2sQ")  # key of field 1000, fixed64
_CRC = struct.Struct("<2sI")  # key of field 1001, fixed32
_RECEIVED_KEY = bytes((0xC1, 0x3E))  # 1000 << 3 | 1 as a varint
_CRC_KEY = bytes((0xCD, 0x3E))  # 1001 << 3 | 5
TRAILER_BYTES = _RECEIVED.size + _CRC.size
_MAX_VARINT_BYTES = 10
# Where a damaged record's end is damaged too, the next one is looked for byte by byte, this far at most.
_SEARCHED_BYTES = 4 * 1024 * 1024
# So much of what looks like a record may be added up to see whether it is one: a second's work.
_CHECKED_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes [start, end) of a segment: a whole record, or what lies between whole records and is none."""

    start: int
    end: int
    is_whole: bool


def encode_record(request: bytes, received_ns: int) -> bytes:
    """Make a record of an encoded ExportTraceServiceRequest that arrived at `received_ns` (Unix time)."""
    received = _RECEIVED.pack(_RECEIVED_KEY, received_ns)
    crc = zlib.crc32(received, zlib.crc32(request))
    return b"".join((encode_varint(len(request) + TRAILER_BYTES), request, received, _CRC.pack(_CRC_KEY, crc)))


def request_in(record: bytes | memoryview) -> bytes:
    """Return the request that a whole record holds."""
    view = memoryview(record)
    _, body = read_varint(view, 0)
    return bytes(view[body:-TRAILER_BYTES])


def whole_records(data: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each whole record from the beginning on, and stop before the first that is torn."""
    position = 0
    view = memoryview(data)
    while position < len(view):
        length, body = read_varint(view, position)
        end = body + length
        if length < TRAILER_BYTES or end > len(view) or not _is_whole(view[body:end]):
            return
        yield position, end
        position = end


def pieces(data: bytes | memoryview) -> Iterator[Piece]:
    """Take a segment apart, all of it: behind damaged bytes the next whole record is found by its trailer."""
    view = memoryview(data)
    position = 0
    search: _Search | None = None
    while position < len(view):
        begin = position
        for start, end in whole_records(view[begin:]):
            yield Piece(begin + start, begin + end, is_whole=True)
            position = begin + end
        if position < len(view):
            search = search or _Search(bytes(view))
            found = search.next_whole_record(position)
            yield Piece(position, found, is_whole=False)
            position = found


class _Search:
    """Finds whole records behind damaged places of one segment, with an end to its work.

    Every record ends with a trailer of known form, and starts where the one before it ends, or, where that end is
    damaged too, at the byte from which its length reaches to its own end. A stranger's bytes may hold any number of
    such trailers and lengths: what is looked at byte by byte, and what is added up, is limited for the whole segment.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._view = memoryview(data)
        self._starts_left = 2 * _SEARCHED_BYTES
        self._checked_bytes_left = _CHECKED_BYTES

    def next_whole_record(self, damaged: int) -> int:
        """Find where the first whole record behind a damaged place starts; the end of the data where there is none."""
        data = self._data
        position = data.find(_RECEIVED_KEY, damaged)
        while position >= 0:
            end = position + TRAILER_BYTES
            if data[position + _RECEIVED.size : position + _RECEIVED.size + len(_CRC_KEY)] == _CRC_KEY:
                for start in range(max(damaged + 1, end - _SEARCHED_BYTES), end - TRAILER_BYTES):
                    if self._starts_left <= 0:
                        break
                    self._starts_left -= 1
                    if self._is_record(start, end):
                        return start
                if self._is_record(end):
                    return end
            position = data.find(_RECEIVED_KEY, position + 1)
        return len(data)

    def _is_record(self, start: int, end: int | None = None) -> bool:
        """Whether a whole record starts here, and ends there."""
        length, body = read_varint(self._view, start)
        ends = body + length
        if length < TRAILER_BYTES or ends > len(self._data) or (end is not None and ends != end):
            return False
        if self._data[ends - _CRC.size : ends - _CRC.size + len(_CRC_KEY)] != _CRC_KEY:
            return False
        self._checked_bytes_left -= length
        return self._checked_bytes_left >= 0 and _is_whole(self._view[body:ends])


def split_messages(data: bytes | memoryview) -> Iterator[memoryview]:
    """Yield the bodies of length-delimited messages; raises ValueError where the last one is cut off."""
    position = 0
    view = memoryview(data)
    while position < len(view):
        length, body = read_varint(view, position)
        if length < 0 or body + length > len(view):
            raise ValueError(f"the message at byte {position} is cut off")
        yield view[body : body + length]
        position = body + length


def encode_varint(number: int) -> bytes:
    """Encode a length as protobuf does."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """Read a varint: (number, position behind it); the number is -1 where there is none."""
    number = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(view):
            break
        byte = view[position + index]
        number |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return number, position + index + 1
    return -1, position


def _is_whole(record: memoryview) -> bool:
    key, crc = _CRC.unpack(record[-_CRC.size :])
    return bool(key == _CRC_KEY and zlib.crc32(record[: -_CRC.size]) == crc)
