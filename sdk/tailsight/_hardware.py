"""Which type of machine does the work: the first visible NVIDIA GPU, else the processor.

NVML is called through ctypes, because a dependency for one string is one too many. It takes milliseconds, so the sender
thread asks, never the application's.
"""

import ctypes
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NVML_LIBRARY = "libnvidia-ml.so.1"
CPUINFO = Path("/proc/cpuinfo")

_NAME_BYTES = 96
# What is noise in a label that people group by: marks, clock rates, the word itself, the number of cores.
_NOISE = re.compile(r"\((?:R|TM|C)\)|@.*$|\b(?:CPU|Processor|\d+-Core|(?:Quad|Six|Eight|Dual)-Core)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hardware:
    """A type of device. `vendor` is empty where it is not known."""

    kind: str  # "gpu" or "cpu"
    name: str
    vendor: str


def detect(environ: Mapping[str, str] = os.environ) -> Hardware:
    """Find the hardware of this machine. Never fails: the last resort is the architecture, such as x86_64."""
    try:
        gpu = _nvidia_gpu(environ.get("CUDA_VISIBLE_DEVICES"))
    except (OSError, AttributeError):  # no driver, or one without these functions
        gpu = None
    if gpu:
        return Hardware("gpu", gpu, "NVIDIA")
    name = cpu_name()
    return Hardware("cpu", name, next((vendor for vendor in ("AMD", "Intel") if vendor in name), ""))


def cpu_name(cpuinfo: Path = CPUINFO) -> str:
    """Return the processor's model, shortened to what people call it."""
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            model = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return shortened(model) or platform.machine() or "unknown"


def shortened(model: str) -> str:
    """Shorten a processor's model: "AMD EPYC 9575F 64-Core Processor" is an "AMD EPYC 9575F"."""
    return " ".join(_NOISE.sub(" ", model).split())


def _nvidia_gpu(visible: str | None) -> str | None:
    """Return the name of the first GPU that CUDA would use, e.g. "NVIDIA H100 80GB HBM3"."""
    first = None if visible is None else visible.split(",")[0].strip()
    if first in {"", "-1", "NoDevFiles"}:  # the GPUs are hidden from this process
        return None
    nvml = ctypes.CDLL(NVML_LIBRARY)
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        device = ctypes.c_void_p()
        if first is None or first.isdecimal():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(first or 0)), ctypes.byref(device))
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(device))
        name = ctypes.create_string_buffer(_NAME_BYTES)
        if failed or nvml.nvmlDeviceGetName(device, name, ctypes.c_uint(_NAME_BYTES)) != 0:
            return None
        return name.value.decode(errors="replace").strip() or None
    finally:
        nvml.nvmlShutdown()
