"""A way to a server that can be made to refuse, hang, break off, or lose the answer."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


class UnsteadyProxy:
    """A TCP proxy on loopback. `mode`: pass, refuse, reset, hang, or lose_answer, which the server has given."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.mode = "pass"
        self.met = 0  # connections that met with a fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._closing = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(10)

    def set(self, mode: str) -> None:
        """Change what happens, to connections that are open too."""
        self.mode = mode
        self.cut()

    def cut(self) -> None:
        """End all open connections."""
        sockets, self._sockets = self._sockets, []
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._closing:
                client.close()
                return
            mode = self.mode
            if mode != "pass":
                self.met += 1
            if mode in ("refuse", "reset"):
                if mode == "reset":
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            self._sockets.append(client)
            if mode == "hang":
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._sockets.append(server)
            for source, sink, is_answer in ((client, server, False), (server, client, True)):
                thread = threading.Thread(target=self._pump, args=(source, sink, mode, is_answer), daemon=True)
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, mode: str, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if is_answer and mode == "lose_answer":
                    sink.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    sink.close()
                    return
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
