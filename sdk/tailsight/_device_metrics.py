"""Every device metric that tailsight sends, said once: docs/devices.md is held to this table by a test.

Names and units are those of OpenTelemetry's semantic conventions; those of clocks and throttling, which it does not
have, are the ones that other GPU collectors send.
"""

from typing import Final

from . import attributes as keys
from ._otlp_metrics import Kind, Metric

_GAUGE, _UP_DOWN, _COUNTER = Kind.GAUGE, Kind.UP_DOWN_COUNTER, Kind.COUNTER

# --- the machine and the service --------------------------------------------------------------------------------------
CPU_UTILIZATION: Final = Metric("system.cpu.utilization", "1", _GAUGE, "busy share of all processors of the machine")
CPU_FREQUENCY: Final = Metric("system.cpu.frequency", "Hz", _GAUGE, "mean clock rate of the processors")
MEMORY_USAGE: Final = Metric("system.memory.usage", "By", _UP_DOWN, "memory that is not available")
MEMORY_UTILIZATION: Final = Metric("system.memory.utilization", "1", _GAUGE, "the same as a share of all memory")
PROCESS_CPU: Final = Metric(
    "process.cpu.utilization", "1", _GAUGE, "processor time of the service, as a share of the processors it may use"
)
PROCESS_MEMORY: Final = Metric("process.memory.usage", "By", _UP_DOWN, "resident memory of the service")

# --- any device -------------------------------------------------------------------------------------------------------
POWER: Final = Metric("hw.power", "W", _GAUGE, "power of the device")
ENERGY: Final = Metric("hw.energy", "J", _COUNTER, "energy since the sampler's start")
TEMPERATURE: Final = Metric("hw.temperature", "Cel", _GAUGE, "temperature of the device")
ERRORS: Final = Metric("hw.errors", "{error}", _COUNTER, "uncorrected memory errors (ECC) since the driver's start")

# --- GPUs -------------------------------------------------------------------------------------------------------------
GPU_UTILIZATION: Final = Metric(
    "hw.gpu.utilization", "1", _GAUGE, "share of the time in which a kernel ran, as the driver averages it"
)
GPU_MEMORY_USAGE: Final = Metric("hw.gpu.memory.usage", "By", _UP_DOWN, "memory in use")
GPU_MEMORY_LIMIT: Final = Metric("hw.gpu.memory.limit", "By", _UP_DOWN, "memory of the GPU")
GPU_MEMORY_UTILIZATION: Final = Metric("hw.gpu.memory.utilization", "1", _GAUGE, "usage as a share of the limit")
GPU_CLOCK_GRAPHICS: Final = Metric("hw.gpu.clock.graphics", "MHz", _GAUGE, "clock rate of the processors")
GPU_CLOCK_MEMORY: Final = Metric("hw.gpu.clock.memory", "MHz", _GAUGE, "clock rate of the memory")
GPU_THROTTLED: Final = Metric(
    "hw.gpu.throttled", "1", _GAUGE, "1 while power, heat or another GPU holds the clocks down, else 0"
)

ALL: Final = tuple(found for found in list(globals().values()) if isinstance(found, Metric))

# --- attributes of data points ----------------------------------------------------------------------------------------
HW_ID: Final = "hw.id"
HW_TYPE: Final = keys.HW_TYPE
HW_NAME: Final = keys.HW_NAME
HW_VENDOR: Final = keys.HW_VENDOR
GPU_INDEX: Final = "gpu.index"
THROTTLE_REASONS: Final = "hw.gpu.throttle_reasons"
ERROR_TYPE: Final = "error.type"
SENSOR_LOCATION: Final = "hw.sensor_location"
