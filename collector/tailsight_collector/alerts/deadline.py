"""An end to a whole attempt: httpx limits each read alone, and who sends a byte now and then would hold it for ever."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any, Self


class Deadline:
    """After `seconds` the connections of a request are shut; give `trace` to httpx as the extension of that name."""

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            while self._sockets:
                self._sockets.pop().close()

    def trace(self, event: str, details: Mapping[str, Any]) -> None:
        """Hear of a new connection."""
        if not event.endswith("connect_tcp.complete"):
            return
        connected = details["return_value"].get_extra_info("socket")
        # a second descriptor of it, for TLS takes the first one over
        own = socket.socket(connected.family, connected.type, connected.proto, os.dup(connected.fileno()))
        with self._lock:
            self._sockets.append(own)
            if self.is_over:
                _shut(own)

    def _cut(self) -> None:
        with self._lock:
            self.is_over = True
            for own in self._sockets:
                _shut(own)


def _shut(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        connected.shutdown(socket.SHUT_RDWR)
