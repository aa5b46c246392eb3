"""Packed request bodies: gzip and zstd, unpacked in small slices, so that a bomb is noticed before it is large."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from typing import Any, Protocol

import zstandard

from tailsight_collector.errors import BadRequestError

# What a kilobyte unpacks to is not known before: where a body is unpacked, it is taken to be this many times as large.
PACKED_WEIGHT = 16
PLAIN = ("", "identity")
MAX_MEMBERS = 100
_SLICE_BYTES = 1024
_ZSTD_MAX_WINDOW_BYTES = 128 * 1024 * 1024


def unpack(body: bytes, coding: str, limit: int) -> bytes:
    """Unpack a body by its Content-Encoding; raises BadRequestError: 415 if that is unknown, 413 above `limit`."""
    if coding in PLAIN:
        return body
    if coding == "gzip":
        return _unpack(body, limit, coding, lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error)
    if coding == "zstd":
        unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
        return _unpack(body, limit, coding, unpacker.decompressobj, zstandard.ZstdError)
    raise BadRequestError(f"Content-Encoding {coding!r} is not supported; send identity, gzip or zstd", 415)


class _Member(Protocol):
    """What zlib and zstandard have in common: one member (gzip) or frame (zstd) being unpacked."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


def _unpack(body: bytes, limit: int, coding: str, new_member: Callable[[], Any], failure: type[Exception]) -> bytes:
    """Unpack a body of one or several members, in small slices: a bomb's kilobyte unpacks to many megabytes."""
    out = io.BytesIO()  # which gives its bytes without another copy of them
    left = limit
    position = 0
    for _ in range(MAX_MEMBERS):
        member: _Member = new_member()
        while not member.eof and position < len(body):
            piece = body[position : position + _SLICE_BYTES]
            try:
                part = member.decompress(piece)
            except failure as error:
                raise BadRequestError(f"the body is not {coding}: {error}") from None
            position += len(piece) - len(member.unused_data)
            left -= len(part)
            if left < 0:
                raise BadRequestError(f"the body is larger than {limit} bytes unpacked; send smaller batches", 413)
            out.write(part)
        if not member.eof:
            raise BadRequestError(f"the {coding} body is cut off")
        if position == len(body):
            return out.getvalue()
    raise BadRequestError(f"the {coding} body has more than {MAX_MEMBERS} members")
