"""Which data points of a metrics request are not stored? The answer that a client gets as `partial_success`.

The store keeps the state of machines: gauges and sums about a device or a host. It asks the same question in SQL
(`tailsight_is_storable_point` in 0008_hardware_samples.sql); a test holds the two together. Everything else is
acknowledged, counted, and named in the answer, never dropped in silence.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from tailsight_collector.errors import BadRequestError
from tailsight_collector.receive.checks import DAY_NS, MAX_UNFOLDED_BYTES, YEAR_2000_NS

# What a device's or a host's metric begins with; as in tailsight_is_device_metric.
DEVICE_PREFIXES = (
    "hw.", "system.", "process.", "container.", "gpu.", "gpu_", "nvidia.", "nvidia_", "DCGM_", "nv_gpu_", "nv_cpu_",
    "nv_energy_",
)  # fmt: skip
_NUMBERS = frozenset({"gauge", "sum"})
_NO_RECORDED_VALUE = 1

POINT_REASONS = {
    "not_a_number": "of a histogram or summary, only gauges and sums are stored",
    "not_a_device_metric": "not about a device or a host (hw.*, system.*, process.*, gpu.*, DCGM_*, …)",
    "no_value": "without a value",
    "not_finite": "the value is not a finite number",
    "before_2000": "the time is before the year 2000",
    "in_the_future": "the time is more than a day ahead",
}


@dataclass(slots=True)
class CheckedPoints:
    """How many data points a request holds, and how many of them are not stored for which reason."""

    total: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    batch: None = None  # metrics are not numbered

    @property
    def message(self) -> str:
        """The reasons in one short line, most frequent first; empty where all are stored."""
        if not self.rejected:
            return ""
        parts = [f"{count} × {POINT_REASONS[reason]}" for reason, count in self.rejected.most_common()]
        return f"did not store {self.rejected.total()} of {self.total} data points: {'; '.join(parts)}"

    @property
    def is_worth_storing(self) -> bool:
        """Whether the store would keep anything of the request."""
        return self.total > self.rejected.total()


def check_points(request: ExportMetricsServiceRequest, received_ns: int) -> CheckedPoints:
    """Count the data points of a request and those that will not be stored.

    Raises BadRequestError (413) where its resources, which the store keeps with every point, would unfold it to more
    than MAX_UNFOLDED_BYTES.
    """
    checked = CheckedPoints()
    unfolded_bytes = 0
    for resource_metrics in request.resource_metrics:
        resource_bytes = resource_metrics.resource.ByteSize()
        for scope_metrics in resource_metrics.scope_metrics:
            scope_bytes = scope_metrics.scope.ByteSize()
            for metric in scope_metrics.metrics:
                kind = metric.WhichOneof("data")
                if kind is None:
                    continue
                points = getattr(metric, kind).data_points
                checked.total += len(points)
                if kind not in _NUMBERS:
                    checked.rejected["not_a_number"] += len(points)
                    continue
                unfolded_bytes += len(points) * (resource_bytes + scope_bytes + len(metric.name) + len(metric.unit))
                if unfolded_bytes > MAX_UNFOLDED_BYTES:
                    raise BadRequestError(
                        f"resource attributes unfold to more than {MAX_UNFOLDED_BYTES} bytes over all data points; "
                        "send fewer points at once, or smaller resource attributes",
                        413,
                    )
                is_device = metric.name.startswith(DEVICE_PREFIXES)
                for point in points:
                    if reason := point_rejection(point, is_device, received_ns):
                        checked.rejected[reason] += 1
    checked.rejected += Counter()  # a histogram without points has no say
    return checked


def point_rejection(point: NumberDataPoint, is_device: bool, received_ns: int) -> str:
    """Return the reason why a number is not stored, '' where it is: the first that holds."""
    if not is_device:
        return "not_a_device_metric"
    value = point.WhichOneof("value")
    if value is None or point.flags & _NO_RECORDED_VALUE:
        return "no_value"
    if value == "as_double" and not math.isfinite(point.as_double):
        return "not_finite"
    if point.time_unix_nano < YEAR_2000_NS:
        return "before_2000"
    if point.time_unix_nano > received_ns + DAY_NS:
        return "in_the_future"
    return ""
