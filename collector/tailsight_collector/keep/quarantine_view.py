"""What a quarantined record holds, for the person who decides about it."""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight_collector.keep.records import TRAILER_BYTES, split_messages

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Content:
    """What a record says. `items` counts its spans or metrics, `names` are the most frequent of them."""

    received_at: datetime | None
    services: list[str]
    items: int
    names: list[str]


def content_of(record: bytes, *, is_metrics: bool) -> Content | None:
    """Read a record; None where it is none."""
    try:
        [body] = split_messages(record)
        # the arrival is ours and the decoder's unknown field: it stands at a known place from the end
        (received_ns,) = struct.unpack_from("<Q", body, len(body) - TRAILER_BYTES + 2)
        message: Any = (ExportMetricsServiceRequest if is_metrics else ExportTraceServiceRequest).FromString(
            bytes(body)
        )
    except (ValueError, struct.error, DecodeError):
        return None
    services: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for resource in message.resource_metrics if is_metrics else message.resource_spans:
        for attribute in resource.resource.attributes:
            if attribute.key == "service.name":
                services[attribute.value.string_value] += 1
        for scope in resource.scope_metrics if is_metrics else resource.scope_spans:
            names.update(item.name for item in (scope.metrics if is_metrics else scope.spans))
    return Content(
        received_at=_moment(received_ns),
        services=sorted(services),
        items=names.total(),
        names=[name for name, _ in islice(names.most_common(), _SHOWN)],
    )


def _moment(time_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC)
    except (OverflowError, ValueError, OSError):
        return None
