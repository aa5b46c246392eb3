"""Where the sidecar process begins: `python -I _sidecar_main.py`, with a socket to the service as standard input.

Run as a script and not as a module, so that the package's __init__ with OpenTelemetry behind it stays out: that keeps
the process small and its start quick.
"""

import os
import socket
import sys
import types
from pathlib import Path


def _begin() -> None:
    # The sidecar is nobody's child: a service that waits for its children must not find one that it does not know.
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    package = types.ModuleType("tailsight")
    package.__path__ = [str(Path(__file__).parent)]
    sys.modules["tailsight"] = package
    service = socket.socket(fileno=os.dup(0))
    service.set_inheritable(False)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)

    from tailsight._sidecar_loop import main

    os.dup2(nothing, 2)  # up to here a failure is shown to the service
    os.close(nothing)
    main(service)


if __name__ == "__main__":
    _begin()
