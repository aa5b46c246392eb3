"""OTLP/JSON into the same protobuf message that OTLP/protobuf brings, so that both are stored identically.

JSON follows the OTLP specification and not protobuf's general JSON mapping: ids are hex in any case, enums are
integers, keys are lowerCamelCase only, 64-bit integers are numbers or strings, and unknown keys are ignored at every
level. Values of a wrong type are errors that name the place; nothing is guessed, and no id is ever mangled.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.errors import BadRequestError

T = TypeVar("T")
MAX_DEPTH = 64
_DIGITS = re.compile(r"-?[0-9]+")


def parse_traces(body: bytes) -> ExportTraceServiceRequest:
    """Decode an OTLP/JSON trace request; raises BadRequestError with the place and the value."""
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from None
    try:
        return traces_from_document(document)
    except (ValueError, OverflowError, RecursionError) as error:  # lone surrogates, 400-digit numbers
        raise BadRequestError(f"the body is not OTLP/JSON: {error}") from None


def traces_from_document(document: object) -> ExportTraceServiceRequest:
    """Turn a decoded JSON document into a request; raises BadRequestError with the place and the value."""
    request = ExportTraceServiceRequest()
    root = _object(document, "the request")
    for resource_spans in _objects(root, "resourceSpans"):
        target = request.resource_spans.add(schema_url=_string(resource_spans, "schemaUrl"))
        if resource := _child(resource_spans, "resource"):
            target.resource.attributes.extend(_attributes(resource))
            target.resource.dropped_attributes_count = _integer(resource, "droppedAttributesCount", 32)
        for scope_spans in _objects(resource_spans, "scopeSpans"):
            scoped = target.scope_spans.add(schema_url=_string(scope_spans, "schemaUrl"))
            if scope := _child(scope_spans, "scope"):
                scoped.scope.name = _string(scope, "name")
                scoped.scope.version = _string(scope, "version")
                scoped.scope.attributes.extend(_attributes(scope))
            for span in _objects(scope_spans, "spans"):
                _fill_span(scoped.spans.add(), span)
    return request


def _fill_span(target: Span, span: dict[str, Any]) -> None:
    target.trace_id = _identifier(span, "traceId")
    target.span_id = _identifier(span, "spanId")
    target.parent_span_id = _identifier(span, "parentSpanId")
    target.trace_state = _string(span, "traceState")
    target.flags = _integer(span, "flags", 32)
    target.name = _string(span, "name")
    target.kind = _integer(span, "kind", 31)  # type: ignore[assignment]  # an open enum: any integer is kept
    target.start_time_unix_nano = _integer(span, "startTimeUnixNano", 64)
    target.end_time_unix_nano = _integer(span, "endTimeUnixNano", 64)
    target.attributes.extend(_attributes(span))
    target.dropped_attributes_count = _integer(span, "droppedAttributesCount", 32)
    target.dropped_events_count = _integer(span, "droppedEventsCount", 32)
    target.dropped_links_count = _integer(span, "droppedLinksCount", 32)
    for event in _objects(span, "events"):
        target.events.add(
            time_unix_nano=_integer(event, "timeUnixNano", 64),
            name=_string(event, "name"),
            attributes=_attributes(event),
            dropped_attributes_count=_integer(event, "droppedAttributesCount", 32),
        )
    for link in _objects(span, "links"):
        target.links.add(
            trace_id=_identifier(link, "traceId"),
            span_id=_identifier(link, "spanId"),
            trace_state=_string(link, "traceState"),
            attributes=_attributes(link),
            flags=_integer(link, "flags", 32),
        )
    if status := _child(span, "status"):
        target.status.message = _string(status, "message")
        target.status.code = _integer(status, "code", 31)  # type: ignore[assignment]


def _attributes(owner: dict[str, Any]) -> list[KeyValue]:
    return _key_values(_objects(owner, "attributes"), 0)


def _key_values(entries: list[dict[str, Any]], depth: int) -> list[KeyValue]:
    key_values = []
    for entry in entries:
        key_value = KeyValue(key=_string(entry, "key"))
        _fill_value(key_value.value, entry.get("value"), depth)
        key_values.append(key_value)
    return key_values


def _fill_value(target: AnyValue, value: object, depth: int) -> None:
    if value is None:
        return
    if depth > MAX_DEPTH:
        raise BadRequestError(f"an attribute value is nested more than {MAX_DEPTH} levels deep")
    fields = _object(value, "an attribute's value")
    if (text := fields.get("stringValue")) is not None:
        target.string_value = _typed(text, str, "stringValue")
    elif (flag := fields.get("boolValue")) is not None:
        target.bool_value = _typed(flag, bool, "boolValue")
    elif fields.get("intValue") is not None:
        target.int_value = _signed(fields["intValue"])
    elif (number := fields.get("doubleValue")) is not None:
        target.double_value = _double(number)
    elif (encoded := fields.get("bytesValue")) is not None:
        target.bytes_value = _base64(encoded)
    elif (array := fields.get("arrayValue")) is not None:
        target.array_value.SetInParent()
        for item in _list(_object(array, "arrayValue"), "values"):
            _fill_value(target.array_value.values.add(), item, depth + 1)
    elif (entries := fields.get("kvlistValue")) is not None:
        target.kvlist_value.SetInParent()
        target.kvlist_value.values.extend(_key_values(_objects(_object(entries, "kvlistValue"), "values"), depth + 1))


def _object(value: object, what: str) -> dict[str, Any]:
    return _typed(value, dict, what)


def _child(owner: dict[str, Any], key: str) -> dict[str, Any] | None:
    value = owner.get(key)
    return None if value is None else _object(value, key)


def _list(owner: dict[str, Any], key: str) -> list[Any]:
    value = owner.get(key)
    return [] if value is None else _typed(value, list, key)


def _objects(owner: dict[str, Any], key: str) -> list[dict[str, Any]]:
    return [_object(item, f"an entry of {key}") for item in _list(owner, key)]


def _string(owner: dict[str, Any], key: str) -> str:
    value = owner.get(key)
    return "" if value is None else _typed(value, str, key)


def _identifier(owner: dict[str, Any], key: str) -> bytes:
    """Read a hex id. One of a wrong length is kept: its span is rejected by the check, with the reason."""
    text = _string(owner, key)
    try:
        return binascii.unhexlify(text)
    except ValueError:
        raise BadRequestError(f"{key} {_shown(text)} is not hexadecimal (OTLP/JSON ids are hex, not base64)") from None


def _integer(owner: dict[str, Any], key: str, bits: int) -> int:
    value = owner.get(key)
    if value is None:
        return 0
    number = _whole(value, key)
    if not 0 <= number < 1 << bits:
        raise BadRequestError(f"{key} {_shown(value)} does not fit into {bits} bits without a sign")
    return number


def _signed(value: object) -> int:
    number = _whole(value, "intValue")
    if not -(1 << 63) <= number < 1 << 63:
        raise BadRequestError(f"intValue {_shown(value)} does not fit into 64 bits")
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


def _double(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return _converted(value, str, float, "doubleValue", "a number")  # "NaN", "Infinity"


def _base64(value: object) -> bytes:
    return _converted(value, str, lambda text: base64.b64decode(text, validate=True), "bytesValue", "base64")


def _converted(value: object, kind: type[Any], convert: Callable[[Any], T], key: str, wanted: str) -> T:
    if isinstance(value, kind):
        try:
            return convert(value)
        except (ValueError, OverflowError):
            pass
    raise BadRequestError(f"{key} {_shown(value)} is not {wanted}")


def _typed(value: object, kind: type[T], what: str) -> T:
    if not isinstance(value, kind):
        raise BadRequestError(f"{what} must be a JSON {_JSON_NAMES[kind]}, not {_shown(value)}")
    return value


_JSON_NAMES: dict[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean"}


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
