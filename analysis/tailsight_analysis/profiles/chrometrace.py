"""py-spy's `--format chrometrace`, read into observations: the only one of its formats that has times.

The file has an event only where a stack changes. One sample of py-spy looks at every thread, and each of a sample's
changes is stamped as it is written: changes of different threads within 0.2 ms are one sample, in which all other
threads were seen as they had been. Where no thread changed for long, samples are filled in (`filling.py`).

Facts of the format: py-spy's src/chrometrace.rs, 0.4.0 to 0.4.3 and the version after them, which numbers threads anew.
"""

from __future__ import annotations

import re
from array import array
from typing import BinaryIO

import numpy as np

from tailsight_analysis.profiles.errors import UnreadableProfileError
from tailsight_analysis.profiles.filling import observations
from tailsight_analysis.profiles.json_events import json_objects
from tailsight_analysis.profiles.model import Frame, Recording, Stack, Thread

MAX_DEPTH = 2_000
MAX_THREADS = 10_000
MAX_CHANGES = 20_000_000
MAX_STACKS = 2_000_000
MAX_NAME = 1_024
_THREAD = re.compile(r"thread \((0x[0-9A-Fa-f]+|\d+)\)(?:: (.*))?")
_PROCESS = re.compile(r"process \d+")
_NAMED = re.compile(r"(\d+): ?(.*)", re.DOTALL)


def read_chrometrace(
    stream: BinaryIO, spawn_ns: int, *, rate_hz: float = 100.0, idle: bool = True, pid: int | None = None
) -> Recording:
    """Read what `py-spy record --format chrometrace [--threads] [--idle]` wrote.

    `spawn_ns`: Unix time at which py-spy was started. `rate_hz`: the rate that it was asked for. `idle`: whether it ran
    with `--idle`; only then is silence of the file an observation, and without it a thread was seen only where it has
    an event. `pid`: the process to read, needed where the file holds several. With `--threads`, the outermost frame
    names the thread for the system: it becomes `Thread.os_thread_id`. Raises UnreadableProfileError.
    """
    reader = _Reader(pid)
    for event in json_objects(stream):
        reader.take(event)
    reader.finish()
    times = np.frombuffer(reader.times, dtype=np.int64)
    threads = np.frombuffer(reader.threads, dtype=np.int64)
    stacks = np.frombuffer(reader.stacks, dtype=np.int64)
    order = np.argsort(times, kind="stable")
    columns = observations(times[order], threads[order], stacks[order], rate_hz=rate_hz, idle=idle)
    return Recording(
        spawn_ns=spawn_ns,
        rate_hz=rate_hz,
        pid=reader.pid,
        threads=tuple(reader.found()),
        stacks=tuple(reader.known),
        times_us=columns[0],
        thread_index=columns[1],
        stack_index=columns[2],
        seen=columns[3],
    )


class _Open:
    """A thread's stack as the events leave it."""

    __slots__ = ("changed_us", "ended", "frames", "name", "number", "os_thread_id", "thread_id")

    def __init__(self, number: int, thread_id: int) -> None:
        self.number = number
        self.thread_id = thread_id
        self.os_thread_id: int | None = None
        self.name = ""
        self.frames: list[Frame] = []
        self.changed_us: int | None = None
        self.ended = False


class _Reader:
    """Takes the events in the order of the file."""

    def __init__(self, pid: int | None) -> None:
        self.pid = pid
        self._only = pid is not None
        self.times, self.threads, self.stacks = array("q"), array("q"), array("q")
        self.known: dict[Stack, int] = {}
        self._frames: dict[Frame, Frame] = {}
        self._open: dict[int, _Open] = {}
        self._real: dict[int, tuple[int, str]] = {}  # of a thread's number in the file: its own id, and its name

    def take(self, event: dict[str, object]) -> None:
        """Take the next event. Other kinds than those that py-spy writes are left out."""
        kind = event.get("ph")
        if kind not in {"B", "E", "M"}:
            return
        pid, number = _whole(event, "pid"), _whole(event, "tid")
        if self.pid is None:
            self.pid = pid
        elif pid != self.pid:
            if self._only:
                return
            raise UnreadableProfileError(f"the trace holds the processes {self.pid} and {pid}: say which one to read")
        args = event.get("args")
        if kind == "M":
            if event.get("name") == "thread_name" and isinstance(args, dict):
                named = _NAMED.match(str(args.get("name", "")))
                if named:
                    self._real[number] = (int(named[1]), named[2][:MAX_NAME])
            return
        time_us = _whole(event, "ts")
        thread = self._open.get(number) or self._new_thread(number)
        if thread.changed_us != time_us:
            if thread.changed_us is not None and time_us < thread.changed_us:
                raise UnreadableProfileError(f"the trace runs backwards, from {thread.changed_us} to {time_us} µs")
            self._note(thread)
            thread.changed_us = time_us
        frame = self._frame(event, args)
        if kind == "B":
            if len(thread.frames) >= MAX_DEPTH:
                raise UnreadableProfileError(f"a stack of the trace is deeper than {MAX_DEPTH:,} frames")
            thread.frames.append(frame)
        elif thread.frames and thread.frames[-1] == frame:
            thread.frames.pop()
        else:
            raise UnreadableProfileError(f"the trace ends {frame.function!r} at {time_us} µs, which was not open")

    def finish(self) -> None:
        """Take the last changes. Those that only end a stack are the end of the file, no observation."""
        for thread in self._open.values():
            self._note(thread)

    def found(self) -> list[Thread]:
        """Return the threads in the order of their numbers."""
        return [Thread(each.thread_id, each.os_thread_id, each.name) for each in self._open.values()]

    def _new_thread(self, number: int) -> _Open:
        if len(self._open) >= MAX_THREADS:
            raise UnreadableProfileError(f"the trace has more than {MAX_THREADS:,} threads")
        thread_id, name = self._real.get(number, (number, ""))
        thread = self._open[number] = _Open(len(self._open), thread_id)
        thread.name = name
        return thread

    def _note(self, thread: _Open) -> None:
        """Keep the stack that a thread's last change left."""
        if thread.changed_us is None or not thread.frames:
            return
        own = 0
        for frame in thread.frames[:2]:  # py-spy's own frames, for the process and the thread
            if frame.file or not (found := _THREAD.fullmatch(frame.function) or _PROCESS.match(frame.function)):
                break
            own += 1
            if found.re is _THREAD:
                thread.os_thread_id = int(found[1], 0) if not found[1].startswith("0x") else thread.os_thread_id
                thread.name = found[2] or thread.name
        stack = tuple(thread.frames[own:])
        if not stack:
            return
        if len(self.times) >= MAX_CHANGES or len(self.known) >= MAX_STACKS:
            raise UnreadableProfileError(
                f"the trace has more than {MAX_CHANGES:,} changes or {MAX_STACKS:,} stacks: record less at a time"
            )
        self.times.append(thread.changed_us)
        self.threads.append(thread.number)
        self.stacks.append(self.known.setdefault(stack, len(self.known)))

    def _frame(self, event: dict[str, object], args: object) -> Frame:
        line = args.get("line") if isinstance(args, dict) else None
        file = args.get("filename") if isinstance(args, dict) else None
        frame = Frame(
            str(event.get("name", ""))[:MAX_NAME],
            str(file or "")[: 4 * MAX_NAME],
            line if isinstance(line, int) and line > 0 else 0,
        )
        return self._frames.setdefault(frame, frame)


def _whole(event: dict[str, object], key: str) -> int:
    value = event.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise UnreadableProfileError(f"an event of the trace has {key}={value!r}: expected a whole number")
    return value
