"""Load on a collector's OTLP/HTTP port: bytes that were made before, over a few connections, at a pace or as fast as it goes.

One thread and no HTTP library, so that on a machine of two cores the collector is measured and not its client.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_HEADER_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Connection:
    socket: socket.socket
    outgoing: list[memoryview] = field(default_factory=list)
    incoming: bytearray = field(default_factory=bytearray)
    intended_s: float = 0.0
    sequence: int = -1  # of the request that it carries; -1: none


class LoadError(AssertionError):
    """The collector answered something else than 200, or not at all."""


class Load:
    """A few connections to one address. `statuses` counts answers other than 200, if they are allowed."""

    def __init__(
        self, url: str, *, connections: int = 8, path: str = "/v1/traces", allow_refusals: bool = False
    ) -> None:
        parts = urlsplit(url)
        assert parts.hostname
        self._address = (parts.hostname, parts.port or 80)
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/x-protobuf\r\nContent-Length: "
        )
        self._allow_refusals = allow_refusals
        self._selector = selectors.DefaultSelector()
        self._idle: deque[_Connection] = deque()
        for _ in range(connections):
            opened = socket.create_connection(self._address, timeout=30)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.setblocking(False)
            self._idle.append(_Connection(opened))
        self._busy = 0
        self.statuses: dict[int, int] = {}

    def send(self, bodies: Iterable[bytes], *, per_s: float = 0) -> list[float]:
        """Send all and return each one's seconds from when it was due until it was acknowledged, in order of answers.

        Without `per_s` a request is due when a connection is free for it. Raises LoadError, OSError.
        """
        return [took_s for _, took_s in self.outcomes(bodies, per_s=per_s)]

    def outcomes(self, bodies: Iterable[bytes], *, per_s: float = 0) -> Iterator[tuple[int, float]]:
        """Send all, and yield (place among the bodies, seconds) of each that was acknowledged, as the answers come."""
        waiting = iter(enumerate(bodies))
        began_s = time.perf_counter()
        due = next(waiting, None)
        while due is not None or self._busy:
            now_s = time.perf_counter()
            while due is not None and self._idle and (not per_s or began_s + due[0] / per_s <= now_s):
                intended_s = began_s + due[0] / per_s if per_s else now_s
                self._begin(self._idle.popleft(), due, intended_s)
                due = next(waiting, None)
                now_s = time.perf_counter()
            patience_s = 30.0
            if due is not None and self._idle and per_s:
                patience_s = max(0.0, began_s + due[0] / per_s - now_s)
            ready = self._selector.select(patience_s)
            if not ready and patience_s == 30.0:
                raise LoadError("no answer for 30 s")
            for key, events in ready:
                connection: _Connection = key.data
                if events & selectors.EVENT_WRITE:
                    self._write(connection)
                if events & selectors.EVENT_READ and (sequence := connection.sequence) >= 0 and self._read(connection):
                    yield sequence, time.perf_counter() - connection.intended_s

    def close(self) -> None:
        """Close the connections."""
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        for connection in self._idle:
            connection.socket.close()
        self._selector.close()

    def _begin(self, connection: _Connection, due: tuple[int, bytes], intended_s: float) -> None:
        sequence, body = due
        connection.sequence, connection.intended_s = sequence, intended_s
        connection.outgoing = [memoryview(f"{self._head}{len(body)}\r\n\r\n".encode()), memoryview(body)]
        self._busy += 1
        self._selector.register(connection.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        try:
            while connection.outgoing:
                sent = connection.socket.sendmsg(connection.outgoing)
                while connection.outgoing and sent >= len(connection.outgoing[0]):
                    sent -= len(connection.outgoing.pop(0))
                if sent:
                    connection.outgoing[0] = connection.outgoing[0][sent:]
        except BlockingIOError:
            return
        self._selector.modify(connection.socket, selectors.EVENT_READ, connection)

    def _read(self, connection: _Connection) -> bool:
        """Take what has come; whether a request was acknowledged with it."""
        received = connection.socket.recv(65536)
        if not received:
            raise LoadError("the collector closed a connection")
        connection.incoming += received
        head, found, body = bytes(connection.incoming).partition(_HEADER_END)
        if not found:
            return False
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        )
        if len(body) < length:
            return False
        status = int(head[9:12])
        connection.incoming.clear()
        connection.sequence = -1
        self._selector.unregister(connection.socket)
        self._idle.append(connection)
        self._busy -= 1
        if status != 200:
            if not self._allow_refusals:
                raise LoadError(f"the collector answered {status}: {body[:200]!r}")
            self.statuses[status] = self.statuses.get(status, 0) + 1
        return status == 200
