"""A webhook as a test has it: a real HTTP server that answers what it is told to, and remembers what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

PATIENCE_S = 90


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> dict[str, Any]:
        plain: dict[str, Any] = json.loads(self.body)
        return plain


@dataclass
class Planned:
    """An answer: its status and headers, or None for silence until the client leaves."""

    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class WebhookServer:
    """`answers` are given one after another, and then 200 for ever."""

    def __init__(self, answers: Sequence[Planned] = (), tls: ssl.SSLContext | None = None) -> None:
        self._planned = list(answers)
        self._changed = threading.Condition()
        self._leaves = threading.Event()
        self.received: list[Received] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/hook/SECRETPATH"

    def plan(self, *answers: Planned) -> None:
        with self._changed:
            self._planned.extend(answers)

    def wait_for(self, holds: Callable[[list[Received]], bool], patience_s: float = PATIENCE_S) -> list[Received]:
        """Wait until what was received is as wanted."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.received), patience_s), self.received
            return list(self.received)

    def statuses(self) -> list[str]:
        with self._changed:
            return [each.payload["status"] for each in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaves.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self, received: Received) -> Planned:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            return self._planned.pop(0) if self._planned else Planned()

    def keep_silent(self) -> None:
        self._leaves.wait(PATIENCE_S)


class _Handler(BaseHTTPRequestHandler):
    owner: WebhookServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.owner.take(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        if answer.status is None:
            self.owner.keep_silent()
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *_: object) -> None:
        pass
