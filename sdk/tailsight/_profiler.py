"""When the sidecar records which code its service runs: when it is asked, by a schedule, or when the tail is exceeded.

One recording at a time, so many in an hour, and where several services of a user share a machine, one of theirs at a
time as well, but for those that somebody asked for by hand. A step takes no time: what takes time is Recording's.
"""

import fcntl
import os
import random
from collections import deque
from collections.abc import Callable
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from . import attributes as keys
from ._guard import warn
from ._options import Settings
from ._profile_ask import Ask
from ._profile_recording import Recording
from ._profile_sending import Sender
from ._profile_words import MISSING, find_py_spy
from ._resource import resource_attributes
from ._tail_watch import SLOT_S, TailWatch

HOUR_S = 3600.0
HAND, SCHEDULE, TAIL = "hand", "schedule", "tail"
LOOK_EVERY_S = SLOT_S / 2
_STEP_S = 0.2  # between two steps, while there is something to wait for
_BUSY_AGAIN_S = 15.0


class Profiler:
    """What a service asked its sidecar for, and what has become of it. Used by one thread."""

    def __init__(self, settings: Settings, pid: int, folder: Path, now: Callable[[], float]) -> None:
        """`folder`: of the rings, which all services of this user share."""
        self._settings, self._pid, self._folder, self._now = settings, pid, folder, now
        self._sender = Sender(settings)
        self._resource: dict[str, Any] = {}
        self._plan: Ask | None = None
        self._wanted: deque[tuple[Ask, str]] = deque(maxlen=1)
        self._watch: TailWatch | None = None
        self._next_look, self._next_scheduled, self._tail_from = 0.0, 0.0, 0.0
        self._begun: deque[float] = deque()
        self._recording: Recording | None = None
        self._folder_lock: int | None = None
        self._final = ""
        self._said = ""
        self._is_hurrying = False

    def hear(self, ask: Ask | None) -> None:
        """Take what the service asks for; None: no more."""
        self._final = self._said = ""  # who asks again may have changed something
        self._sender.begin_anew()
        if ask is None:
            self._plan = self._watch = None
            self._wanted.clear()
            if self._recording:
                self._recording.stop()
            return
        if not ask.is_standing:
            self._wanted.append((ask, HAND))  # behind the one that is in progress
            return
        now = self._now()
        self._plan = ask
        self._watch = TailWatch(ask.factor, now) if ask.on_tail else None
        self._tail_from = self._next_look = now
        if ask.every_s is not None:
            self._next_scheduled = now + ask.every_s * random.random()  # noqa: S311  jitter

    @property
    def pause_s(self) -> float | None:
        """For how many seconds nothing is to be done; None while nothing is wanted."""
        if self._recording or self._wanted:
            return _STEP_S / 10 if self._is_hurrying else _STEP_S
        return LOOK_EVERY_S if self._plan else None

    @property
    def is_recording(self) -> bool:
        """Whether something is on its way."""
        return self._recording is not None

    def observe(self, duration_ns: int) -> None:
        """Take a finished request into account."""
        if self._watch is not None:
            self._watch.add(duration_ns)

    def step(self) -> None:
        """See to what has ended, and begin what is due."""
        if self._recording is not None:
            if not self._recording.is_over:
                return
            self._end(self._recording)
        if self._plan is not None:
            self._look_at_the_plan(self._plan, self._now())
        if self._wanted:
            self._begin(*self._wanted.popleft())

    def hurry(self) -> None:
        """End what is being recorded, and send it if that takes no time: the service ends."""
        self._is_hurrying = True
        self._plan = self._watch = None
        self._wanted.clear()
        if self._recording:
            self._recording.hurry()

    def close(self) -> None:
        """End at once."""
        if self._recording:
            self._recording.kill()
            self._end(self._recording)

    def _look_at_the_plan(self, plan: Ask, now: float) -> None:
        if plan.every_s is not None and now >= self._next_scheduled:
            self._next_scheduled = now + plan.every_s * random.uniform(0.9, 1.1)  # noqa: S311  jitter
            self._wanted.append((plan, SCHEDULE))
            return
        if self._watch is None or now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        if self._watch.look(now) and now >= self._tail_from:
            self._tail_from = now + plan.pause_s
            self._wanted.append((plan, TAIL))

    def _begin(self, ask: Ask, trigger: str) -> None:
        now = self._now()
        while self._begun and self._begun[0] <= now - HOUR_S:
            self._begun.popleft()
        if len(self._begun) >= ask.max_per_hour:
            self._say(f"{len(self._begun)} recordings began in the last hour, which is max_per_hour")
            return
        self._final = self._final or self._sender.final
        py_spy = None if self._final else find_py_spy()
        if not self._final and py_spy is None:
            self._final = MISSING
        if self._final or py_spy is None:
            self._say(self._final)
            return
        if trigger != HAND and not self._lock_folder():
            if trigger == TAIL:
                self._tail_from = min(self._tail_from, now + _BUSY_AGAIN_S)
            else:
                self._next_scheduled = min(self._next_scheduled, now + _BUSY_AGAIN_S)
            return
        self._begun.append(now)
        try:
            self._recording = Recording(py_spy, self._pid, ask, trigger, self._process(), self._sender.send)
        except (OSError, SubprocessError) as error:
            self._unlock_folder()
            self._say(f"py-spy cannot be started: {error}")

    def _end(self, recording: Recording) -> None:
        self._recording = None
        self._unlock_folder()
        if recording.problem:
            if recording.is_final:
                self._final = recording.problem
            self._say(recording.problem)

    def _say(self, problem: str) -> None:
        """Say a problem once, and no more of it until something else is the matter."""
        if problem != self._said:
            self._said = problem
            warn("profiling: nothing is recorded: %s", problem)
        if self._final or self._sender.final:
            self._plan = self._watch = None

    def _process(self) -> dict[str, Any]:
        resource = self._resource = self._resource or resource_attributes(self._settings, pid=self._pid)
        process = resource[keys.PROCESS_PID]
        return {
            "service": str(resource[keys.SERVICE_NAME]),
            "host": str(resource[keys.HOST_NAME]),
            "process": process if isinstance(process, int) else self._pid,  # a user's attribute may be anything
        }

    def _lock_folder(self) -> bool:
        """Become the one of this user's sidecars that records; the lock ends with this process, whatever happens."""
        try:
            fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._folder_lock = fd
        return True

    def _unlock_folder(self) -> None:
        fd, self._folder_lock = self._folder_lock, None
        if fd is not None:
            os.close(fd)
