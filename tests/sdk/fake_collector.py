"""A real HTTP server on loopback that answers as it is told and remembers what it got."""

import contextlib
import gzip
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Reply:
    """What the server answers."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hang_up: bool = False  # close the connection without an answer


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    at: float  # monotonic seconds
    path: str
    headers: dict[str, str]
    body: bytes
    connection: tuple[str, int]

    @property
    def message(self) -> ExportTraceServiceRequest:
        content = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return ExportTraceServiceRequest.FromString(content if self.path == "/v1/traces" else b"")

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for resource_spans in self.message.resource_spans
            for scope_spans in resource_spans.scope_spans
            for span in scope_spans.spans
        ]

    @property
    def resource(self) -> dict[str, Any]:
        return attributes_of(self.message.resource_spans[0].resource)


class FakeCollector:
    """Replies with what is queued, then with 200."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self.replies: list[Reply] = []
        self.metrics_reply = Reply()
        self.gate: threading.Event | None = None  # if set: answers wait for it
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                collector._connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                reply = collector._take(Received(time.monotonic(), self.path, headers, body, self.client_address))
                if collector.gate is not None:
                    collector.gate.wait(30)
                if reply.hang_up:
                    self.close_connection = True
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def _take(self, received: Received) -> Reply:
        with self._changed:
            self.received.append(received)
            self._changed.notify_all()
            if received.path != "/v1/traces":
                return self.metrics_reply
            return self.replies.pop(0) if self.replies else Reply()

    def wait_for(self, requests: int, timeout: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= requests, timeout), (
                f"{len(self.received)} requests came, expected {requests}"
            )

    @property
    def spans(self) -> list[Span]:
        return [span for received in self.received for span in received.spans]

    def close(self) -> None:
        """Stop. A second time does nothing."""
        if not self._thread.is_alive():
            return
        if self.gate is not None:
            self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._connections:  # a client that keeps its connection must notice as well
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def fake_collector(port: int = 0) -> Iterator[FakeCollector]:
    collector = FakeCollector(port)
    try:
        yield collector
    finally:
        collector.close()


def attributes_of(holder: Any) -> dict[str, Any]:
    return {item.key: value_of(item.value) for item in holder.attributes}


def value_of(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {item.key: value_of(item.value) for item in value.kvlist_value.values}
    return getattr(value, kind)
