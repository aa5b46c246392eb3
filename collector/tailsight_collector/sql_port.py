"""The ClickHouse HTTP interface of the embedded store, for reading: dashboards, notebooks, the CLI, Grafana and `curl`.

Enough of ClickHouse's protocol for clickhouse-connect and for people: the statement in `query` or in the body, bound
parameters as `param_NAME`, `default_format`, `database`, answers with `X-ClickHouse-*` headers, errors as ClickHouse's
own text with its code. What runs is decided by `sql_guard`; settings in the address are accepted and not applied.
"""

from __future__ import annotations

import asyncio
import queue
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import RefusedQueryError
from tailsight_collector.sql_guard import EngineFunction, SqlGuard
from tailsight_storage import QueryFailedError, StorageError, Store

READERS = 3
MAX_BODY_BYTES = 1024 * 1024
MAX_EXECUTION_S = 120
MAX_MEMORY_BYTES = 4 * 1024**3
# ClickHouse's own codes: ACCESS_DENIED for what the guard refuses, and the answer's status by code.
ACCESS_DENIED = 497
_STATUS = {60: 404, 81: 404, 159: 408, 164: 403, ACCESS_DENIED: 403, 241: 507, 516: 401}
_DATABASES_AS_OURS = frozenset({"", "default", "__default__"})


class SqlPort:
    """Runs guarded statements on a few read-only connections."""

    def __init__(self, store: Store) -> None:
        self._database = store.dsn.database
        self._guard = SqlGuard(
            (
                EngineFunction(str(name), bool(aggregate), bool(insensitive), str(alias), str(category))
                for name, aggregate, insensitive, alias, category in store.rows(
                    "SELECT name, is_aggregate, case_insensitive, alias_to, toString(categories) FROM system.functions"
                )
            ),
            database=self._database,
        )
        self._readers: queue.SimpleQueue[Store] = queue.SimpleQueue()
        for _ in range(READERS):
            # readonly comes last: nothing can be set after it
            self._readers.put(
                store.another(max_execution_time=MAX_EXECUTION_S, max_memory_usage=MAX_MEMORY_BYTES, readonly=1)
            )

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._query, methods=["GET", "POST"]),
            ]
        )

    def close(self) -> None:
        """Close the connections."""
        for _ in range(READERS):
            self._readers.get().close()

    async def _ping(self, _: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _query(self, request: Request) -> Response:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return _failure(413, 0, f"the statement is longer than {MAX_BODY_BYTES} bytes")
        in_address = request.query_params.get("query", "")
        try:
            statement = "\n".join(part for part in (in_address, body.decode()) if part)
        except UnicodeDecodeError:
            return _failure(400, 0, "the statement is not UTF-8")
        if not statement and request.method == "GET":
            return PlainTextResponse("Ok.\n")  # as ClickHouse greets
        parameters = {
            key.removeprefix("param_"): value for key, value in request.query_params.items() if key.startswith("param_")
        }
        wanted = request.query_params.get("default_format") or request.headers.get("x-clickhouse-format")
        database = request.query_params.get("database") or request.headers.get("x-clickhouse-database") or ""
        if database in _DATABASES_AS_OURS:
            database = self._database
        query_id = request.query_params.get("query_id") or secrets.token_hex(16)
        began = time.perf_counter_ns()
        try:
            if database != self._database:
                raise RefusedQueryError(f"database {database} is not served here; {self._database} is")
            answer = await asyncio.to_thread(self._run, statement, parameters, wanted or "TabSeparated")
        except RefusedQueryError as error:
            return _failure(403, ACCESS_DENIED, str(error))
        except QueryFailedError as error:
            return _failure(_STATUS.get(error.code, 500 if error.code == 0 else 400), error.code, error.detail)
        except StorageError as error:
            return _failure(503, 0, str(error))
        elapsed_ns = time.perf_counter_ns() - began
        headers = {
            "X-ClickHouse-Server-Display-Name": "tailsight",
            "X-ClickHouse-Query-Id": query_id,
            "X-ClickHouse-Format": wanted or "TabSeparated",
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": f'{{"elapsed_ns":"{elapsed_ns}","result_bytes":"{len(answer)}"}}',
        }
        return Response(answer, headers=headers, media_type="application/octet-stream")

    def _run(self, statement: str, parameters: dict[str, str], default_format: str) -> bytes:
        if not default_format.isalnum():
            raise RefusedQueryError(f"format {default_format!r} is not the name of a format")
        with self._reader() as reader:
            allowed = self._guard.check(
                statement, lambda text: reader.raw(f"EXPLAIN AST {text}", parameters=parameters).decode()
            )
            return reader.raw(
                allowed.text, parameters=parameters, default_format=None if allowed.has_format else default_format
            )

    @contextmanager
    def _reader(self) -> Iterator[Store]:
        reader = self._readers.get()
        try:
            yield reader
        finally:
            self._readers.put(reader)


def _failure(status: int, code: int, message: str) -> Response:
    text = message if "DB::Exception" in message else f"Code: {code}. DB::Exception: {message}"
    return PlainTextResponse(text + "\n", status, {"X-ClickHouse-Exception-Code": str(code)})
