"""Attribute values as they were sent, from the text and the type that the store keeps.

Scalars are text, arrays and maps are JSON. What JSON cannot say, and what lies deeper than the store's columns reach,
is an object with one key: `{"$bytes": base64}`, or `{"$array": base64}` and `{"$kvlist": base64}` of OTLP's encoding.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

AttributeValue = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None


def decode_attributes(values: Mapping[str, str], types: Mapping[str, str]) -> dict[str, AttributeValue]:
    """Join a map column with its `…_types` column: `{"n": "0"}` and `{"n": "int"}` give `{"n": 0}`.

    Types are `int`, `double`, `bool`, `bytes`, `array`, `kvlist` and `unset`; a key without a type is a string. A text
    that is not of its type stays text: its sender gave the key twice, with different types.
    """
    return {key: _decode(text, types.get(key, "string")) for key, text in values.items()}


def _decode(text: str, kind: str) -> AttributeValue:
    try:
        return _of_type(text, kind)
    except ValueError:
        return text


def _of_type(text: str, kind: str) -> AttributeValue:
    if kind == "int":
        return int(text)
    if kind == "double":
        return float(text)
    if kind == "bool":
        return text == "true"
    if kind == "bytes":
        return base64.b64decode(text)
    if kind in ("array", "kvlist"):
        return _unwrapped(json.loads(text))
    return None if kind == "unset" else text


def _unwrapped(value: Any) -> AttributeValue:
    """Replace the one-key objects by what they stand for."""
    if isinstance(value, list):
        return [_unwrapped(item) for item in value]
    if not isinstance(value, dict):
        return value  # type: ignore[no-any-return]  # JSON's scalars
    if len(value) == 1:
        [(key, inner)] = value.items()
        if key in _WRAPPERS and isinstance(inner, str):
            return _WRAPPERS[key](base64.b64decode(inner))
    return {key: _unwrapped(item) for key, item in value.items()}


# --- OTLP's AnyValue (opentelemetry/proto/common/v1/common.proto), for what is nested too deeply for columns, and for
# --- the few attributes that our own decoder asks for


def attributes_of(message: bytes, number: int) -> dict[str, AttributeValue]:
    """Return the attributes of an encoded message, which are its fields of that number; a key's first value counts.

    What is not known here is skipped, as protobuf's readers do. Raises ValueError where the message is cut off.
    """
    found: dict[str, AttributeValue] = {}
    for pair in _messages(message, number):
        key, value = _pair(pair)
        found.setdefault(key, value)
    return found


def _array(encoded: bytes) -> list[Any]:
    return [_any_value(item) for item in _messages(encoded, 1)]


def _kvlist(encoded: bytes) -> dict[str, Any]:
    return dict(_pair(entry) for entry in _messages(encoded, 1))


def _pair(encoded: bytes) -> tuple[str, AttributeValue]:
    key = value = b""
    for number, wire, content in _fields(encoded):
        if wire == _BYTES and number == 1:
            key = content
        elif wire == _BYTES and number == 2:
            value = content
    return _text(key), _any_value(value)


def _text(encoded: bytes) -> str:
    return encoded.decode("utf-8", "replace")


_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WRAPPERS: dict[str, Callable[[bytes], AttributeValue]] = {"$bytes": bytes, "$array": _array, "$kvlist": _kvlist}
# by number of the field, and how it is encoded
_MEMBERS: dict[tuple[int, int], Callable[[Any], AttributeValue]] = {
    (1, _BYTES): _text,
    (2, _VARINT): bool,
    (3, _VARINT): lambda number: number - (1 << 64) if number >> 63 else number,
    (4, _FIXED64): lambda eight: float(struct.unpack("<d", eight)[0]),
    (5, _BYTES): _array,
    (6, _BYTES): _kvlist,
    (7, _BYTES): bytes,
}


def _any_value(encoded: bytes) -> AttributeValue:
    value: AttributeValue = None
    for number, wire, content in _fields(encoded):
        if read := _MEMBERS.get((number, wire)):
            value = read(content)
    return value


def _messages(encoded: bytes, wanted: int) -> Iterator[bytes]:
    """Yield the messages that are the fields of a number."""
    for number, wire, content in _fields(encoded):
        if number == wanted and wire == _BYTES:
            yield content


def _fields(encoded: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield (field number, wire type, varint or bytes) of one message; raises ValueError where it is cut off."""
    position = 0
    while position < len(encoded):
        key, position = _varint(encoded, position)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(encoded, position)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, position = _varint(encoded, position)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {position}")
        end = position + size
        if end > len(encoded):
            raise ValueError(f"the field at byte {position} is cut off")
        yield number, wire, encoded[position:end]
        position = end


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(encoded):
        byte = encoded[position]
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
        shift += 7
    raise ValueError(f"the number before byte {position} is cut off")
