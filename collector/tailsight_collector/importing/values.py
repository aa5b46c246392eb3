"""Plain values (of JSON, of CSV) as OTLP attribute values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Protocol

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_DEPTH = 32
MAX_TEXT_CHARS = 1024 * 1024
_LEAST_INT, _MOST_INT = -(1 << 63), (1 << 63) - 1


class KeyValues(Protocol):
    """A repeated field of attributes."""

    def add(self, *, key: str = ...) -> KeyValue:
        """Add one."""


def put(target: KeyValues, key: str, value: object) -> None:
    """Add an attribute; None is left out."""
    if value is not None:
        fill(target.add(key=clean(key)).value, value)


def put_all(target: KeyValues, values: Mapping[str, object] | Iterable[tuple[str, object]]) -> None:
    """Add attributes; those that are None are left out."""
    for key, value in values.items() if isinstance(values, Mapping) else values:
        put(target, key, value)


def fill(target: AnyValue, value: object, depth: int = 0) -> None:
    """Fill an OTLP value with a plain one: integers that fit into 64 bits stay integers, larger ones become text."""
    if isinstance(value, str):
        target.string_value = clean(value)
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        if _LEAST_INT <= value <= _MOST_INT:
            target.int_value = value
        else:
            target.string_value = str(value)
    elif isinstance(value, float):
        target.double_value = value
    elif isinstance(value, bytes):
        target.bytes_value = value
    elif value is None:
        target.SetInParent()
    elif depth >= MAX_DEPTH:
        target.string_value = clean(json.dumps(value, default=str))
    elif isinstance(value, Mapping):
        target.kvlist_value.SetInParent()
        for key, item in value.items():
            fill(target.kvlist_value.values.add(key=clean(str(key))).value, item, depth + 1)
    elif isinstance(value, Iterable):
        target.array_value.SetInParent()
        for item in value:
            fill(target.array_value.values.add(), item, depth + 1)
    else:
        target.string_value = clean(str(value))


def clean(text: str) -> str:
    """Make text that protobuf takes: lone surrogates become �, and what is longer than MAX_TEXT_CHARS is cut."""
    if len(text) > MAX_TEXT_CHARS:
        text = text[:MAX_TEXT_CHARS] + "…"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
