"""The ClickHouse HTTP interface of the embedded store, for reading: dashboards, notebooks, the CLI, Grafana and `curl`.

Enough of ClickHouse's protocol for clickhouse-connect and for people: the statement in `query` or in the body, bound
parameters as `param_NAME`, `default_format`, `database`, answers with `X-ClickHouse-*` headers, errors as ClickHouse's
own text with its code. What runs is decided by `sql_guard`; settings in the address are accepted and not applied. A
query ends when its client leaves.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import RefusedQueryError
from tailsight_collector.sql_guard import EngineFunction, SqlGuard
from tailsight_storage import ChdbDsn, EmbeddedReader, QueryFailedError, StorageError, Store

READERS = 3
READER_PATIENCE_S = 15.0
_KILL_AGAIN_S = 0.5
MAX_BODY_BYTES = 1024 * 1024
# readonly comes on top of these (EmbeddedReader)
READER_LIMITS = {"max_execution_time": 120, "max_memory_usage": 4 * 1024**3, "max_result_bytes": 1024**3}
# ClickHouse's own codes: for what the guard refuses, and while all readers are busy.
ACCESS_DENIED = 497
TOO_MANY_QUERIES = 202
_STATUS = {60: 404, 81: 404, 159: 408, 164: 403, TOO_MANY_QUERIES: 503, 241: 507, 394: 499, ACCESS_DENIED: 403}
_DATABASES_AS_OURS = frozenset({"", "default", "__default__"})
_QUERY_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_FORMAT = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class _Query:
    """What a client asks. `tag` marks the running query, so that it can be ended."""

    statement: str
    parameters: dict[str, str]
    default_format: str
    tag: str


class SqlPort:
    """Runs guarded statements on a few read-only sessions. `owner` is a connection of its own for ending queries."""

    def __init__(self, dsn: ChdbDsn, owner: Store, *, host: str) -> None:
        self._owner = owner
        self._database = dsn.database
        self._host = host
        self._guard = SqlGuard(
            (
                EngineFunction(str(name), bool(aggregate), bool(insensitive), str(alias), str(category))
                for name, aggregate, insensitive, alias, category in owner.rows(
                    "SELECT name, is_aggregate, case_insensitive, alias_to, toString(categories) FROM system.functions"
                )
            ),
            database=self._database,
        )
        self._readers = [EmbeddedReader(dsn, READER_LIMITS) for _ in range(READERS)]
        self._idle = list(self._readers)
        self._free = asyncio.Semaphore(READERS)
        self._running: set[str] = set()
        # threads of its own: slow queries must not hold up the receiver's decoding
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="tailsight-sql")

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._answer, methods=["GET", "POST"]),
            ]
        )

    def close(self) -> None:
        """End running queries and the sessions."""
        for tag in tuple(self._running):
            self._owner.kill(tag)
        self._threads.shutdown(wait=True, cancel_futures=True)
        for reader in self._readers:
            reader.close()
        self._owner.close()

    async def _ping(self, _: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _answer(self, request: Request) -> Response:
        began_ns = time.perf_counter_ns()
        try:
            self._check_origin(request)
            query = await self._query_of(request)
            if query is None:
                return PlainTextResponse("Ok.\n")  # as ClickHouse greets
            answer = await self._run_while_connected(request, query)
        except RefusedQueryError as error:
            return _failure(ACCESS_DENIED, str(error))
        except QueryFailedError as error:
            return _failure(error.code, error.detail)
        except StorageError as error:
            return _failure(0, str(error), status=503)
        headers = {
            "X-ClickHouse-Server-Display-Name": "tailsight",
            "X-ClickHouse-Query-Id": _query_id(request),
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": (
                f'{{"elapsed_ns":"{time.perf_counter_ns() - began_ns}","result_bytes":"{len(answer)}"}}'
            ),
        }
        return Response(answer, headers=headers, media_type="application/octet-stream")

    def _check_origin(self, request: Request) -> None:
        """Refuse web pages: a page in somebody's browser can reach the loopback address too, by its own DNS name."""
        host = re.sub(r":\d+$", "", request.headers.get("host", "")).strip("[]")
        if request.headers.get("origin") or not (host in ("localhost", self._host) or _is_address(host)):
            raise RefusedQueryError(
                f"requests from web pages, or for the name {host[:80]!r}, are not answered; use the collector's address"
            )

    async def _query_of(self, request: Request) -> _Query | None:
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise RefusedQueryError(f"the statement is longer than {MAX_BODY_BYTES} bytes")
        in_address = request.query_params.get("query", "")
        try:
            statement = "\n".join(part for part in (in_address, body.decode()) if part)
        except UnicodeDecodeError:
            raise RefusedQueryError("the statement is not UTF-8") from None
        if not statement and request.method == "GET":
            return None
        wanted = request.query_params.get("default_format") or request.headers.get("x-clickhouse-format")
        default_format = wanted or "TabSeparated"
        if not _FORMAT.fullmatch(default_format):
            raise RefusedQueryError(f"format {default_format[:64]!r} is not the name of a format")
        database = request.query_params.get("database") or request.headers.get("x-clickhouse-database") or ""
        if database not in _DATABASES_AS_OURS | {self._database}:
            raise RefusedQueryError(f"database {database[:64]} is not served here; {self._database} is")
        parameters = {
            key.removeprefix("param_"): value for key, value in request.query_params.items() if key.startswith("param_")
        }
        return _Query(statement, parameters, default_format, f"tailsight-{secrets.token_hex(16)}")

    async def _run_while_connected(self, request: Request, query: _Query) -> bytes:
        """Run a query, and end it when its client leaves; raises QueryFailedError while all readers are busy."""
        try:
            await asyncio.wait_for(self._free.acquire(), READER_PATIENCE_S)
        except TimeoutError:
            raise QueryFailedError(f"all {READERS} readers are busy; try again later", TOO_MANY_QUERIES) from None
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._run, query)
        running.add_done_callback(lambda _: self._free.release())
        leaving = asyncio.ensure_future(_left(request))
        try:
            waiting: list[asyncio.Future[Any]] = [running, leaving]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            while not running.done():  # again and again: it may be on its way from the check to the run
                await asyncio.to_thread(self._owner.kill, query.tag)
                await asyncio.wait([running], timeout=_KILL_AGAIN_S)
            return await running
        finally:
            leaving.cancel()

    def _run(self, query: _Query) -> bytes:
        reader = self._idle.pop()
        self._running.add(query.tag)
        try:
            allowed = self._guard.check(
                query.statement, lambda text: reader.run(f"EXPLAIN AST {text}", query.parameters).decode()
            )
            return reader.run(allowed, query.parameters, default_format=query.default_format, tag=query.tag)
        finally:
            self._running.discard(query.tag)
            self._idle.append(reader)


async def _left(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _query_id(request: Request) -> str:
    given = request.query_params.get("query_id", "")
    return given if _QUERY_ID.fullmatch(given) else secrets.token_hex(16)


def _failure(code: int, message: str, *, status: int | None = None) -> Response:
    text = message if "DB::Exception" in message else f"Code: {code}. DB::Exception: {message}"
    return PlainTextResponse(
        text + "\n", status or _STATUS.get(code, 400 if code else 500), {"X-ClickHouse-Exception-Code": str(code)}
    )
