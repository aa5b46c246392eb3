"""OTLP metrics made from a few words, with the official classes; and NVML as machines with GPUs would have it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from testkit.otlp import any_value


def point(value: float | None = 1.0, **fields: Any) -> dict[str, Any]:
    """A valid data point as a dictionary of fields, of a second ago; None has no value."""
    made: dict[str, Any] = {"time_unix_nano": time.time_ns() - 10**9, "attributes": {}}
    if value is not None:
        made["as_int" if isinstance(value, int) else "as_double"] = value
    return made | fields


def metric(
    name: str,
    points: Iterable[Mapping[str, Any]],
    *,
    kind: str = "gauge",
    unit: str = "1",
    temporality: int = 2,
    monotonic: bool = False,
) -> dict[str, Any]:
    """A metric as a dictionary: a gauge, or a sum with its temporality."""
    return {
        "name": name, "points": list(points), "kind": kind, "unit": unit, "temporality": temporality,
        "monotonic": monotonic,
    }  # fmt: skip


def metrics_request(
    metrics: Iterable[Mapping[str, Any]], resource: Mapping[str, Any] | None = None
) -> ExportMetricsServiceRequest:
    """One request with one resource and one scope."""
    message = ExportMetricsServiceRequest()
    resource_metrics = message.resource_metrics.add()
    for key, value in (resource or {"service.name": "test"}).items():
        resource_metrics.resource.attributes.add(key=key, value=any_value(value))
    scope_metrics = resource_metrics.scope_metrics.add()
    scope_metrics.scope.name = "tests"
    for fields in metrics:
        added = scope_metrics.metrics.add(name=fields["name"], unit=fields["unit"])
        data: Any = getattr(added, fields["kind"])
        data.SetInParent()
        if fields["kind"] == "sum":
            data.aggregation_temporality = fields["temporality"]
            data.is_monotonic = fields["monotonic"]
        for each in fields["points"]:
            plain = {key: value for key, value in each.items() if key != "attributes"}
            made = data.data_points.add(**plain)
            for key, value in each.get("attributes", {}).items():
                made.attributes.add(key=key, value=any_value(value))
    return message


class NvmlError(Exception):
    """As pynvml.NVMLError: `value` is NVML's code."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


NOT_SUPPORTED, GPU_IS_LOST, NOT_FOUND = 3, 15, 6


class _Fields:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class FakeNvml:
    """`pynvml`'s shape with GPUs of known state. `failing` maps a function's name, or one GPU's index, to NVML's code."""

    def __init__(self, gpus: int = 2) -> None:
        self.gpus = gpus
        self.failing: dict[str | int, int] = {}
        self.initialised = 0
        self.calls: list[str] = []
        self.energy_mj = 5_000_000
        self.throttle_bits = 0
        self.hidden: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def nvmlInit(self) -> None:
        self._check("nvmlInit")
        self.initialised += 1

    def nvmlShutdown(self) -> None:
        self.initialised -= 1

    def nvmlDeviceGetCount(self) -> int:
        return self.gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        self._check("nvmlDeviceGetHandleByIndex", index)
        if index >= self.gpus:
            raise NvmlError(NOT_FOUND)
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> int:
        index = int(uuid.removeprefix("GPU-")) if uuid.removeprefix("GPU-").isdecimal() else self.gpus
        return self.nvmlDeviceGetHandleByIndex(index)

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        self._check("nvmlDeviceGetUUID", handle)
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:
        self._check("nvmlDeviceGetName", handle)
        return ("NVIDIA H100 80GB HBM3", "NVIDIA L4")[handle % 2]

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> _Fields:
        self._check("nvmlDeviceGetUtilizationRates", handle)
        return _Fields(gpu=83 + handle, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> _Fields:
        self._check("nvmlDeviceGetMemoryInfo", handle)
        return _Fields(total=80 * 2**30, used=20 * 2**30, free=60 * 2**30)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        self._check("nvmlDeviceGetPowerUsage", handle)
        return 412_345

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        self._check("nvmlDeviceGetTotalEnergyConsumption", handle)
        return self.energy_mj

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        self._check("nvmlDeviceGetTemperature", handle)
        assert sensor == 0
        return 67

    def nvmlDeviceGetClockInfo(self, handle: int, clock: int) -> int:
        self._check(f"nvmlDeviceGetClockInfo({clock})", handle)
        return {0: 1755, 2: 2619}[clock]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        self._check("nvmlDeviceGetCurrentClocksEventReasons", handle)
        return self.throttle_bits

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> int:
        self._check("nvmlDeviceGetTotalEccErrors", handle)
        assert (kind, counter) == (1, 0)
        return 2

    def _check(self, name: str, handle: int | None = None) -> None:
        self.calls.append(name)
        code = self.failing.get(name) or (None if handle is None else self.failing.get(handle))
        if name in self.hidden:
            raise AttributeError(name)
        if code:
            raise NvmlError(code)
