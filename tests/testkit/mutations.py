"""Valid OTLP requests with something of everything, and ways to spoil them: what fuzzing begins with."""

from __future__ import annotations

import copy
import json
import random
import time
from typing import Any

from tailsight_collector.keep.records import encode_varint, read_varint
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span

SECOND_NS = 10**9
EVERY_VALUE: dict[str, Any] = {
    "text": "text", "empty": "", "true": True, "false": False, "zero": 0, "least": -(2**63), "half": 0.5,
    "nan": float("nan"), "bytes": b"\x00\xff", "list": [1, "a", None, [2.5, {"k": [b"x"]}]], "map": {"k": {"l": [0]}},
    "unset": None,
}  # fmt: skip
SENDER = {
    "tailsight.sender.id": "fuzz", "tailsight.batch.number": 7, "tailsight.batch.spans": 2,
    "tailsight.sender.recorded": 3, "tailsight.sender.spans": 2, "tailsight.sender.dropped": {"full": 1},
    "tailsight.sender.last": True,
}  # fmt: skip


def traces_seed() -> bytes:
    """A trace request with every kind of value and field, numbered as our SDK does it."""
    message = request(
        [span(attributes=EVERY_VALUE), span(kind=3, trace_state="a=b")], {"service.name": "fuzz", **EVERY_VALUE}
    )
    [scope_spans] = message.resource_spans[0].scope_spans
    scope_spans.scope.name, scope_spans.scope.version = "fuzz", "1"
    scope_spans.scope.attributes.extend(request([], SENDER).resource_spans[0].resource.attributes)
    first = scope_spans.spans[0]
    first.status.code, first.status.message = 2, "no"
    first.events.add(time_unix_nano=time.time_ns(), name="event", attributes=first.attributes)
    first.links.add(trace_id=bytes(range(16)), span_id=bytes(range(8)), attributes=first.attributes[:3], flags=1)
    return message.SerializeToString()


def metrics_seed() -> bytes:
    """A metrics request with gauges and sums of numbers, and a histogram."""
    now_ns = time.time_ns()
    message = metrics_request(
        [
            metric("hw.power", [point(412.5, attributes={"hw.id": "GPU-0", **EVERY_VALUE}), point(7)], unit="W"),
            metric("hw.energy", [point(5)], kind="sum", monotonic=True),
            metric("latency", [], kind="histogram"),
            metric("system.cpu.time", [point(None), point(float("nan")), point(1.0, flags=1, time_unix_nano=now_ns)]),
        ]
    )
    message.resource_metrics[0].scope_metrics[0].metrics[2].histogram.data_points.add(count=3)
    return message.SerializeToString()


def traces_document() -> dict[str, Any]:
    """Much the same as `traces_seed`, in JSON."""
    now_ns = time.time_ns()
    values = [
        {"stringValue": "s"}, {"boolValue": False}, {"intValue": "-9223372036854775808"}, {"intValue": 7},
        {"doubleValue": 0.5}, {"doubleValue": "NaN"}, {"bytesValue": "AAH/"}, {},
        {"arrayValue": {"values": [{"intValue": 1}, {"arrayValue": {"values": [{"stringValue": "a"}]}}]}},
        {"kvlistValue": {"values": [{"key": "k", "value": {"kvlistValue": {"values": []}}}]}},
    ]  # fmt: skip
    attributes = [{"key": f"k{number}", "value": value} for number, value in enumerate(values)]
    one = {
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "parentSpanId": "", "name": "work",
        "kind": 2, "startTimeUnixNano": str(now_ns - SECOND_NS), "endTimeUnixNano": now_ns, "attributes": attributes,
        "status": {"code": 2, "message": "no"}, "droppedAttributesCount": 1, "flags": 1, "traceState": "a=b",
        "events": [{"timeUnixNano": str(now_ns), "name": "e", "attributes": attributes}],
        "links": [{"traceId": "00" * 16, "spanId": "11" * 8, "attributes": attributes[:2]}],
    }  # fmt: skip
    scope = {"name": "fuzz", "version": "1", "attributes": attributes}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": attributes},
                "scopeSpans": [{"scope": scope, "spans": [one, one]}],
                "schemaUrl": "u",
            }
        ]
    }


def metrics_document() -> dict[str, Any]:
    """Much the same as `metrics_seed`, in JSON."""
    now_ns = time.time_ns()
    points = [
        {"timeUnixNano": str(now_ns), "asDouble": 1.5, "attributes": [{"key": "hw.id", "value": {"stringValue": "0"}}]},
        {"timeUnixNano": now_ns, "asInt": "-3", "flags": 0, "startTimeUnixNano": 1},
    ]
    metrics = [
        {"name": "hw.power", "unit": "W", "gauge": {"dataPoints": points}},
        {"name": "hw.energy", "sum": {"dataPoints": points, "aggregationTemporality": 2, "isMonotonic": True}},
        {"name": "latency", "histogram": {"dataPoints": [{"count": "3"}]}},
        {"name": "s", "summary": {"dataPoints": [{}]}},
    ]
    return {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {"name": "fuzz"}, "metrics": metrics}]}]}


def spoiled_protobuf(data: bytes, chance: random.Random, times: int) -> bytes:
    """Spoil an encoded message a few times: at a random depth, or in its bytes."""
    for _ in range(times):
        data = _spoiled_bytes(data, chance) if chance.random() < 0.3 else _spoiled_message(data, chance, 0)
    return data


def spoiled_json(document: Any, chance: random.Random, times: int) -> bytes:
    """Spoil a JSON document a few times, its text too at times."""
    document = copy.deepcopy(document)
    for _ in range(times):
        document = _spoiled_value(document, chance)
    body = json.dumps(document).encode()
    return _spoiled_bytes(body, chance) if chance.random() < 0.2 else body


# --- inside -----------------------------------------------------------------------------------------------------------

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.0, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), 2**31, 2**32, 2**63, 2**64,
    -(2**63) - 1, 10**400, "", "0", "-1", "1e3", " 1", "NaN", "18446744073709551616", "\ud800", "\x00", "é", "zz",
    "AA==", "00" * 16, "0" * 31, [], {}, [[]], [{}], [None], {"": None}, {"values": [{}]}, [{"key": "k"}],
    {"intValue": 1, "stringValue": "both"}, {"arrayValue": {}},
)  # fmt: skip


def _fields(data: bytes) -> list[tuple[int, int, bytes]] | None:
    """Take a message apart: (number, wire type, payload); None where it is none."""
    view, position, fields = memoryview(data), 0, []
    while position < len(view):
        tag, position = read_varint(view, position)
        number, wire_type = tag >> 3, tag & 7
        if tag < 8:
            return None
        if wire_type == 0:
            value, end = read_varint(view, position)
            if value < 0:
                return None
        elif wire_type == 2:
            length, position = read_varint(view, position)
            end = position + length
            if length < 0:
                return None
        elif wire_type in (1, 5):
            end = position + (8 if wire_type == 1 else 4)
        else:
            return None
        if end > len(view):
            return None
        fields.append((number, wire_type, bytes(view[position:end])))
        position = end
    return fields


def _joined(fields: list[tuple[int, int, bytes]]) -> bytes:
    return b"".join(
        encode_varint(number << 3 | wire_type) + (encode_varint(len(payload)) if wire_type == 2 else b"") + payload
        for number, wire_type, payload in fields
    )


def _spoiled_message(data: bytes, chance: random.Random, depth: int) -> bytes:
    fields = _fields(data)
    if not fields:
        return _spoiled_bytes(data, chance)
    place = chance.randrange(len(fields))
    number, wire_type, payload = fields[place]
    if wire_type == 2 and payload and depth < 12 and chance.random() < 0.75:
        fields[place] = (number, 2, _spoiled_message(payload, chance, depth + 1))
        return _joined(fields)
    match chance.randrange(8):
        case 0:
            del fields[place]
        case 1:
            fields.insert(chance.randrange(len(fields) + 1), fields[place])
        case 2:
            fields[place] = (number, *_of_wire_type(chance.choice((0, 1, 2, 5)), chance))
        case 3:
            fields[place] = (chance.choice((1, 2, 3, 4, 5, 6, 7, 9, 15, 16, 1000, 1001, 2**28)), wire_type, payload)
        case 4:
            fields[place] = (number, *_of_wire_type(wire_type, chance))
        case 5:
            chance.shuffle(fields)
        case 6:
            fields[place] = (number, 2, _joined(fields)) if len(data) < 4096 else (number, 2, b"")
        case _:
            fields[place] = (number, wire_type, _spoiled_bytes(payload, chance) if wire_type == 2 else payload)
    return _joined(fields)


def _of_wire_type(wire_type: int, chance: random.Random) -> tuple[int, bytes]:
    if wire_type == 0:
        odd = (0, 1, 2, 7, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, chance.getrandbits(64))
        return 0, encode_varint(chance.choice(odd))
    if wire_type == 2:
        return 2, chance.choice(
            (b"", b"\x00", b"\xff", b"abc", bytes(8), bytes(16), chance.randbytes(chance.randrange(40)))
        )
    size = 8 if wire_type == 1 else 4
    return wire_type, chance.choice((bytes(size), b"\xff" * size, chance.randbytes(size)))


def _spoiled_bytes(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return chance.randbytes(chance.randrange(4))
    place = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return data[:place] + bytes((data[place] ^ 1 << chance.randrange(8),)) + data[place + 1 :]
        case 1:
            return data[:place]
        case 2:
            return data[:place] + chance.randbytes(chance.randrange(1, 9)) + data[place:]
        case 3:
            return data[:place] + data[place + chance.randrange(1, 9) :]
        case _:
            piece = data[place : place + chance.randrange(1, 64)]
            return data[:place] + piece + data[place:]


def _spoiled_value(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        match chance.randrange(12):
            case 0:
                del value[key]
            case 1:
                value[chance.choice(("traceId", "value", "values", "key", "spans", "intValue", "odd"))] = value[key]
            case _:
                value[key] = _spoiled_value(value[key], chance)
        return value
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        match chance.randrange(10):
            case 0:
                del value[place]
            case 1:
                value.append(copy.deepcopy(value[place]))
            case _:
                value[place] = _spoiled_value(value[place], chance)
        return value
    return copy.deepcopy(chance.choice(ODD_VALUES))
