"""py-spy as a child process: started, ended early with Ctrl-C, and its file read when it has ended."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import BinaryIO

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.profiling.permission import refusal

MAX_FILE_BYTES = 1024**3
STOP_PATIENCE_S = 60.0  # it writes its file when it is told to end
NICE = 10
_BEGUN = "Sampling process"
_FULL = "No space left on device"
_COUNTS = re.compile(r"Samples: (\d+) Errors: (\d+)")


@dataclass(frozen=True, slots=True)
class SpyOptions:
    """How py-spy looks. `blocking`: hold the process still for each sample. `idle`: threads that wait, too."""

    rate_hz: int = 100
    blocking: bool = False
    idle: bool = True


@dataclass(frozen=True, slots=True)
class SpyFile:
    """What py-spy left. `spawn_ns`, `end_ns`: Unix time of its start and after its end. `lost`: its errors."""

    path: Path
    spawn_ns: int
    end_ns: int
    lost: int


def py_spy() -> Path:
    """Find py-spy: beside this interpreter, or on PATH; raises CommandError, which says how to install it."""
    for place in (Path(sysconfig.get_path("scripts")), Path(sys.executable).parent):
        if (found := place / "py-spy").is_file():
            return found
    if on_path := shutil.which("py-spy"):
        return Path(on_path)
    raise CommandError("`tailsight profile` needs py-spy, which reads the stacks: pip install 'tailsight[profile]'")


def make_way(task: int) -> None:
    """Let a process or thread step back where processors are short: whoever is recorded goes first."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, task, NICE)


def source() -> str:
    """Name what takes the samples."""
    try:
        return f"py-spy {metadata.version('py-spy')}"
    except metadata.PackageNotFoundError:
        return "py-spy"


class Spy:
    """One py-spy on one process. Start it, `wait`, then read its file; `stop` ends it early, and keeps what it saw."""

    def __init__(self, pid: int, path: Path, duration_s: float, options: SpyOptions) -> None:
        self._pid = pid
        self._path = path
        self._log = path.with_suffix(".log")
        command = [
            str(py_spy()), "record", "--pid", str(pid), "--format", "chrometrace", "--output", str(path),
            "--rate", str(options.rate_hz), "--duration", str(max(1, round(duration_s))), "--threads",
        ]  # fmt: skip
        command += [] if options.blocking else ["--nonblocking"]
        command += ["--idle"] if options.idle else []
        with self._opened_log() as log:
            self.spawn_ns = time.time_ns()
            # in a session of its own: Ctrl-C reaches this command first, which then ends it
            self._process = subprocess.Popen(  # noqa: S603  our own command line
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        make_way(self._process.pid)

    def _opened_log(self) -> BinaryIO:
        try:
            return self._log.open("wb")
        except OSError as error:
            raise CommandError(f"{self._log.parent} cannot be written to: {error.strerror}", UNREADABLE) from error

    @property
    def is_running(self) -> bool:
        """Whether it still records."""
        return self._process.poll() is None

    def wait(self) -> None:
        """Wait for its end."""
        self._process.wait()

    def stop(self) -> None:
        """End it as Ctrl-C does; it writes what it has seen. Raises CommandError where it does not end."""
        if self.is_running:
            self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CommandError(f"py-spy on process {self._pid} did not end", UNREADABLE) from None

    def kill(self) -> None:
        """End it at once, without a file."""
        if self.is_running:
            self._process.kill()
        self._process.wait()

    def file(self) -> SpyFile:
        """Return what it wrote; raises CommandError with the reason where it recorded nothing."""
        end_ns = time.time_ns()
        words = self._log.read_text(errors="replace")
        code = self._process.poll() or 0
        if code < 0:
            raise CommandError(
                f"py-spy on process {self._pid} was killed ({signal.Signals(-code).name}) and left no samples",
                UNREADABLE,
            )
        if code and (_FULL in words or not shutil.disk_usage(self._path.parent).free):
            raise CommandError(
                f"py-spy could not write its file: no space is left in {self._path.parent.parent}; name another folder "
                "with TMPDIR",
                UNREADABLE,
            )
        if code or not self._path.is_file() or self._path.stat().st_size == 0:
            if (
                _BEGUN in words and "Error:" not in words
            ):  # Ctrl-C may come as its end is read: how it ended is lost then
                raise CommandError(f"py-spy on process {self._pid} ended and left no samples", UNREADABLE)
            raise refusal(self._pid, words)
        if (size := self._path.stat().st_size) > MAX_FILE_BYTES:
            raise CommandError(
                f"py-spy's file has {size:,} bytes, more than {MAX_FILE_BYTES:,}: record for less time", UNREADABLE
            )
        counts = _COUNTS.search(words)
        return SpyFile(self._path, self.spawn_ns, end_ns, int(counts[2]) if counts else 0)
