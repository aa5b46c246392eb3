"""How much memory will decoding take? An empty protobuf message is 2 bytes on the wire and up to 170 decoded.

So 64 MiB that were 60 kB when they were sent could take 5 GiB, here and in the database once more. Small bodies are
decoded as they come: they cannot take much. Of a large one it is estimated beforehand from how many messages it holds,
and what would take too much is refused. Honest telemetry takes five to ten times its size.
"""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tailsight_collector.errors import BadRequestError

MAX_DECODED_BYTES = 768 * 1024 * 1024
# A body of this size takes a part of MAX_DECODED_BYTES whatever it holds.
UNSUSPICIOUS_BYTES = 2 * 1024 * 1024
# Of messages smaller than this inside larger ones, one in _SAMPLE_OF is looked into, drawn anew for each body.
_SMALL_BYTES = 16 * 1024
_SAMPLE_OF = 64
# Nor may the walk itself take long: honest bodies of 64 MiB need about a million steps.
_MAX_STEPS = 4_000_000
_MESSAGE_BYTES = 24
_TEXT_BYTES = 16
_OTHER_BYTES = 8
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
# A message type: protobuf has two classes for it, its own and its stub.
_Type = Any
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
# An empty JSON object in a list, with one entry, and a value in a list.
_JSON_OBJECT_BYTES = 240
_JSON_ITEM_BYTES = 40


def check_protobuf(body: bytes, message: type[Message]) -> None:
    """Raise BadRequestError (413) where decoding a protobuf body would take too much memory."""
    if len(body) > UNSUSPICIOUS_BYTES:
        _refuse_above_limit(len(body) + decoded_bytes(body, message.DESCRIPTOR))


def check_json(body: bytes) -> None:
    """Raise BadRequestError (413) where decoding a JSON body would take too much memory."""
    if len(body) > UNSUSPICIOUS_BYTES:
        containers = body.count(b"{") + body.count(b"[")
        _refuse_above_limit(len(body) + containers * _JSON_OBJECT_BYTES + body.count(b",") * _JSON_ITEM_BYTES)


def _refuse_above_limit(decoded: int) -> None:
    if decoded > MAX_DECODED_BYTES:
        raise BadRequestError(
            f"the body would take about {decoded >> 20} MiB decoded, of {MAX_DECODED_BYTES >> 20} at most; "
            "send smaller batches",
            413,
        )


@dataclass(frozen=True, slots=True)
class _Shape:
    """A message type: what one takes in memory, and which of its fields are messages too."""

    size: int
    children: dict[int, _Type]


@functools.cache
def _shape(message: _Type) -> _Shape:
    size = _MESSAGE_BYTES
    children: dict[int, _Type] = {}
    for field in message.fields:
        size += _TEXT_BYTES if field.type in _TEXTS and not field.is_repeated else _OTHER_BYTES
        if field.message_type is not None:
            children[field.number] = field.message_type
    return _Shape(size, children)


def decoded_bytes(body: bytes, message: _Type) -> int:
    """Estimate what the messages in an encoded one take in memory; too much where finding that out takes too long.

    What is no protobuf is estimated up to the place where that shows: the parser does not come further either.
    """
    draw = random.SystemRandom().random
    total = steps = 0
    regions = [(0, len(body), _shape(message), 1)]
    try:
        while regions:
            position, end, shape, stands_for = regions.pop()
            is_large = end - position > _SMALL_BYTES
            children = shape.children
            while position < end:
                tag = body[position]
                position += 1
                steps += 1
                if tag > 0x7F:
                    tag, position = _varint(body, position - 1)
                wire_type = tag & 7
                if wire_type == _DELIMITED:
                    length = body[position]
                    position += 1
                    if length > 0x7F:
                        length, position = _varint(body, position - 1)
                    child = children.get(tag >> 3)
                    if child is not None:
                        its_shape = _shape(child)
                        total += its_shape.size * stands_for
                        if total > MAX_DECODED_BYTES:
                            return total
                        if length and (not is_large or length > _SMALL_BYTES):
                            regions.append((position, min(position + length, end), its_shape, stands_for))
                        elif length and draw() * _SAMPLE_OF < 1:
                            regions.append((position, min(position + length, end), its_shape, stands_for * _SAMPLE_OF))
                    position += length
                elif wire_type == _VARINT:
                    while body[position] > 0x7F:
                        position += 1
                    position += 1
                elif wire_type == _FIXED64:
                    position += 8
                elif wire_type == _FIXED32:
                    position += 4
                if steps > _MAX_STEPS:
                    return MAX_DECODED_BYTES + 1
    except IndexError:
        pass  # cut off: no protobuf from here on
    return total


def _varint(body: bytes, position: int) -> tuple[int, int]:
    """Read a varint: (number, position behind it); raises IndexError where there is none."""
    number = 0
    for shift in range(0, 70, 7):
        byte = body[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise IndexError(position)
