"""The file of tokens: who may send and who may read, a line a token, and never the token itself.

    # name   scopes       hash of the token                limits and end, where there are any
    edge-7   ingest       sha256:9f86d081884c7d65…        requests_per_s=50  bytes_per_s=20000000
    grafana  read         sha256:60303ae22b998861…        expires=2027-01-31T00:00:00Z
    ci       ingest,read  sha256:fd61a03af4f77d87…

Whoever deletes a line revokes its token. The hash is a plain SHA-256: a slow hash makes guessing expensive where a
secret can be guessed, and a token is 32 random bytes; it would only make every request expensive.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tailsight_collector.errors import SettingsError

TOKENS_ENV = "TAILSIGHT_TOKENS"
INGEST = "ingest"
READ = "read"
SCOPES = (INGEST, READ)
PREFIX = "ts_"
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][\w.@-]{0,63}", re.ASCII)
_HASH = re.compile(r"sha256:([0-9a-fA-F]{64})")
_LONGEST_SHOWN = 24
_HEADER = "# name  scopes  sha256 of the token  [requests_per_s=N]  [bytes_per_s=N]  [expires=2027-01-31T00:00:00Z]\n"


@dataclass(frozen=True, slots=True)
class Token:
    """A line of the file. `expires` is in UTC; limits are None where there is none."""

    name: str
    scopes: frozenset[str]
    digest: bytes = field(repr=False)
    requests_per_s: float | None = None
    bytes_per_s: float | None = None
    expires: datetime | None = None

    def __str__(self) -> str:
        parts = [self.name, ",".join(sorted(self.scopes)), f"sha256:{self.digest.hex()}"]
        limits = {"requests_per_s": self.requests_per_s, "bytes_per_s": self.bytes_per_s}
        parts += [f"{key}={limit:.15g}" for key, limit in limits.items() if limit is not None]
        if self.expires is not None:
            parts.append(f"expires={self.expires:%Y-%m-%dT%H:%M:%SZ}")
        return "  ".join(parts)


def new_secret() -> str:
    """Make a token: what its owner sends, and what is written down nowhere here."""
    return PREFIX + secrets.token_urlsafe(_SECRET_BYTES)


def digest_of(secret: str) -> bytes:
    """Hash a token as the file has it."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def parse_tokens(text: str, where: str) -> tuple[Token, ...]:
    """Read a file's text; raises SettingsError with the line at fault, and shows nothing that may be a token."""
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            token = _token_of(words)
            if token.name in tokens:
                raise ValueError(f"the name {token.name} stands above already; names are unique")
            if any(token.digest == other.digest for other in tokens.values()):
                raise ValueError("the same hash stands above already; make a token for each")
        except ValueError as error:
            raise SettingsError(f"{where} line {number}: {error}") from None
        tokens[token.name] = token
    return tuple(tokens.values())


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a file of tokens; raises SettingsError."""
    return parse_tokens(_text_of(path), f"tokens file {path}")


def add_token(path: Path, token: Token) -> None:
    """Append a token to the file, which is made where it is missing; raises SettingsError where the name is taken."""

    def appended(text: str) -> str:
        if any(other.name == token.name for other in parse_tokens(text, f"tokens file {path}")):
            raise SettingsError(
                f"tokens file {path} has a token {token.name} already: give another name, "
                f"or first `tailsight token revoke {token.name}`"
            )
        return (text or _HEADER) + ("\n" if text and not text.endswith("\n") else "") + f"{token}\n"

    _change(path, appended, may_be_new=True)


def revoke_token(path: Path, name: str) -> None:
    """Take a token out of the file; every other line stays as it is. Raises SettingsError where there is none."""

    def without(text: str) -> str:
        names = [token.name for token in parse_tokens(text, f"tokens file {path}")]
        if name not in names:
            raise SettingsError(f"tokens file {path} has no token {shown(name)}; it has: {', '.join(names) or 'none'}")
        kept = [line for line in text.splitlines(keepends=True) if line.partition("#")[0].split()[:1] != [name]]
        return "".join(kept)

    _change(path, without)


def shown(text: str) -> str:
    """Quote a word for a message, unless it may be a token."""
    return "(not shown, it may be a token)" if PREFIX in text or len(text) > _LONGEST_SHOWN else repr(text)


def checked_name(name: str) -> str:
    """Return a token's name as it is; raises ValueError where it cannot be one."""
    if not _NAME.fullmatch(name) or name.startswith(PREFIX):
        raise ValueError(f"the name {shown(name)} cannot be used: letters, digits and . _ @ -, up to 64 of them")
    return name


def moment_of(text: str) -> datetime:
    """Read a date or a time of ISO 8601, in UTC where it names no zone; raises ValueError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"expires={shown(text)} is no time; write 2027-01-31 or 2027-01-31T08:00:00Z") from None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # before the year 1 or after 9999, in UTC
        raise ValueError(f"expires={shown(text)} is out of range; leave it out where it is to be never") from None


def _token_of(words: list[str]) -> Token:
    if len(words) < 3:
        raise ValueError("a line is `name scopes sha256:hash`; `tailsight token create` writes one")
    name = checked_name(words[0])
    scopes = words[1].split(",")
    for scope in scopes:
        if scope not in SCOPES:
            raise ValueError(f"scope {shown(scope)} of {name} is unknown; use {INGEST}, {READ} or {INGEST},{READ}")
    hashed = _HASH.fullmatch(words[2])
    if not hashed:
        raise ValueError(
            f"the third word of {name} is no hash: `sha256:` and 64 hex digits, as `tailsight token create` writes it"
        )
    options: dict[str, str] = {}
    for word in words[3:]:
        key, _, value = word.partition("=")
        if key not in ("requests_per_s", "bytes_per_s", "expires"):
            raise ValueError(f"option {shown(key)} of {name} is unknown; use requests_per_s, bytes_per_s, expires")
        if key in options:
            raise ValueError(f"option {key} of {name} stands there twice")
        options[key] = value
    return Token(
        name,
        frozenset(scopes),
        bytes.fromhex(hashed[1]),
        requests_per_s=_limit(name, "requests_per_s", options),
        bytes_per_s=_limit(name, "bytes_per_s", options),
        expires=moment_of(options["expires"]) if "expires" in options else None,
    )


def _limit(name: str, key: str, options: dict[str, str]) -> float | None:
    if key not in options:
        return None
    try:
        limit = float(options[key])
    except ValueError:
        limit = 0.0
    if not 0 < limit < float("inf"):
        raise ValueError(f"{key}={shown(options[key])} of {name} must be a number above 0")
    return limit


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(
            f"tokens file {path} is not there; make it with `tailsight token create --name me --scope ingest "
            f"--file {path}`"
        ) from None
    except UnicodeDecodeError:
        raise SettingsError(f"tokens file {path} is not UTF-8 text; name a file of `tailsight token create`") from None
    except OSError as error:
        raise SettingsError(f"tokens file {path} cannot be read: {error.strerror}") from None


def _change(path: Path, change: Callable[[str], str], *, may_be_new: bool = False) -> None:
    """Replace the file in one step: a reader sees the old or the new one, and so does a crash."""
    path = path.expanduser().resolve()  # what a link points to is replaced, not the link
    try:
        with _locked(path.parent):
            text = "" if may_be_new and not path.exists() else _text_of(path)
            _replace(path, change(text))
    except OSError as error:
        raise SettingsError(f"tokens file {path} cannot be written: {error.strerror}") from None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one at a time change files of a folder: of two that read and replace one, the first would be forgotten."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(path: Path, text: str) -> None:
    old = path.stat() if path.exists() else None
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if old is not None:
                # whoever could read it still can: a collector often runs as another user
                os.fchmod(handle, stat.S_IMODE(old.st_mode))
                if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, old.st_uid, old.st_gid)
            file.write(text)
            file.flush()
            os.fsync(handle)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
