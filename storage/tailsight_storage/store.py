"""One store, opened: write OTLP bytes, ask named queries.

The same class serves the embedded engine and a server, because both speak through clickhouse-connect's client.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from array import array
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from tailsight_storage import decoder
from tailsight_storage.dsn import DEFAULT_PORT, ChdbDsn, ServerDsn, StoreDsn, parse_dsn
from tailsight_storage.errors import (
    DataRefusedError,
    StorageError,
    StoreInUseError,
    StoreUnavailableError,
)
from tailsight_storage.migrations import Migration, migrate
from tailsight_storage.queries import NamedQuery
from tailsight_storage.translation import translated, translation

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

TRACES_TABLE, TRACES_SCHEMA = "otlp_traces_in", "otlp_traces.proto"
METRICS_TABLE, METRICS_SCHEMA = "otlp_metrics_in", "otlp_metrics.proto"
SPANS_TABLE, SENDERS_TABLE = "span_arrivals", "sender_batches"
CONNECT_TIMEOUT_S = 10
MEMORY_LIMIT_CODE = 241
INSERT_MEMORY_BYTES = 4 * 1024**3
# The engine's, for the whole process; they are read when it starts, with its first connection.
ENGINE_SETTINGS = {
    # merging has time; who loads and who asks have not
    "os_threads_nice_value_merge_mutate": "10",
    # the default, 5 GiB, is a server's
    "mark_cache_size": str(256 * 1024**2),
}
# Of one segment, with its resources beside each span.
MAX_COLUMNS_BYTES = 768 * 1024**2


# chDB allows several handles in one process, and a lock of our own would look like another's.
_OPENED_HERE: set[Path] = set()


class Store:
    """A connection to one store. Not for use by several threads at once: open one each (`Store.another`)."""

    def __init__(self, dsn: StoreDsn, client: Client) -> None:
        self.dsn = dsn
        self._client = client

    # --- life ---------------------------------------------------------------------------------------------------

    def migrate(self) -> list[Migration]:
        """Create the database and bring its tables to this version; returns what was applied.

        A store that is up to date is only read: a connection that may not change tables can open it as well.
        """
        [(exists,)] = self.rows("EXISTS DATABASE {name:Identifier}", name=self.dsn.database)
        if not exists:
            self.run("CREATE DATABASE IF NOT EXISTS {name:Identifier}", name=self.dsn.database)
        self._client.database = self.dsn.database
        return migrate(self, alone=isinstance(self.dsn, ChdbDsn))

    def another(self, **settings: Any) -> Store:
        """Open a second connection to the same store, with session settings of its own."""
        return Store(self.dsn, _connect(self.dsn, database=self.dsn.database, settings=settings))

    def close(self) -> None:
        """Close the connection; the embedded engine stops with its last one."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def insert_otlp_traces(self, segment: bytes | memoryview, token: str, *, decoded_here: bool | None = None) -> None:
        """Store a segment: length-delimited `ExportTraceServiceRequest` messages.

        The same token again changes nothing, in no table: that makes a repeated insert safe. Returns when the rows are
        stored. Raises DataRefusedError where the bytes cannot be read, else StoreUnavailableError or QueryFailedError.

        They are decoded by our C module where it is (`decoded_here`), else by the database. To the database these are
        two ways in with tokens of their own: what may have been inserted before must go the same way again.
        """
        if decoded_here is None:
            decoded_here = self.decodes_here
        if not (decoded_here and segment and self._insert_decoded(segment, token)):
            self._insert_otlp(TRACES_TABLE, TRACES_SCHEMA, segment, token)

    @property
    def decodes_here(self) -> bool:
        """Whether segments are decoded in this process: with the C module, and where the engine is in it too."""
        return decoder.decoder is not None and isinstance(self.dsn, ChdbDsn)

    def _insert_decoded(self, segment: bytes | memoryview, token: str) -> bool:
        """Store a segment as columns; False where it is not plain, which follows from its bytes alone."""
        if decoder.decoder is None:
            raise StorageError(f"store {self.dsn}: segment {token} was decoded in C, and here {decoder.why_not}")
        try:
            blocks, rows, numbered = decoder.decoder.columns(segment, time.time_ns(), MAX_COLUMNS_BYTES)
            # before anything is stored: whatever is wrong with them must show now
            lines = [json.dumps(row) for row in decoder.sender_rows(numbered)]
        except ValueError:
            return False
        except (OverflowError, MemoryError) as error:
            raise DataRefusedError(f"store {self.dsn}: segment {token}: {error}", MEMORY_LIMIT_CODE) from None
        settings = _insert_settings(token)
        if rows or not lines:  # nothing at all is inserted too: so it is known whether the store takes anything
            with self._translated(inserting=True):
                self._client.raw_insert(SPANS_TABLE, insert_block=blocks, settings=settings, fmt="Native")
        if lines:
            # not as an insert whose bytes may be refused: the spans are stored already, and must not go in by halves
            with self._translated():
                data = "\n".join(lines).encode()
                self._client.raw_insert(SENDERS_TABLE, insert_block=data, settings=settings, fmt="JSONEachRow")
        return True

    def insert_otlp_metrics(self, segment: bytes | memoryview, token: str) -> None:
        """Store what a segment of `ExportMetricsServiceRequest` messages says of devices and hosts; as for traces."""
        self._insert_otlp(METRICS_TABLE, METRICS_SCHEMA, segment, token)

    def _insert_otlp(self, table: str, schema: str, segment: bytes | memoryview, token: str) -> None:
        if not segment:
            return
        settings = insert_settings(self.dsn, schema, token)
        with self._translated(inserting=True):
            self._client.raw_insert(table, insert_block=bytes(segment), settings=settings, fmt="Protobuf")

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Store rows of a table, by the names of its columns; returns when they are stored."""
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        with self._translated():
            self._client.raw_insert(table, insert_block=lines, fmt="JSONEachRow")

    def insert_once(self, table: str, rows: Sequence[Mapping[str, object]], token: str) -> None:
        """Store rows, all with the columns of the first, as one insert; the same token again changes nothing."""
        lines = "\n".join(json.dumps(row) for row in rows).encode()
        with self._translated():
            self._client.raw_insert(
                table, list(rows[0]), insert_block=lines, settings=_insert_settings(token), fmt="JSONEachRow"
            )

    # --- asking -------------------------------------------------------------------------------------------------

    def ask(self, query: NamedQuery, **parameters: object) -> list[dict[str, Any]]:
        """Run a named query and return its rows as dictionaries."""
        with self._translated():
            return list(self._client.query(query.text, parameters=self._bound(query, parameters)).named_results())

    def columns(self, query: NamedQuery, **parameters: object) -> dict[str, np.ndarray[Any, Any]]:
        """Run a named query and return its columns as numpy arrays, for questions with many rows; none where no rows.

        Numbers keep their type; texts are arrays of objects, in which a low-cardinality column shares its strings.
        """
        import numpy as np  # here, because a collector that never asks needs no numpy

        with (
            self._translated(),
            self._client.query_column_block_stream(query.text, self._bound(query, parameters)) as stream,
        ):
            names: Sequence[str] = stream.source.column_names
            pieces: list[list[np.ndarray[Any, Any]]] = [[] for _ in names]
            for block in stream:
                for column, values in zip(pieces, block, strict=True):
                    column.append(np.array(values, dtype=None if isinstance(values, array) else object))
        return {name: np.concatenate(column) for name, column in zip(names, pieces, strict=True)}

    def run(self, statement: str, **parameters: object) -> None:
        """Run one statement that gives no rows (migrations, administration)."""
        with self._translated():
            self._client.command(statement, parameters=dict(parameters))

    def rows(self, statement: str, **parameters: object) -> list[tuple[object, ...]]:
        """Run one statement of administration and return its rows."""
        with self._translated():
            return [tuple(row) for row in self._client.query(statement, parameters=dict(parameters)).result_rows]

    def kill(self, tag: str) -> None:
        """End running queries that carry a tag."""
        self.run("KILL QUERY WHERE position(query, {tag:String}) > 0 ASYNC", tag=f"/* {tag} */")

    # --- inside -------------------------------------------------------------------------------------------------

    @staticmethod
    def _bound(query: NamedQuery, parameters: dict[str, object]) -> dict[str, object]:
        missing = query.parameters - parameters.keys()
        unknown = parameters.keys() - query.parameters
        if missing or unknown:
            raise TypeError(f"query {query.name}: missing parameters {sorted(missing)}, unknown {sorted(unknown)}")
        return parameters

    def _translated(self, *, inserting: bool = False) -> contextlib.AbstractContextManager[None]:
        return translated(self.dsn, inserting=inserting)


def open_store(dsn: StoreDsn | str, *, create: bool = False) -> Store:
    """Open a store.

    With `create`, the database and its tables are made or brought up to date; without, an embedded store must exist.
    Raises StoreUnavailableError, StoreInUseError or MigrationError.
    """
    if isinstance(dsn, str):
        dsn = parse_dsn(dsn)
    if isinstance(dsn, ChdbDsn):
        if create:
            _make_folder(dsn.engine_path)
        elif not dsn.engine_path.is_dir():
            raise StoreUnavailableError(
                f"store {dsn}: no store in this folder; name the folder that a collector was given with --data"
            )
        _refuse_if_in_use(dsn)
    try:
        store = Store(dsn, _connect(dsn, database=None if create else dsn.database))
    except StorageError:
        if isinstance(dsn, ChdbDsn):
            _refuse_if_in_use(dsn)  # by somebody who came a moment earlier
        raise
    if isinstance(dsn, ChdbDsn):
        _OPENED_HERE.add(dsn.engine_path)
    if create:
        try:
            store.migrate()
        except BaseException:
            store.close()
            raise
    return store


def _refuse_if_in_use(dsn: ChdbDsn) -> None:
    """See whether another process has the engine's folder: the engine itself would only say that it cannot start."""
    if dsn.engine_path in _OPENED_HERE:
        return
    try:
        with (dsn.engine_path / "status").open("rb") as status:
            fcntl.flock(status, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return  # a new store
    except BlockingIOError:
        raise StoreInUseError(
            f"store {dsn} is in use by a running collector, and the embedded engine allows one process: "
            f"ask its SQL port (--store clickhouse://127.0.0.1:{DEFAULT_PORT}/{dsn.database}), "
            "and import to its OTLP port (--endpoint)"
        ) from None


def insert_settings(dsn: StoreDsn, schema: str, token: str) -> dict[str, str | int]:
    """Return the settings that an insert of a segment is sent with; a collector's SQL port knows an insert by them."""
    return {**_schema_settings(dsn, schema), "input_format_protobuf_oneof_presence": 1, **_insert_settings(token)}


def _insert_settings(token: str) -> dict[str, str | int]:
    return {
        # the answer must mean "stored"
        "async_insert": 0,
        # beyond this the segment is loaded in parts, see the collector's loader
        "max_memory_usage": INSERT_MEMORY_BYTES,
        "insert_deduplication_token": token,
        "insert_deduplicate": 1,
        "deduplicate_blocks_in_dependent_materialized_views": 1,
    }


def _schema_settings(dsn: StoreDsn, name: str) -> dict[str, str]:
    """Give ClickHouse's reader the Protobuf schema of the segments.

    The embedded engine reads our file: a schema that is sent as text it would write to the working folder first,
    whatever that is. A server cannot see our files and takes the text.
    """
    path = resources.files("tailsight_storage") / "sql" / name
    if isinstance(dsn, ChdbDsn):
        return {"format_schema": f"{path}:Export"}
    return {
        "format_schema_source": "string",
        "format_schema": path.read_text(encoding="utf-8"),
        "format_schema_message_name": "Export",
    }


def _connect(dsn: StoreDsn, *, database: str | None, settings: dict[str, Any] | None = None) -> Client:
    try:
        if isinstance(dsn, ChdbDsn):
            return _connect_to_engine(dsn, database, settings)
        return _connect_to_server(dsn, database, settings)
    except ImportError as error:
        raise StoreUnavailableError(
            f"store {dsn}: the embedded engine is not installed ({error}); pip install 'tailsight[collector]'"
        ) from error
    except (ClickHouseError, OSError, RuntimeError) as error:
        raise translation(error, dsn) from error


def _connect_to_engine(dsn: ChdbDsn, database: str | None, settings: dict[str, Any] | None) -> Client:
    from clickhouse_connect.driver._chdbclient import ChdbClient

    return ChdbClient(path=str(dsn.engine_path), database=database, settings=settings, chdb_options=ENGINE_SETTINGS)


def _connect_to_server(dsn: ServerDsn, database: str | None, settings: dict[str, Any] | None) -> Client:
    return clickhouse_connect.get_client(
        host=dsn.host,
        port=dsn.port,
        username=dsn.user or None,
        password=dsn.password,
        database=database,
        secure=dsn.secure,
        ca_cert=dsn.ca or None,
        client_cert=dsn.cert or None,
        client_cert_key=dsn.key or None,
        # with a password too, else the driver would send the certificate alone, as ClickHouse's own way to log in
        tls_mode="strict" if dsn.cert and (dsn.password or not dsn.user) else None,
        settings=settings,
        connect_timeout=CONNECT_TIMEOUT_S,
        autogenerate_session_id=False,
    )


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailableError(f"store folder {path} cannot be made: {error.strerror}") from error
