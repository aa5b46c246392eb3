"""Starting the sidecar process: its shared memory, its interpreter, and the first words with it."""

import contextlib
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from ._folders import make_private, runtime_folder
from ._fork import known, no_fork
from ._guard import caught, logger, run_guarded
from ._options import Settings
from ._ring import RingFile
from ._sidecar_config import READY, Config
from ._signals import raise_if_host_signal

MAIN = Path(__file__).with_name("_sidecar_main.py")

START_TIMEOUT_S = 20.0

PYTHON = sys.hexversion >> 16  # major and minor version: marshal's format depends on it


class CannotStart(Exception):  # noqa: N818  it says what is the case
    """No sidecar can be had here. The message says why."""


def make_rings(settings: Settings, *, beyond: Path | None = None) -> RingFile:
    """Make the shared memory, and lock it: that says that this service is alive. Raises CannotStart.

    That takes a fraction of a millisecond, since only an early writer's part is reserved. `beyond`: only in the folders
    after the one of this file, where there was no room for the rest.
    """
    problem: OSError | None = None
    folders = runtime_folder(settings.runtime_dir)
    if beyond is not None:
        folders = folders[folders.index(beyond.parent) + 1 :] if beyond.parent in folders else []
    for folder in folders:
        path = folder / f"{os.getpid()}-{os.urandom(6).hex()}.ring"
        try:
            make_private(folder)
            with no_fork(), _above_the_standard_ones():
                file = known(RingFile.create(path, settings.buffer_bytes, python=PYTHON, early=True))
            try:
                fcntl.flock(file.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                file.describe(Config(settings, pid=os.getpid(), ring=path).plain(secrets=False))
            except BaseException:  # a signal handler of the host may raise what it likes
                path.unlink(missing_ok=True)
                raise
            return file
        except OSError as error:  # no such folder, no room in it, not ours: the next one
            raise_if_host_signal(error)
            problem = error
    raise CannotStart(f"no folder for the shared memory: {problem or 'there is no room in it'}")


def start(settings: Settings, file: RingFile) -> socket.socket:
    """Start a sidecar and wait until it reads the rings. Return the socket to it. Raises OSError or CannotStart."""
    # Said before there is somebody to hear it: if this process is killed now, the sidecar still knows what to do.
    said_to_it = Config(settings, pid=os.getpid(), ring=file.path).to_json()
    command = [_interpreter(), "-I", str(MAIN), f"for-process-{os.getpid()}"]
    with no_fork():
        with _above_the_standard_ones():
            ours, theirs = socket.socketpair()
        known(ours)
        try:
            with theirs:
                ours.setblocking(False)
                rest = said_to_it[ours.send(said_to_it) :]
                process = subprocess.Popen(  # noqa: S603  our own script, under this very interpreter
                    command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
                )
        except BaseException:
            ours.close()
            raise
        if process.stderr is not None:
            known(process.stderr)
    try:
        with process:
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
        raise
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


def pass_on(service_end: socket.socket) -> None:
    """Pass what the sidecar has to say to this process's logger."""
    said = b""
    with contextlib.suppress(OSError):
        while chunk := service_end.recv(65536, socket.MSG_DONTWAIT):
            said += chunk
    for line in said.splitlines():
        try:
            message = json.loads(line)
            logger.log(int(message["level"]), "%s (the sidecar)", message["message"])
        except Exception as error:  # half a line, or a log handler that raises
            caught("reading what the sidecar says", error)
