"""TLS in front of an HTTP port, under its limits from a connection's first byte on.

With uvicorn's own TLS a connection is known only when its handshake is over, and a client that says nothing is waited
for a minute: enough of them take all files that this process may open, and the database's with them. Here a connection
that shakes hands counts as an idle one, has as long as a request's headers have, and makes room for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from typing import Any

from tailsight_collector.receive.http_guard import GuardedProtocol, HttpGuard


class TlsDoor(asyncio.Protocol):
    """One connection until its handshake is over; then an EncryptedProtocol takes its place."""

    guard: HttpGuard
    context: ssl.SSLContext
    behind: type[EncryptedProtocol]

    def __init__(self, **options: Any) -> None:
        """`options` are what uvicorn gives to a protocol."""
        self.loop: asyncio.AbstractEventLoop = options.get("_loop") or asyncio.get_running_loop()
        self.deadline_s = self.loop.time() + self.guard.limits.header_s
        self._options = options
        self._socket: socket.socket | None = None
        self._shaking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in, and over from the server, which would read what is for TLS."""
        if self.guard.enter(self):
            self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            self._socket.setblocking(False)
            self._shaking = self.loop.create_task(self._shake_hands(self._socket))
        transport.abort()  # type: ignore[attr-defined]  # uvloop's transports are no asyncio.Transport

    def leave(self) -> None:
        """Stop counting as a connection."""
        self.guard.leave(self)

    def end(self) -> None:
        """Close the connection, to make room for another."""
        self.leave()
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the client may have left
                self._socket.shutdown(socket.SHUT_RDWR)

    def time_is_over(self, _now_s: float) -> None:
        """Close the connection of a client that does not come through its handshake."""
        self.guard.closed["slow_handshake"] += 1
        self.end()

    async def _shake_hands(self, client: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(
                lambda: self.behind(self, **self._options),
                client,
                ssl=self.context,
                ssl_handshake_timeout=2 * self.guard.limits.header_s,  # after the guard's own sweep
            )
        except OSError:  # a client's own fault, of which TLS has told it
            client.close()
        finally:
            self._socket = None
            self.leave()


class EncryptedProtocol(GuardedProtocol):
    """An HTTP connection behind its door."""

    def __init__(self, door: TlsDoor, **options: Any) -> None:
        super().__init__(**options)
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the door's place."""
        self._door.leave()
        super().connection_made(transport)


def protocol_of(guard: HttpGuard, context: ssl.SSLContext | None) -> type[asyncio.Protocol]:
    """Return what uvicorn makes of each connection: with a context, TLS before HTTP."""
    if context is None:
        return guard.protocol
    behind = type("OurEncryptedProtocol", (EncryptedProtocol,), {"guard": guard})
    return type("OurTlsDoor", (TlsDoor,), {"guard": guard, "context": context, "behind": behind})
