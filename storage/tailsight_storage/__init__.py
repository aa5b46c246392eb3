"""The store: where spans stay, and how they are asked for.

The engine is ClickHouse, always, reached through clickhouse-connect: embedded (chDB) or on a server, chosen by one
setting. The tables and the decoding of OTLP are the `.sql` files in `sql/`; this package runs them. `sources.toml` says
which spans of other tools become which stages; the collector applies it.
"""

from tailsight_storage.attributes import AttributeValue, decode_attributes
from tailsight_storage.decoder import Batch, batch_of, scan
from tailsight_storage.dsn import DEFAULT_STORE, STORE_ENV, ChdbDsn, ServerDsn, StoreDsn, parse_dsn
from tailsight_storage.embedded import EmbeddedReader
from tailsight_storage.errors import (
    DataRefusedError,
    InvalidDsnError,
    InvalidProfileError,
    InvalidReportError,
    MigrationError,
    QueryFailedError,
    StorageError,
    StoreInUseError,
    StoreUnavailableError,
)
from tailsight_storage.queries import NamedQuery, load_query
from tailsight_storage.scratch import open_scratch
from tailsight_storage.store import Store, insert_settings, open_store

__all__ = [
    "DEFAULT_STORE",
    "STORE_ENV",
    "AttributeValue",
    "Batch",
    "ChdbDsn",
    "DataRefusedError",
    "EmbeddedReader",
    "InvalidDsnError",
    "InvalidProfileError",
    "InvalidReportError",
    "MigrationError",
    "NamedQuery",
    "QueryFailedError",
    "ServerDsn",
    "StorageError",
    "Store",
    "StoreDsn",
    "StoreInUseError",
    "StoreUnavailableError",
    "batch_of",
    "decode_attributes",
    "insert_settings",
    "load_query",
    "open_scratch",
    "open_store",
    "parse_dsn",
    "scan",
]
