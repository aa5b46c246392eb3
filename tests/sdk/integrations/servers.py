"""Real servers on loopback sockets, each in a thread of this process, so that both halves are captured together.

Leaving the `with` block stops the server and waits for what it is still doing: afterwards all spans are there.
"""

import socket
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import grpc
import uvicorn

from tailsight.testing import Capture, CapturedSpan


@contextmanager
def asgi_server(app: Any) -> Iterator[str]:
    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=20))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert started.wait(20)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class _Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = False  # so that server_close() waits for them


@contextmanager
def wsgi_server(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, _Threads, _Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def grpc_server(handlers: dict[str, Any], interceptors: Iterable[Any] = (), workers: int = 4) -> Iterator[str]:
    with ThreadPoolExecutor(workers) as pool:
        server = grpc.server(pool, interceptors=list(interceptors))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(5).wait()


def client_half(captured: Capture) -> CapturedSpan:
    return captured.one(stage="network")


def server_half(captured: Capture) -> CapturedSpan:
    (span,) = servers(captured)
    return span


def servers(captured: Capture) -> list[CapturedSpan]:
    return [span for span in captured.spans if span.kind == "SERVER"]


def check_halves(captured: Capture) -> tuple[CapturedSpan, CapturedSpan]:
    """Both halves are there, in one trace, and the difference between them can be the network."""
    assert client_half(captured).kind == "CLIENT"
    client, server = client_half(captured), server_half(captured)
    assert server.trace_id == client.trace_id
    assert server.parent_span_id == client.span_id
    assert server.stage is None
    assert client.start_unix_ns <= server.start_unix_ns
    assert client.duration_ns >= server.duration_ns
    return client, server
