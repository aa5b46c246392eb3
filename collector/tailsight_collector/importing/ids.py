"""Ids: read strictly where a file has them, derived from the file's own words where it has none.

A derived id is the beginning of a SHA-256 over what identifies the thing within its source, so that the same file
gives the same ids on every machine.
"""

from __future__ import annotations

import binascii
from hashlib import sha256

TRACE_ID_BYTES = 16
SPAN_ID_BYTES = 8


class IdError(ValueError):
    """An id that is none; its text says what was wanted."""


def hex_id(text: object, size_bytes: int, what: str) -> bytes:
    """Read a hexadecimal id of any case, padded with zeros on the left as Zipkin and Jaeger write 64-bit ones.

    Raises IdError where it is no text, not hexadecimal, too long, or zero.
    """
    if not isinstance(text, str) or not text:
        raise IdError(f"{what} is missing or no text")
    if len(text) > 2 * size_bytes or not text.isascii():
        raise IdError(f"{what} is not up to {2 * size_bytes} hexadecimal digits")
    try:
        value = binascii.unhexlify(text.zfill(2 * size_bytes))
    except ValueError:
        raise IdError(f"{what} is not up to {2 * size_bytes} hexadecimal digits") from None
    if not any(value):
        raise IdError(f"{what} is all zeros")
    return value


def parent_id(value: object, size_bytes: int, what: str) -> bytes:
    """Read the id of a parent: b"" where there is none, as None, an empty text and zeros say; else as `hex_id`."""
    if value is None or (isinstance(value, str) and not value.strip("0")):
        return b""
    return hex_id(value, size_bytes, what)


def derived_trace_id(*parts: str | int | bytes) -> bytes:
    """Make a trace id of what identifies the trace."""
    return _digest(parts)[:TRACE_ID_BYTES]


def derived_span_id(*parts: str | int | bytes) -> bytes:
    """Make a span id of what identifies the span."""
    return _digest(parts)[-SPAN_ID_BYTES:]


def _digest(parts: tuple[str | int | bytes, ...]) -> bytes:
    digest = sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(data))  # lengths, so that ("ab", "c") is not ("a", "bc")
        digest.update(data)
    return digest.digest()
