"""A request of the ClickHouse HTTP interface, read: from the address, the headers, and a body that may be a form.

Settings in the address of a query are accepted and not applied; what would change what the answer means is refused.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.parser import BytesHeaderParser

from starlette.requests import Request

from tailsight_collector.errors import RefusedQueryError
from tailsight_collector.query.sql_guard import check_format
from tailsight_collector.receive.in_flight import Held

MAX_BODY_BYTES = 1024 * 1024
# A statement of this size is taken always; what is longer shares room with all others that arrive.
MODEST_BYTES = 16 * 1024
MAX_FIELDS = 256
DEFAULT_FORMAT = "TabSeparated"
# What a client may add to an address that is no setting of the statement.
TRANSPORT = frozenset({
    "buffer_size", "cancel_http_readonly_queries_on_client_close", "cast_string_to_dynamic_use_inference",
    "client_protocol_version", "compress", "database", "date_time_input_format", "decompress", "default_format",
    "enable_http_compression", "http_headers_progress_interval_ms", "query", "query_id", "quota_key",
    "send_progress_in_http_headers", "session_check", "session_id", "session_timeout", "wait_end_of_query",
})  # fmt: skip
_DATABASES_AS_OURS = frozenset({"", "default", "__default__"})
_BOUNDARY = re.compile(r'multipart/form-data;.*?\bboundary="?([^";,]{1,70})"?', re.IGNORECASE)
_SWITCHED_ON = frozenset({"1", "true"})


@dataclass(frozen=True, slots=True)
class ReadQuery:
    """What a client asks. `speaks_native` is the revision of the native protocol that it names; 0 where it does not."""

    statement: str
    parameters: dict[str, str]
    default_format: str
    speaks_native: int
    coding: str


def check_address(request: Request, database: str) -> None:
    """Refuse what the address asks for and does not get; raises RefusedQueryError."""
    wanted = request.query_params.get("database") or request.headers.get("x-clickhouse-database") or ""
    if wanted not in _DATABASES_AS_OURS | {database}:
        raise RefusedQueryError(f"database {wanted[:64]} is not served here; {database} is")
    for name in ("compress", "decompress"):
        if request.query_params.get(name, "0") in _SWITCHED_ON:
            raise RefusedQueryError(
                f"{name}=1, ClickHouse's own compression, is not spoken here; switch it off, or use HTTP's "
                "(gzip, zstd: enable_http_compression=1 and Accept-Encoding)"
            )


def settings_in(request: Request) -> dict[str, str]:
    """Return the statement's settings: whatever the address holds beside what belongs to the transport."""
    return {name: value for name, value in request.query_params.items() if name not in TRANSPORT}


async def read_query(request: Request, beginning: bytes, rest: AsyncIterator[bytes], held: Held) -> ReadQuery | None:
    """Read a query whose body has begun; None for a GET without one. Raises RefusedQueryError, BusyError."""
    body = bytearray(beginning)
    async for part in rest:
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise RefusedQueryError(f"the statement is longer than {MAX_BODY_BYTES} bytes")
        if len(body) > MODEST_BYTES:
            held.add(len(body) - MODEST_BYTES - held.held_bytes)
    address = dict(request.query_params)
    form = _BOUNDARY.match(request.headers.get("content-type", ""))
    if form:
        fields = _fields_of(bytes(body), form[1].encode("latin-1", "replace"))
        address |= {name: value for name, value in fields.items() if name == "query" or name.startswith("param_")}
        body.clear()
    try:
        statement = "\n".join(part for part in (address.get("query", ""), body.decode()) if part)
    except UnicodeDecodeError:
        raise RefusedQueryError("the statement is not UTF-8") from None
    if not statement and request.method == "GET":
        return None
    wanted = address.get("default_format") or request.headers.get("x-clickhouse-format") or DEFAULT_FORMAT
    check_format(wanted)
    revision = address.get("client_protocol_version", "")
    return ReadQuery(
        statement,
        {name.removeprefix("param_"): value for name, value in address.items() if name.startswith("param_")},
        wanted,
        int(revision) if revision.isascii() and revision.isdecimal() and len(revision) < 10 else 0,
        _coding_for(request),
    )


def _coding_for(request: Request) -> str:
    """Choose how to pack the answer: as ClickHouse, only where the address asks for it."""
    if request.query_params.get("enable_http_compression", "0") not in _SWITCHED_ON:
        return ""
    accepted = {
        part.partition(";")[0].strip().lower() for part in request.headers.get("accept-encoding", "").split(",")
    }
    return next((coding for coding in ("zstd", "gzip") if coding in accepted), "")


def _fields_of(body: bytes, boundary: bytes) -> dict[str, str]:
    """Read the text fields of a form; files, which would be tables of the client's own, are refused."""
    parts = body.split(b"--" + boundary)
    if len(parts) > MAX_FIELDS or len(parts) < 3 or parts[-1].strip() != b"--":
        raise RefusedQueryError(f"the form cannot be read; it may have up to {MAX_FIELDS - 2} fields")
    fields: dict[str, str] = {}
    for part in parts[1:-1]:
        head, separator, content = part.partition(b"\r\n\r\n")
        headers = BytesHeaderParser().parsebytes(head.lstrip(b"\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if not separator or not isinstance(name, str) or name in fields:
            raise RefusedQueryError("the form has a field without a name, or one twice")
        if headers.get_param("filename", header="content-disposition") is not None:
            raise RefusedQueryError(f"external data ({name[:64]}) is not taken here; bind values as parameters")
        try:
            fields[name] = content.removesuffix(b"\r\n").decode()
        except UnicodeDecodeError:
            raise RefusedQueryError(f"the form's field {name[:64]} is not UTF-8") from None
    return fields
