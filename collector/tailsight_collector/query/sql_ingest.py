"""Inserts over the ClickHouse protocol: exactly what another collector's `clickhouse://` store sends, and nothing else.

An insert is known by its statement and by its settings: both are the store's own (`tailsight_storage.insert_settings`),
with nothing free but the token and the bytes. What is run is not the client's text: the bytes and the token go to this
collector's store as those of its own segments do, so that a segment which is sent again is recognised.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tailsight_collector.errors import RefusedQueryError
from tailsight_storage import QueryFailedError, ServerDsn, Store, insert_settings
from tailsight_storage.store import INSERT_MEMORY_BYTES, METRICS_SCHEMA, METRICS_TABLE, TRACES_SCHEMA, TRACES_TABLE

MAX_INSERT_BYTES = 256 * 1024 * 1024
MAX_UPLOADS = 16
_IN_MEMORY_BYTES = 1024 * 1024
SCHEMAS = {TRACES_TABLE: TRACES_SCHEMA, METRICS_TABLE: METRICS_SCHEMA}
TOKEN_SETTING = "insert_deduplication_token"  # noqa: S105 - no secret
# ClickHouse's codes: a sender takes the first as a matter of the bytes and sends them in parts, the second as busy.
TOO_MANY_BYTES = 307
TOO_MANY_QUERIES = 202
_INSERT = re.compile(rb"\s*INSERT\b", re.IGNORECASE)
_STATEMENT = re.compile(rb"INSERT INTO (?:(\w+)\.)?(\w+) FORMAT Protobuf", re.ASCII)
_TOKEN = re.compile(r"[\w.:/@+-]{1,200}", re.ASCII)
_HOW = "only another collector's store may insert here: tailsight collector --store clickhouse://…"


def is_insert(statement: bytes) -> bool:
    """Whether a statement is to be answered here."""
    return bool(_INSERT.match(statement))


@dataclass(frozen=True, slots=True)
class Insertion:
    """An insert that may run: a table of ours, and the token of its bytes."""

    table: str
    token: str

    @classmethod
    def of(cls, statement: bytes, settings: Mapping[str, str], *, database: str) -> Insertion:
        """Read the statement and its settings; raises RefusedQueryError with what is not as a store sends it."""
        match = _STATEMENT.fullmatch(b" ".join(statement.split()))
        if match is None or (match[1] and match[1].decode() != database) or match[2].decode() not in SCHEMAS:
            raise RefusedQueryError(
                f"this INSERT does not run here: {statement[:80].decode(errors='replace')!r}; "
                f"{' and '.join(SCHEMAS)} take FORMAT Protobuf, and {_HOW}"
            )
        table = match[2].decode()
        token = settings.get(TOKEN_SETTING, "")
        if not _TOKEN.fullmatch(token):
            raise RefusedQueryError(f"{TOKEN_SETTING} {token[:64]!r} cannot be one; {_HOW}")
        ours = insert_settings(ServerDsn(""), SCHEMAS[table], token)
        for name, value in settings.items():
            if name not in ours:
                raise RefusedQueryError(
                    f"setting {name[:64]!r} of an insert is not known here; where it comes from a newer tailsight, "
                    "upgrade this collector first"
                )
            if value != str(ours[name]) and not (name == "max_memory_usage" and _is_less_memory(value)):
                raise RefusedQueryError(
                    f"setting {name} of an insert must be as this version sends it; use the same version of tailsight "
                    "on both sides, and upgrade this collector first"
                )
        if "format_schema" not in settings:
            raise RefusedQueryError(f"an insert comes with its format_schema; {_HOW}")
        return cls(table, token)


def _is_less_memory(value: str) -> bool:
    return value.isascii() and value.isdecimal() and 0 < int(value) <= INSERT_MEMORY_BYTES


class SqlIngest:
    """Loads what is inserted, one at a time, through a store connection of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._uploads = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tailsight-sql-insert")

    async def load(self, insertion: Insertion, body: AsyncIterator[bytes]) -> int:
        """Take an insert's bytes and load them; returns how many there were, when they are stored.

        A body waits on the disk until it is whole and its turn has come, so that no number of senders needs more memory
        than one. Raises QueryFailedError, StorageError.
        """
        if self._uploads >= MAX_UPLOADS:
            raise QueryFailedError(f"{MAX_UPLOADS} inserts are under way already; try again later", TOO_MANY_QUERIES)
        self._uploads += 1
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as spool:
                size = 0
                async for part in body:
                    size += len(part)
                    if size > MAX_INSERT_BYTES:
                        raise QueryFailedError(f"the insert has more than {MAX_INSERT_BYTES} bytes", TOO_MANY_BYTES)
                    spool.write(part)

                def insert() -> None:
                    spool.seek(0)
                    self._insert(insertion, spool.read())

                # to its end, also where the client has left: it will send the same token again
                await asyncio.get_running_loop().run_in_executor(self._thread, insert)
                return size
        finally:
            self._uploads -= 1

    def _insert(self, insertion: Insertion, segment: bytes) -> None:
        if insertion.table == TRACES_TABLE:
            # by the database, always: a token is known only on the way on which it came first
            self._store.insert_otlp_traces(segment, insertion.token, decoded_here=False)
        else:
            self._store.insert_otlp_metrics(segment, insertion.token)

    def close(self) -> None:
        """Wait for the insert that runs and close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._store.close()
