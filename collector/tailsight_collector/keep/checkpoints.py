"""A checkpoint on the disk: which parts of the embedded engine's tables are known to be safe (power_cut.py)."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailsight_collector.keep.synced import make_folder, sync_folder

FOLDER = "checkpoints"
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_SLOTS = 2
_SLOT_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The parts of tables at one moment, all of them on the disk: table's folder → names of its parts.

    Folders are relative to the engine's own. `is_clean` says that the engine has ended since, with everything synced.
    `boot` is the machine's run in which it was written: until that ends, what was written later is at least in the page
    cache. Empty: nothing but the listed parts is to be relied on.
    """

    tables: Mapping[str, Sequence[str]]
    is_clean: bool = False
    boot: str = ""


class CheckpointFile:
    """Two slots that are overwritten in turn, in place: a full disk must not keep a checkpoint from being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sequence = 0

    def read(self) -> Checkpoint | None:
        """Return the newest whole checkpoint; None where there is none. Raises OSError."""
        found = [slot for number in range(_SLOTS) if (slot := _read_slot(self._slot(number)))]
        if not found:
            return None
        newest = max(found, key=lambda slot: int(slot["sequence"]))
        self._sequence = int(newest["sequence"])
        return Checkpoint(newest["tables"], bool(newest["clean"]), str(newest["boot"]))

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; it is on the disk when this returns. Raises OSError, and the one before stays."""
        self._sequence += 1
        body = json.dumps(
            {
                "sequence": self._sequence,
                "clean": checkpoint.is_clean,
                "boot": checkpoint.boot,
                "tables": {table: list(names) for table, names in checkpoint.tables.items()},
            }
        ).encode()
        data = b"%08x %d\n" % (zlib.crc32(body), len(body)) + body
        slot = self._slot(self._sequence % _SLOTS)
        make_folder(slot.parent)
        is_new = not slot.exists()
        fd = os.open(slot, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < len(data):  # take the room now, for many times
                data += bytes(-len(data) % _SLOT_BYTES)
            view = memoryview(data)
            offset = 0
            while offset < len(view):
                offset += os.pwrite(fd, view[offset:], offset)
            os.fsync(fd)
        finally:
            os.close(fd)
        if is_new:
            sync_folder(slot.parent)

    def _slot(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def boot_id() -> str:
    """Name the machine's present run: another one after a power cut or a reboot. Empty where nobody knows."""
    try:
        return BOOT_ID_FILE.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def checkpoint_files(data: Path) -> list[CheckpointFile]:
    """Find the checkpoints of a data folder, one a line that loads into it."""
    names = {path.stem for number in range(_SLOTS) for path in (data / FOLDER).glob(f"*.{number}")}
    return [CheckpointFile(data / FOLDER / name) for name in sorted(names)]


def _read_slot(path: Path) -> dict[str, Any] | None:
    """Read a slot; None where it is not there, or was not written whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head, _, rest = data.partition(b"\n")
    try:
        crc, length = head.split()
        body = rest[: int(length)]
        if zlib.crc32(body) != int(crc, 16):
            return None
        slot: dict[str, Any] = json.loads(body)
    except ValueError:
        return None
    return slot
