"""What a thread was doing: running, waiting for the GIL, or waiting for something else.

py-spy's file does not tell. Linux does: /proc/PID/task/TID/syscall is "running", or names the call that the thread is
in. A wait for the GIL is a futex (call 202 on x86-64, 98 on arm64) whose address lies in the interpreter's own data:
CPython 3.9 and later keep the GIL's lock in `_PyRuntime` or in the main interpreter within it, and other locks on the
heap. Without such readings, the innermost frame tells waits that the standard library makes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tailsight_analysis.profiles.model import Stack, State

_FUTEX = {202, 98, 449, 455}  # futex on x86-64 and arm64, futex_waitv and futex_wait on both
_PYTHON = re.compile(r"/(libpython\d[\w.]*\.so[\w.]*|python\d?(\.\d+)?t?)$")
_WAITS = {
    "threading.py": {"wait", "_wait_for_tstate_lock", "join", "acquire"},
    "selectors.py": {"select"},
    "queue.py": {"get", "put"},
    "socket.py": {"accept", "readinto", "create_connection", "getaddrinfo"},
    "ssl.py": {"read", "do_handshake", "write"},
    "subprocess.py": {"_try_wait", "wait", "communicate"},
    "connection.py": {"_recv", "_poll", "wait"},  # multiprocessing
    "popen_fork.py": {"poll"},
}


@dataclass(frozen=True, slots=True)
class StateReading:
    """What one thread was doing at one moment of Unix time."""

    time_ns: int
    os_thread_id: int
    state: State


def interpreter_data(maps: str) -> tuple[tuple[int, int], ...]:
    """Find the address ranges of the interpreter's data in the text of /proc/PID/maps.

    The writable parts of libpython, or of a python that has it inside, and what follows each without a gap or a name.
    """
    ranges: list[tuple[int, int]] = []
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        try:
            low, high = (int(part, 16) for part in fields[0].split("-"))
        except (ValueError, IndexError):
            continue
        writable = len(fields) > 1 and fields[1].startswith("rw")
        path = fields[5] if len(fields) > 5 else ""
        follows = bool(ranges) and ranges[-1][1] == low and not path
        if writable and (follows or _PYTHON.search(path)):
            ranges.append((low, high))
    return tuple(ranges)


def state_of(syscall: str, data: Sequence[tuple[int, int]]) -> State:
    """Tell from the text of /proc/PID/task/TID/syscall what the thread was doing; `data` from interpreter_data()."""
    fields = syscall.split()
    if not fields:
        return State.UNKNOWN
    if fields[0] == "running":
        return State.RUNNING
    try:
        number = int(fields[0])
        address = int(fields[1], 16) if len(fields) > 1 else 0
    except ValueError:
        return State.UNKNOWN
    if number < 0:
        return State.UNKNOWN  # blocked, but in no system call: a page fault, say
    if number in _FUTEX and any(low <= address < high for low, high in data):
        return State.GIL
    return State.WAITING


def state_by_frame(stack: Stack) -> State:
    """Tell a wait from the innermost frame, where the standard library made it; else UNKNOWN."""
    if not stack:
        return State.UNKNOWN
    leaf = stack[-1]
    waits = _WAITS.get(leaf.file.rpartition("/")[2])
    return State.WAITING if waits and leaf.function.rpartition(".")[2] in waits else State.UNKNOWN


class Readings:
    """Readings of many threads, asked by thread and time."""

    def __init__(self, readings: Iterable[StateReading]) -> None:
        by_thread: defaultdict[int, list[tuple[int, State]]] = defaultdict(list)
        for reading in readings:
            by_thread[reading.os_thread_id].append((reading.time_ns, reading.state))
        self._by_thread = {thread: sorted(each) for thread, each in by_thread.items()}

    def near(self, os_thread_id: int | None, time_ns: int, within_ns: int) -> State:
        """Return the state read nearest in time, UNKNOWN if that is farther than `within_ns`.

        Farther, up to three times that, where the reading before and the one after say the same.
        """
        own = self._by_thread.get(os_thread_id) if os_thread_id is not None else None
        if not own:
            return State.UNKNOWN
        at = bisect_left(own, (time_ns,))
        around = own[max(0, at - 1) : at + 1]
        nearest = min(around, key=lambda reading: abs(reading[0] - time_ns))
        if abs(nearest[0] - time_ns) <= within_ns:
            return nearest[1]
        agree = len(around) == 2 and around[0][1] is around[1][1]
        close = all(abs(reading[0] - time_ns) <= 3 * within_ns for reading in around)
        return nearest[1] if agree and close else State.UNKNOWN
