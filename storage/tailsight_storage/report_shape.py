"""What a gate's report looks like: every part that somebody reads later is there, of its kind, and of a sane size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tailsight_storage.errors import InvalidReportError

SIDES = ("baseline", "candidate")
VERDICTS = ("regression", "pass", "inconclusive")
METRIC_VERDICTS = (*VERDICTS, "improvement")
MAX_COMPARISONS = 20_000
MAX_TEXTS = 2_000
MAX_RUNS = 10_000
LARGEST = 1e15  # of any number: ms, requests, ratios
_SHOWN = 40

Check = Callable[[str, Any], None]
"""Takes a part's name and the part; raises InvalidReportError."""


def check_report(plain: object) -> None:
    """Raise InvalidReportError with the first thing that is not as `tailsight gate --json` writes it."""
    _REPORT("it", plain)


def _wrong(where: str, value: object, wanted: str) -> InvalidReportError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return InvalidReportError(f"this is no report of `tailsight gate --json`: {where} is {shown}, not {wanted}")


def _text(where: str, value: object) -> None:
    if not isinstance(value, str):
        raise _wrong(where, value, "a text")


def _number(low: float, high: float, wanted: str) -> Check:
    def check(where: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _wrong(where, value, wanted)

    return check


def _count(where: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
        raise _wrong(where, value, "a count")


def _yes_or_no(where: str, value: object) -> None:
    if not isinstance(value, bool):
        raise _wrong(where, value, "true or false")


def _one_of(*words: str) -> Check:
    def check(where: str, value: object) -> None:
        if not isinstance(value, str) or value not in words:
            raise _wrong(where, value, f"one of {', '.join(words)}")

    return check


def _perhaps(check: Check) -> Check:
    return lambda where, value: None if value is None else check(where, value)


def _list_of(check: Check, most: int, least: int = 0) -> Check:
    def check_all(where: str, value: object) -> None:
        if not isinstance(value, list):
            raise _wrong(where, value, "a list")
        if not least <= len(value) <= most:
            raise _wrong(f"the length of {where}", len(value), f"between {least} and {most:,}")
        for number, each in enumerate(value):
            check(f"{where}[{number}]", each)

    return check_all


def _by_name(check: Check) -> Check:
    def check_all(where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        for name, each in value.items():
            check(f"{where}.{name[:_SHOWN]}", each)

    return check_all


def _object(parts: Mapping[str, Check], may_lack: Mapping[str, Check] | None = None) -> Check:
    """Check the parts that an object must have, and those that it may lack; others are left alone."""

    def check_all(where: str, value: object) -> None:
        if not isinstance(value, dict):
            raise _wrong(where, value, "an object")
        inside = "" if where == "it" else f"{where}."
        for name, check in parts.items():
            if name not in value:
                raise InvalidReportError(f"this is no report of `tailsight gate --json`: {inside}{name} is missing")
            check(f"{inside}{name}", value[name])
        for name, check in (may_lack or {}).items():
            if name in value:
                check(f"{inside}{name}", value[name])

    return check_all


_ANY_NUMBER = _number(-LARGEST, LARGEST, "a number")
_POSITIVE = _number(0, LARGEST, "a number from 0 on")
_SHARE = _number(0, 1, "a share, from 0 to 1")
_TEXTS = _list_of(_text, MAX_TEXTS)
_NEEDED = _object({"requests": _perhaps(_count), "runs": _perhaps(_count)})
_BOUNDS = _list_of(_perhaps(_POSITIVE), 2, 2)
_COMPARISON = _object(
    {
        "stage": _text,
        "hardware": _text,
        "metric": _text,
        "baseline_ms": _POSITIVE,
        "candidate_ms": _POSITIVE,
        "ratio": _POSITIVE,
        "ci_low": _perhaps(_POSITIVE),
        "ci_high": _perhaps(_POSITIVE),
        "p_value": _perhaps(_SHARE),
        "verdict": _one_of(*METRIC_VERDICTS),
        "needed": _perhaps(_NEEDED),
        "tolerance": _POSITIVE,
    },
    {
        "margin": _POSITIVE,
        "decides": _yes_or_no,
        "limit_ms": _perhaps(_POSITIVE),
        "candidate_interval_ms": _perhaps(_BOUNDS),
    },
)
_CALIBRATION = _object(
    {
        "runs": _count,
        "gates": _count,
        "false_alarm_rate": _SHARE,
        "false_alarm_interval": _list_of(_SHARE, 2, 2),
        "smallest_change": _perhaps(_POSITIVE),
        "between_runs": _by_name(_ANY_NUMBER),
    },
    {"smallest_changes": _by_name(_ANY_NUMBER)},
)
_RUN = _object({"run": _text, "start": _text, "requests": _count})
_SIDE = _object(
    {"sources": _TEXTS, "commits": _TEXTS, "runs": _list_of(_RUN, MAX_RUNS, 1)},
    {"branches": _TEXTS, "versions": _TEXTS},
)
_REPORT = _object(
    {
        "verdict": _one_of(*VERDICTS),
        "judged": _text,
        "comparisons": _list_of(_COMPARISON, MAX_COMPARISONS, 1),
        "reasons": _TEXTS,
        "differences": _TEXTS,
        "notes": _TEXTS,
        "needed": _perhaps(_NEEDED),
        "calibration": _perhaps(_CALIBRATION),
        "settings": _object({"confidence": _number(0.5, 0.999_999, "a confidence, from 0.5")}),
        "baseline_runs": _count,
        "candidate_runs": _count,
        "baseline": _SIDE,
        "candidate": _SIDE,
    },
    {"title": _perhaps(_text), "calibrated": _perhaps(_object({"created": _text, "machine": _text}))},
)
