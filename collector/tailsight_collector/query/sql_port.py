"""The ClickHouse HTTP interface of the embedded store: for dashboards, the CLI, Grafana, `curl`, and other collectors.

Enough of ClickHouse's protocol for clickhouse-connect, clickhouse-go and people: the statement in `query`, in the body
or in a form, bound parameters as `param_NAME`, `default_format`, `database`, answers with `X-ClickHouse-*` headers,
errors as ClickHouse's own text with its code. Who reads has `sql_guard` decide what runs, and `sql_readers` how much of
it; who sends may insert what a collector's store inserts (`sql_ingest`), and read no more than that takes.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import secrets
import time
from collections.abc import AsyncIterator

import zstandard
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import (
    AccessError,
    BusyError,
    ForbiddenError,
    RefusedQueryError,
    UnauthenticatedError,
)
from tailsight_collector.guard.access import Access, Caller
from tailsight_collector.guard.guarded import Guarded, caller_of
from tailsight_collector.guard.names import is_own_name
from tailsight_collector.guard.tokens import INGEST, READ
from tailsight_collector.query.answers import Answers
from tailsight_collector.query.sql_greetings import go_hello, with_insert_settings
from tailsight_collector.query.sql_guard import EngineFunction, SqlGuard
from tailsight_collector.query.sql_ingest import Insertion, SqlIngest, is_insert
from tailsight_collector.query.sql_readers import PATIENCE_S, TOO_MANY_QUERIES, Readers
from tailsight_collector.query.sql_request import MAX_BODY_BYTES, ReadQuery, check_address, read_query, settings_in
from tailsight_collector.receive.in_flight import InFlight
from tailsight_storage import ChdbDsn, EmbeddedReader, QueryFailedError, StorageError, Store, load_query

# ClickHouse's own codes: for what is refused here, for a client that left, and for a store that cannot work now.
ACCESS_DENIED = 497
QUERY_WAS_CANCELLED = 394
ABORTED = 236
# of what the door refuses, by HTTP status: AUTHENTICATION_FAILED, ACCESS_DENIED, QUOTA_EXCEEDED
_ACCESS_CODES = {401: 516, 403: ACCESS_DENIED, 429: 201}
_STATUS = {
    60: 404, 81: 404, 159: 408, 164: 403, TOO_MANY_QUERIES: 503, 241: 507, 307: 413, QUERY_WAS_CANCELLED: 499,
    ABORTED: 503, ACCESS_DENIED: 403,
}  # fmt: skip
# What to do about a limit that a query has met, by code.
_WAYS_OUT = {
    159: "ask for a shorter window of time, or use the roll-up stage_latency_1m",
    241: "aggregate earlier, or ask for a shorter window of time",
    396: "add a LIMIT, or aggregate in the query",
}
# What somebody who may only send can read: what a store is opened with, and this question of a collector's start.
_SENDERS_TABLES = frozenset({"schema_migrations"})
_SENDERS_QUESTION = "recent_batches"
# An answer is data, whatever a browser takes it for.
_NO_SCRIPT = {"X-Content-Type-Options": "nosniff"}
_QUERY_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_LONGEST_INSERT_STATEMENT = 1024
_PACKED_ELSEWHERE_BYTES = 64 * 1024


class SqlPort:
    """Answers queries and inserts. `owner` is a connection of its own for ending queries."""

    def __init__(
        self,
        dsn: ChdbDsn,
        owner: Store,
        *,
        host: str,
        access: Access | None = None,
        any_name: bool = False,
        anybody_inserts: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`any_name`: the port may be asked for by any DNS name, since no web page gets in.

        `anybody_inserts`: where no tokens are asked for, inserts are taken all the same.
        """
        self._access = access or Access()
        self._any_name = any_name
        self._anybody_inserts = anybody_inserts
        self._owner = owner
        self._database = dsn.database
        self._host = host
        functions = [
            EngineFunction(str(name), bool(aggregate), bool(insensitive), str(alias), str(category))
            for name, aggregate, insensitive, alias, category in owner.rows(
                "SELECT name, is_aggregate, case_insensitive, alias_to, toString(categories) FROM system.functions"
            )
        ]
        table_functions = [str(name) for (name,) in owner.rows("SELECT name FROM system.table_functions")]
        [(version,)] = owner.rows("SELECT version()")
        self._version = str(version)
        self._guard = SqlGuard(functions, table_functions, database=dsn.database)
        self._senders_guard = SqlGuard(functions, table_functions, database=dsn.database, tables=_SENDERS_TABLES)
        self._senders_question = _plain(load_query("tailsight_collector", _SENDERS_QUESTION).text)
        self._readers = Readers(dsn, owner, patience_s=patience_s)
        self._ingest = SqlIngest(owner.another())
        self._arriving = InFlight(MAX_BODY_BYTES)
        self._answers = Answers()

    def app(self) -> Guarded:
        """Return the ASGI application, behind its door."""
        return Guarded(self._app(), self._access, scopes_of=_scopes_of, refuse=_refuse, check=_check_address)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/ping", self._ping, methods=["GET", "HEAD"]),
                Route("/", self._answer, methods=["GET", "POST"]),
            ]
        )

    def close(self) -> bool:
        """End running queries and the sessions; False where a query does not end."""
        ended = self._readers.close()
        self._ingest.close()
        if ended:
            self._owner.close()
        return ended

    async def _ping(self, _: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def _answer(self, request: Request) -> Response:
        try:
            self._check_origin(request)
            check_address(request, self._database)
            body = request.stream()
            statement = request.query_params.get("query", "").encode()
            beginning = b"" if statement else await _beginning_of(body)
            if is_insert(statement or beginning):
                return await self._insert(request, statement, beginning, body)
            with self._arriving.request(is_there=False) as held:
                query = await read_query(request, beginning, body, held)
            if query is None:
                return PlainTextResponse("Ok.\n")  # as ClickHouse greets
            return await self._query(request, query)
        except AccessError as error:
            return _failed(_ACCESS_CODES[error.status], str(error))
        except RefusedQueryError as error:
            return _failed(ACCESS_DENIED, str(error))
        except BusyError as error:
            return _failed(TOO_MANY_QUERIES, f"try again later: {error}")
        except QueryFailedError as error:
            return _failed(error.code, error.detail)
        except StorageError as error:
            return _failed(ABORTED, str(error))
        except ClientDisconnect:
            return _failed(QUERY_WAS_CANCELLED, "the client has left")

    async def _query(self, request: Request, query: ReadQuery) -> Response:
        began_s = time.perf_counter()
        caller = caller_of(request)
        leaving = asyncio.ensure_future(_left(request))
        try:
            answer = go_hello(query.statement, query.speaks_native, self._version)
            if answer is None:
                answer = await self._readers.run(
                    lambda reader, tag: self._run(reader, query, tag, caller),
                    caller=_name_of(request),
                    leaving=leaving,
                )
        finally:
            leaving.cancel()
        took_s = time.perf_counter() - began_s
        headers = self._headers(request, f'{{"elapsed_ns":"{int(took_s * 1e9)}","result_bytes":"{len(answer)}"}}')
        if query.coding:
            headers |= {"Content-Encoding": query.coding, "Vary": "Accept-Encoding"}
            is_large = len(answer) > _PACKED_ELSEWHERE_BYTES
            answer = (
                await asyncio.to_thread(_packed, answer, query.coding) if is_large else _packed(answer, query.coding)
            )
        return self._answers.response(answer, _name_of(request), headers)

    def _run(self, reader: EmbeddedReader, query: ReadQuery, tag: str, caller: Caller) -> bytes:
        statement, parameters = query.statement, query.parameters
        inserts = self._may_insert(caller)
        if inserts and (instead := with_insert_settings(statement)):
            return reader.run(*instead, default_format=query.default_format, tag=tag)
        reads = READ in caller.scopes or _plain(statement) == self._senders_question
        guard = self._guard if reads else self._senders_guard
        allowed = guard.check(statement, lambda text: reader.run(f"EXPLAIN AST {text}", parameters).decode())
        return reader.run(allowed, parameters, default_format=query.default_format, tag=tag)

    async def _insert(
        self, request: Request, statement: bytes, beginning: bytes, body: AsyncIterator[bytes]
    ) -> Response:
        caller = caller_of(request)
        if not self._may_insert(caller):
            if self._access.is_guarded:
                caller.require(INGEST)
            raise ForbiddenError(
                "nothing may be inserted here: start the collector with --tokens, and insert with a token whose scope "
                "is ingest; or with --sql-ingest, so that everybody who reaches this port may insert"
            )
        if not statement:
            statement, _, beginning = beginning.partition(b"\n")
        insertion = Insertion.of(statement, settings_in(request), database=self._database)
        size = await self._ingest.load(insertion, _chained(beginning, body))
        return Response(b"", headers=self._headers(request, f'{{"written_bytes":"{size}"}}'))

    def _may_insert(self, caller: Caller) -> bool:
        return INGEST in caller.scopes and (self._access.is_guarded or self._anybody_inserts)

    def _check_origin(self, request: Request) -> None:
        """Refuse web pages: a page in somebody's browser can reach the loopback address too, by its own DNS name."""
        is_ours = self._any_name or is_own_name(request, self._host)
        # a <script> of a page has no Origin, and an answer can be written so that it is a script
        is_page = request.headers.get("origin") or request.headers.get("sec-fetch-site", "none") != "none"
        if is_page or not is_ours:
            raise RefusedQueryError(
                f"requests from web pages, or for the name {request.headers.get('host', '')[:80]!r}, are not answered; "
                "use the collector's address"
            )

    def _headers(self, request: Request, summary: str) -> dict[str, str]:
        given = request.query_params.get("query_id", "")
        return {
            **_NO_SCRIPT,
            "X-ClickHouse-Server-Display-Name": "tailsight",
            "X-ClickHouse-Query-Id": given if _QUERY_ID.fullmatch(given) else secrets.token_hex(16),
            "X-ClickHouse-Timezone": "UTC",
            "X-ClickHouse-Summary": summary,
        }


def _name_of(request: Request) -> str:
    """Tell callers apart: by their token, or by where they come from."""
    return caller_of(request).name or (request.client.host if request.client else "")


def _plain(statement: str) -> str:
    """Return a statement without what clickhouse-connect makes of it."""
    return " ".join(statement.split()).removesuffix(" FORMAT Native")


def _scopes_of(path: str) -> tuple[str, ...]:
    return () if path == "/ping" else (READ, INGEST)


def _check_address(request: Request) -> None:
    """Refuse a token in the address, as ClickHouse would take it: addresses are written to logs on their way."""
    if not request.query_params.keys().isdisjoint(("user", "password")):
        raise UnauthenticatedError(
            "user and password in the address are not taken, because addresses are logged: send the token as "
            "`Authorization: Bearer TOKEN`, as HTTP Basic's password (curl --user any:TOKEN), or as X-ClickHouse-Key"
        )


def _refuse(_: Request, error: AccessError) -> Response:
    answer = _failure(_ACCESS_CODES[error.status], str(error), status=error.status)
    if isinstance(error, UnauthenticatedError):
        answer.headers["WWW-Authenticate"] = 'Basic realm="tailsight", Bearer realm="tailsight"'
    return answer


async def _beginning_of(body: AsyncIterator[bytes]) -> bytes:
    """Read a body's first line, or as much as an insert's statement may have."""
    beginning = b""
    async for part in body:
        beginning += part
        if b"\n" in part or len(beginning) > _LONGEST_INSERT_STATEMENT:
            break
    return beginning


async def _chained(beginning: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if beginning:
        yield beginning
    async for part in rest:
        yield part


async def _left(request: Request) -> None:
    """Return when the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _packed(answer: bytes, coding: str) -> bytes:
    return zstandard.compress(answer) if coding == "zstd" else gzip.compress(answer, compresslevel=1)


def _failed(code: int, message: str) -> Response:
    return _failure(code, f"{message}; {_WAYS_OUT[code]}" if code in _WAYS_OUT else message)


def _failure(code: int, message: str, *, status: int | None = None) -> Response:
    text = message if "DB::Exception" in message else f"Code: {code}. DB::Exception: {message}"
    headers = {**_NO_SCRIPT, "X-ClickHouse-Exception-Code": str(code)}
    return PlainTextResponse(text + "\n", status or _STATUS.get(code, 400), headers)
