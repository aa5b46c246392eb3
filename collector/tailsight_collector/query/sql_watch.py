"""How did the statements at the SQL port end, and how long did they take? Told from the answers that go out."""

from __future__ import annotations

import time
from collections import Counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailsight_collector.watch.durations import QUERY_BOUNDS_S, Durations

_CODE_HEADER = b"x-clickhouse-exception-code"
_PING = "/ping"
# By ClickHouse's own codes; every other is `failed`.
_OUTCOMES = {
    b"159": "too_long",  # TIMEOUT_EXCEEDED
    b"201": "rate_limited",  # QUOTA_EXCEEDED
    b"202": "busy",  # TOO_MANY_SIMULTANEOUS_QUERIES
    b"241": "too_much_memory",  # MEMORY_LIMIT_EXCEEDED
    b"394": "cancelled",  # QUERY_WAS_CANCELLED
    b"396": "too_large",  # TOO_MANY_ROWS_OR_BYTES
    b"497": "refused",  # ACCESS_DENIED
    b"516": "unauthenticated",  # AUTHENTICATION_FAILED
}


class SqlWatch:
    """An ASGI application around the SQL port's, that counts what comes out of it."""

    def __init__(self, app: ASGIApp) -> None:
        self.outcomes: Counter[str] = Counter()
        self.durations = Durations(QUERY_BOUNDS_S)
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, and count its answer when it begins."""
        if scope["type"] != "http" or scope["path"] == _PING:
            await self._app(scope, receive, send)
            return
        began_s = time.perf_counter()

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.outcomes[_outcome_of(message)] += 1
                self.durations.observe(time.perf_counter() - began_s)
            await send(message)

        await self._app(scope, receive, counting)


def _outcome_of(message: Message) -> str:
    for name, value in message["headers"]:
        if name.lower() == _CODE_HEADER:
            return _OUTCOMES.get(value, "failed")
    return "ok" if message["status"] < 400 else "failed"
