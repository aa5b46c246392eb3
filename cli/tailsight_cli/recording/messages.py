"""Length-delimited protobuf messages, read as they come: a recording may be larger than the memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_PIECE_BYTES = 1024 * 1024
_MAX_VARINT_BYTES = 10
MAX_MESSAGE_BYTES = 256 * 1024 * 1024
"""Four times what the receiver takes; a damaged length, or a bomb, would fill the memory."""


class TornError(Exception):
    """The last message is not whole, or none that anybody writes. `left_bytes` is what was read of it."""

    def __init__(self, left_bytes: int, problem: str = "its last message is cut off") -> None:
        super().__init__(problem)
        self.left_bytes = left_bytes


def messages_in(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield each message of a stream that comes in pieces; raises TornError where one is cut off or too large."""
    held = bytearray()
    for piece in pieces:
        held += piece
        position = 0
        while (place := _next(held, position)) is not None:
            begin, end = place
            yield bytes(held[begin:end])
            position = end
        del held[:position]
    if held:
        raise TornError(len(held))


def pieces_of(path: Path) -> Iterator[bytes]:
    """Yield a file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            yield piece


def _next(held: bytearray, position: int) -> tuple[int, int] | None:
    """Find the next message that is whole: (first byte, byte behind it)."""
    length = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(held):
            return None
        byte = held[position + index]
        length |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if length > MAX_MESSAGE_BYTES:
                raise TornError(len(held) - position, f"it has a message of {length} bytes")
            begin = position + index + 1
            return (begin, begin + length) if begin + length <= len(held) else None
    raise TornError(len(held) - position, "it has a message without a length")
