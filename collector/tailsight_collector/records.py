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

_RECEIVED = struct.Struct("<2sQ")  # key of field 1000, fixed64
_CRC = struct.Struct("<2sI")  # key of field 1001, fixed32
_RECEIVED_KEY = bytes((0xC1, 0x3E))  # 1000 << 3 | 1 as a varint
_CRC_KEY = bytes((0xCD, 0x3E))  # 1001 << 3 | 5
TRAILER_BYTES = _RECEIVED.size + _CRC.size
_MAX_VARINT_BYTES = 10


def encode_record(request: bytes, received_ns: int) -> bytes:
    """Make a record of an encoded ExportTraceServiceRequest that arrived at `received_ns` (Unix time)."""
    received = _RECEIVED.pack(_RECEIVED_KEY, received_ns)
    crc = zlib.crc32(received, zlib.crc32(request))
    return b"".join((encode_varint(len(request) + TRAILER_BYTES), request, received, _CRC.pack(_CRC_KEY, crc)))


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
