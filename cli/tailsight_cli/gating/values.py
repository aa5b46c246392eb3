"""What a tolerance and a limit may look like in the configuration: `"8%"`, `0.08`, `"25ms"`; and near misses."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from tailsight_analysis.gating.settings import ANY, METRICS
from tailsight_cli._errors import CommandError

PERCENT = "%"
UNITS_MS = {"ns": 1e-6, "us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1000.0, "min": 60_000.0}
_MOST = 1e9
_LONGEST = 60
_OUT_OF_RANGE = "a share or a time is from 0 to a billion"
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(\S*)")


def nearest(word: str, known: Iterable[str], least: float = 0.5) -> str | None:
    """Return what was probably meant, None where nothing is near: `least` of 1 is the same word."""
    found = difflib.get_close_matches(word, tuple(known), 1, least)
    return found[0] if found else None


def meant(word: str, known: Iterable[str]) -> str:
    """Say what was probably meant, or what there is."""
    known = tuple(known)
    near = nearest(word, known)
    return f"did you mean {near!r}?" if near else f"there are: {', '.join(known)}"


def share(where: str, value: object) -> float:
    """Read a share: `"8%"` or 0.08. Raises CommandError that begins with `where`."""
    kind, number = amount(where, value)
    if kind != PERCENT:
        raise CommandError(f'{where} = {shown(value)} is a time: wanted is a share, like "5%" or 0.05')
    return number


def amount(where: str, value: object) -> tuple[str, float]:
    """Read a tolerance, as (PERCENT, share), or a limit, as ("ms", milliseconds)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if 0 <= value < 1:
            return PERCENT, float(value)
        if not 0 <= value < _MOST:
            raise CommandError(f"{where} = {shown(value)}: {_OUT_OF_RANGE}")
        raise CommandError(f'{where} = {shown(value)} has no unit: write "{value}%" or "{value}ms"; 0.05 is 5 %')
    match = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise CommandError(f'{where} = {shown(value)} is neither a share nor a time: write "8%" or "25ms"')
    number, unit = float(match[1]), match[2]
    if number >= _MOST:
        raise CommandError(f"{where} = {shown(value)}: {_OUT_OF_RANGE}")
    if unit == PERCENT:
        return PERCENT, number / 100
    if unit in UNITS_MS:
        if number == 0:
            raise CommandError(f"{where} = {shown(value)}: a limit must be above 0")
        return "ms", number * UNITS_MS[unit]
    wrong = f"has the unknown unit {unit!r}; {meant(unit, (PERCENT, *UNITS_MS))}" if unit else "has no unit"
    hint = "" if unit else f': write "{match[1]}%" or "{match[1]}ms"'
    raise CommandError(f"{where} = {shown(value)} {wrong}{hint}")


def stage_and_metric(where: str, key: str) -> tuple[str, str]:
    """Take `compute.p99` apart; a stage's own name may have dots."""
    stage, _, metric = key.rpartition(".")
    if metric not in (*METRICS, ANY):
        raise CommandError(f"{where}: no metric {metric!r} in {key!r}; {meant(metric, METRICS)}")
    if not stage:
        raise CommandError(f'{where}: {key!r} names no stage: write "request{key}", or "*{key}" for all')
    return stage, metric


def shown(value: object) -> str:
    """Write a value as the file has it, more or less."""
    if isinstance(value, str):
        return f'"{_shortened(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
