"""Who may send and who may read: a request's headers in, a Caller out.

A token is looked up by a keyed hash of its hash, with a key of this process alone: what a lookup takes depends on
numbers that nobody outside can compute, so its time tells nothing; what is found is compared in constant time. That
stays one step with a thousand tokens, where a comparison with each of them would not.

The file is looked at once a second: a token that was revoked is refused a second later, and a file that cannot be read
changes nothing but the log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tailsight_collector.errors import ForbiddenError, RateLimitError, SettingsError, UnauthenticatedError
from tailsight_collector.guard.tokens import SCOPES, Token, digest_of, read_tokens

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0
BURST_S = 5.0
_ROUNDING = 1e-6
_HOW = (
    "send `Authorization: Bearer TOKEN` (an SDK: OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'; a reader: "
    "clickhouse://any:TOKEN@host:port/tailsight); `tailsight token create` makes one"
)


class Headers(Protocol):
    """A request's headers, or its gRPC metadata, by names in lower case."""

    def get(self, name: str, /) -> str | None:
        """Return a header's value; None where there is none."""


class Bucket:
    """A limit per second: seconds of it may be used at once, and what is larger is owed afterwards."""

    def __init__(self, per_s: float, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        self._most = max(per_s * BURST_S, 1.0)
        self._left = self._most
        self._at_s = clock()

    def wait_s(self) -> float:
        """Seconds until something may be taken; 0 now."""
        now_s = self._clock()
        self._left = min(self._most, self._left + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        missing = 1.0 - self._left
        return missing / self._per_s if missing > _ROUNDING else 0.0

    def take(self, amount: float) -> None:
        """Take something, more than is there as well: an answer's size is known later, and nothing is too large."""
        self._left -= amount


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, and what they may do. `name` is empty where nobody had to say."""

    name: str
    scopes: frozenset[str]
    requests: Bucket | None = None
    bytes: Bucket | None = None

    def require(self, *scopes: str) -> None:
        """Raise ForbiddenError unless one of the scopes is there."""
        if self.scopes.isdisjoint(scopes):
            has = " and ".join(sorted(self.scopes)) or "no scope"
            raise ForbiddenError(
                f"token {self.name} is for {has}, and this needs {' or '.join(scopes)}; make another: "
                f"tailsight token create --name NAME --scope {scopes[0]}"
            )

    def admit(self, size_bytes: int = 0) -> None:
        """Count a request and its bytes; raises RateLimitError, and then counts nothing."""
        for bucket, what in ((self.requests, "requests"), (self.bytes, "bytes")):
            if bucket and (wait_s := bucket.wait_s()) > 0:
                raise RateLimitError(
                    f"token {self.name} has used up its {what} a second; try again in {max(1, math.ceil(wait_s))} s",
                    wait_s,
                )
        if self.requests:
            self.requests.take(1)
        self.charge(size_bytes)

    def charge(self, size_bytes: int) -> None:
        """Count bytes that came or went after `admit`."""
        if self.bytes:
            self.bytes.take(size_bytes)


ANYBODY = Caller("", frozenset(SCOPES))
"""Whoever comes, where no tokens are configured."""
NOBODY = Caller("", frozenset())
"""Whoever has shown no token, at what is open to all."""


class Access:
    """Finds who sent a request. Without a file of tokens everybody may do everything."""

    def __init__(
        self,
        tokens: Path | None = None,
        *,
        own: Iterable[Token] = (),
        clock_s: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the file; raises SettingsError. `own` are tokens of this run, beside those of the file."""
        self._path = tokens
        self._own = tuple(own)
        self._clock_s = clock_s
        self._now = now
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, tuple[Token, Caller]] = {}
        self._seen = _mark_of(tokens)
        self._looked_s = clock_s()
        self.is_guarded = tokens is not None
        if tokens is not None:
            self._know(read_tokens(tokens))
            _warn_of_permissions(tokens)
            if not self._known:
                log.warning("tokens file %s holds no token: nobody can send or read until one is added", tokens)

    def caller(self, headers: Headers) -> Caller:
        """Return who sent a request with these headers; raises UnauthenticatedError."""
        if not self.is_guarded:
            return ANYBODY
        self._look_again()
        secret = secret_of(headers)
        digest = digest_of(secret)
        token, caller = self._known.get(self._blind(digest), (None, None))
        if token is None or caller is None or not hmac.compare_digest(token.digest, digest):
            raise UnauthenticatedError(f"this token is not known here, it may have been revoked; {_HOW}")
        if token.expires is not None and self._now() >= token.expires:
            end = f"{token.expires:%Y-%m-%dT%H:%M:%SZ}"
            raise UnauthenticatedError(f"token {token.name} expired at {end}; make another: tailsight token create")
        return caller

    def _blind(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._key, digest_size=16).digest()

    def _know(self, tokens: tuple[Token, ...]) -> None:
        """Take the tokens over; a limit that has not changed goes on with what was used of it."""
        before = dict(self._known.values())
        self._known = {
            self._blind(token.digest): (token, before.get(token) or self._caller_of(token))
            for token in (*tokens, *self._own)
        }

    def _caller_of(self, token: Token) -> Caller:
        requests, size = (
            Bucket(limit, self._clock_s) if limit else None for limit in (token.requests_per_s, token.bytes_per_s)
        )
        return Caller(token.name, token.scopes, requests, size)

    def _look_again(self) -> None:
        now_s = self._clock_s()
        if self._path is None or now_s - self._looked_s < LOOK_AGAIN_S:
            return
        self._looked_s = now_s
        mark = _mark_of(self._path)
        if mark == self._seen:
            return
        self._seen = mark
        try:
            self._know(read_tokens(self._path))
        except SettingsError as error:
            log.error("%s; the tokens from before stay valid until it is mended", error)
        else:
            log.info("tokens file %s was read again: %d tokens", self._path, len(self._known) - len(self._own))
            _warn_of_permissions(self._path)


def secret_of(headers: Headers) -> str:
    """Find the token in the headers: Bearer, Basic's password, or ClickHouse's own; raises UnauthenticatedError."""
    given = headers.get("authorization")
    if given is None:
        key = headers.get("x-clickhouse-key")
        if key:
            return key
        raise UnauthenticatedError(f"this collector asks for a token, and none came; {_HOW}")
    scheme, _, content = given.strip().partition(" ")
    content = content.strip()
    if scheme.lower() == "bearer" and content:
        return content
    if scheme.lower() == "basic" and (password := _password_of(content)):
        return password
    raise UnauthenticatedError(f"the Authorization header holds no token; {_HOW}")


def _password_of(basic: str) -> str:
    try:
        plain = base64.b64decode(basic, validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return ""
    return plain.partition(":")[2]


def _mark_of(path: Path | None) -> tuple[int, ...]:
    """Tell one state of the file from another."""
    try:
        found = path.stat() if path else None
    except OSError as error:
        return (error.errno or -1,)
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()


def _warn_of_permissions(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if mode & 0o022:
        log.warning("tokens file %s can be changed by others, who can let themselves in: chmod 600 %s", path, path)
    elif mode & 0o004:
        log.warning("tokens file %s can be read by everybody on this machine: chmod 600 %s", path, path)
