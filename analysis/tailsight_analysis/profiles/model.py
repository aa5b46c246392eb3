"""The words of profiles: what a profiler saw, what the spans say, and the two put together.

    py-spy's file ──read_chrometrace──► Recording ─┐
                                                   ├─fit_clock──► ClockFit ──join──► JoinedSample … ─┬─flame_of──► Flame
    the store ───────────────────────► StageSpan … ┘                                                 └─difference──►

Times in a recording are microseconds since the profiler's own start; `*_ns` are nanoseconds of Unix time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class State(StrEnum):
    """What a thread was doing when it was seen."""

    RUNNING = "running"
    GIL = "gil"  # waiting for the interpreter's lock
    WAITING = "waiting"  # for anything else: a lock, a socket, a timer, a queue
    UNKNOWN = "unknown"  # nobody could tell


class Match(StrEnum):
    """How sure it is to which span a sample belongs."""

    EXACT = "exact"  # one request's span, or one batch's
    STAGE = "stage"  # the stage is known, not which of several interleaved requests: trace and span id are empty
    AMBIGUOUS = "ambiguous"  # several stages were open, or the frames contradict the spans: never guessed
    NONE = "none"  # no span was open on that thread


@dataclass(frozen=True, slots=True)
class Frame:
    """A function on a stack, and the line that it was at; line 0: not known."""

    function: str
    file: str
    line: int = 0

    def to_json(self) -> dict[str, object]:
        """Return the frame as JSON-ready values."""
        return {"function": self.function, "file": self.file, "line": self.line}


Stack = tuple[Frame, ...]
"""Root first, the running function last."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A thread's stack at one moment.

    `seen` is false where the profiler's file is silent because nothing had changed: the moment then is one at which
    a sample is due by the rate, not one that is written down.
    """

    time_us: int
    thread_id: int
    stack: Stack
    seen: bool


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread that was seen. `thread_id` is threading.get_ident(); the system's own id where the file tells it."""

    thread_id: int
    os_thread_id: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """All that one profiler saw of one process, as columns in the order of time.

    `times_us`, `thread_index`, `stack_index` and `seen` have an entry an observation. `spawn_ns` is when the profiler
    was started, which is a few milliseconds before its clock began. `rate_hz` is the rate that it was asked for.
    """

    spawn_ns: int
    rate_hz: float
    pid: int | None
    threads: tuple[Thread, ...]
    stacks: tuple[Stack, ...]
    times_us: Ints
    thread_index: Ints
    stack_index: Ints
    seen: Bools

    def __len__(self) -> int:
        return len(self.times_us)

    @property
    def duration_ms(self) -> float:
        """From the first observation to the last."""
        return float(self.times_us[-1] - self.times_us[0]) / 1e3 if len(self.times_us) else 0.0

    def observations(self) -> Iterator[Observation]:
        """Go through the observations, in the order of time."""
        for time_us, thread, stack, seen in zip(
            self.times_us.tolist(),
            self.thread_index.tolist(),
            self.stack_index.tolist(),
            self.seen.tolist(),
            strict=True,
        ):
            yield Observation(time_us, self.threads[thread].thread_id, self.stacks[stack], seen)


@dataclass(frozen=True, slots=True)
class StageSpan:
    """A span of the profiled process, as the store has it. Requests, and spans of no stage, have the stage "".

    Give all spans of the process in the recording's time: also requests, which tell what is between stages. Ids are
    lower-case hexadecimal; no parent: "".
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    stage: str
    name: str
    thread_id: int
    start_ns: int
    end_ns: int
    hardware: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class JoinedSample:
    """A thread's stack at one moment, and the span that it ran for.

    `request_class` is "tail", "typical" or "" (neither, or not known). `also` names the further requests that the same
    execution served (a batch). Of a sample that matches no span, the ids, the stage and the class are empty. `ms` is
    the time that it stands for, where samples of several rates come together; 0: 1/rate, whatever that is.
    """

    time_ns: int
    thread_id: int
    stack: Stack
    state: State
    match: Match
    trace_id: str = ""
    span_id: str = ""
    stage: str = ""
    request_class: str = ""
    hardware: str = ""
    run: str = ""
    also: tuple[str, ...] = ()
    ms: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Return the sample as JSON-ready values."""
        return {
            "time_ns": self.time_ns,
            "thread_id": self.thread_id,
            "stack": [frame.to_json() for frame in self.stack],
            "state": self.state.value,
            "match": self.match.value,
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "stage": self.stage,
            "request_class": self.request_class,
            "hardware": self.hardware,
            "run": self.run,
            "also": list(self.also),
            "ms": self.ms,
        }
