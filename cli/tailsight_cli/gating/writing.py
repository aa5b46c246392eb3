"""A calibration, written into the configuration: one table between two marks; everything else stays as it is.

It is text that is replaced, because a TOML library that keeps comments would be one more dependency of every CI job.
What comes out is parsed before the file is touched, and must say what it said before, and the new table.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tomllib
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from tailsight_analysis.gating.result import Calibration
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.gating.config import CALIBRATION, OWN_FILE, StoredCalibration, home_of, read_toml

BEGIN = "# >>> tailsight gate calibrate --write: what is between these marks is written anew"
END = "# <<< tailsight gate calibrate --write"


def file_to_write(found: Path | None, folder: Path) -> Path:
    """Choose the file: the one with the gate's settings, else a new tailsight.toml."""
    return found or folder / OWN_FILE


def check_place(path: Path) -> None:
    """Say before anything is measured what would keep a calibration from being written. Raises as write_calibration."""
    path = path.resolve()
    _with(path, StoredCalibration(Calibration(1, 1, 0.0, (0.0, 1.0), None)))
    if not path.parent.is_dir():
        raise CommandError(f"{path} cannot be written: there is no folder {path.parent}", UNREADABLE)
    for place in (path, path.parent):
        if place.exists() and not os.access(place, os.W_OK):
            raise CommandError(f"{path} cannot be written: {place} is not ours to change", UNREADABLE)


def write_calibration(path: Path, stored: StoredCalibration) -> None:
    """Put a calibration into the file, in place of an earlier one; whole or not at all.

    Raises CommandError where the file has one that was written by hand, or is no TOML, and OSError.
    """
    path = path.resolve()
    _replace(path, _with(path, stored))


def _with(path: Path, stored: StoredCalibration) -> str:
    before = path.read_bytes().decode() if path.exists() else ""
    data = read_toml(path) if path.exists() else {}
    text = with_calibration(before, home_of(path), stored)
    expected = _expected(data, home_of(path), stored)
    try:
        says = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        says = None
    if says != expected:
        raise CommandError(
            f"{path}: there is no place for [{'.'.join((*home_of(path), CALIBRATION))}]: remove the one that is there, "
            "and write the gate's settings as a table of their own"
        )
    return text


def with_calibration(text: str, home: tuple[str, ...], stored: StoredCalibration) -> str:
    """Return the text of a file with the table in it: in the place of the one between marks, else at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    block = newline.join(_lines(home, stored))
    start, end = text.find(BEGIN), text.find(END)
    if 0 <= start < end:
        return text[:start] + block + text[end + len(END) :]
    if text and not text.endswith(newline):
        text += newline
    return text + (newline if text else "") + block + newline


def _lines(home: tuple[str, ...], stored: StoredCalibration) -> list[str]:
    table = ".".join((*home, CALIBRATION))
    values = _values(stored)
    lines = [BEGIN, f"[{table}]"]
    lines += [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for key, inner in values.items():
        if isinstance(inner, dict):
            lines += [f"[{table}.{key}]", *(f"{_toml(name)} = {_toml(value)}" for name, value in inner.items())]
    return [*lines, END]


def _values(stored: StoredCalibration) -> dict[str, Any]:
    """Everything that is written; TOML has no null, so that what is not known is left out."""
    said = {"created": stored.created, "machine": stored.machine, **stored.calibration.to_json()}
    return {key: _rounded(value) for key, value in said.items() if value is not None and value != ""}


def _rounded(value: Any) -> Any:
    """Leave six digits: the rest is chance, and a file to be read."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _toml(value: str | float | list[float]) -> str:
    if isinstance(value, str):  # a JSON string is a TOML string, but for one character
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return repr(value)


def _expected(data: dict[str, Any], home: tuple[str, ...], stored: StoredCalibration) -> dict[str, Any]:
    expected = deepcopy(data)
    table = expected
    for name in home:
        table = table.setdefault(name, {})
    table[CALIBRATION] = _values(stored)
    return expected


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, name)
        else:
            Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
