"""Processes that a command has left behind: they become children of the recorder, and are ended.

Sidecars are left alone: they end by themselves once they have written what their process recorded.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_PROC = Path("/proc")
_SIDECAR = b"_sidecar_main.py"
_PARENT, _FLAGS = 1, 6  # in /proc/PID/stat, behind the name
_PF_EXITING = 4
_POLL_S = 0.02
_GRACE_S = 0.5
# What SIGKILL has not ended by then waits for a broken disk or the like: not for us to wait for.
_UNKILLABLE_S = 5.0


@contextmanager
def adopting() -> Iterator[None]:
    """Become the parent of whatever processes are left without theirs, at any depth, where the system can do that."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        before = ctypes.c_int()
        prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        yield
        return
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


class Descendants:
    """The children of this process that it did not have when this was made."""

    def __init__(self) -> None:
        self._others = set(_children(os.getpid()))

    def end(self, patience_s: float) -> int:
        """End what is left, by SIGTERM and after `patience_s` seconds by SIGKILL; returns how many there were.

        What ends by itself within a moment is left to do that: helpers like multiprocessing's resource tracker outlive
        who they work for. What belongs to another user, who may not be told anything, is not waited for.
        """
        asked: set[int] = set()
        not_ours: set[int] = set()
        grace_until_s = time.monotonic() + _GRACE_S
        deadline_s = grace_until_s + patience_s
        while living := self._living() - not_ours:
            if time.monotonic() < grace_until_s:
                time.sleep(_POLL_S)
                continue
            not_ours |= {pid for pid in living - asked if not _signal(pid, signal.SIGTERM)}
            living -= not_ours
            asked |= living
            now_s = time.monotonic()
            if now_s > deadline_s + _UNKILLABLE_S:
                break
            if now_s > deadline_s:
                for pid in living:
                    _signal(pid, signal.SIGKILL)
            time.sleep(_POLL_S)
        return len(asked)

    def _living(self) -> set[int]:
        living = set()
        waiting = [pid for pid in _children(os.getpid()) if pid not in self._others]
        while waiting:
            pid = waiting.pop()
            if _reaped(pid) or _is_ending(pid) or _is_sidecar(pid):
                continue
            waiting += _children(pid)
            living.add(pid)
        return living


def _children(parent: int) -> list[int]:
    found: list[int] = []
    if not _PROC.is_dir():  # not Linux
        return found
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            pid = int(entry.name)
            with suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
                if int(_stat(pid)[_PARENT]) == parent:
                    found.append(pid)
    return found


def _stat(pid: int) -> list[bytes]:
    """Return the fields of /proc/PID/stat behind the name, which may hold anything; raises OSError."""
    return (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()


def _is_ending(pid: int) -> bool:
    """Tell whether a process is on its way out, or has ended and only its parent has not taken note.

    It has no command line any more, so that a sidecar cannot be told from others.
    """
    try:
        stat = _stat(pid)
        return bool(int(stat[_FLAGS]) & _PF_EXITING)
    except (OSError, ValueError, IndexError):
        return True


def _is_sidecar(pid: int) -> bool:
    with suppress(OSError):
        return _SIDECAR in (_PROC / str(pid) / "cmdline").read_bytes()
    return False


def _reaped(pid: int) -> bool:
    """Tell whether a process has ended. One that is a child of ours is then gone for good."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # a grandchild: its own parent takes note
        return False


def _signal(pid: int, number: int) -> bool:
    """Send a signal; returns whether that is allowed."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True
