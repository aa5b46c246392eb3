"""Why a process may not be looked into, and how to permit it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from tailsight_cli._errors import CommandError

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_SYS_PTRACE = 19
_REFUSED = re.compile(r"permission denied|operation not permitted|os error (1|13)\b", re.IGNORECASE)
_GONE = re.compile(r"no such process|os error 3\b|failed to open process", re.IGNORECASE)
_NO_PYTHON = re.compile(r"find (?:a )?python|python version|PyRuntime|interpreter", re.IGNORECASE)


def refusal(pid: int, words: str) -> CommandError:
    """Turn py-spy's last words into an error that says what to do."""
    line = next((line.strip() for line in words.splitlines() if line.strip().startswith("Error")), words.strip())
    line = line.removeprefix("Error:").strip() or "it said nothing"
    if not Path(f"/proc/{pid}").exists():
        return CommandError(f"process {pid} has ended before it could be recorded")
    if _REFUSED.search(words):
        return CommandError(f"process {pid} may not be looked into: {way_out(pid)}")
    if _GONE.search(words):
        return CommandError(f"process {pid} cannot be read ({line}): {way_out(pid)}")
    if _NO_PYTHON.search(words):
        return CommandError(f"process {pid} runs no Python that py-spy knows: {line}")
    return CommandError(f"py-spy cannot record process {pid}: {line}")


def way_out(pid: int) -> str:
    """Say what keeps this process from reading another one's memory, and how to permit it."""
    if not has_sys_ptrace():
        if in_container():
            return (
                "this container lacks the capability SYS_PTRACE; give it with `docker run --cap-add SYS_PTRACE`, in "
                "Kubernetes with securityContext.capabilities.add: [SYS_PTRACE]"
            )
        owner = _owner(pid)
        if owner not in (None, os.geteuid()):
            return f"it belongs to another user (uid {owner}); record as that user, or with sudo"
        scope = yama_scope()
        if scope == 1:
            return (
                "yama lets only a parent look into a process (ptrace_scope is 1); use sudo, or permit it until the "
                "next start with `sudo sysctl kernel.yama.ptrace_scope=0`"
            )
        if scope == 2:
            return "yama lets only who has CAP_SYS_PTRACE look into a process (ptrace_scope is 2); use sudo"
        if scope == 3:
            return "yama lets nobody look into any process until the next start of the machine (ptrace_scope is 3)"
        return "it has rights that this user lacks; record as root, or with the capability SYS_PTRACE (sudo)"
    return "the kernel or a security module (seccomp, AppArmor, SELinux) refuses ptrace; see docs/profiles.md"


def has_sys_ptrace() -> bool:
    """Whether this process has the capability SYS_PTRACE."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return False
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> _SYS_PTRACE & 1)


def in_container() -> bool:
    """Whether this is most likely a container: Docker, Podman or Kubernetes."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists() or "KUBERNETES_SERVICE_HOST" in os.environ:
        return True
    return os.environ.get("container", "") != ""  # noqa: SIM112  systemd's and podman's own spelling


def yama_scope() -> int:
    """Read how far yama restricts ptrace; 0 where it does not, or is not there."""
    try:
        return int(YAMA.read_text())
    except (OSError, ValueError):
        return 0


def _owner(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None
