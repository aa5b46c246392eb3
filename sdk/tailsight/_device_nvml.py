"""The state of NVIDIA's GPUs, from NVML: the GPUs that CUDA would show to the service, in CUDA's order.

`nvml` is the module `pynvml` (nvidia-ml-py) or anything of its shape. Every call may fail by itself: a value that a GPU
does not have is left out, and a GPU that falls off the bus is missed, looked for again, and never an error.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from ._device_metrics import (
    ENERGY,
    ERROR_TYPE,
    ERRORS,
    GPU_CLOCK_GRAPHICS,
    GPU_CLOCK_MEMORY,
    GPU_INDEX,
    GPU_MEMORY_LIMIT,
    GPU_MEMORY_USAGE,
    GPU_MEMORY_UTILIZATION,
    GPU_THROTTLED,
    GPU_UTILIZATION,
    HW_ID,
    HW_NAME,
    HW_TYPE,
    HW_VENDOR,
    POWER,
    TEMPERATURE,
    THROTTLE_REASONS,
)
from ._otlp_metrics import Reading, encode_attributes
from ._values import Value

# NVML_CLOCK_… and so on, from nvml.h: a name may be missing in an old pynvml, the number never changes.
_CLOCK_GRAPHICS, _CLOCK_MEMORY = 0, 2
_TEMPERATURE_OF_GPU = 0
_UNCORRECTED, _SINCE_DRIVER_START = 1, 0
_NEVER = frozenset({3, 13})  # NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_FUNCTION_NOT_FOUND
# nvmlClocksEventReason…: what holds clocks down against the user's will. Idling (1), clocks that the user has set (2)
# and the display's (256) do not.
_THROTTLE_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x200: "board_limit",
    0x400: "reliability",
}
# Errors are rare and the question is slow on some GPUs.
ERRORS_EVERY_NS = 60 * 10**9
LOOK_AGAIN_NS = 60 * 10**9


class Gpus:
    """All visible GPUs. Raises what `nvml` raises where there is no driver; `read` never does."""

    def __init__(self, nvml: Any, visible: str | None, start_unix_ns: int) -> None:
        self._nvml = nvml
        self._look_again_ns: int | None = None
        nvml.nvmlInit()
        self.gpus = [
            _Gpu(nvml, handle, index, start_unix_ns)
            for index, handle in enumerate(_handles(nvml, visible))
            if handle is not None
        ]

    def read(self, now_ns: int) -> Iterator[Reading]:
        """Yield what each GPU tells; `now_ns` is monotonic."""
        if self._look_again_ns is not None and now_ns >= self._look_again_ns:
            self._reopen()
            self._look_again_ns = None
        for gpu in self.gpus:
            readings = gpu.read(now_ns)
            if not readings and self._look_again_ns is None:
                self._look_again_ns = now_ns + LOOK_AGAIN_NS
            yield from readings

    def close(self) -> None:
        """Let go of the driver."""
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()

    def _reopen(self) -> None:
        """Begin again: after a driver's restart all handles are void."""
        self.close()
        with contextlib.suppress(Exception):
            self._nvml.nvmlInit()
        for gpu in self.gpus:
            gpu.find_again()


def _handles(nvml: Any, visible: str | None) -> Iterator[Any]:
    """Yield the GPUs as CUDA_VISIBLE_DEVICES orders them, None for one that does not answer."""
    if visible is None:
        for index in range(_asked(nvml.nvmlDeviceGetCount) or 0):
            yield _asked(nvml.nvmlDeviceGetHandleByIndex, index)
        return
    for entry in map(str.strip, visible.split(",")):
        by_index = entry.isdecimal()
        handle = (
            _asked(nvml.nvmlDeviceGetHandleByIndex, int(entry))
            if by_index
            else _asked(nvml.nvmlDeviceGetHandleByUUID, entry)
        )
        if handle is None:  # CUDA too ends at an entry that it does not know, "-1" for example
            return
        yield handle


def _asked(question: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return question(*arguments)
    except Exception:  # NVML's own classes, and those of whatever has its shape
        return None


class _Gpu:
    def __init__(self, nvml: Any, handle: Any, index: int, start_unix_ns: int) -> None:
        self._nvml = nvml
        self._handle = handle
        self._last_mj: int | None = None
        self._total_mj = 0
        self._start_unix_ns = start_unix_ns
        self._id = _text(_asked(nvml.nvmlDeviceGetUUID, handle)) or f"gpu-{index}"
        name = _text(_asked(nvml.nvmlDeviceGetName, handle))
        self._identity: dict[str, Value] = {HW_TYPE: "gpu", HW_ID: self._id, HW_VENDOR: "NVIDIA", GPU_INDEX: index}
        if name:
            self._identity[HW_NAME] = name
        self._attributes = encode_attributes(self._identity)
        self._error_attributes = self._with({ERROR_TYPE: "ecc_uncorrected"})
        self._throttled_attributes: dict[int, bytes] = {0: self._attributes}
        self._questions = [
            self._utilization,
            self._memory,
            self._power,
            self._joules,
            self._temperature,
            self._clock_graphics,
            self._clock_memory,
            self._throttled,
        ]
        self._has_errors = True
        self._errors_due_ns = 0

    def read(self, now_ns: int) -> list[Reading]:
        """Ask everything that this GPU can answer; nothing comes back from one that is gone."""
        readings: list[Reading] = []
        for question in tuple(self._questions):
            try:
                readings += question()
            except Exception as error:
                if _is_final(error):
                    self._questions.remove(question)
        if self._has_errors and readings and now_ns >= self._errors_due_ns:
            self._errors_due_ns = now_ns + ERRORS_EVERY_NS
            try:
                readings += self._errors()
            except Exception as error:
                self._has_errors = not _is_final(error)
        return readings

    def find_again(self) -> None:
        """Ask for the GPU by its own id: its number may have changed."""
        self._handle = _asked(self._nvml.nvmlDeviceGetHandleByUUID, self._id) or self._handle

    def _with(self, more: dict[str, Value]) -> bytes:
        return encode_attributes({**self._identity, **more})

    def _utilization(self) -> list[Reading]:
        percent = self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu
        return [Reading(GPU_UTILIZATION, percent / 100, self._attributes)]

    def _memory(self) -> list[Reading]:
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        used, total = int(memory.used), int(memory.total)
        readings = [
            Reading(GPU_MEMORY_USAGE, used, self._attributes),
            Reading(GPU_MEMORY_LIMIT, total, self._attributes),
        ]
        return [*readings, Reading(GPU_MEMORY_UTILIZATION, used / total, self._attributes)] if total else readings

    def _power(self) -> list[Reading]:
        return [Reading(POWER, self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1000, self._attributes)]

    def _joules(self) -> list[Reading]:
        now_mj = int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))
        # the driver's counter begins again with the driver; ours counts from the sampler's start
        if self._last_mj is not None:
            self._total_mj += max(0, now_mj - self._last_mj)
        self._last_mj = now_mj
        return [Reading(ENERGY, self._total_mj / 1000, self._attributes, self._start_unix_ns)]

    def _temperature(self) -> list[Reading]:
        degrees = self._nvml.nvmlDeviceGetTemperature(self._handle, _TEMPERATURE_OF_GPU)
        return [Reading(TEMPERATURE, float(degrees), self._attributes)]

    def _clock_graphics(self) -> list[Reading]:
        mhz = self._nvml.nvmlDeviceGetClockInfo(self._handle, _CLOCK_GRAPHICS)
        return [Reading(GPU_CLOCK_GRAPHICS, float(mhz), self._attributes)]

    def _clock_memory(self) -> list[Reading]:
        mhz = self._nvml.nvmlDeviceGetClockInfo(self._handle, _CLOCK_MEMORY)
        return [Reading(GPU_CLOCK_MEMORY, float(mhz), self._attributes)]

    def _throttled(self) -> list[Reading]:
        nvml = self._nvml
        # the name before driver 535
        ask = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
        bits = int((ask or nvml.nvmlDeviceGetCurrentClocksThrottleReasons)(self._handle))
        held = sum(bit for bit in _THROTTLE_REASONS if bits & bit)
        if held not in self._throttled_attributes:
            reasons = [name for bit, name in _THROTTLE_REASONS.items() if held & bit]
            self._throttled_attributes[held] = self._with({THROTTLE_REASONS: list[Value](reasons)})
        return [Reading(GPU_THROTTLED, int(held != 0), self._throttled_attributes[held])]

    def _errors(self) -> list[Reading]:
        count = self._nvml.nvmlDeviceGetTotalEccErrors(self._handle, _UNCORRECTED, _SINCE_DRIVER_START)
        return [Reading(ERRORS, int(count), self._error_attributes)]


def _is_final(error: Exception) -> bool:
    """Whether asking again is useless: this GPU, this driver or this pynvml does not have the value."""
    return isinstance(error, AttributeError) or getattr(error, "value", None) in _NEVER


def _text(answer: Any) -> str:
    """Old versions of pynvml give bytes."""
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer or "")
