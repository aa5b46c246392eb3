"""Becomes a command, once it is sure to be killed when its recorder is: `python -I -S _start.py PID COMMAND…`.

A process of its own, because nothing may run between fork and exec in one that has threads.
"""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
NOT_FOUND = 127
NOT_EXECUTABLE = 126


def _main() -> None:
    recorder, command = int(sys.argv[1]), sys.argv[2:]
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != recorder:  # it was killed just now
        os._exit(128 + signal.SIGKILL)
    # Python ignores these for itself; a command expects them as they are by default.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the user asked to run
    except OSError as error:
        sys.stderr.write(f"tailsight: {command[0]}: {error.strerror}\n")
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


if __name__ == "__main__":
    _main()
