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
    """Return the attributes of an encoded message, which are its fields of that number; a key's first value counts."""
    found: dict[str, AttributeValue] = {}
    for field, content in _fields(message):
        if field == number:
            pair = dict(_fields(content))
            found.setdefault(pair.get(1, b"").decode(), _any_value(pair.get(2, b"")))
    return found


def _array(encoded: bytes) -> list[Any]:
    return [_any_value(item) for _, item in _fields(encoded)]


def _kvlist(encoded: bytes) -> dict[str, Any]:
    pairs = (dict(_fields(entry)) for _, entry in _fields(encoded))
    return {pair.get(1, b"").decode(): _any_value(pair.get(2, b"")) for pair in pairs}


_WRAPPERS: dict[str, Callable[[bytes], AttributeValue]] = {"$bytes": bytes, "$array": _array, "$kvlist": _kvlist}
_MEMBERS: dict[int, Callable[[Any], AttributeValue]] = {
    1: bytes.decode,
    2: bool,
    3: lambda number: number - (1 << 64) if number >> 63 else number,
    4: lambda eight: float(struct.unpack("<d", eight)[0]),
    5: _array,
    6: _kvlist,
    7: bytes,
}


def _any_value(encoded: bytes) -> AttributeValue:
    value: AttributeValue = None
    for number, content in _fields(encoded):
        if number in _MEMBERS:
            value = _MEMBERS[number](content)
    return value


def _fields(encoded: bytes) -> Iterator[tuple[int, Any]]:
    """Yield (field number, varint or bytes) of one message."""
    position = 0
    while position < len(encoded):
        key, position = _varint(encoded, position)
        if key & 7 == 0:
            number, position = _varint(encoded, position)
            yield key >> 3, number
            continue
        size = 8
        if key & 7 == 2:
            size, position = _varint(encoded, position)
        yield key >> 3, encoded[position : position + size]
        position += size


def _varint(encoded: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = encoded[position]
        number |= (byte & 0x7F) << shift
        position += 1
        if byte < 0x80:
            return number, position
        shift += 7
