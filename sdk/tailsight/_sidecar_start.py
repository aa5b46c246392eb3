"""Starting the sidecar process: its shared memory, its interpreter, and the first words with it."""

import contextlib
import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ._folders import make_private, runtime_folder
from ._guard import run_guarded
from ._options import Settings
from ._ring import RingFile
from ._sidecar_config import READY, Config

MAIN = Path(__file__).with_name("_sidecar_main.py")

START_TIMEOUT_S = 20.0

opened: set[int] = set()
"""Descriptors that a start in progress has opened. A child that is forked meanwhile has them too, and closes them."""

PYTHON = sys.hexversion >> 16  # major and minor version: marshal's format depends on it


class CannotStart(Exception):  # noqa: N818  it says what is the case
    """No sidecar can be had here. The message says why."""


def make_rings(settings: Settings) -> RingFile:
    """Make the shared memory, and lock it: that says that this service is alive. Raises CannotStart."""
    problem: OSError | None = None
    for folder in runtime_folder(settings.runtime_dir):
        try:
            make_private(folder)
            path = folder / f"{os.getpid()}-{os.urandom(6).hex()}.ring"
            with _above_the_standard_ones():
                file = RingFile.create(path, settings.buffer_bytes, python=PYTHON)
            fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.describe(Config(settings, pid=os.getpid(), ring=path).plain(secrets=False))
            return file
        except OSError as error:  # no such folder, no room in it, not ours: the next one
            problem = error
    raise CannotStart(f"no folder for the shared memory: {problem}")


def start(settings: Settings, file: RingFile) -> socket.socket:
    """Start a sidecar and wait until it reads the rings. Return the socket to it. Raises OSError or CannotStart."""
    with _above_the_standard_ones():
        ours, theirs = socket.socketpair()
    opened.update((ours.fileno(), theirs.fileno()))
    mine = (ours.fileno(), theirs.fileno())
    try:
        # Said before there is somebody to hear it: if this process is killed now, the sidecar still knows what to do.
        said_to_it = Config(settings, pid=os.getpid(), ring=file.path).to_json()
        ours.setblocking(False)
        rest = said_to_it[ours.send(said_to_it) :]
        command = [_interpreter(), "-I", str(MAIN), f"for-process-{os.getpid()}"]
        with (
            theirs,
            subprocess.Popen(  # noqa: S603  our own script, under this very interpreter
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            ) as process,
        ):
            theirs.close()
            ours.settimeout(START_TIMEOUT_S)
            said = b""
            with contextlib.suppress(OSError):
                ours.sendall(rest)
                said = ours.recv(len(READY))  # no more: what follows is for the log
            if said != READY:
                process.terminate()
                raise CannotStart(_last_words(process) or f"it did not answer within {START_TIMEOUT_S:g} s")
    except BaseException:
        ours.close()
        theirs.close()
        raise
    finally:
        opened.difference_update(mine)
    ours.setblocking(False)
    return ours


@contextlib.contextmanager
def _above_the_standard_ones() -> Iterator[None]:
    """See to it that what is opened here becomes none of descriptors 0 to 2.

    A service may have closed them. What somebody then prints would go into our memory.
    """
    held = []
    try:
        while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
            held.append(fd)
        os.close(fd)
        yield
    finally:
        for fd in held:
            os.close(fd)


def close_inherited(parent: int) -> None:
    """Close, in a forked child, what a start in progress in the parent had open: a lock among it."""
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)
    opened.clear()
    ring = re.compile(rf"/{parent}-[0-9a-f]{{12}}\.ring( \(deleted\))?$")
    with contextlib.suppress(OSError):  # no /proc: not Linux
        for entry in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError):
                if ring.search(str(entry.readlink())):
                    os.close(int(entry.name))


def is_at_its_end(service_end: socket.socket) -> bool:
    """Tell whether the sidecar has closed the connection: it has ended."""
    try:
        return service_end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _interpreter() -> str:
    """Return a Python to run the sidecar with. Raises CannotStart where there is none."""
    if getattr(sys, "frozen", False):
        raise CannotStart("this program is frozen and brings no Python interpreter")
    if not MAIN.is_file():
        raise CannotStart("the package is not installed as files")
    for candidate in (sys.executable, getattr(sys, "_base_executable", "")):
        if candidate and Path(candidate).name.startswith("python") and os.access(candidate, os.X_OK):
            return str(candidate)
    raise CannotStart(
        f"this process runs under {sys.executable or 'something unknown'}, which is no Python interpreter"
    )


def _last_words(process: "subprocess.Popen[bytes]") -> str:
    """Return the last line that a process wrote to its standard error, without waiting for more."""
    if process.stderr is None:
        return ""
    os.set_blocking(process.stderr.fileno(), False)
    lines = (process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def thread_for(task: str, work: Callable[[], object]) -> threading.Thread:
    """Make a thread of a moment."""
    return threading.Thread(
        target=run_guarded, args=(f"the sidecar's {task}", work), name=f"tailsight-{task}", daemon=True
    )
