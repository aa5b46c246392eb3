"""The gate's settings: `[tool.tailsight.gate]` in pyproject.toml, or `[gate]` in tailsight.toml. See docs/gate.md."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tailsight_analysis import QuestionError
from tailsight_analysis.gating.result import Calibration
from tailsight_analysis.gating.settings import (
    DECIDED_BY,
    DEFAULT_CONFIDENCE,
    DEFAULT_TAIL_MARGIN,
    DEFAULT_TOLERANCE,
    METRICS,
    DecidedBy,
    GateSettings,
)
from tailsight_cli._errors import CommandError
from tailsight_cli.gating.values import PERCENT, amount, meant, nearest, share, shown, stage_and_metric

OWN_FILE = "tailsight.toml"
PROJECT_FILE = "pyproject.toml"
NAMES = (OWN_FILE, PROJECT_FILE)
IN_OWN_FILE = ("gate",)
IN_PROJECT_FILE = ("tool", "tailsight", "gate")
ON_INCONCLUSIVE = ("pass", "fail")
KEYS = (
    "tolerance", "tail_margin", "decided_by", "metrics", "confidence", "ignore", "on_inconclusive", "calibration",
)  # fmt: skip
CALIBRATION = "calibration"
_CALIBRATION_KEYS = ("created", "machine", *(field.name for field in fields(Calibration)))


@dataclass(frozen=True, slots=True)
class StoredCalibration:
    """A calibration, when it was made (ISO 8601) and of which machine, in words; both may be empty."""

    calibration: Calibration
    created: str = ""
    machine: str = ""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """What the file says, and which it was: None where there is none, and all is default."""

    path: Path | None
    settings: GateSettings
    on_inconclusive: str | None = None
    calibration: StoredCalibration | None = None


def find_config(folder: Path) -> Path | None:
    """Find the nearest file with settings of the gate, from a folder upwards; None where there is none.

    Raises CommandError where both files of a folder have some.
    """
    for place in (folder, *folder.parents):
        paths = [place / name for name in NAMES]
        found = [path for path in paths if path.is_file() and table_in(path, read_toml(path)) is not None]
        if len(found) > 1:
            raise CommandError(f"both {found[0]} and {found[1].name} have settings of the gate: keep them in one")
        if found:
            return found[0]
    return None


def read_config(path: Path | None, *, to_calibrate: bool = False) -> GateConfig:
    """Read a file's settings; without a file, the defaults. Raises CommandError, which names file and key.

    `to_calibrate`: the file gets a calibration, so that it may lack the gate's table, and the one in it is not read.
    """
    if path is None:
        return GateConfig(None, GateSettings())
    table = table_in(path, read_toml(path))
    if table is None and to_calibrate:
        table = {}
    if table is None:
        raise CommandError(f"{path} has no table [{'.'.join(home_of(path))}]")
    tolerances: dict[tuple[str, str], float] = {}
    limits_ms: dict[tuple[str, str], float] = {}
    for key, value in _amounts(path, table):
        where = f"{path}: {key!r}"
        if value == []:
            raise CommandError(f'{where} is an empty list: write "8%" or "25ms", or both')
        for each in value if isinstance(value, list) else [value]:
            kind, number = amount(where, each)
            chosen = tolerances if kind == PERCENT else limits_ms
            if (name := stage_and_metric(str(path), key)) in chosen:
                raise CommandError(f"{where} has two {'tolerances' if kind == PERCENT else 'limits'}")
            chosen[name] = number
    try:
        settings = GateSettings(
            tolerance=share(f"{path}: tolerance", table.get("tolerance", DEFAULT_TOLERANCE)),
            tolerances=tolerances,
            limits_ms=limits_ms,
            ignored_stages=_names(path, table, "ignore", ()),
            metrics=_names(path, table, "metrics", METRICS, known=METRICS),
            confidence=_confidence(path, table.get("confidence", DEFAULT_CONFIDENCE)),
            tail_margin=_times(path, table.get("tail_margin", DEFAULT_TAIL_MARGIN)),
            decided_by=_decided_by(path, table.get("decided_by", DECIDED_BY[0])),
        )
    except QuestionError as error:
        raise CommandError(f"{path}: {error}") from None
    stored = None if to_calibrate else _calibration(path, table.get(CALIBRATION))
    return GateConfig(path, settings, _on_inconclusive(path, table), stored)


def with_tolerance(config: GateConfig, tolerance: float | None) -> GateConfig:
    """Replace the general tolerance, where the command names one."""
    return config if tolerance is None else replace(config, settings=replace(config.settings, tolerance=tolerance))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a file; raises OSError, or CommandError where it is no TOML."""
    try:
        return tomllib.loads(path.read_bytes().decode())
    except (ValueError, RecursionError) as error:  # of TOML, of UTF-8, or a number or nesting beyond all reason
        raise CommandError(f"{path} is no valid TOML: {error}") from None


def home_of(path: Path) -> tuple[str, ...]:
    """Where in a file of this name the gate's table is."""
    return IN_PROJECT_FILE if path.name == PROJECT_FILE else IN_OWN_FILE


def table_in(path: Path, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the gate's table of a file, None where it has none. A name that is nearly right is an error."""
    home = home_of(path)
    table: Any = data
    for depth, name in enumerate(home, 1):
        if name not in table:
            # further up, tables are other tools': only what can be nothing else is ours
            near = nearest(name, table, 0.5 if depth == len(home) else 0.85)
            if near is not None:
                wrong = ".".join((*home[: depth - 1], near))
                raise CommandError(f"{path}: unknown table [{wrong}]; did you mean {name!r}?")
            if path.name == OWN_FILE and any(key in data for key in (*KEYS, "tool")):
                raise CommandError(f"{path}: settings of the gate are in the table [{'.'.join(home)}] of this file")
            return None
        table = table[name]
        if not isinstance(table, dict):
            raise CommandError(f"{path}: {'.'.join(home[:depth])} = {shown(table)} is no table")
    found: Mapping[str, Any] = table
    return found


def _amounts(path: Path, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield `stage.metric` and its value, also where it has no quotes, and so is a table to TOML."""
    for key, value in table.items():
        if key in KEYS:
            continue
        if isinstance(value, dict):
            for metric, inner in value.items():
                if isinstance(inner, dict):
                    raise CommandError(f"{path}: [{key}.{metric}] is a table: write the stage's name in quotes")
                yield f"{key}.{metric}", inner
        elif "." in key:
            yield key, value
        else:
            near = nearest(key, KEYS)
            hint = f"did you mean {near!r}?" if near else f'a stage is written with a metric, like "{key}.p99"'
            raise CommandError(f"{path}: unknown key {key!r}; {hint}")


def _names(
    path: Path, table: Mapping[str, Any], key: str, default: tuple[str, ...], known: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    names = table.get(key, list(default))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CommandError(
            f'{path}: {key} = {shown(names)} must be a list of names, like ["{(known or ("warmup",))[0]}"]'
        )
    for name in names:
        if known is not None and name not in known:
            raise CommandError(f"{path}: no metric {name!r} in {key}; {meant(name, known)}")
    if known is not None and not names:
        raise CommandError(f"{path}: {key} is empty: name at least one of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def _confidence(path: Path, value: object) -> float:
    if value == 1 or (isinstance(value, str) and value.replace(" ", "") == "100%"):
        raise CommandError(f"{path}: confidence = {shown(value)}: nothing is that sure; 0.98 is usual")
    return share(f"{path}: confidence", value)


def _times(path: Path, value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value < 100:
        return float(value)
    raise CommandError(f"{path}: tail_margin = {shown(value)} is no number from 1 to 100: 2 is twice the tolerance")


def _decided_by(path: Path, value: object) -> DecidedBy:
    for known in DECIDED_BY:
        if value == known:
            return known
    hint = meant(value, DECIDED_BY) if isinstance(value, str) else f'use "{DECIDED_BY[0]}" or "{DECIDED_BY[1]}"'
    raise CommandError(f"{path}: decided_by = {shown(value)}; {hint}")


def _on_inconclusive(path: Path, table: Mapping[str, Any]) -> str | None:
    value = table.get("on_inconclusive")
    if value is None or value in ON_INCONCLUSIVE:
        return None if value is None else str(value)
    hint = meant(value, ON_INCONCLUSIVE) if isinstance(value, str) else 'use "pass" or "fail"'
    raise CommandError(f"{path}: on_inconclusive = {shown(value)}; {hint}")


def _calibration(path: Path, table: object) -> StoredCalibration | None:
    if table is None:
        return None
    again = "`tailsight gate calibrate RUN RUN … --write` writes it anew"
    if not isinstance(table, dict):
        raise CommandError(f"{path}: calibration = {shown(table)} is no table; {again}")
    if unknown := next((key for key in table if key not in _CALIBRATION_KEYS), None):
        raise CommandError(f"{path}: unknown key {unknown!r} in calibration; {meant(unknown, _CALIBRATION_KEYS)}")
    try:
        calibration = Calibration.of_json({"smallest_change": None, **table})
        _check(calibration)
    except (KeyError, TypeError, ValueError) as error:
        raise CommandError(
            f"{path}: the calibration cannot be read ({type(error).__name__}: {error}); {again}"
        ) from None
    return StoredCalibration(calibration, str(table.get("created", "")), str(table.get("machine", "")))


def _check(calibration: Calibration) -> None:
    """Raise ValueError where figures of a calibration cannot be ones: it was changed by hand."""
    of = calibration
    shares = (of.false_alarm_rate, *of.false_alarm_interval)
    sizes = (of.smallest_change or 0.0, *of.between_runs.values(), *of.smallest_changes.values())
    if of.runs < 1 or of.gates < 1:
        raise ValueError(f"{of.runs} runs in {of.gates} gates")
    for wrong in (each for each in shares if not 0 <= each <= 1):
        raise ValueError(f"{wrong} is no share")
    for wrong in (each for each in sizes if not 0 <= each < math.inf):
        raise ValueError(f"{wrong} is no size of a difference")
