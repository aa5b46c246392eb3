"""Where OpenTelemetry's own SDKs send their spans while a command runs: the collector's receiver, without a store.

Requests are checked as a collector checks them, and written to a file in place of its journal, without fsync: the disk
is not what is measured. Metrics and logs are accepted and left out.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from tailsight._answer import Unreachable
from tailsight._file import FileCollector
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_collector.keep.records import request_in
from tailsight_collector.receive.http_guard import HttpGuard
from tailsight_collector.receive.intake import Intake
from tailsight_collector.receive.limits import HttpLimits
from tailsight_collector.receive.otlp_http import OtlpHttp
from tailsight_collector.receive.signals import METRICS, TRACES
from tailsight_collector.server import http_server
from tailsight_collector.settings import DEFAULT_MAX_REQUEST_BYTES

_HOST = "127.0.0.1"
_CONNECTIONS = 512
_BACKLOG = 512
_LOGS_PATH = "/v1/logs"
_LEFT_OUT_HEADERS = [(b"content-type", b"application/x-protobuf"), (b"content-length", b"0")]


class Receiver:
    """A receiver that listens; `url` is its address."""

    def __init__(self, url: str, traces: Intake, guard: HttpGuard) -> None:
        self.url = url
        self._traces = traces
        self._guard = guard

    @property
    def refused_requests(self) -> Counter[int]:
        """Requests that were not taken, by HTTP status."""
        return self._traces.counts.refused_requests

    @property
    def heard_something_else(self) -> bool:
        """Whether a client spoke another protocol than HTTP/1.1: gRPC, most likely."""
        return self._guard.closed["not_http"] > 0


class _File:
    """Stands where the journal does. Used by the receiver's thread alone."""

    def __init__(self, path: Path) -> None:
        self._file = FileCollector(str(path), pid=0)

    def append(self, record: bytes) -> Future[None]:
        """Write a record's request down, as a whole; raises OSError."""
        try:
            self._file.post(request_in(record))
        except Unreachable as error:
            raise OSError(str(error)) from None
        return _written()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Nothing:
    """Takes what is not kept."""

    def append(self, record: bytes) -> Future[None]:  # noqa: ARG002 - a journal's signature
        """Leave it out."""
        return _written()


def _written() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done


@contextmanager
def receiver(path: Path) -> Iterator[Receiver]:
    """Receive on a port of the loopback address, and write what comes to a file, until the end of the block."""
    with (
        closing(_File(path)) as file,
        _listening() as bound,
        ThreadPoolExecutor(1, thread_name_prefix="tailsight-decode") as threads,
    ):
        guard = HttpGuard(HttpLimits(connections=_CONNECTIONS))
        traces, metrics = (
            Intake(signal, journal, threads, max_request_bytes=DEFAULT_MAX_REQUEST_BYTES)
            for signal, journal in ((TRACES, file), (METRICS, _Nothing()))
        )
        otlp_http = OtlpHttp(
            traces,
            metrics,
            health=lambda _: {"status": "ok"},
            metrics=lambda _: (b"", "text/plain"),
            only_name=_HOST,
        )
        server = http_server(_leaving_logs_out(otlp_http.app()), None, guard)

        def serve() -> None:
            asyncio.run(server.serve(sockets=[bound]))

        thread = threading.Thread(target=serve, name="tailsight-receiver", daemon=True)
        thread.start()
        try:
            yield Receiver(f"http://{_HOST}:{bound.getsockname()[1]}", traces, guard)
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def _listening() -> Iterator[socket.socket]:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with bound:
        try:
            bound.bind((_HOST, 0))
            bound.listen(_BACKLOG)
        except OSError as error:
            raise CommandError(f"no port on {_HOST} can be listened on: {error.strerror}", UNREADABLE) from None
        bound.setblocking(False)
        yield bound


def _leaving_logs_out(app: ASGIApp) -> ASGIApp:
    """Answer log records with thanks and without a look: an exporter would complain about anything else."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _LOGS_PATH:
            await app(scope, receive, send)
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": _LEFT_OUT_HEADERS})
        await send({"type": "http.response.body", "body": b""})

    return answer
