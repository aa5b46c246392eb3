"""Running a command to its end: signals are passed on, and nothing of it is left running."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO

from tailsight_cli.recording.descendants import Descendants, adopting

PATIENCE_S = 10.0
"""Seconds between a signal that we pass on and SIGKILL."""

_LOOK_EVERY_S = 1.0
_STARTER = Path(__file__).with_name("_start.py")
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked this process to end. `number` says which."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {signal.Signals(number).name}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """As a shell says it."""
        return 128 + self.number


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended. `exit_code` is 128 and the signal's number where a signal ended it.

    Times are Unix nanoseconds. `left_behind`: processes of its that still ran, and were ended.
    """

    exit_code: int
    start_ns: int
    end_ns: int
    left_behind: int


class Signals:
    """What asks this process to end while it records: raised as Interrupted, or passed on where a command runs."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._received: int | None = None
        self._runs = False
        self._process: subprocess.Popen[bytes] | None = None
        self._kill_at_s: float | None = None

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch them inside the block."""
        before = {number: signal.signal(number, self._on_signal) for number in _PASSED_ON if not _by_nohup(number)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(
        self,
        command: Sequence[str],
        *,
        environ: Mapping[str, str],
        folder: Path,
        stdout: IO[bytes] | int | None = None,
        settle: Callable[[], None] = lambda: None,
    ) -> Ended:
        """Run a command to its end, and have what is still written for it settle.

        Raises Interrupted where a signal came meanwhile, once the command has ended.
        """
        self._runs = True
        try:
            with adopting():
                ended = self._run_to_its_end(command, environ, folder, stdout)
                if self._received is None:
                    settle()
        finally:
            self._runs = False
            self._process = None
        if self._received is not None:
            raise Interrupted(self._received)
        return ended

    def _run_to_its_end(
        self, command: Sequence[str], environ: Mapping[str, str], folder: Path, stdout: IO[bytes] | int | None
    ) -> Ended:
        descendants = Descendants()
        start_ns = time.time_ns()
        process = self._process = subprocess.Popen(  # noqa: S603 - what the user asked to run
            [sys.executable, "-I", "-S", str(_STARTER), str(os.getpid()), *command],
            env=dict(environ),
            cwd=folder,
            # In a session, so in a group, of its own: what we pass on arrives once, and whoever asks for the terminal
            # is told that there is none. In a mere group of its own it would be stopped, and everybody wait for ever.
            start_new_session=True,
            stdin=subprocess.DEVNULL if os.isatty(0) else None,
            stdout=stdout,
        )
        if self._received is not None:
            self._pass_on(self._received)
        self._await_end(process.pid)
        end_ns = time.time_ns()
        status = process.wait()
        left_behind = descendants.end(self._patience_s)
        return Ended(status if status >= 0 else 128 - status, start_ns, end_ns, left_behind)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        again, self._received = self._received is not None, number
        if not self._runs:
            raise Interrupted(number)
        self._pass_on(signal.SIGKILL if again else number)

    def _pass_on(self, number: int) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has ended just now
            pass
        except PermissionError:  # it runs as another user, who may not be told to end
            raise Interrupted(self._received or number) from None
        if self._kill_at_s is None:
            self._kill_at_s = time.monotonic() + self._patience_s

    def _await_end(self, pid: int) -> None:
        """Wait until a child has ended. The kernel may hand a signal to any thread: a pipe wakes this one."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        ended = os.pidfd_open(pid)
        try:
            poll = select.poll()
            for fd in (ended, reading):
                poll.register(fd, select.POLLIN)
            while True:
                # one that came before the pipe was there has set no alarm, but the time of it
                left_s = _LOOK_EVERY_S if self._kill_at_s is None else self._kill_at_s - time.monotonic()
                ready = {fd for fd, _ in poll.poll(max(0.0, min(left_s, _LOOK_EVERY_S)) * 1000)}
                if ended in ready:
                    return
                if reading in ready:
                    os.read(reading, 4096)
                if self._kill_at_s is not None and time.monotonic() >= self._kill_at_s:
                    self._kill_at_s = time.monotonic() + self._patience_s
                    self._pass_on(signal.SIGKILL)
        finally:
            signal.set_wakeup_fd(before)
            for fd in (ended, reading, writing):
                os.close(fd)


def _by_nohup(number: int) -> bool:
    """Tell whether `nohup` has this process, and the command, stay when the terminal goes."""
    return number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN
