"""Which process is recorded: by its number, or those of a service that run on this machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailsight_analysis import Window
from tailsight_analysis.profiled import ServiceProcess, processes
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_storage import Store

PROC = Path("/proc")
MAX_PROCESSES = 8
LATELY_S = 900


@dataclass(frozen=True, slots=True)
class Target:
    """A process of this machine. `own_pid` is its number as itself sees it, in its container; spans carry that one."""

    pid: int
    own_pid: int
    service: str = ""
    host: str = ""


def target_of_pid(pid: int) -> Target:
    """Look at a process; raises CommandError where there is none."""
    try:
        status = (PROC / str(pid) / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        raise CommandError(f"--pid {pid}: there is no such process on this machine") from None
    except PermissionError:
        return Target(pid, pid)
    said = dict(line.partition(":")[::2] for line in status.splitlines())
    if "(zombie)" in said.get("State", ""):
        raise CommandError(f"--pid {pid}: this process has ended; only its exit status is left")
    inner = said.get("NSpid", "").split()
    return Target(pid, int(inner[-1]) if inner else pid)


def targets_of_service(store: Store, service: str, now_ns: int | None = None) -> list[Target]:
    """Find the processes of a service that sent spans in the last minutes and run here.

    Raises CommandError where there are none, or more than are recorded at once.
    """
    now_ns = time.time_ns() if now_ns is None else now_ns
    window = Window.last(LATELY_S, now_ns=now_ns)
    heard = processes(store, window, service=(service,))
    if not heard:
        raise CommandError(
            f"--service {service}: no process of it sent spans to this store in the last {LATELY_S // 60} minutes",
            NOT_ENOUGH_DATA,
        )
    running = {target.own_pid: target for target in _running(heard)}
    here = [
        Target(running[process.pid].pid, process.pid, service, process.host)
        for process in _preferably_of(socket.gethostname(), heard)
        if process.pid in running
    ]
    if not here:
        named = ", ".join(f"{process.pid} on {process.host or '?'}" for process in heard[:3])
        raise CommandError(
            f"--service {service}: none of its processes ({named}) runs on this machine; record where it runs, or name "
            "a process with --pid"
        )
    if len(here) > MAX_PROCESSES:
        raise CommandError(
            f"--service {service}: {len(here)} processes run here, more than the {MAX_PROCESSES} that are recorded at "
            f"once; choose some with --pid {here[0].pid}"
        )
    return here


def named_in_spans(store: Store, target: Target, window: Window) -> Target:
    """Learn by which service and host a process names itself; as it was where no span of it is there."""
    if target.service:
        return target
    found = processes(store, window, pid=target.own_pid)
    if not found:
        return target
    first = _preferably_of(socket.gethostname(), found)[0]
    return Target(target.pid, target.own_pid, first.service, first.host)


def _preferably_of(host: str, heard: Sequence[ServiceProcess]) -> Sequence[ServiceProcess]:
    """Take those of this host, where any says that it is; numbers of processes repeat on others."""
    return [process for process in heard if process.host == host] or heard


def _running(heard: Sequence[ServiceProcess]) -> list[Target]:
    """List the processes of this machine that have one of these numbers, as they see it themselves."""
    wanted = {process.pid for process in heard}
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            target = target_of_pid(int(entry.name))
            is_python = b"python" in (entry / "maps").read_bytes()[:1_000_000]
        except (CommandError, OSError):
            continue
        if target.own_pid in wanted and is_python:
            found.append(target)
    return found
