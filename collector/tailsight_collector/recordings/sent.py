"""A recording as a sidecar sends it: JSON that anybody may have sent, checked before it is kept.

`recording` says whose it is and how it was taken, `trace` is py-spy's file (chrometrace, gzip, base64), `states` are
readings of /proc/PID/task/*/syscall. See docs/profiles.md#inside-the-service.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import sys
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_collector.errors import BadRequestError

MAX_RECORDING_BYTES = 32 * 1024 * 1024
MAX_TRACE_BYTES = 64 * 1024 * 1024
MAX_READINGS = 2_000_000
MAX_CALLS = 65_536
MAX_LINES = 10_000
MAX_TEXT = 1_000
MAX_NOTES = 20
MAX_RATE_HZ = 1_000
MAX_DURATION_NS = 3_600 * 10**9
TRIGGERS = ("hand", "schedule", "tail")
_ID_DIGITS = 32
_COLUMNS = ("time_ns", "thread", "call")
_NO_TEXT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, and halves of others


@dataclass(frozen=True, slots=True)
class About:
    """Whose a recording is, and how it was taken. Times are Unix time."""

    service: str
    host: str
    process: int
    spawn_ns: int
    end_ns: int
    rate_hz: int
    idle: bool
    blocking: bool
    trigger: str
    source: str
    lost: int
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """A recording that was checked. `id` is of the bytes, so that the same one, sent twice, is joined once."""

    id: str
    about: About
    plain: Mapping[str, Any]

    def trace(self) -> bytes:
        """Unpack py-spy's file; raises BadRequestError."""
        return _unpacked(self.plain["trace"], "trace", MAX_TRACE_BYTES)

    def states(self) -> States | None:
        """Unpack the readings; None where there are none. Raises BadRequestError."""
        said = self.plain.get("states")
        if said is None:
            return None
        columns = []
        for name in _COLUMNS:
            column = array("q")
            packed = _unpacked(said[name], f"states.{name}", MAX_READINGS * column.itemsize)
            if len(packed) % column.itemsize:
                raise BadRequestError(f"states.{name} ends within a number")
            column.frombytes(packed)
            if said["order"] != sys.byteorder:
                column.byteswap()
            columns.append(column)
        times, threads, calls = columns
        if not len(times) == len(threads) == len(calls):
            raise BadRequestError("the columns of states are not of one length")
        if any(not 0 <= number < len(said["calls"]) for number in calls):
            raise BadRequestError("states.call names a call that is not in states.calls")
        return States("\n".join(said["maps"]), tuple(said["calls"]), times, threads, calls)


@dataclass(frozen=True, slots=True)
class States:
    """Readings as columns: when, of which thread of the system, and which of `calls` it was in."""

    maps: str
    calls: tuple[str, ...]
    times_ns: array[int]
    threads: array[int]
    numbers: array[int]


def read_sent(data: bytes) -> Sent:
    """Check what claims to be a recording; raises BadRequestError, which says what is wrong and where."""
    try:
        plain = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"this is no JSON: {error}") from None
    if not isinstance(plain, dict) or not isinstance(plain.get("recording"), dict):
        raise BadRequestError("expected an object with `recording`, `trace` and, maybe, `states`")
    if not isinstance(plain.get("trace"), str):
        raise BadRequestError("trace is no text")
    _check_states(plain.get("states"))
    return Sent(hashlib.sha256(data).hexdigest()[:_ID_DIGITS], _about(plain["recording"]), plain)


def _about(said: Mapping[str, Any]) -> About:
    spawn_ns, end_ns = _whole(said, "spawn_ns", 1, 2**62), _whole(said, "end_ns", 1, 2**62)
    if not spawn_ns <= end_ns <= spawn_ns + MAX_DURATION_NS:
        raise BadRequestError(f"recording.end_ns {end_ns} is not within an hour after its spawn_ns {spawn_ns}")
    notes = said.get("notes")
    if not isinstance(notes, list) or len(notes) > MAX_NOTES or not all(_is_text(note) for note in notes):
        raise BadRequestError(f"recording.notes: expected {MAX_NOTES} texts at most")
    for name in ("idle", "blocking"):
        if not isinstance(said.get(name), bool):
            raise BadRequestError(f"recording.{name}: expected true or false")
    if said.get("trigger") not in TRIGGERS:
        raise BadRequestError(f"recording.trigger: expected one of {', '.join(TRIGGERS)}")
    return About(
        service=_text(said, "service"),
        host=_text(said, "host"),
        process=_whole(said, "process", 1, 2**31),
        spawn_ns=spawn_ns,
        end_ns=end_ns,
        rate_hz=_whole(said, "rate_hz", 1, MAX_RATE_HZ),
        idle=said["idle"],
        blocking=said["blocking"],
        trigger=said["trigger"],
        source=_text(said, "source"),
        lost=_whole(said, "lost", 0, 2**53),
        notes=tuple(notes),
    )


def _check_states(said: Any) -> None:
    if said is None:
        return
    if not isinstance(said, dict) or said.get("order") not in ("little", "big"):
        raise BadRequestError("states: expected an object whose order is little or big")
    for name, most in (("maps", MAX_LINES), ("calls", MAX_CALLS)):
        texts = said.get(name)
        if not isinstance(texts, list) or len(texts) > most or not all(_is_text(text) for text in texts):
            raise BadRequestError(f"states.{name}: expected {most:,} texts at most")
    for name in _COLUMNS:
        if not isinstance(said.get(name), str):
            raise BadRequestError(f"states.{name} is no text")


def _whole(said: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequestError(f"recording.{name}: expected a whole number from {low} to {high}")
    return value


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not _is_text(value):
        raise BadRequestError(f"recording.{name}: expected a text of at most {MAX_TEXT} characters")
    return str(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and not _NO_TEXT.search(value)


def _unpacked(text: str, name: str, limit: int) -> bytes:
    """Undo base64 and gzip, up to a limit: a small text may hold a large one."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(base64.b64decode(text, validate=True), limit + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise BadRequestError(f"{name} cannot be unpacked: {error}") from None
    if len(data) > limit:
        raise BadRequestError(f"{name} is larger than {limit:,} bytes", 413)
    if not unpacker.eof:
        raise BadRequestError(f"{name} ends too early")
    return data
