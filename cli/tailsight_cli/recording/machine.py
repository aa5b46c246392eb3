"""Where a run is recorded: what a reader needs to tell whether two runs may be compared, and no more than that."""

from __future__ import annotations

import os
import platform
import socket
from contextlib import suppress
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from tailsight._device_machine import ProcMachine
from tailsight._hardware import cpu_name, detect
from tailsight_cli.recording.header import Device, Machine

_ID_LENGTH = 16
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
_MACHINE_ID = Path("/etc/machine-id")
_PACKAGES = ("tailsight", "opentelemetry-sdk")


def describe_machine() -> Machine:
    """Describe this machine; never fails."""
    return Machine(
        id=_hashed_name(),
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_memory_bytes(),
        architecture=platform.machine(),
        kernel=f"{platform.system()} {platform.release()}",
    )


def describe_hardware() -> Device:
    """Say what the SDK takes for this machine's hardware type."""
    found = detect()
    return Device(found.kind, found.name, found.vendor)


def versions() -> dict[str, str]:
    """List the versions of what records: the command's own SDKs say theirs in the spans."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _hashed_name() -> str:
    told = socket.gethostname()
    with suppress(OSError):
        told += _MACHINE_ID.read_text()
    return sha256(f"tailsight {told}".encode()).hexdigest()[:_ID_LENGTH]


def _memory_bytes() -> int:
    """Return the memory that may be used: the machine's, or a container's part of it."""
    total = 0
    with suppress(OSError, ValueError, KeyError, IndexError):
        total = ProcMachine().memory().total
    with suppress(OSError, ValueError):  # "max", or no such file: no limit
        total = min(total or (1 << 62), int(_MEMORY_LIMIT.read_text()))
    return total
