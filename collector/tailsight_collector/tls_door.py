"""TLS in front of an HTTP port, under its limits from a connection's first byte on.

uvicorn makes a connection known only when its handshake is over, a minute later where the client says nothing: so many
such connections take all files that this process may open, and the database's with them. Here a connection that shakes
hands counts as an idle one, has as long as a request's headers have, and is the first to make room.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from tailsight_collector.http_guard import HttpGuard


class TlsDoor(asyncio.Protocol):
    """One connection until its handshake is over; then a GuardedProtocol takes its place."""

    guard: HttpGuard
    context: ssl.SSLContext

    def __init__(self, _loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> None:
        """`options` are what uvicorn gives to a protocol."""
        self.loop = _loop or asyncio.get_running_loop()
        self.deadline_s = self.loop.time() + self.guard.limits.header_s
        self._options = {**options, "_loop": _loop}
        self._transport: asyncio.Transport | None = None
        self._shaking: asyncio.Task[None] | None = None
        self._early: list[bytes] = []  # of the request, what came with the end of the handshake
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection in and shake hands, or close it where there are too many."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        if not self.guard.enter(self):
            transport.abort()
            return
        transport.pause_reading()  # what comes is for TLS
        self._shaking = self.loop.create_task(self._shake_hands(transport))

    def data_received(self, data: bytes) -> None:
        """Keep what has come before the request's own protocol is there."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that there is nobody left to talk to."""
        self._is_lost = True
        self.guard.leave(self)

    def end(self) -> None:
        """Close the connection, to make room for another."""
        self._abort()

    def time_is_over(self, _now_s: float) -> None:
        """Close the connection of a client that did not come through its handshake."""
        self.guard.closed["slow_handshake"] += 1
        self._abort()

    def shutdown(self) -> None:
        """Close the connection, as the server ends."""
        self._abort()

    def _abort(self) -> None:
        self.guard.leave(self)
        if self._shaking is not None:
            self._shaking.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def _shake_hands(self, transport: asyncio.Transport) -> None:
        encrypted: asyncio.Transport | None = None
        with contextlib.suppress(OSError):  # whatever the client did wrong, it is told by TLS
            encrypted = await self.loop.start_tls(transport, self, self.context, server_side=True)
        self.guard.leave(self)
        self._shaking = None
        if encrypted is None or self._is_lost:
            transport.abort()
            return
        protocol = self.guard.protocol(**self._options)
        encrypted.set_protocol(protocol)
        protocol.connection_made(encrypted)
        for data in self._early:
            protocol.data_received(data)


def protocol_of(guard: HttpGuard, context: ssl.SSLContext | None) -> type[asyncio.Protocol]:
    """Return what uvicorn makes of each connection: with a context, TLS before HTTP."""
    if context is None:
        return guard.protocol
    return type("OurTlsDoor", (TlsDoor,), {"guard": guard, "context": context})
