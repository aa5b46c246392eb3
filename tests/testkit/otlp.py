"""OTLP requests made from a few words, with the official classes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

_ids = itertools.count(1)


def trace_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def span_id(number: int) -> bytes:
    return number.to_bytes(8, "big")


def any_value(value: Any) -> AnyValue:
    """The official message of a Python value; None is the unset one."""
    message = AnyValue()
    match value:
        case None:
            pass
        case bool():
            message.bool_value = value
        case int():
            message.int_value = value
        case float():
            message.double_value = value
        case str():
            message.string_value = value
        case bytes():
            message.bytes_value = value
        case list():
            message.array_value.SetInParent()
            message.array_value.values.extend(any_value(item) for item in value)
        case dict():
            message.kvlist_value.SetInParent()
            for key, item in value.items():
                message.kvlist_value.values.add(key=key, value=any_value(item))
    return message


def span(**overrides: Any) -> dict[str, Any]:
    """A valid span as a dictionary of fields; ids are fresh, it started a second ago and took a millisecond."""
    number = next(_ids)
    start_ns = time.time_ns() - 1_000_000_000
    fields: dict[str, Any] = {
        "trace_id": trace_id(number),
        "span_id": span_id(number),
        "parent_span_id": b"",
        "name": "work",
        "kind": 1,
        "start_time_unix_nano": start_ns,
        "end_time_unix_nano": start_ns + 1_000_000,
        "attributes": {},
    }
    return fields | overrides


def request(spans: Iterable[Mapping[str, Any]], resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    """One request with one resource and one scope."""
    message = ExportTraceServiceRequest()
    resource_spans = message.resource_spans.add()
    for key, value in (resource or {"service.name": "test"}).items():
        resource_spans.resource.attributes.add(key=key, value=any_value(value))
    scope_spans = resource_spans.scope_spans.add()
    for fields in spans:
        plain = {key: value for key, value in fields.items() if key != "attributes"}
        added = scope_spans.spans.add(**plain)
        for key, value in fields.get("attributes", {}).items():
            added.attributes.add(key=key, value=any_value(value))
    return message
