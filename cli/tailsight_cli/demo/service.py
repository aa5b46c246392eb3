"""The inference service's process: `python -m tailsight_cli.demo.service --port 0 --endpoint … --run …`.

Its first line on stdout is `{"port": …}`. It answers /healthz from then on, and ends on SIGTERM or SIGINT when the
requests in progress are done.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

import tailsight
from tailsight_cli.processes.lifeline import say, when_stdin_closes

from .batcher import DEFAULT_MAX_BATCH, DEFAULT_MAX_QUEUE, DEFAULT_MAX_WAIT_S
from .names import MODEL_NAME, SERVICE_NAME, VERSION

# Longer than any client of the demo is idle: a connection that the server closes looks like an error to its client.
_KEEP_ALIVE_S = 600
_SHUTDOWN_S = 10

# The model's batches are small: threads inside the matrix product would cost more than they gain, and would compete
# with the rest of the pipeline, which is on the same machine.
_ONE_BLAS_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop."""
    options = _parser().parse_args(arguments)
    os.environ.update(_ONE_BLAS_THREAD)
    # Only now: numpy reads the variables when it is imported.
    import uvicorn

    from .app import Service
    from .model import Model

    tailsight.configure(
        service=SERVICE_NAME,
        version=VERSION,
        run=options.run,
        model=MODEL_NAME,
        endpoint=options.endpoint,
        enabled=True,
    )
    service = Service(
        Model(), max_batch=options.max_batch, max_wait_s=options.max_wait_ms / 1e3, max_queue=options.max_queue
    )
    server = uvicorn.Server(
        uvicorn.Config(
            service.app(),
            access_log=False,
            log_level="warning",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal once more after its own shutdown. This one lets the process end normally then.
        signal.signal(number, _ignore)
    if options.until_stdin_closes:
        when_stdin_closes(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        listener = socket.create_server((options.host, options.port))
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port} ({error}): choose another --port, or 0\n")
        return 1
    with listener:
        # From here on a connection is accepted, if only answered when uvicorn is up: nobody needs to try again.
        say(port=listener.getsockname()[1])
        server.run(sockets=[listener])
    tailsight.shutdown()
    return 0


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Unlike SIG_IGN, child processes would not inherit it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tailsight_cli.demo.service", description="The demo's service.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; the first line on stdout names it")
    parser.add_argument("--endpoint", help="the collector's OTLP/HTTP address")
    parser.add_argument("--run", help="the label tailsight.run")
    parser.add_argument("--max-batch", type=int, default=DEFAULT_MAX_BATCH, help="requests")
    parser.add_argument("--max-wait-ms", type=float, default=DEFAULT_MAX_WAIT_S * 1e3, help="for a batch to fill")
    parser.add_argument("--max-queue", type=int, default=DEFAULT_MAX_QUEUE, help="requests; more are refused with 503")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent, however it ends")
    return parser


if __name__ == "__main__":
    sys.exit(main())
