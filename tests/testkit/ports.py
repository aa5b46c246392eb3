"""The SQL port over an engine of this process: what a collector's port is, with the engine at hand beside it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import uvicorn
import uvloop

from tailsight_collector.guard.access import Access
from tailsight_collector.guard.tokens import INGEST, READ, Token, add_token, digest_of
from tailsight_collector.query.sql_port import SqlPort
from tailsight_storage import ChdbDsn, Store

SENDER, READER, BOTH = "ts_of-another-collector", "ts_of-a-dashboard", "ts_of-both"
PATIENCE_S = 30


def write_tokens(path: Path) -> Path:
    """Make a file of tokens: SENDER, READER and BOTH."""
    for name, secret, scopes in (
        ("sender", SENDER, {INGEST}),
        ("reader", READER, {READ}),
        ("both", BOTH, {INGEST, READ}),
    ):
        add_token(path, Token(name, frozenset(scopes), digest_of(secret)))
    return path


def as_caller(token: str, store: str) -> str:
    """Put a token into a store's address."""
    return store.replace("clickhouse://", f"clickhouse://any:{token}@")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class PortHere:
    """A SQL port that serves `engine` from a thread of this process, with real sockets. A context manager."""

    def __init__(self, engine: Store, tokens: Path | None = None, **options: Any) -> None:
        assert isinstance(engine.dsn, ChdbDsn)
        self.port = SqlPort(engine.dsn, engine.another(), host="127.0.0.1", access=Access(tokens), **options)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.store = f"clickhouse://127.0.0.1:{self._socket.getsockname()[1]}/{engine.dsn.database}"
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = _Server(
            uvicorn.Config(self.port.app(), http="httptools", ws="none", lifespan="off", log_config=None)
        )
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self.port.close()
        self._socket.close()

    def _run(self) -> None:
        async def serve() -> None:
            self._ready.set()  # the socket listens already
            await self._server.serve(sockets=[self._socket])

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as in a collector
            runner.run(serve())
