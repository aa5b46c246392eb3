"""Where batches were meant to go, as a text that may lie on a disk: the endpoint, and a hash of the headers.

Headers tell tenants apart, and what one of them left behind must not go out as another's. They are secrets as well, so
the hash is salted, and stretched: guessing even a weak one is slow. Without headers nothing is hashed.
"""

import functools
import hashlib
import json
import os
from collections.abc import Mapping

_ROUNDS = 20_000  # of PBKDF2: about 5 ms; the salt is another for each mark
_SALT_BYTES = 16
_NO_HEADERS = "no headers"


def destination_mark(endpoint: str, headers: Mapping[str, str]) -> str:
    """Return two lines: the endpoint, and a hash of the headers that tells them from others and cannot be undone."""
    if not headers:
        return f"{endpoint}\n{_NO_HEADERS}"
    salt = os.urandom(_SALT_BYTES)
    return f"{endpoint}\n{salt.hex()} {_hash(endpoint, headers, salt)}"


def own_mark(endpoint: str, headers: Mapping[str, str]) -> str:
    """Return the one mark that this process, and what is forked from it, has for a destination: it is made once."""
    return _own_mark(endpoint, tuple(sorted(headers.items())))


@functools.lru_cache(maxsize=16)
def _own_mark(endpoint: str, headers: tuple[tuple[str, str], ...]) -> str:
    return destination_mark(endpoint, dict(headers))


def same_destination(mark: str, endpoint: str, headers: Mapping[str, str]) -> bool:
    """Tell whether a mark was made of this endpoint and these headers. False for whatever is no mark."""
    return _same(mark, endpoint, tuple(sorted(headers.items())))


@functools.lru_cache(maxsize=256)  # the same folders are looked at again and again
def _same(mark: str, endpoint: str, headers: tuple[tuple[str, str], ...]) -> bool:
    there, _, hashed = mark.partition("\n")
    if there != endpoint:
        return False
    if not headers:
        return hashed == _NO_HEADERS
    salt, _, digest = hashed.partition(" ")
    try:
        return len(digest) == 64 and _hash(endpoint, dict(headers), bytes.fromhex(salt)) == digest
    except ValueError:
        return False


def _hash(endpoint: str, headers: Mapping[str, str], salt: bytes) -> str:
    content = json.dumps(["tailsight", endpoint, sorted(headers.items())]).encode()
    return hashlib.pbkdf2_hmac("sha256", content, salt, _ROUNDS).hex()
