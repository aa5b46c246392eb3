"""Fields of an OTLP/JSON document, read strictly: a value of a wrong type is an error that names the place.

JSON follows the OTLP specification and not protobuf's general JSON mapping: ids are hex in any case, enums are
integers, keys are lowerCamelCase only, 64-bit integers are numbers or strings, and unknown keys are ignored at every
level. Nothing is guessed, and no id is ever mangled.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tailsight_collector.errors import BadRequestError

T = TypeVar("T")
M = TypeVar("M", bound=Message)
MAX_DEPTH = 64
_DIGITS = re.compile(r"-?[0-9]+")


def parse(body: bytes, read: Callable[[object], M]) -> M:
    """Decode a JSON body and read it; raises BadRequestError with the place and the value."""
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None
    try:
        return read(document)
    except (ValueError, OverflowError, RecursionError) as error:  # lone surrogates, 400-digit numbers
        raise BadRequestError(f"the body is not OTLP/JSON: {error}") from None


def fill_resource(target: Resource, owner: dict[str, Any]) -> None:
    """Copy the resource of `owner`, if it has one."""
    if resource := child(owner, "resource"):
        target.attributes.extend(attributes_of(resource))
        target.dropped_attributes_count = integer(resource, "droppedAttributesCount", 32)


def fill_scope(target: InstrumentationScope, owner: dict[str, Any]) -> None:
    """Copy the instrumentation scope of `owner`, if it has one."""
    if (scope := child(owner, "scope")) is not None:
        target.SetInParent()
        target.name = string(scope, "name")
        target.version = string(scope, "version")
        target.attributes.extend(attributes_of(scope))


def attributes_of(owner: dict[str, Any]) -> list[KeyValue]:
    """Read the attributes of a resource, a span, a data point, …."""
    return _key_values(objects(owner, "attributes"), 0)


def _key_values(entries: list[dict[str, Any]], depth: int) -> list[KeyValue]:
    key_values = []
    for entry in entries:
        key_value = KeyValue(key=string(entry, "key"))
        if (value := entry.get("value")) is not None:
            key_value.value.SetInParent()  # an unset value that is there: deep inside, its bytes are what is stored
            _fill_value(key_value.value, value, depth)
        key_values.append(key_value)
    return key_values


def _fill_value(target: AnyValue, value: object, depth: int) -> None:
    if value is None:
        return
    if depth > MAX_DEPTH:
        raise BadRequestError(f"an attribute value is nested more than {MAX_DEPTH} levels deep")
    fields = object_of(value, "an attribute's value")
    if (text := fields.get("stringValue")) is not None:
        target.string_value = typed(text, str, "stringValue")
    elif (flag := fields.get("boolValue")) is not None:
        target.bool_value = typed(flag, bool, "boolValue")
    elif fields.get("intValue") is not None:
        target.int_value = signed(fields["intValue"], "intValue")
    elif (number := fields.get("doubleValue")) is not None:
        target.double_value = double(number, "doubleValue")
    elif (encoded := fields.get("bytesValue")) is not None:
        target.bytes_value = _base64(encoded)
    elif (array := fields.get("arrayValue")) is not None:
        target.array_value.SetInParent()
        for item in _list(object_of(array, "arrayValue"), "values"):
            _fill_value(target.array_value.values.add(), item, depth + 1)
    elif (entries := fields.get("kvlistValue")) is not None:
        target.kvlist_value.SetInParent()
        target.kvlist_value.values.extend(_key_values(objects(object_of(entries, "kvlistValue"), "values"), depth + 1))


def object_of(value: object, what: str) -> dict[str, Any]:
    """Read an object; `what` names it in the error."""
    return typed(value, dict, what)


def child(owner: dict[str, Any], key: str) -> dict[str, Any] | None:
    """Read an object that may be missing."""
    value = owner.get(key)
    return None if value is None else object_of(value, key)


def _list(owner: dict[str, Any], key: str) -> list[Any]:
    value = owner.get(key)
    return [] if value is None else typed(value, list, key)


def objects(owner: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Read a list of objects that may be missing."""
    return [object_of(item, f"an entry of {key}") for item in _list(owner, key)]


def string(owner: dict[str, Any], key: str) -> str:
    """Read a text that may be missing."""
    value = owner.get(key)
    return "" if value is None else typed(value, str, key)


def identifier(owner: dict[str, Any], key: str) -> bytes:
    """Read a hex id. One of a wrong length is kept: its span is rejected by the check, with the reason."""
    text = string(owner, key)
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise BadRequestError(f"{key} {_shown(text)} is not hexadecimal (OTLP/JSON ids are hex, not base64)") from None


def integer(owner: dict[str, Any], key: str, bits: int) -> int:
    """Read a number without a sign that may be missing."""
    value = owner.get(key)
    if value is None:
        return 0
    number = _whole(value, key)
    if not 0 <= number < 1 << bits:
        raise BadRequestError(f"{key} {_shown(value)} does not fit into {bits} bits without a sign")
    return number


def signed(value: object, key: str) -> int:
    """Read a number of 64 bits with a sign."""
    number = _whole(value, key)
    if not -(1 << 63) <= number < 1 << 63:
        raise BadRequestError(f"{key} {_shown(value)} does not fit into 64 bits")
    return number


def _whole(value: object, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return _converted(value, str, _strict_int, key, "an integer")


def _strict_int(text: str) -> int:
    """Read digits only: Python's int takes spaces and underscores too."""
    if not _DIGITS.fullmatch(text):
        raise ValueError(text)
    return int(text)


def double(value: object, key: str) -> float:
    """Read a number of any kind."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return _converted(value, str, float, key, "a number")  # "NaN", "Infinity"


def _base64(value: object) -> bytes:
    return _converted(value, str, lambda text: base64.b64decode(text, validate=True), "bytesValue", "base64")


def _converted(value: object, kind: type[Any], convert: Callable[[Any], T], key: str, wanted: str) -> T:
    if isinstance(value, kind):
        try:
            return convert(value)
        except (ValueError, OverflowError):
            pass
    raise BadRequestError(f"{key} {_shown(value)} is not {wanted}")


def typed(value: object, kind: type[T], what: str) -> T:
    """Read a value of one JSON type."""
    if not isinstance(value, kind):
        raise BadRequestError(f"{what} must be a JSON {_JSON_NAMES[kind]}, not {_shown(value)}")
    return value


_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean"}


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
