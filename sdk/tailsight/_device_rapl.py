"""The processors' power and energy, from RAPL: counters of microjoules that the kernel shows as files.

AMD's processors have them under the same name. Since Linux 5.10 only root may read them (they tell too much about what
a neighbour computes), so on most machines there is nothing to read.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ._device_metrics import ENERGY, HW_ID, POWER
from ._otlp_metrics import Reading, encode_attributes
from ._values import Value

POWERCAP = Path("/sys/class/powercap")
# A package's own zone. Parts of it (intel-rapl:0:0) and its double (intel-rapl-mmio:0) would count it twice.
_ZONE = re.compile(r"intel-rapl:\d+")


class Rapl:
    """All packages of a machine; `refused` is the file that exists and may not be read, '' where there is none."""

    def __init__(self, identity: Mapping[str, Value], start_unix_ns: int, now_ns: int, root: Path = POWERCAP) -> None:
        self.refused = ""
        self.packages: list[_Package] = []
        for folder in sorted(root.glob("intel-rapl:*")):
            if not _ZONE.fullmatch(folder.name):
                continue
            try:
                name = (folder / "name").read_text().strip()
                if name.startswith("package"):  # "psys" is the whole board, packages included
                    attributes = encode_attributes({**identity, HW_ID: name})
                    self.packages.append(_Package(folder, attributes, start_unix_ns, now_ns))
            except PermissionError as error:
                self.refused = str(error.filename)
            except (OSError, ValueError):
                continue

    def read(self, now_ns: int) -> Iterator[Reading]:
        """Yield power and energy of each package; `now_ns` is monotonic."""
        for package in self.packages:
            yield from package.read(now_ns)


class _Package:
    def __init__(self, folder: Path, attributes: bytes, start_unix_ns: int, now_ns: int) -> None:
        self._file = folder / "energy_uj"
        self._range_uj = int((folder / "max_energy_range_uj").read_text())
        self._attributes = attributes
        self._start_unix_ns = start_unix_ns
        self._last_uj = int(self._file.read_text())
        self._last_ns = now_ns
        self._total_uj = 0

    def read(self, now_ns: int) -> Iterator[Reading]:
        try:
            energy_uj = int(self._file.read_text())
        except (OSError, ValueError):
            return
        # the counter begins again at 0, on a large machine after some minutes
        spent_uj = energy_uj - self._last_uj + (self._range_uj if energy_uj < self._last_uj else 0)
        passed_ns = now_ns - self._last_ns
        self._last_uj, self._last_ns = energy_uj, now_ns
        self._total_uj += spent_uj
        if passed_ns > 0:
            yield Reading(POWER, spent_uj * 1e3 / passed_ns, self._attributes)
        yield Reading(ENERGY, self._total_uj / 1e6, self._attributes, self._start_unix_ns)
