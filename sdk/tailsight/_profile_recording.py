"""One recording: py-spy on the service, what its threads were doing beside it, and both on the way to the collector.

py-spy is started by the sidecar's one thread, which it cannot outlive; the rest takes seconds, in a thread of its own.
What py-spy writes goes to files without a name: whoever is killed leaves nothing.
"""

import base64
import ctypes
import gzip
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import IO, Any

from ._guard import caught
from ._profile_ask import Ask
from ._profile_states import ThreadStates
from ._profile_words import why_not

MAX_TRACE_BYTES = 64 * 1024 * 1024
STOP_PATIENCE_S = 20.0  # for py-spy to write its file, beyond the time that it records
_COUNTS = re.compile(r"Samples: (\d+) Errors: (\d+)")
_PR_SET_PDEATHSIG = 1
_CHUNK = 256 * 1024
_LOOK_S = 0.1
_GZIP_LEVEL = 3
_WORDS_BYTES = 64 * 1024

Send = Callable[[bytes, threading.Event], str]
"""Sends a recording, and returns what went wrong; the event is set when there is no time left."""


class Recording:
    """A recording from its start to its arrival at the collector. `is_over`, then `problem` and `is_final`."""

    def __init__(self, py_spy: str, pid: int, ask: Ask, trigger: str, process: Mapping[str, Any], send: Send) -> None:
        """`process`: how the service names itself. Raises OSError where py-spy cannot be started."""
        self._pid, self._ask, self._send = pid, ask, send
        self._trace, self._log = _nameless(), _nameless()
        self._hurry = threading.Event()
        self._said: dict[str, Any] = {
            **process,
            "rate_hz": ask.rate_hz,
            "idle": ask.idle,
            "blocking": ask.blocking,
            "trigger": trigger,
            "source": _source(),
        }
        self.problem = ""
        self.is_final = False
        """Whether the next recording would have the same problem."""
        self._is_wanted = True
        self._is_stopped = False
        command = [
            py_spy, "record", "--pid", str(pid), "--format", "chrometrace",
            "--output", f"/proc/self/fd/{self._trace.fileno()}", "--rate", str(ask.rate_hz),
            "--duration", str(max(1, round(ask.duration_s))), "--threads",
        ]  # fmt: skip
        command += [] if ask.blocking else ["--nonblocking"]
        command += ["--idle"] if ask.idle else []
        self._said["spawn_ns"] = time.time_ns()
        try:
            self._spy = subprocess.Popen(  # noqa: S603  our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[self._trace.fileno()],
                preexec_fn=_ends_with(os.getpid()),  # noqa: PLW1509  this process has one thread here
            )
        except BaseException:
            self._trace.close()
            self._log.close()
            raise
        self._thread = threading.Thread(target=self._work, name="tailsight-profile", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether it has arrived, or failed."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it as Ctrl-C does: py-spy writes what it has seen, and that is sent."""
        self._is_stopped = True
        if self._spy.poll() is None:
            self._spy.send_signal(signal.SIGINT)

    def hurry(self) -> None:
        """End it, and try once to send it."""
        self._hurry.set()
        self.stop()

    def kill(self) -> None:
        """End it at once, without a result."""
        self._is_wanted = False
        self._hurry.set()
        if self._spy.poll() is None:
            self._spy.kill()
        self._thread.join(1.0)

    # --- in its thread ----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            ask = self._ask
            states = ThreadStates(self._pid, ask.rate_hz, ask.duration_s) if ask.gil else None
            has_ended = self._await_spy(states)
            self._said["end_ns"] = time.time_ns()
            if not self._is_wanted:
                return
            words = os.pread(self._log.fileno(), _WORDS_BYTES, 0).decode(errors="replace")
            size = os.fstat(self._trace.fileno()).st_size
            if size >= MAX_TRACE_BYTES or self._spy.returncode == -signal.SIGXFSZ:
                self.problem = (
                    f"it is larger than {MAX_TRACE_BYTES >> 20} MiB: record for less time, or at a lower rate"
                )
            elif not has_ended:
                self.problem = "py-spy did not end in time"
            elif not size and self._is_stopped:
                return  # it had hardly begun
            elif not size or self._spy.returncode < 0:
                self.problem, self.is_final = why_not(self._pid, words)
            else:
                counts = _COUNTS.search(words)
                self._said["lost"] = int(counts[2]) if counts else 0
                self.problem = self._send(self._body(states), self._hurry)
        except Exception as error:
            self.problem = f"it failed: {type(error).__name__}"
            caught("recording a profile", error)
        finally:
            self._trace.close()
            self._log.close()

    def _await_spy(self, states: ThreadStates | None) -> bool:
        """Read what the threads do until py-spy has ended; False where it had to be killed."""
        until = time.monotonic() + self._ask.duration_s + STOP_PATIENCE_S
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(states.read() if states else _LOOK_S, left_s))
            if self._spy.poll() is not None:
                return True
        self._spy.kill()
        self._spy.wait()
        return False

    def _body(self, states: ThreadStates | None) -> bytes:
        said: dict[str, Any] = {"recording": self._said, "trace": _packed(self._trace)}
        notes = [states.why_not] if states and states.why_not else []
        if states and not notes:
            columns = {name: base64.b64encode(gzip.compress(column.tobytes(), _GZIP_LEVEL)).decode()
                       for name, column in states.columns.items()}  # fmt: skip
            said["states"] = {**states.plain(), **columns, "order": sys.byteorder}
        self._said["notes"] = notes
        return json.dumps(said).encode()


def _packed(file: IO[bytes]) -> str:
    """Compress what a file holds, a piece at a time."""
    with tempfile.SpooledTemporaryFile(max_size=MAX_TRACE_BYTES) as packed:
        with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as stream:
            at = 0
            while piece := os.pread(file.fileno(), _CHUNK, at):
                stream.write(piece)
                at += len(piece)
        packed.seek(0)
        return base64.b64encode(packed.read()).decode()


def _nameless() -> IO[bytes]:
    """Open a file that has no name: on a disk, or in memory where nothing can be written."""
    try:
        return tempfile.TemporaryFile(prefix="tailsight-")
    except OSError:
        return os.fdopen(os.memfd_create("tailsight-profile"), "w+b")


def _ends_with(parent: int) -> Callable[[], None]:
    """Make what a child does before it becomes py-spy: it dies with this process, and its file stays small."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)

    def before() -> None:
        if prctl is not None:  # Linux
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_TRACE_BYTES, MAX_TRACE_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # the sidecar ignores it, and what it starts would as well
        if os.getppid() != parent:  # it has ended just now
            os._exit(1)

    return before


def _source() -> str:
    try:
        return f"py-spy {metadata.version('py-spy')}"
    except metadata.PackageNotFoundError:
        return "py-spy"
