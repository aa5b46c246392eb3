"""HTTP connections under limits: uvicorn itself waits forever for a client's next byte, and keeps whatever it sends.

Each connection has a phase and a deadline; one timer looks at all of them, so that a request costs no timer of its own.
Where there are as many connections as may be, whoever has been idle for longest makes room.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from enum import Enum
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from tailsight_collector.receive.limits import HttpLimits

log = logging.getLogger(__name__)

_UPGRADING = (b"upgrade", b"http2-settings")
_LONGEST_SWEEP_S = 1.0
# How long a connection that is being closed may take to send what it has: longer only while that becomes less.
_FAREWELL_S = 30.0


class Phase(Enum):
    """What is awaited from a client: a request, the rest of its headers, of its body, or nothing, as we are at it."""

    IDLE = "idle"
    HEADERS = "slow_headers"
    BODY = "slow_body"
    ANSWERING = "answering"


class Connection(Protocol):
    """What the guard asks of a connection."""

    loop: asyncio.AbstractEventLoop
    deadline_s: float

    def end(self) -> None:
        """Close it while it is idle."""

    def time_is_over(self, now_s: float, /) -> None:
        """Send the client away."""


class HttpGuard:
    """The limits of a process's HTTP ports, and all connections under them. Belongs to one event loop."""

    def __init__(self, limits: HttpLimits) -> None:
        self.limits = limits
        self.closed: Counter[str] = Counter()  # by reason, those that did not end by themselves
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # whoever has been idle for longest comes first
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def protocol(self) -> type[GuardedProtocol]:
        """What uvicorn makes of each connection."""
        return type("OurGuardedProtocol", (GuardedProtocol,), {"guard": self})

    @property
    def connection_count(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    def enter(self, connection: Connection) -> bool:
        """Take a connection in; False where there is no room, as none is idle."""
        if len(self._connections) >= self.limits.connections:
            longest = next(iter(self._idle), None)
            self.closed["too_many_connections"] += 1
            if longest is None:
                return False
            del self._idle[longest]
            longest.end()
        self._connections.add(connection)
        self._idle[connection] = None
        if self._sweeping is None:
            self._sweep_later(connection.loop)
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)

    def rest(self, connection: Connection) -> None:
        """Note that a connection may be closed without loss."""
        if connection in self._connections:
            self._idle[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that a connection has something to do."""
        self._idle.pop(connection, None)

    def _sweep_later(self, loop: asyncio.AbstractEventLoop) -> None:
        shortest_s = min(self.limits.header_s, self.limits.body_s, self.limits.idle_s)
        self._sweeping = loop.call_later(min(_LONGEST_SWEEP_S, shortest_s / 4), self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        for connection in [each for each in self._connections if each.deadline_s < now_s]:
            connection.time_is_over(now_s)
        self._sweeping = None
        if self._connections:
            self._sweep_later(loop)


class GuardedProtocol(HttpToolsProtocol):
    """One HTTP connection that ends where its client is too slow or sends too much."""

    guard: HttpGuard

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deadline_s = math.inf
        self._limits = self.guard.limits
        self._phase = Phase.IDLE
        self._silent_bytes = 0  # received since the parser last came on
        self._lately_bytes = 0  # of a body, since its deadline was last moved
        self._quick_enough_bytes = self._limits.quick_enough_bytes
        self._body_began_s = 0.0
        self._refusal = 400
        self._unsent_bytes: int | None = None  # when the connection was last found closing

    # --- what asyncio calls -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, or say that there are too many."""
        super().connection_made(transport)  # type: ignore[arg-type]  # as in uvicorn
        self._await(Phase.IDLE, self._limits.idle_s)
        if not self.guard.enter(self):
            self._answer_and_close(503)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.guard.leave(self)
        self.pipeline.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come; a client that only ever sends the beginning of something is sent away."""
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._silent_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._close_for("not_http" if self._refusal == 400 else "header_bytes", self._refusal)
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])
        if self.transport.is_closing():
            return
        # headers were counted before; behind a body there may be more of them
        if self._silent_bytes > self._limits.header_bytes or len(self.headers or ()) > self._limits.headers:
            self._close_for("header_bytes", 431)
        elif len(self.pipeline) > self._limits.pipelined:
            self._close_for("pipelined", 400)

    # --- what the parser calls --------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.guard.work(self)
        self._await(Phase.HEADERS, self._limits.header_s)

    def on_headers_complete(self) -> None:
        """Have the request answered, unless its headers are too many or too long."""
        if (
            len(self.headers) > self._limits.headers
            or sum(len(name) + len(value) for name, value in self.headers) + len(self.url) > self._limits.header_bytes
        ):
            self._refusal = 431
            raise ValueError("headers too large")  # httptools gives it on as an error of the parser
        if self.parser.should_upgrade():
            return  # the parser stops here, and takes the body for something else: _go_on_without_upgrade
        super().on_headers_complete()
        self._silent_bytes = 0
        self._lately_bytes = 0
        self._body_began_s = self.loop.time()
        self._await(Phase.BODY, self._limits.body_s)

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body; where enough has come, there is time for as much again."""
        self._silent_bytes = 0
        self._lately_bytes += len(body)
        if self._lately_bytes >= self._quick_enough_bytes:
            self._lately_bytes = 0
            latest_s = self._body_began_s + self._limits.longest_body_s
            self.deadline_s = min(self.loop.time() + self._limits.body_s, latest_s)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See whether the answer is still to come: a refusal may have been quicker than its request."""
        self._silent_bytes = 0
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self.cycle is None or self.cycle.response_complete:
            self._rest()
        else:
            self._await(Phase.ANSWERING, math.inf)

    def on_response_complete(self) -> None:
        """Wait for the next request, if this one has come to its end."""
        super().on_response_complete()
        if self._phase is Phase.ANSWERING and self.cycle.response_complete:
            self._rest()

    # --- what the guard calls ---------------------------------------------------------------------------------------

    def end(self) -> None:
        """Close an idle connection."""
        self.transport.close()
        self.deadline_s = self.loop.time() + _FAREWELL_S

    def time_is_over(self, now_s: float) -> None:
        """Send the client away; where it does not even take its answers, without waiting for it."""
        if self.transport.is_closing():
            unsent_bytes = self.transport.get_write_buffer_size()
            if self._unsent_bytes is not None and unsent_bytes >= self._unsent_bytes:
                self.guard.closed["slow_reader"] += 1
                self.guard.leave(self)
                self.transport.abort()
            self._unsent_bytes = unsent_bytes
        elif self._phase is Phase.IDLE:
            self.transport.close()
        else:
            self._close_for(self._phase.value, 408)
        self.deadline_s = now_s + _FAREWELL_S

    # --- inside -----------------------------------------------------------------------------------------------------

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request that offers another protocol (Java's client does, on any port) as the HTTP/1.1 that it is too.

        The parser would leave its body out, and an empty request would be answered in its place.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._close_for("not_http", 400)
            return
        lines = [b"%s %s HTTP/%s" % (method, self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in _UPGRADING]
                lines += [b"connection: " + b",".join(kept)] if kept else []
            elif name not in _UPGRADING:
                lines.append(name + b": " + value)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        self.data_received(b"\r\n".join((*lines, b"", rest)))

    def _await(self, phase: Phase, patience_s: float) -> None:
        self._phase = phase
        self.deadline_s = self.loop.time() + patience_s

    def _rest(self) -> None:
        self._await(Phase.IDLE, self._limits.idle_s)
        self.guard.rest(self)

    def _close_for(self, reason: str, status: int) -> None:
        """Close the connection, with an answer where none is under way that it could be taken for."""
        self.guard.closed[reason] += 1
        log.warning("a connection is closed: %s", reason, extra={"reason": reason, "client": self.client})
        cycle = self.cycle  # of the newest request whose headers are there
        if cycle is None or cycle.response_complete:
            self._answer_and_close(status)
        elif self._phase is Phase.BODY and not self.pipeline and not cycle.response_started:
            cycle.disconnected = True  # an answer of its own would come behind ours
            cycle.message_event.set()
            self._answer_and_close(status)
        else:
            self.transport.close()
        self.deadline_s = self.loop.time() + _FAREWELL_S

    def _answer_and_close(self, status: int) -> None:
        self.transport.write(STATUS_LINE[status] + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()
