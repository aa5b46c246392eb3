"""Attribute values from the store's text and type to OTLP, so that stored again they are the same text and type."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tailsight_analysis.exporting.stored import STRING, StoredAttributes

_LEAST_INT, _MOST_INT = -(1 << 63), (1 << 63) - 1
MAX_MESSAGES_DEEP = 80
"""Of one value. Protobuf's readers refuse a request with more than 100 messages inside each other, and all of it."""
BYTES, ARRAY, KVLIST = "$bytes", "$array", "$kvlist"


def typed(attributes: StoredAttributes) -> Iterator[tuple[str, str, str]]:
    """Yield key, text and type of each attribute.

    Types stand in the order of their attributes. Where a key is there twice, each type is that of the first text that
    can be of it, so that stored again both maps are what they were.
    """
    keys, texts, typed_keys, types = attributes
    if len(set(keys)) == len(keys):
        kinds = dict(zip(typed_keys, types, strict=True))
        for key, text in zip(keys, texts, strict=True):
            yield key, text, kinds.get(key, STRING)
        return
    at = 0
    for key, text in zip(keys, texts, strict=True):
        if at < len(types) and typed_keys[at] == key and _can_be(text, types[at]):
            yield key, text, types[at]
            at += 1
        else:
            yield key, text, STRING


def _can_be(text: str, kind: str) -> bool:
    try:
        fill(AnyValue(), text, kind)
    except (ValueError, DecodeError):
        return False
    return kind != "int" or str(int(text)) == text


def any_value(text: str, kind: str) -> AnyValue:
    """Make the value; a text that is not of its type stays text, as its reader sees it."""
    value = AnyValue()
    try:
        fill(value, text, kind)
    except (ValueError, DecodeError, RecursionError):
        value.Clear()
        value.string_value = text
    return value


def fill(target: AnyValue, text: str, kind: str) -> None:
    """Fill a value of a type; raises ValueError or DecodeError where the text is not of it."""
    if kind == STRING:
        target.string_value = text
    elif kind == "int":
        target.int_value = int(text)
    elif kind == "double":
        target.double_value = float(text)
    elif kind == "bool":
        target.bool_value = _FLAGS[text] if text in _FLAGS else _wrong(text)
    elif kind == "bytes":
        target.bytes_value = base64.b64decode(text, validate=True)
    elif kind == "array":
        _fill_array(target, json.loads(text, object_pairs_hook=_Pairs), 1)
    elif kind == "kvlist":
        _fill_kvlist(target, json.loads(text, object_pairs_hook=_Pairs), 1)
    elif kind != "unset":
        _wrong(kind)
    elif text:
        _wrong(text)


_FLAGS = {"true": True, "false": False}


class _Pairs(list[tuple[str, Any]]):
    """A JSON object whose keys may be there twice."""


def _wrong(text: object) -> bool:
    raise ValueError(text)


def _fill_array(target: AnyValue, items: Any, level: int) -> None:
    if not isinstance(items, list) or isinstance(items, _Pairs):
        _wrong(items)
    target.array_value.SetInParent()
    for item in items:
        _fill_item(target.array_value.values.add(), item, level)


def _fill_kvlist(target: AnyValue, pairs: Any, level: int) -> None:
    if not isinstance(pairs, _Pairs):
        _wrong(pairs)
    target.kvlist_value.SetInParent()
    for key, item in pairs:
        _fill_item(target.kvlist_value.values.add(key=key).value, item, level)


def _fill_item(target: AnyValue, item: Any, level: int) -> None:
    """Fill a value inside another: level 1, or 2, where arrays and maps are OTLP's own bytes in base64."""
    if isinstance(item, str):
        target.string_value = item
    elif isinstance(item, bool):
        target.bool_value = item
    elif isinstance(item, int):
        if not _LEAST_INT <= item <= _MOST_INT:
            _wrong(item)
        target.int_value = item
    elif isinstance(item, float):
        target.double_value = item
    elif isinstance(item, _Pairs):
        if not _fill_wrapped(target, item, level):
            _fill_kvlist(target, item, 2) if level == 1 else _wrong(item)
    elif isinstance(item, list):
        _fill_array(target, item, 2) if level == 1 else _wrong(item)


def _fill_wrapped(target: AnyValue, pairs: _Pairs, level: int) -> bool:
    """Fill what the store wraps, see docs/decisions/0003; False for a map of its sender's that only looks so."""
    if len(pairs) != 1:
        return False
    [(key, text)] = pairs
    if not isinstance(text, str) or key not in ((BYTES,) if level == 1 else (BYTES, ARRAY, KVLIST)):
        return False
    try:
        encoded = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    if base64.b64encode(encoded).decode() != text:
        return False
    if key == BYTES:
        target.bytes_value = encoded
    elif key == ARRAY:
        target.array_value.SetInParent()
        target.array_value.MergeFromString(encoded)
    else:
        target.kvlist_value.SetInParent()
        target.kvlist_value.MergeFromString(encoded)
    if _is_deeper(target, MAX_MESSAGES_DEEP):
        raise ValueError(text)
    return True


def _is_deeper(value: AnyValue, left: int) -> bool:
    if left <= 0:
        return True
    return any(_is_deeper(item, left - 2) for item in value.array_value.values) or any(
        _is_deeper(pair.value, left - 3) for pair in value.kvlist_value.values
    )


# --- OTLP/JSON ------------------------------------------------------------------------------------------------------


def json_attributes(attributes: StoredAttributes) -> list[dict[str, Any]]:
    """Give attributes as OTLP/JSON has them."""
    return [{"key": key, "value": _json_of(text, kind)} for key, text, kind in typed(attributes)]


def _json_of(text: str, kind: str) -> dict[str, Any]:
    return {"stringValue": text} if kind == STRING else json_value(any_value(text, kind))


def json_value(value: AnyValue) -> dict[str, Any]:
    """Give a value as OTLP/JSON has it: integers as text, since JSON readers may know only doubles."""
    kind = value.WhichOneof("value")
    return _JSON[kind](value) if kind else {}


def _json_pair(pair: KeyValue) -> dict[str, Any]:
    if not pair.HasField("value"):
        return {"key": pair.key}
    return {"key": pair.key, "value": json_value(pair.value)}


def json_double(number: float) -> float | str:
    """Give a double as protobuf's JSON has it: what JSON has no number for is text."""
    if math.isfinite(number):
        return number
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


_JSON: dict[str, Callable[[AnyValue], dict[str, Any]]] = {
    "string_value": lambda value: {"stringValue": value.string_value},
    "bool_value": lambda value: {"boolValue": value.bool_value},
    "int_value": lambda value: {"intValue": str(value.int_value)},
    "double_value": lambda value: {"doubleValue": json_double(value.double_value)},
    "bytes_value": lambda value: {"bytesValue": base64.b64encode(value.bytes_value).decode()},
    "array_value": lambda value: {"arrayValue": {"values": [json_value(item) for item in value.array_value.values]}},
    "kvlist_value": lambda value: {"kvlistValue": {"values": [_json_pair(pair) for pair in value.kvlist_value.values]}},
}
