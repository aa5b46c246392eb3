"""The state of the machine beside the service, once a second: what the sidecar sends between spans.

Everything is read in the sidecar, nothing in the service. Every source may be missing or fail by itself, and none may
take more than a hundredth of a processor or hold the sidecar up for more than a tenth of the time: one that is slow is
asked less often.
"""

import importlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ._device_machine import PROC, Machine, MachineUse, ProcMachine, PsutilMachine, Sensors
from ._device_metrics import HW_NAME, HW_TYPE, HW_VENDOR
from ._device_nvml import Gpus
from ._device_rapl import POWERCAP, Rapl
from ._hardware import cpu_name
from ._otlp_metrics import Reading, export_request
from ._values import Value

SCOPE = "tailsight.devices"
NVIDIA_CONTROL = Path("/dev/nvidiactl")
# A source rests for so many times what it took: of processor time, and of time at all.
REST_CPU, REST_WALL = 100, 10
_INSTALL = "pip install 'tailsight[hardware]'"


class DeviceSampler:
    """Reads the devices of this machine for the service `pid`.

    `resource` is an encoded Resource message's content. `missing` says, a line a thing, what this machine has or could
    have and what keeps it from being read: worth saying once. Made in milliseconds, or a second where NVML starts.
    `nvml` is pynvml or anything of its shape; None: pynvml where it is installed.
    """

    def __init__(
        self,
        resource: bytes,
        *,
        pid: int,
        nvml: Any = None,
        psutil: Any = None,
        environ: Mapping[str, str] = os.environ,
        proc: Path = PROC,
        powercap: Path = POWERCAP,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        start_unix_ns: int | None = None,
    ) -> None:
        self._resource = resource
        self._clock_ns = clock_ns
        self.missing: list[str] = []
        self.failures = 0
        started_ns = time.time_ns() if start_unix_ns is None else start_unix_ns
        name = cpu_name(proc / "cpuinfo")
        vendor = next((vendor for vendor in ("AMD", "Intel") if vendor in name), "")
        identity: dict[str, Value] = {HW_TYPE: "cpu", HW_NAME: name, **({HW_VENDOR: vendor} if vendor else {})}

        self._sources: list[_Source] = []
        psutil = psutil or _imported("psutil")
        self._add_machine(psutil, pid, identity, proc)
        self._gpus = self._add_gpus(nvml, environ.get("CUDA_VISIBLE_DEVICES"), started_ns)
        rapl = Rapl(identity, started_ns, clock_ns(), powercap)
        if rapl.refused:
            self.missing.append(f"no power of the processors: {rapl.refused} is for root only")
        if rapl.packages:
            self._add(rapl.read)
        self.sample(started_ns)  # shares are of the time since the last reading

    def sample(self, now_unix_ns: int) -> bytes | None:
        """Return an encoded ExportMetricsServiceRequest, None where nothing could be read. Never raises."""
        readings: list[Reading] = []
        for source in self._sources:
            try:
                readings += source.read(self._clock_ns())
            except Exception:  # a file that is gone, a driver of another mind: the others go on
                self.failures += 1
        return export_request(self._resource, SCOPE, readings, now_unix_ns) if readings else None

    def close(self) -> None:
        """Let go of the GPU driver."""
        if self._gpus:
            self._gpus.close()

    def _add(self, read: Callable[[int], Iterable[Reading]]) -> None:
        self._sources.append(_Source(read))

    def _add_machine(self, psutil: Any, pid: int, identity: Mapping[str, Value], proc: Path) -> None:
        machine: Machine | None = None
        if (proc / "stat").exists():
            machine = ProcMachine(proc)
        elif psutil:
            machine = PsutilMachine(psutil)
        if machine:
            use = MachineUse(machine, pid, identity)
            for read in (use.cpu, use.memory, use.process):
                self._add(read)
        if psutil:
            sensors = Sensors(psutil, identity)
            self._add(sensors.frequency)
            if hasattr(psutil, "sensors_temperatures"):  # not on every system
                self._add(sensors.temperatures)
        else:
            what = "clock rate and temperature of the processors" + ("" if machine else ", nor any use of the machine")
            self.missing.append(f"no {what}: psutil is not installed; {_INSTALL}")

    def _add_gpus(self, nvml: Any, visible: str | None, started_ns: int) -> Gpus | None:
        nvml = nvml or _imported("pynvml")
        if nvml is None:
            if NVIDIA_CONTROL.exists():
                self.missing.append(f"no state of the GPUs: nvidia-ml-py is not installed; {_INSTALL}")
            return None
        try:
            gpus = Gpus(nvml, visible, started_ns)
        except Exception as error:  # no driver is the usual case and not worth a word
            if NVIDIA_CONTROL.exists():
                self.missing.append(f"no state of the GPUs: NVML does not start: {error}")
            return None
        self._add(gpus.read)
        return gpus


class _Source:
    """One thing to read, and when it may be read again."""

    def __init__(self, read: Callable[[int], Iterable[Reading]]) -> None:
        self._read = read
        self._rests_until_ns = 0

    def read(self, now_ns: int) -> list[Reading]:
        if now_ns < self._rests_until_ns:
            return []
        cpu_ns, wall_ns = time.thread_time_ns(), time.perf_counter_ns()
        try:
            return list(self._read(now_ns))
        finally:
            cpu_ns, wall_ns = time.thread_time_ns() - cpu_ns, time.perf_counter_ns() - wall_ns
            self._rests_until_ns = now_ns + max(cpu_ns * REST_CPU, wall_ns * REST_WALL)


def _imported(name: str) -> Any:
    """Import an optional module; one that is broken is as good as none."""
    try:
        return importlib.import_module(name)
    except Exception:
        return None
