"""A JSON array of objects, read one at a time: a profile of minutes is larger than should be in memory at once."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import BinaryIO

from tailsight_analysis.profiles.errors import UnreadableProfileError

MAX_BYTES = 4 << 30
MAX_OBJECT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
_BETWEEN = " \t\r\n,"


def json_objects(stream: BinaryIO) -> Iterator[dict[str, object]]:
    """Yield the objects of a JSON array, also of one that {"traceEvents": […]} holds, or that was cut off at its end.

    Raises UnreadableProfileError for what is no such array, and beyond MAX_BYTES or MAX_OBJECT_BYTES.
    """
    texts = _texts(stream)
    text = next(texts, "").lstrip(" \t\r\n\ufeff")
    start = text.find("[")
    if start < 0 or (start > 0 and text[:start].replace(" ", "").replace("\n", "") != '{"traceEvents":'):
        raise UnreadableProfileError(f"this is no Chrome trace: expected a JSON array of events, found {text[:30]!r}")
    decoder = json.JSONDecoder()
    at = start + 1
    while True:
        while at < len(text) and text[at] in _BETWEEN:
            at += 1
        if at < len(text) and text[at] == "]":
            return
        try:
            event, end = decoder.raw_decode(text, at)
        except RecursionError:
            raise UnreadableProfileError("an event of the trace is nested too deeply") from None
        except json.JSONDecodeError as error:
            more = next(texts, None)
            if more is None:
                if at >= len(text):
                    return  # the format allows that the closing bracket is missing
                raise UnreadableProfileError(f"the trace is damaged or cut off near {text[at : at + 60]!r}") from error
            text, at = text[at:] + more, 0
            if len(text) - len(more) > MAX_OBJECT_BYTES:
                raise UnreadableProfileError(
                    f"an event of the trace is damaged, or larger than {MAX_OBJECT_BYTES:,} bytes"
                ) from error
            continue
        if not isinstance(event, dict):
            raise UnreadableProfileError(f"the trace holds {str(event)[:30]!r} where an event belongs")
        yield event
        at = end


def _texts(stream: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    taken = 0
    while chunk := stream.read(_CHUNK_BYTES):
        taken += len(chunk)
        if taken > MAX_BYTES:
            raise UnreadableProfileError(f"the profile is larger than {MAX_BYTES:,} bytes: record less at a time")
        yield decoder.decode(chunk)
