"""Protobuf's wire format, as far as OTLP needs it: hand-joined bytes, and no dependency.

Fields are written in ascending order and default values are left out, as protobuf's own serializer does it, so that the
result is equal byte by byte. A test proves that.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence

from ._values import Value

_ONE_BYTE = tuple(bytes([n]) for n in range(128))
_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

fixed64 = struct.Struct("<Q").pack
fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """Encode 0 <= number < 2**64."""
    if number < 128:
        return _ONE_BYTE[number]
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def utf8(text: str) -> bytes:
    """Encode text. What UTF-8 cannot hold (lone surrogates) becomes "?": a reader would refuse the whole message."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def sized(tag: bytes, payload: bytes) -> bytes:
    """Encode a length-delimited field, also when it is empty."""
    return tag + varint(len(payload)) + payload


def string(tag: bytes, text: str) -> bytes:
    """Encode a string field, or nothing for the default."""
    return sized(tag, utf8(text)) if text else b""


def number(tag: bytes, value: int) -> bytes:
    """Encode a varint field, or nothing for the default."""
    return tag + varint(value) if value else b""


def any_value(value: Value) -> bytes:
    """Encode the content of an AnyValue. None is a message without a member: the value is unset.

    An int that 64 bits cannot hold becomes its decimal text, because a wrong number would be worse.
    """
    if isinstance(value, str):
        return sized(b"\x0a", utf8(value))
    if value is True:
        return b"\x10\x01"
    if value is False:
        return b"\x10\x00"
    if isinstance(value, int):
        if _INT64_MIN <= value <= _INT64_MAX:
            return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        return sized(b"\x0a", _decimal(value))
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, bytes):
        return sized(b"\x3a", value)
    if value is None:
        return b""
    if isinstance(value, dict):
        return sized(b"\x32", key_values(b"\x0a", value))
    return sized(b"\x2a", _array(value))


def key_values(tag: bytes, attributes: Mapping[str, Value]) -> bytes:
    """Encode a repeated KeyValue field."""
    return b"".join(
        [sized(tag, string(b"\x0a", key) + sized(b"\x12", any_value(value))) for key, value in attributes.items()]
    )


def _array(values: Sequence[Value]) -> bytes:
    return b"".join([sized(b"\x0a", any_value(value)) for value in values])


def _decimal(value: int) -> bytes:
    try:
        return str(value).encode()
    except ValueError:  # Python refuses more than 4300 digits
        return hex(value).encode()


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Read a message's fields: ints for varints, bytes for the rest. Raises IndexError or ValueError if it is none."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        field, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _read_varint(message, position)
            yield field, value
            continue
        if wire_type == 2:
            size, position = _read_varint(message, position)
        elif wire_type in {1, 5}:
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError(f"wire type {wire_type}")
        yield field, message[position : position + size]
        position += size


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 70, 7):
        byte = message[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 128:
            return result, position
    raise ValueError("a varint of more than ten bytes")
