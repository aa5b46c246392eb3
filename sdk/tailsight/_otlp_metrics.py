"""OTLP 1.x metrics: from readings of devices to the bytes of an ExportMetricsServiceRequest.

Field numbers are those of opentelemetry-proto's metrics.proto; a tag byte is `number << 3 | wire type`. The sidecar
uses this, so it imports nothing that imports OpenTelemetry.
"""

import enum
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ._values import Value
from ._wire import fixed64, key_values, sized, string

_double = struct.Struct("<d").pack
_sfixed64 = struct.Struct("<q").pack
_AS_DOUBLE, _AS_INT = b"\x21", b"\x31"
_CUMULATIVE = b"\x10\x02"
_MONOTONIC = b"\x18\x01"


class Kind(enum.Enum):
    """What a metric's values mean, in OpenTelemetry's words for instruments."""

    GAUGE = "gauge"
    UP_DOWN_COUNTER = "up-down counter"
    COUNTER = "counter"


class Metric(NamedTuple):
    """What is measured. `meaning` is for people: it is not sent."""

    name: str
    unit: str
    kind: Kind
    meaning: str


class Reading(NamedTuple):
    """One value of one metric. `attributes` are encoded (`encode_attributes`): a device's do not change."""

    metric: Metric
    value: float | int
    attributes: bytes = b""
    start_unix_ns: int = 0  # since when a counter counts; 0 where that is not known


def encode_attributes(attributes: Mapping[str, Value]) -> bytes:
    """Encode the attributes of a data point."""
    return key_values(b"\x3a", attributes)


def export_request(resource_content: bytes, scope_name: str, readings: Iterable[Reading], time_unix_ns: int) -> bytes:
    """Encode readings of one moment as one ExportMetricsServiceRequest; the points of a metric stand together."""
    points: dict[Metric, list[bytes]] = {}
    time = b"\x19" + fixed64(time_unix_ns)
    for reading in readings:
        points.setdefault(reading.metric, []).append(sized(b"\x0a", _point(reading, time)))
    metrics = [sized(b"\x12", _metric(metric, b"".join(found))) for metric, found in points.items()]
    scope_metrics = sized(b"\x0a", string(b"\x0a", scope_name)) + b"".join(metrics)
    return sized(b"\x0a", sized(b"\x0a", resource_content) + sized(b"\x12", scope_metrics))


def _metric(metric: Metric, points: bytes) -> bytes:
    header = string(b"\x0a", metric.name) + string(b"\x1a", metric.unit)
    if metric.kind is Kind.GAUGE:
        return header + sized(b"\x2a", points)
    monotonic = _MONOTONIC if metric.kind is Kind.COUNTER else b""
    return header + sized(b"\x3a", points + _CUMULATIVE + monotonic)


def _point(reading: Reading, time: bytes) -> bytes:
    start = b"\x11" + fixed64(reading.start_unix_ns) if reading.start_unix_ns else b""
    value = reading.value
    whole = isinstance(value, int) and -(2**63) <= value < 2**63
    number = _AS_INT + _sfixed64(int(value)) if whole else _AS_DOUBLE + _double(value)
    return start + time + number + reading.attributes
