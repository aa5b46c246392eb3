"""What a profile looks like: every part is there, of its kind, and of a sane size; every number points at something."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from tailsight_storage.errors import InvalidProfileError

MAX_SAMPLES = 500_000  # rows; each may count many
MAX_FRAMES = 200_000
MAX_FRAME_LENGTH = 1_000
MAX_DEPTH = 1_000
MAX_STACKS = 200_000
MAX_STACK_ENTRIES = 5_000_000  # of all stacks together
MAX_PLACES = 200_000
MAX_TEXT = 1_000
MAX_NOTES = 50
MAX_REQUESTS = 500_000
MAX_ALSO = 10_000  # requests of one batch
STATES = ("running", "gil", "waiting", "unknown")
MATCHES = ("exact", "stage", "ambiguous", "none")
CLASSES = ("tail", "typical", "")
TRIGGERS = ("hand", "schedule", "tail", "import")
NS_PER_S = 1_000_000_000
_FIRST_NS = 946_684_800 * NS_PER_S  # 2000-01-01
_LARGEST_COUNT = 2**32 - 1
_LARGEST_ID = 2**64 - 1
_MAX_DURATION_MS = 86_400_000.0 * 7
_PLACE_TEXTS = ("stage", "service", "host", "version", "run", "hardware", "model")
_PLACE = {*_PLACE_TEXTS, "trace_id", "span_id", "process", "thread", "class", "match", "also"}
_SAID_TEXTS = ("service", "host", "source")
_SAID_COUNTS = ("process", "samples", "joined", "ambiguous", "lost")
_SAID_FIT = {"offset_ms": (-1e9, 1e9), "agreement": (0, 1), "by_chance": (0, 1), "margin": (-1, 1)}
_SAID_REST = {"started_ns", "duration_ms", "rate_hz", "trigger", "trusted", "notes"}
_SAID = {*_SAID_TEXTS, *_SAID_COUNTS, *_SAID_FIT, *_SAID_REST}
_COLUMNS = ("time_ns", "place", "stack", "state", "count")
_REQUEST_COLUMNS = ("trace_id", "class", "run", "duration_ns")
_TRACE_ID, _SPAN_ID = re.compile(r"(?:[0-9a-f]{32})?"), re.compile(r"(?:[0-9a-f]{16})?")


def check_profile(plain: Any, now: datetime) -> None:
    """Raise InvalidProfileError with the first thing that is not as it is written in docs/profiles.md."""
    _keys("it", plain, {"profile", "frames", "stacks", "places", "samples", "requests"})
    latest_ns = int((now + timedelta(days=1)).timestamp()) * NS_PER_S
    _said(plain["profile"], latest_ns)
    for number, frame in enumerate(_list("frames", plain["frames"], MAX_FRAMES)):
        _text(f"frames[{number}]", frame, MAX_FRAME_LENGTH, least=1)
    _stacks(plain["stacks"], len(plain["frames"]))
    for number, place in enumerate(_list("places", plain["places"], MAX_PLACES)):
        _place(f"places[{number}]", place)
    _requests(plain["requests"])
    columns = plain["samples"]
    _keys("samples", columns, set(_COLUMNS))
    _same_lengths("samples", columns, _COLUMNS, MAX_SAMPLES)
    _numbers("samples.time_ns", columns["time_ns"], _FIRST_NS, latest_ns)
    _numbers("samples.place", columns["place"], 0, len(plain["places"]) - 1)
    _numbers("samples.stack", columns["stack"], 0, len(plain["stacks"]) - 1)
    _numbers("samples.count", columns["count"], 1, _LARGEST_COUNT)
    for number, state in enumerate(columns["state"]):
        _one_of(f"samples.state[{number}]", state, STATES)


def _said(said: Any, latest_ns: int) -> None:
    _keys("profile", said, _SAID)
    for name in _SAID_TEXTS:
        _text(f"profile.{name}", said[name], MAX_TEXT)
    _numbers("profile.started_ns", [said["started_ns"]], _FIRST_NS, latest_ns)
    for name in _SAID_COUNTS:
        _numbers(f"profile.{name}", [said[name]], 0, _LARGEST_ID)
    _number("profile.duration_ms", said["duration_ms"], 0, _MAX_DURATION_MS)
    _number("profile.rate_hz", said["rate_hz"], 0, 1e6)
    _one_of("profile.trigger", said["trigger"], TRIGGERS)
    _yes_or_no("profile.trusted", said["trusted"])
    for name, (low, high) in _SAID_FIT.items():
        if said[name] is not None:
            _number(f"profile.{name}", said[name], low, high)
    for number, note in enumerate(_list("profile.notes", said["notes"], MAX_NOTES)):
        _text(f"profile.notes[{number}]", note, MAX_TEXT)


def _stacks(stacks: Any, frames: int) -> None:
    entries = 0
    for number, stack in enumerate(_list("stacks", stacks, MAX_STACKS)):
        entries += len(_list(f"stacks[{number}]", stack, MAX_DEPTH))
        _numbers(f"stacks[{number}]", stack, 0, frames - 1)
        if entries > MAX_STACK_ENTRIES:
            raise InvalidProfileError(f"all stacks together have more than {MAX_STACK_ENTRIES:,} frames")


def _place(where: str, place: Any) -> None:
    _keys(where, place, _PLACE)
    for name in _PLACE_TEXTS:
        _text(f"{where}.{name}", place[name], MAX_TEXT)
    for name, pattern in (("trace_id", _TRACE_ID), ("span_id", _SPAN_ID)):
        _id(f"{where}.{name}", place[name], pattern)
    _numbers(f"{where}.process", [place["process"]], 0, _LARGEST_ID)
    _numbers(f"{where}.thread", [place["thread"]], 0, _LARGEST_ID)
    _one_of(f"{where}.class", place["class"], CLASSES)
    _one_of(f"{where}.match", place["match"], MATCHES)
    for number, trace_id in enumerate(_list(f"{where}.also", place["also"], MAX_ALSO)):
        _id(f"{where}.also[{number}]", trace_id, _TRACE_ID)


def _requests(columns: Any) -> None:
    _keys("requests", columns, set(_REQUEST_COLUMNS))
    _same_lengths("requests", columns, _REQUEST_COLUMNS, MAX_REQUESTS)
    _numbers("requests.duration_ns", columns["duration_ns"], 0, _LARGEST_ID)
    for number, (trace_id, kind, run) in enumerate(
        zip(columns["trace_id"], columns["class"], columns["run"], strict=True)
    ):
        _id(f"requests.trace_id[{number}]", trace_id, _TRACE_ID)
        _one_of(f"requests.class[{number}]", kind, CLASSES)
        _text(f"requests.run[{number}]", run, MAX_TEXT)


def _same_lengths(where: str, columns: Any, names: Sequence[str], most: int) -> None:
    lengths = {len(_list(f"{where}.{name}", columns[name], most)) for name in names}
    if len(lengths) != 1:
        raise InvalidProfileError(f"the columns of {where} have different lengths: {sorted(lengths)}")


def _id(where: str, value: Any, pattern: re.Pattern[str]) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _wrong(where, value, "an id in hexadecimal, or empty")


def _yes_or_no(where: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")


def _wrong(where: str, value: object, wanted: str) -> InvalidProfileError:
    shown = repr(value)[:41]
    return InvalidProfileError(f"this is no profile: {where} is {shown[:40]}{'…' * (len(shown) > 40)}, not {wanted}")


def _keys(where: str, value: Any, names: set[str]) -> None:
    if not isinstance(value, Mapping):
        raise _wrong(where, value, "an object")
    inside = "" if where == "it" else f"{where}."
    if missing := sorted(names - value.keys()):
        raise InvalidProfileError(f"this is no profile: {inside}{missing[0]} is missing")
    if unknown := sorted(map(str, value.keys() - names)):
        raise InvalidProfileError(f"this is no profile: {inside}{unknown[0][:40]} is unknown here")


def _list(where: str, value: Any, most: int) -> Sequence[Any]:
    if not isinstance(value, list):
        raise _wrong(where, value, "a list")
    if len(value) > most:
        raise InvalidProfileError(f"{where} has {len(value):,} entries, more than {most:,}")
    return value


def _text(where: str, value: Any, most: int, least: int = 0) -> None:
    if not isinstance(value, str) or not least <= len(value) <= most:
        raise _wrong(where, value, f"a text of {least} to {most:,} characters")


def _number(where: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise _wrong(where, value, f"a number from {low:g} to {high:g}")


def _numbers(where: str, values: Sequence[Any], low: int, high: int) -> None:
    for value in values:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(where, value, f"a whole number from {low} to {high}")


def _one_of(where: str, value: Any, words: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in words:
        raise _wrong(where, value, f"one of {', '.join(word or 'nothing' for word in words)}")
