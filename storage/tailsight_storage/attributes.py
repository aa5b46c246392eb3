"""Attribute values as they were sent, from the text and the type that the store keeps."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

AttributeValue = str | bool | int | float | bytes | list[Any] | dict[str, Any] | None


def decode_attributes(values: Mapping[str, str], types: Mapping[str, str]) -> dict[str, AttributeValue]:
    """Join a map column with its `…_types` column: `{"n": "0"}` and `{"n": "int"}` give `{"n": 0}`.

    Types are `int`, `double`, `bool`, `bytes`, `array`, `kvlist` and `unset`; a key without a type is a string. Bytes
    inside arrays and maps come back as `{"$bytes": base64}`; what is nested more than three levels deep comes back as
    `{"$array": base64}` or `{"$kvlist": base64}` of its OTLP encoding.
    """
    return {key: _decode(text, types.get(key, "string")) for key, text in values.items()}


def _decode(text: str, kind: str) -> AttributeValue:
    if kind == "int":
        return int(text)
    if kind == "double":
        return float(text)
    if kind == "bool":
        return text == "true"
    if kind == "bytes":
        return base64.b64decode(text)
    if kind in ("array", "kvlist"):
        value: list[Any] | dict[str, Any] = json.loads(text)
        return value
    return None if kind == "unset" else text
