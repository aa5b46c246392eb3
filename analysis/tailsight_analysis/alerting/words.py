"""How a rule's values are written: lengths of time, lists of names, and what to say where one is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.scope import Filters

FILTER_KEYS = tuple(field.name for field in fields(Filters))
_UNITS_S = {
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
}
_LONGEST_S = 1000 * 86400.0
_LARGEST = 1e15
_LENGTH = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|min|m|h|d|w)")


def seconds(where: str, key: str, value: object) -> float:
    """Read a length of time like `30s`, `5m` or `25ms`; raises QuestionError."""
    match = _LENGTH.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise QuestionError(f'{where}: {key} = {value!r} is no length of time; write it like "5m", "30s" or "25ms"')
    length_s = float(match[1]) * _UNITS_S[match[2]]
    if length_s > _LONGEST_S:
        raise QuestionError(f"{where}: {key} = {value!r:.50} is too long; use {shown_s(_LONGEST_S)} at most")
    return length_s


def share(where: str, key: str, value: object) -> float:
    """Read a number between 0 and 1, both left out; raises QuestionError."""
    number = amount(where, key, value)
    if not 0 < number < 1:
        raise QuestionError(f"{where}: {key} = {number:g} is no share; use a number between 0 and 1, like 0.99")
    return number


def amount(where: str, key: str, value: object) -> float:
    """Read a finite number of at least 0; raises QuestionError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _LARGEST:
        raise QuestionError(f"{where}: {key} = {value!r:.50} is no number from 0 to {_LARGEST:g}")
    return float(value)


def truth(where: str, key: str, value: object) -> bool:
    """Read true or false; raises QuestionError."""
    if not isinstance(value, bool):
        raise QuestionError(f"{where}: {key} = {value!r} is neither true nor false")
    return value


def text(where: str, key: str, value: object) -> str:
    """Read a text that is not empty; raises QuestionError."""
    if not isinstance(value, str) or not value:
        raise QuestionError(f"{where}: {key} = {value!r} is no text")
    return value


def names(where: str, key: str, value: object) -> tuple[str, ...]:
    """Read one name or a list of them; raises QuestionError."""
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, Sequence) or not all(isinstance(name, str) for name in found):
        raise QuestionError(f"{where}: {key} = {value!r} is neither a name nor a list of names")
    return tuple(found)


def filters(where: str, table: Mapping[str, Any]) -> Filters:
    """Read the filters of a rule; raises QuestionError."""
    return Filters(**{key: names(where, key, table[key]) for key in FILTER_KEYS if key in table})


def check_keys(where: str, table: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise QuestionError where a table has a key that nobody reads, with the nearest right one."""
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise QuestionError(f"{where}: there is no key {key!r}; {hint}")


def shown_s(length_s: float) -> str:
    """Write a length of time as it is written in a rule."""
    for unit in ("w", "d", "h", "m", "s", "ms"):
        number = length_s / _UNITS_S[unit]
        if number >= 1 and abs(number - round(number)) < 1e-9:
            return f"{round(number)}{unit}"
    return f"{length_s:g}s"
