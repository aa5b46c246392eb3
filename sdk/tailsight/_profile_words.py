"""Finding py-spy, and saying why it may not look into the service and how to permit that. See docs/profiles.md."""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
STATUS = Path("/proc/self/status")
_SYS_PTRACE = 19
_REFUSED = re.compile(r"permission denied|operation not permitted|os error (1|13)\b", re.IGNORECASE)
_NO_PYTHON = re.compile(r"find (?:a )?python|python version|PyRuntime|interpreter", re.IGNORECASE)
_LONGEST_LINE = 200

MISSING = "py-spy is not installed beside this service: pip install 'tailsight[profile]'"


def find_py_spy() -> str | None:
    """Find py-spy: beside this interpreter, or on PATH."""
    for place in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if os.access(place / "py-spy", os.X_OK):
            return str(place / "py-spy")
    return shutil.which("py-spy")


def why_not(pid: int, words: str) -> tuple[str, bool]:
    """Turn py-spy's last words into a reason, and tell whether it will be the same the next time."""
    line = next((line.strip() for line in words.splitlines() if line.strip().startswith("Error")), words.strip())
    line = " ".join(line.removeprefix("Error:").split())[:_LONGEST_LINE] or "it said nothing"
    if _REFUSED.search(words):
        return f"this process ({pid}) may not be looked into: {way_out()}", True
    if not Path(f"/proc/{pid}").exists():
        return "the process has ended before it could be recorded", False
    if _NO_PYTHON.search(words):
        return f"this process runs no Python that py-spy knows: {line}; try a newer py-spy", True
    return f"py-spy cannot record it: {line}", False


def way_out(environ: Mapping[str, str] = os.environ) -> str:
    """Say what permits it, as far as can be seen from here. The service has permitted it itself where it may."""
    scope = yama_scope()
    if scope == 3:
        return "yama lets nobody look into any process until the next start of the machine (ptrace_scope is 3)"
    if not has_sys_ptrace():
        if in_container(environ):
            return (
                "give the container the capability SYS_PTRACE, with `docker run --cap-add SYS_PTRACE`, in Kubernetes "
                "with securityContext.capabilities.add: [SYS_PTRACE]"
            )
        if scope == 2:
            return (
                "yama lets only who has CAP_SYS_PTRACE look into a process (ptrace_scope is 2); lower it with `sudo "
                "sysctl kernel.yama.ptrace_scope=1`, or record with `sudo tailsight profile`"
            )
        return (
            "the kernel refuses it even to the same user: the process has given up being looked into "
            "(PR_SET_DUMPABLE, or it changed its user), or a security module forbids it; record with `sudo tailsight "
            "profile`"
        )
    return "the kernel or a security module (seccomp, AppArmor, SELinux) refuses ptrace"


def has_sys_ptrace() -> bool:
    """Whether this process has the capability SYS_PTRACE."""
    try:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", STATUS.read_text(), re.MULTILINE)
    except OSError:
        return False
    return bool(found and int(found[1], 16) >> _SYS_PTRACE & 1)


def in_container(environ: Mapping[str, str]) -> bool:
    """Whether this is most likely a container: Docker, Podman or Kubernetes."""
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return True
    return "KUBERNETES_SERVICE_HOST" in environ or environ.get("container", "") != ""


def yama_scope() -> int:
    """Read how far yama restricts ptrace; 0 where it does not, or is not there."""
    try:
        return int(YAMA.read_text())
    except (OSError, ValueError):
        return 0
