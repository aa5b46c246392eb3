"""zstd files, frame by frame: ordinary frames are unpacked, skippable ones (RFC 8878, 3.1.2) are left out.

zstandard's own stream reader takes a frame that is cut off for the end of the file, and what it had for everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import zstandard

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# 0x184D2A50 to 0x184D2A5F, least byte first
_SKIPPABLE_ENDING = b"\x2a\x4d\x18"
# A kilobyte of a bomb unpacks to 32 MiB at most, and that is what a piece holds.
_READ_BYTES = 1024


def is_zstd(beginning: bytes) -> bool:
    """Tell by a file's first four bytes whether it is zstd."""
    return beginning[:4] == ZSTD_MAGIC or is_skippable(beginning)


def is_skippable(beginning: bytes) -> bool:
    """Tell by its first four bytes whether a frame is a skippable one."""
    return beginning[1:4] == _SKIPPABLE_ENDING and beginning[0] >> 4 == 5


def unpacked(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all frames of a file, in pieces.

    Raises zstandard.ZstdError where a frame is damaged, and EOFError where the last one is cut off.
    """
    rest = file.read(_READ_BYTES)
    while rest:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while True:
            piece = frame.decompress(rest)
            if piece:
                yield piece
            if frame.eof:
                break
            rest = file.read(_READ_BYTES)
            if not rest:
                raise EOFError("its end is missing")
        rest = frame.unused_data or file.read(_READ_BYTES)
