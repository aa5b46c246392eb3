"""Series of numbers from a file: CSV with commas, semicolons or tabs, with or without a heading, or JSON.

A column of numbers is a series; columns of anything else, and of times, only name the points. A column that is mostly
numbers, but not only, is neither: whoever asks for it, or might have meant it, is told what else is in it.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_cli._errors import UNREADABLE, CommandError

_DELIMITERS = (",", ";", "\t")
_TIMES = frozenset({"time", "timestamp", "date", "datetime", "t"})
_VALUE = "value"
_MAX_NAMES = 8
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(e[+-]?\d+)?\s*", re.IGNORECASE)
_LIKE_THOUSANDS = re.compile(r"\s*[+-]?\d{1,3},\d{3}\s*")


@dataclass(frozen=True, slots=True)
class SeriesFile:
    """What a file holds. `columns` have a number a row, None where there is none; `labels` say what a row is called.

    `spoilt` says of columns that are mostly numbers which row (from 0) has something else, and what.
    """

    name: str
    columns: Mapping[str, tuple[float | None, ...]]
    labels: tuple[str, ...]
    spoilt: Mapping[str, tuple[int, str]]

    def chosen(self, asked: Sequence[str]) -> list[str]:
        """Return the columns that were asked for, or the only one there is; CommandError where that is no choice."""
        for name in asked or ([] if len(self.columns) > 1 else self.spoilt):
            if name in self.spoilt:
                row, cell = self.spoilt[name]
                raise CommandError(
                    f"{self.name}: column {name!r} has {cell} in row {row}: make it empty, or a number", UNREADABLE
                )
        if not self.columns:
            raise CommandError(f"{self.name}: no column holds numbers only", UNREADABLE)
        if not asked:
            if len(self.columns) > 1:
                raise CommandError(
                    f"{self.name} has {len(self.columns)} columns of numbers ({_listed(self.columns)}): "
                    "choose with --column, more than once for several"
                )
            return list(self.columns)
        for name in asked:
            if name not in self.columns:
                near = difflib.get_close_matches(name, self.columns, 1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {_listed(self.columns)}"
                raise CommandError(f"{self.name}: no column {name!r} of numbers; {hint}")
        return list(dict.fromkeys(asked))


def parse(name: str, text: str) -> SeriesFile:
    """Read the text of a file; CommandError where it is neither."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise CommandError(f"{name} is empty", UNREADABLE)
    is_json = name.lower().endswith(".json") or (not _is_csv(name) and text.lstrip()[0] in "[{")
    return _parse_json(name, text) if is_json else _parse_csv(name, text)


def _is_csv(name: str) -> bool:
    return name.lower().endswith((".csv", ".tsv", ".txt"))


def _parse_json(name: str, text: str) -> SeriesFile:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CommandError(f"{name} is no JSON: {error}", UNREADABLE) from None
    except RecursionError:
        raise CommandError(f"{name}: its JSON is nested too deeply to be a series", UNREADABLE) from None
    if isinstance(data, dict) and data and all(isinstance(each, list) for each in data.values()):
        if len({len(each) for each in data.values()}) > 1:
            raise CommandError(f"{name}: its lists are not of one length: series have a point a row", UNREADABLE)
        data = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
    if isinstance(data, list) and data and all(isinstance(each, dict) for each in data):
        keys = list(dict.fromkeys(key for row in data for key in row))
        return _sorted_out(name, {key: [row.get(key) for row in data] for key in keys})
    if isinstance(data, list) and all(each is None or _is_number(each) for each in data):
        return _sorted_out(name, {_VALUE: data})
    raise CommandError(
        f"{name}: expected an array of numbers, or of objects with a number under one key each, or lists by name",
        UNREADABLE,
    )


def _parse_csv(name: str, text: str) -> SeriesFile:
    first = text.lstrip("\n").split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=first.count)
    try:
        rows = [
            row for row in csv.reader(io.StringIO(text), delimiter=delimiter, strict=True) if len(row) > 1 or any(row)
        ]
    except csv.Error as error:
        raise CommandError(f"{name} is no CSV: {error}", UNREADABLE) from None
    heading = [cell.strip() for cell in rows[0]]
    if all(_number(cell) is not None for cell in heading):
        heading = [_VALUE] if len(heading) == 1 else [f"column{place}" for place in range(1, len(heading) + 1)]
    else:
        rows = rows[1:]
    if twice := next((each for each in heading if heading.count(each) > 1), None):
        raise CommandError(f"{name}: two columns are called {twice!r}", UNREADABLE)
    for number, row in enumerate(rows, start=1):
        if len(row) != len(heading):
            raise CommandError(f"{name}: row {number} has {len(row)} cells, not {len(heading)}", UNREADABLE)
    columns = {key: [row[place] for row in rows] for place, key in enumerate(heading)}
    if delimiter != ",":
        columns = {key: _with_points(cells) for key, cells in columns.items()}
    return _sorted_out(name, columns)


def _sorted_out(name: str, columns: Mapping[str, Sequence[Any]]) -> SeriesFile:
    """Tell series from what only names the points."""
    series: dict[str, tuple[float | None, ...]] = {}
    others: list[Sequence[Any]] = []
    spoilt: dict[str, tuple[int, str]] = {}
    for key, cells in columns.items():
        numbers = [_number(cell) for cell in cells]
        present = [cell for cell in cells if cell is not None and str(cell).strip()]
        known = sum(1 for number in numbers if number is not None)
        told = sum(1 for cell in present if not _is_nan(cell))
        names_points = key.strip().lower() in _TIMES
        if known and known == told and not names_points:
            series[key] = tuple(numbers)
            continue
        if 2 * known > told and not names_points:
            spoilt[key] = next(
                (row, _shown(cell))
                for row, (cell, number) in enumerate(zip(cells, numbers, strict=True))
                if number is None and not _is_nan(cell) and cell is not None and str(cell).strip()
            )
        others.append(cells)
    count = max((len(cells) for cells in columns.values()), default=0)
    labels = [" ".join(str(cells[row]).strip() for cells in others if cells[row] is not None) for row in range(count)]
    return SeriesFile(name, series, tuple(labels), spoilt)


def _shown(cell: Any) -> str:
    """Quote a cell, in what fits into a line."""
    return reprlib.repr(cell)


def _with_points(cells: list[str]) -> list[str]:
    """Read numbers with a decimal comma, unless all of them could as well have commas at their thousands."""
    with_comma = [cell for cell in cells if "," in cell]
    if not all(map(_DECIMAL_COMMA.fullmatch, with_comma)) or all(map(_LIKE_THOUSANDS.fullmatch, with_comma)):
        return cells
    return [cell.replace(",", ".") for cell in cells]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_nan(cell: Any) -> bool:
    return str(cell).strip().lower() in {"nan", "null", "none", "na", "n/a"}


def _number(cell: Any) -> float | None:
    """Read a finite number; None for anything else."""
    if isinstance(cell, bool):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:_MAX_NAMES]) + (", …" if len(names) > _MAX_NAMES else "")
