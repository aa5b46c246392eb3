"""Which store? One setting names it: `chdb:///folder` or `clickhouse://user:password@host:port/database`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tailsight_storage.errors import InvalidDsnError

STORE_ENV = "TAILSIGHT_STORE"
DEFAULT_DATABASE = "tailsight"
DEFAULT_PORT = 8123
DEFAULT_TLS_PORT = 8443
DEFAULT_STORE = f"clickhouse://127.0.0.1:{DEFAULT_PORT}/{DEFAULT_DATABASE}"
_TLS_FILES = ("ca", "cert", "key")
_WAYS = "use chdb:///folder for the embedded engine or clickhouse://[user:password@]host[:port]/database for a server"


@dataclass(frozen=True, slots=True)
class ChdbDsn:
    """The embedded engine in a data folder, which it shares with the collector's journal.

    A process that opens it owns it: everybody else reads through the collector's SQL port.
    """

    folder: Path
    database: str = DEFAULT_DATABASE

    @property
    def engine_path(self) -> Path:
        """The engine's own folder inside the data folder."""
        return self.folder / "clickhouse"

    def __str__(self) -> str:
        return f"chdb://{self.folder}"


@dataclass(frozen=True, slots=True)
class ServerDsn:
    """A ClickHouse server, a cluster, or a collector's read-only SQL port. Its text never shows the password."""

    host: str
    port: int = DEFAULT_PORT
    database: str = DEFAULT_DATABASE
    user: str = ""
    password: str = field(default="", repr=False)
    secure: bool = False
    ca: str = ""
    """A file with the CA to trust in place of the system's; `cert` and `key`: our own certificate, for mutual TLS."""
    cert: str = ""
    key: str = ""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme = "clickhouses" if self.secure else "clickhouse"
        return f"{scheme}://{self.user + '@' if self.user else ''}{host}:{self.port}/{self.database}"


StoreDsn = ChdbDsn | ServerDsn


def parse_dsn(text: str) -> StoreDsn:
    """Read a store's name; raises InvalidDsnError with the ways that exist."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise InvalidDsnError(f"store {_without_password(text)!r}: {error}; {_WAYS}") from None
    if parts.scheme == "chdb":
        folder = unquote(parts.netloc + parts.path)
        if not folder or folder == "/":
            raise InvalidDsnError(f"store {text!r} names no folder; {_WAYS}")
        return ChdbDsn(Path(folder).expanduser().absolute())
    if parts.scheme in ("clickhouse", "clickhouses"):
        if not parts.hostname:
            raise InvalidDsnError(f"store {_without_password(text)!r} names no host; {_WAYS}")
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        secure = parts.scheme == "clickhouses" or options.get("secure", "0") in ("1", "true")
        files = {name: str(Path(options[name]).expanduser()) for name in _TLS_FILES if options.get(name)}
        _check_files(text, files, secure=secure)
        return ServerDsn(
            host=parts.hostname,
            port=port or (DEFAULT_TLS_PORT if secure else DEFAULT_PORT),
            database=unquote(parts.path.strip("/")) or DEFAULT_DATABASE,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            secure=secure,
            **files,
        )
    raise InvalidDsnError(f"store {_without_password(text)!r} is of an unknown kind; {_WAYS}")


def _check_files(text: str, files: dict[str, str], *, secure: bool) -> None:
    """See that TLS is wanted and its files are there: the driver would say no more than that something is not."""
    where = f"store {_without_password(text)!r}"
    if files and not secure:
        raise InvalidDsnError(
            f"{where}: {', '.join(files)} are for TLS; write clickhouses:// in place of clickhouse://"
        )
    if "key" in files and "cert" not in files:
        raise InvalidDsnError(f"{where}: key is of no use without cert; add &cert=/path")
    for name, file in files.items():
        if not Path(file).is_file():
            raise InvalidDsnError(f"{where}: {name} {file} is no file; give the path of a file in PEM")


def _without_password(text: str) -> str:
    """Keep whatever stands before an `@` out of messages: it may be a password."""
    scheme, separator, rest = text.partition("://")
    return f"{scheme}{separator}…@{rest.rpartition('@')[2]}" if "@" in rest else text
