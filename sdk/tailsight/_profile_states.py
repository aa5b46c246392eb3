"""What the threads of a process are doing, as Linux says it beside py-spy: who reads the answers tells what they mean.

/proc/PID/task/*/syscall is one line a thread: "running", or the system call that it is in with its arguments. Two of
its words are kept: a wait for the interpreter's lock is known by the address that is waited for.
"""

import os
import time
from array import array
from pathlib import Path
from typing import Any

MAX_READINGS = 500_000
MAX_THREADS = 512
MAX_CALLS = 65_536
MAX_MAPS_BYTES = 256 * 1024
_PERIOD_S = 0.004  # a sample takes the reading that is nearest to it, at most 2 ms away
_PART_OF_THE_TIME = 0.1  # of a processor, at most


class ThreadStates:
    """Readings of all threads, as columns. Used by one thread."""

    def __init__(self, pid: int, rate_hz: float, duration_s: float) -> None:
        """`duration_s`: for how long they will be read; the readings are spread over all of it."""
        self._folder = Path(f"/proc/{pid}")
        self._tasks = f"/proc/{pid}/task"
        self._period_s = min(1.0 / rate_hz, _PERIOD_S)
        self._a_thread_s = duration_s / MAX_READINGS
        self._calls: dict[str, int] = {}
        self._maps: list[str] = []
        self.columns = {name: array("q") for name in ("time_ns", "thread", "call")}
        self.why_not = ""
        try:
            self._maps = _maps_of_data((self._folder / "maps").read_text(errors="replace"))
            self.read()
        except OSError as error:
            self._give_up(error)

    def read(self) -> float:
        """Look at each thread once; return for how many seconds to wait before the next time.

        Where there are many threads, that is longer: looking costs a tenth of a processor at most.
        """
        if self.why_not or len(self.columns["call"]) >= MAX_READINGS:
            return max(self._period_s, 0.05)
        began = time.perf_counter()
        try:
            tasks = sorted(os.listdir(self._tasks))[:MAX_THREADS]  # noqa: PTH208  a hundred times a second
        except OSError:
            return self._period_s  # it has ended
        for task in tasks:
            try:
                with open(f"{self._tasks}/{task}/syscall") as file:  # noqa: PTH123  likewise
                    words = file.read().split(maxsplit=2)
            except PermissionError as error:
                self._give_up(error)
                break
            except OSError:
                continue  # this thread has ended
            call = " ".join(words[:2])
            number = self._calls.get(call)
            if number is None:
                if len(self._calls) >= MAX_CALLS:
                    continue
                number = self._calls[call] = len(self._calls)
            for column, value in zip(self.columns.values(), (time.time_ns(), int(task), number), strict=True):
                column.append(value)
        took_s = time.perf_counter() - began
        period_s = max(self._period_s, len(tasks) * self._a_thread_s)
        return max(period_s - took_s, took_s * (1 - _PART_OF_THE_TIME) / _PART_OF_THE_TIME)

    def plain(self) -> dict[str, Any]:
        """Return what is to be sent, but for the columns."""
        return {"maps": self._maps, "calls": list(self._calls)}

    def _give_up(self, error: OSError) -> None:
        self.why_not = f"who waits for the GIL is not known: {error.strerror}"


def _maps_of_data(maps: str) -> list[str]:
    """Keep what may hold the interpreter's data: writable parts of a python, and those without a name after them."""
    lines, size = [], 0
    for line in maps.splitlines():
        words = line.split(maxsplit=5)
        named = words[5] if len(words) > 5 else ""
        if len(words) < 5 or not words[1].startswith("rw") or (named and "python" not in named):
            continue
        size += len(line) + 1
        if size > MAX_MAPS_BYTES:
            break
        lines.append(line)
    return lines
