"""The service's side of profiling: what its sidecar was asked for, and the permission to look into this process.

Where the kernel lets only parents look into a process (yama's ptrace_scope 1), the process itself may name another one
that may: its sidecar, and what that starts.
"""

import socket
import threading
from enum import Enum

from ._guard import caught, warn

_PR_SET_PTRACER = 0x59616D61


class Lasts(Enum):
    """For how long something is asked for."""

    ONCE = "once"
    FROM_NOW_ON = "from now on"
    NO_MORE = "no more"


class Asking:
    """What a sidecar is told about profiling, and told again when another one takes its place."""

    def __init__(self, option: str | None) -> None:
        """`option`: as the settings have it."""
        self._lock = threading.RLock()  # a signal handler may ask in the midst of it
        self._option = option
        self._standing = b""
        self._once = b""

    def ask(self, line: bytes, lasts: Lasts, sidecar: socket.socket | None, pid: int) -> bool:
        """Tell the sidecar, whose number is `pid`; or the one to come, which the first finished request starts.

        False: it cannot be told.
        """
        with self._lock:
            if lasts is Lasts.ONCE:
                self._once = b"" if sidecar else line
            else:
                self._option = None
                self._standing = line if lasts is Lasts.FROM_NOW_ON else b""
                self._once = b"" if lasts is Lasts.NO_MORE else self._once
            # who asks for no more takes the permission back
            return sidecar is None or _tell(sidecar, 0 if lasts is Lasts.NO_MORE else pid, line)

    def begin(self, sidecar: socket.socket, pid: int) -> None:
        """Tell a sidecar that has just started what it is to do."""
        try:
            with self._lock:
                if self._option:
                    from ._profile_ask import line_for, of_option  # who does not profile does without it

                    self._standing, self._option = line_for(of_option(self._option)), None
                for line in (self._standing, self._once):
                    if line:
                        _tell(sidecar, pid, line)
                self._once = b""
        except Exception as error:
            caught("asking the sidecar for profiles", error)


def _tell(sidecar: socket.socket, pid: int, line: bytes) -> bool:
    permit(pid)
    try:
        sidecar.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError as error:
        warn("profiling: the sidecar cannot be told (%s); try again", error)
        return False
    return True


def permit(pid: int) -> None:
    """Let a process, and what it starts, look into this one; 0: none. Where nothing restricts that, nothing happens."""
    try:
        import ctypes

        if prctl := getattr(ctypes.CDLL(None), "prctl", None):  # Linux
            prctl(_PR_SET_PTRACER, pid, 0, 0, 0)
    except Exception as error:  # no ctypes in this interpreter
        caught("permitting the sidecar to look into this process", error)
