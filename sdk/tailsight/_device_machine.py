"""Processors, memory and the service's own share of both: from /proc, and through psutil where there is none.

Clock rate and temperature of the processors always come through psutil: every machine has them somewhere else.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ._device_metrics import (
    CPU_FREQUENCY,
    CPU_UTILIZATION,
    HW_ID,
    MEMORY_USAGE,
    MEMORY_UTILIZATION,
    PROCESS_CPU,
    PROCESS_MEMORY,
    SENSOR_LOCATION,
    TEMPERATURE,
)
from ._otlp_metrics import Reading, encode_attributes
from ._values import Value

PROC = Path("/proc")
# hwmon's names of sensors in processors; others are of disks, mainboards, batteries
_CPU_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
# A package's own sensor stands before those of its cores: one value a chip is enough.
_WHOLE_PACKAGE = ("package", "tctl", "tdie")


class CpuTimes(NamedTuple):
    """Time of all processors together since the machine's start, in any unit."""

    busy: float
    total: float


class Memory(NamedTuple):
    """In bytes."""

    used: int
    total: int


class ProcessUse(NamedTuple):
    """Processor time since the process's start, and resident memory."""

    cpu_ns: int
    resident_bytes: int


class Machine(Protocol):
    """Where the numbers come from. Each method raises whatever it likes where there is nothing to read."""

    def cpu_times(self) -> CpuTimes:
        """Read the processors' times."""

    def memory(self) -> Memory:
        """Read the machine's memory."""

    def process(self, pid: int) -> ProcessUse:
        """Read what one process uses."""


class ProcMachine:
    """Linux' /proc."""

    def __init__(self, root: Path = PROC) -> None:
        self._root = root
        self._stat = root / "stat"
        self._meminfo = root / "meminfo"
        self._tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")

    def cpu_times(self) -> CpuTimes:
        """Read the processors' times: user nice system idle iowait irq softirq steal; guests are part of user."""
        with self._stat.open("rb", 0) as file:
            times = [int(text) for text in file.read(512).split(b"\n", 1)[0].split()[1:9]]
        total = sum(times)
        return CpuTimes(total - times[3] - times[4], total)

    def memory(self) -> Memory:
        """Read the machine's memory; what can be freed at once counts as not used."""
        with self._meminfo.open("rb", 0) as file:
            lines = file.read(256).split(b"\n", 3)
        values = {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(b":") for line in lines[:3])}
        return Memory(values[b"MemTotal"] - values[b"MemAvailable"], values[b"MemTotal"])

    def process(self, pid: int) -> ProcessUse:
        """Read what one process uses."""
        with (self._root / str(pid) / "stat").open("rb", 0) as file:
            # the name in parentheses may itself hold spaces and parentheses
            fields = file.read(2048).rpartition(b")")[2].split()
        return ProcessUse((int(fields[11]) + int(fields[12])) * self._tick_ns, int(fields[21]) * self._page_bytes)


class PsutilMachine:
    """psutil, for systems without /proc."""

    def __init__(self, psutil: Any) -> None:
        self._psutil = psutil

    def cpu_times(self) -> CpuTimes:
        """Read the processors' times."""
        times = self._psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0)
        return CpuTimes(total - times.idle - getattr(times, "iowait", 0), total)

    def memory(self) -> Memory:
        """Read the machine's memory."""
        memory = self._psutil.virtual_memory()
        return Memory(int(memory.total - memory.available), int(memory.total))

    def process(self, pid: int) -> ProcessUse:
        """Read what one process uses."""
        process = self._psutil.Process(pid)
        times = process.cpu_times()
        return ProcessUse(int((times.user + times.system) * 1e9), int(process.memory_info().rss))


class MachineUse:
    """The machine's and the service's use of processors and memory. Shares begin with the second reading."""

    def __init__(self, machine: Machine, pid: int, cpu_identity: Mapping[str, Value]) -> None:
        self._machine = machine
        self._pid = pid
        self._attributes = encode_attributes({**cpu_identity, HW_ID: "cpu"})
        self._last_times: CpuTimes | None = None
        self._last_process: tuple[int, int] | None = None  # monotonic time, processor time

    def cpu(self, _: int) -> Iterator[Reading]:
        """Yield how busy the processors were since the last reading."""
        times, last = self._machine.cpu_times(), self._last_times
        self._last_times = times
        if last is not None and times.total > last.total:
            share = (times.busy - last.busy) / (times.total - last.total)
            yield Reading(CPU_UTILIZATION, min(1.0, max(0.0, share)), self._attributes)

    def memory(self, _: int) -> Iterator[Reading]:
        """Yield the use of memory."""
        memory = self._machine.memory()
        yield Reading(MEMORY_USAGE, memory.used, _USED)
        yield Reading(MEMORY_UTILIZATION, memory.used / memory.total, _USED)

    def process(self, now_ns: int) -> Iterator[Reading]:
        """Yield what the service uses; `now_ns` is monotonic."""
        use, last = self._machine.process(self._pid), self._last_process
        self._last_process = (now_ns, use.cpu_ns)
        yield Reading(PROCESS_MEMORY, use.resident_bytes)
        if last is not None and now_ns > last[0]:
            share = (use.cpu_ns - last[1]) / (now_ns - last[0]) / _processors(self._pid)
            yield Reading(PROCESS_CPU, max(0.0, share))


_USED = encode_attributes({"system.memory.state": "used"})


def _processors(pid: int) -> int:
    """Count the processors that a process may use."""
    try:
        return len(os.sched_getaffinity(pid))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


class Sensors:
    """Clock rate and temperature of the processors, where psutil finds them."""

    def __init__(self, psutil: Any, cpu_identity: Mapping[str, Value]) -> None:
        self._psutil = psutil
        self._identity = cpu_identity
        self._attributes = encode_attributes({**cpu_identity, HW_ID: "cpu"})
        self._locations: dict[str, bytes] = {}

    def frequency(self, _: int) -> Iterator[Reading]:
        """Yield the mean clock rate."""
        found = self._psutil.cpu_freq()
        if found and found.current:
            yield Reading(CPU_FREQUENCY, found.current * 1e6, self._attributes)

    def temperatures(self, _: int) -> Iterator[Reading]:
        """Yield one temperature a processor package."""
        for chip, sensors in self._psutil.sensors_temperatures().items():
            if chip not in _CPU_SENSORS:
                continue
            packages = [each for each in sensors if each.label.lower().startswith(_WHOLE_PACKAGE)]
            for sensor in packages or sensors[:1]:
                location = sensor.label or chip
                if location not in self._locations:
                    self._locations[location] = encode_attributes(
                        {**self._identity, HW_ID: "cpu", SENSOR_LOCATION: location}
                    )
                yield Reading(TEMPERATURE, float(sensor.current), self._locations[location])
