"""What clients ask before anything else, and get in our own words.

clickhouse-go, and Grafana's data source with it, asks for name, version, revision and time zone, and says in the
address which revision of the native protocol it speaks: it reads that one answer as this revision writes it, and every
later one as the revision that the answer names. The embedded engine writes the oldest form alone, so the answer names
revision 0.

clickhouse-connect sends only settings that `system.settings` calls changeable. In a read-only session none is, but a
collector's store sends an insert's settings with each insert, and they are checked here (sql_ingest).
"""

from __future__ import annotations

from tailsight_storage import ServerDsn, insert_settings
from tailsight_storage.store import TRACES_SCHEMA

# ClickHouse's DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION: from here on a column says how it is written.
_CUSTOM_SERIALIZATION = 54454
# Field 1, overflows: no. Field 2, bucket: -1. No more fields.
_BLOCK_INFO = b"\x01\x00\x02\xff\xff\xff\xff\x00"
_GO_HELLO = "SELECT displayName(), version(), revision(), timezone()"
_CONNECT_SETTINGS = "SELECT name, value, readonly FROM system.settings LIMIT 10000 FORMAT Native"
_SETTINGS = (
    "SELECT name, value, if(name IN {open:Array(String)}, toUInt8(0), readonly) AS readonly "
    "FROM system.settings LIMIT 10000 FORMAT Native"
)


def go_hello(statement: str, revision: int, version: str) -> bytes | None:
    """Answer clickhouse-go's first question in the protocol revision that it speaks; None where it is another one."""
    if not revision or " ".join(statement.split()) != _GO_HELLO:
        return None
    block = bytearray(_BLOCK_INFO)
    columns = (
        ("displayName()", "String", _text("tailsight")),
        ("version()", "String", _text(version)),
        ("revision()", "UInt32", (0).to_bytes(4, "little")),
        ("timezone()", "String", _text("UTC")),
    )
    block += bytes((len(columns), 1))
    for name, kind, value in columns:
        block += _text(name) + _text(kind) + (b"\x00" if revision >= _CUSTOM_SERIALIZATION else b"") + value
    return bytes(block)


def with_insert_settings(statement: str) -> tuple[str, dict[str, str]] | None:
    """Return what to run, with parameters, in place of clickhouse-connect's first question; None where it is none."""
    if " ".join(statement.split()) != _CONNECT_SETTINGS:
        return None
    names = ",".join(f"'{name}'" for name in insert_settings(ServerDsn(""), TRACES_SCHEMA, ""))
    return _SETTINGS, {"open": f"[{names}]"}


def _text(value: str) -> bytes:
    encoded = value.encode()
    if len(encoded) > 127:  # one byte of length is all that these need
        raise ValueError(f"{value!r} is too long for a greeting")
    return bytes((len(encoded),)) + encoded
