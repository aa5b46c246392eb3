"""What the threads of a process are doing, looked up in /proc beside py-spy: who waits for the GIL, who for else.

A file of the kernel is read for each thread; the process is not held still.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tailsight_analysis.profiles import StateReading, interpreter_data, state_of
from tailsight_cli.profiling.spy import make_way

MAX_READINGS = 5_000_000
MAX_THREADS = 512
PERIOD_S = 0.004  # a sample takes the reading that is nearest to it, at most 2 ms away
_PART_OF_THE_TIME = 0.1  # of a processor, at most


class ThreadStates:
    """Reads the states of all threads, from a thread of this process: every 4 ms, or as often as samples are taken.

    Where there are many threads, it is less often: a tenth of a processor at most is spent. A context manager.
    Where the kernel does not let them be read, there are none, and `why_not` says so.
    """

    def __init__(self, pid: int, rate_hz: float) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._period_s = min(1.0 / rate_hz, PERIOD_S)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tailsight-thread-states", daemon=True)
        self.readings: list[StateReading] = []
        self.why_not = ""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        make_way(threading.get_native_id())
        try:
            data = interpreter_data((self._folder / "maps").read_text(errors="replace"))
        except OSError as error:
            self.why_not = f"who waits for the GIL is not known: {error.strerror}"
            return
        wait_s = self._period_s
        while not self._ending.wait(wait_s):
            began = time.perf_counter()
            if len(self.readings) >= MAX_READINGS or not self._read(data):
                return
            took_s = time.perf_counter() - began
            wait_s = max(self._period_s - took_s, took_s * (1 - _PART_OF_THE_TIME) / _PART_OF_THE_TIME)

    def _read(self, data: tuple[tuple[int, int], ...]) -> bool:
        try:
            tasks = sorted(entry.name for entry in (self._folder / "task").iterdir())[:MAX_THREADS]
        except OSError:
            return False  # it has ended
        for task in tasks:
            try:
                syscall = (self._folder / "task" / task / "syscall").read_text()
            except PermissionError as error:
                self.why_not = f"who waits for the GIL is not known: {error.strerror}"
                return False
            except OSError:
                continue  # this thread has ended
            self.readings.append(StateReading(time.time_ns(), int(task), state_of(syscall, data)))
        return True
