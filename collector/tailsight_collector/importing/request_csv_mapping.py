"""Which column of a request CSV is what, as `--map` says it: `start=arrived_at,duration_ms=latency`, and so on.

    start, start_utc, start_ns|us|ms|s      when it began: ISO 8601 with a zone, without one but in UTC, or Unix time
    offset_ns|us|ms|s                       the same, counted from --start
    duration_ns|us|ms|s                     how long it took; or when it ended: end, end_utc, end_ns|us|ms|s
    stage.NAME_ns|us|ms|s                   how long a phase took; phases follow each other in the order of the mapping
    trace_id, request_id, name, model, error
    service, run, hardware, version, host, region, environment
    attr.KEY                                an attribute; attr=* all columns that are not named, as they are called

A text is a list with commas, quoted as in CSV where a column has a comma itself, or the name of a TOML file.
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path

from tailsight.attributes import (
    CLOUD_REGION,
    DEPLOYMENT_ENVIRONMENT,
    HARDWARE,
    HOST_NAME,
    RUN,
    SERVICE_NAME,
    SERVICE_VERSION,
)

UNITS_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
LABELS = {
    "service": SERVICE_NAME,
    "run": RUN,
    "hardware": HARDWARE,
    "version": SERVICE_VERSION,
    "host": HOST_NAME,
    "region": CLOUD_REGION,
    "environment": DEPLOYMENT_ENVIRONMENT,
}
SINGLE = ("trace_id", "request_id", "name", "model", "error")
ALL_OTHERS = "*"
MAX_FIELDS = 1_000
MAX_FILE_BYTES = 1 << 20
_TIMED = re.compile(r"(start|offset|duration|end)_(ns|us|ms|s)")
_STAGE = re.compile(r"stage\.(.+)_(ns|us|ms|s)", re.DOTALL)
_NEEDED = (
    "a start (start, start_utc, start_ms, … or offset_ms, … with --start) and a duration (duration_ms, … or end, …)"
)


class MappingError(ValueError):
    """A mapping that cannot be used; its text is one line that says which part, and what to write."""


class Clock(StrEnum):
    """How a time is written."""

    ISO = "iso"  # with a zone
    UTC = "utc"  # ISO 8601; without a zone it is in UTC
    EPOCH = "epoch"  # units since 1970
    OFFSET = "offset"  # units since --start


@dataclass(frozen=True, slots=True)
class TimeColumn:
    """A column with times. `unit_ns` is of no meaning for ISO 8601."""

    column: str
    clock: Clock
    unit_ns: int = 1


@dataclass(frozen=True, slots=True)
class Phase:
    """A column that says how long a stage took."""

    stage: str
    column: str
    unit_ns: int


@dataclass(frozen=True, slots=True)
class Mapping:
    """What the columns of a CSV are. One of `duration` (column, unit in ns) and `end` is there.

    `labels` and `attributes`: (key, column). `single`: trace_id, request_id, name, model and error → column.
    """

    start: TimeColumn
    end: TimeColumn | None
    duration: tuple[str, int] | None
    phases: tuple[Phase, ...]
    single: dict[str, str]
    labels: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    others_are_attributes: bool
    columns: frozenset[str]

    def field_of(self, column: str, items: Iterable[str]) -> str:
        """Return the first item of `--map` that names a column."""
        return next((item for item in items if item.partition("=")[2] == column), column)


def items_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Take the texts of `--map` apart into `field=column`; raises MappingError, also for a file that cannot be read."""
    return tuple(item for text in texts for item in (_file(text) if _is_file(text) else _list(text)))


def mapping_of(items: Iterable[str]) -> Mapping:
    """Read what `items_of` returned; raises MappingError."""
    fields = _fields(items)
    start = _one(fields, _times(fields, "start") + _times(fields, "offset"), "start")
    ends, lengths = _times(fields, "end"), [name for name in fields if name.startswith("duration_")]
    last = _one(fields, ends + lengths, "duration or end")
    unit = _TIMED.fullmatch(last)
    return Mapping(
        start=_time(start, fields[start]),
        end=_time(last, fields[last]) if last in ends else None,
        duration=(fields[last], UNITS_NS[unit[2]]) if unit and last in lengths else None,
        phases=tuple(
            Phase(found[1], column, UNITS_NS[found[2]])
            for name, column in fields.items()
            if (found := _STAGE.fullmatch(name))
        ),
        single={name: fields[name] for name in SINGLE if name in fields},
        labels=tuple((LABELS[name], column) for name, column in fields.items() if name in LABELS),
        attributes=tuple(
            (name.removeprefix("attr."), column) for name, column in fields.items() if name.startswith("attr.")
        ),
        others_are_attributes="attr" in fields,
        columns=frozenset(column for name, column in fields.items() if name != "attr"),
    )


def _fields(items: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for item in items:
        name, equals, column = (part.strip() for part in item.partition("="))
        if not equals or not name or not column:
            raise MappingError(f"--map {item!r} is no FIELD=COLUMN, as in start=arrived_at")
        if name in fields:
            raise MappingError(f"--map names {name} twice, as {fields[name]!r} and {column!r}; name it once")
        if not _is_field(name) or (name == "attr" and column != ALL_OTHERS):
            raise MappingError(f"--map {name}={column}: {_unknown(name)}")
        fields[name] = column
        if len(fields) > MAX_FIELDS:
            raise MappingError(f"--map has more than {MAX_FIELDS:,} fields")
    return fields


def _is_field(name: str) -> bool:
    return (
        name in ("start", "start_utc", "end", "end_utc", "attr", *SINGLE, *LABELS)
        or _TIMED.fullmatch(name) is not None
        or _STAGE.fullmatch(name) is not None
        or (name.startswith("attr.") and len(name) > len("attr."))
    )


def _unknown(name: str) -> str:
    if name == "attr":
        return "attr is for all columns that are not named (attr=*); one of them is attr.KEY=COLUMN"
    if name in ("offset", "duration") or name.startswith("stage."):
        return f"{name} does not say its unit: {name}_ns, {name}_us, {name}_ms or {name}_s"
    known = ["start", "start_utc", "start_ms", "offset_ms", "duration_ms", "end", "end_ms", *SINGLE, *LABELS]
    near = get_close_matches(name, known, 1)
    hint = f"; is it {near[0]}?" if near else ""
    return (
        f"{name} is no field{hint} Fields: start, duration_ms, stage.NAME_ms, {', '.join((*SINGLE, *LABELS))}, "
        "attr.KEY, … (docs/import.md)"
    )


def _times(fields: Iterable[str], kind: str) -> list[str]:
    return [name for name in fields if name == kind or name.startswith(f"{kind}_")]


def _one(fields: dict[str, str], found: list[str], what: str) -> str:
    if not found:
        named = ", ".join(fields) or "nothing"
        raise MappingError(f"--map names no {what}, only {named}: a request needs {_NEEDED}")
    if len(found) > 1:
        raise MappingError(f"--map names {' and '.join(found)}: which of them is the {what}? Name one")
    return found[0]


def _time(name: str, column: str) -> TimeColumn:
    found = _TIMED.fullmatch(name)
    if found is None:
        return TimeColumn(column, Clock.UTC if name.endswith("_utc") else Clock.ISO)
    return TimeColumn(column, Clock.OFFSET if found[1] == "offset" else Clock.EPOCH, UNITS_NS[found[2]])


def _list(text: str) -> Iterator[str]:
    try:
        parts = next(csv.reader([text], strict=True, skipinitialspace=True), [])
    except csv.Error as error:
        raise MappingError(f"--map {text!r}: {error}; quote as in CSV: '\"start=a, b\",duration_ms=c'") from None
    found = [part for part in (part.strip() for part in parts) if part]
    if not found:
        raise MappingError(f"--map {text!r} says nothing; write FIELD=COLUMN, as in start=arrived_at")
    yield from found


def _is_file(text: str) -> bool:
    return "=" not in text and text.endswith(".toml")


def _file(name: str) -> Iterator[str]:
    try:
        with Path(name).open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
        if len(raw) > MAX_FILE_BYTES:
            raise MappingError(f"--map {name} is larger than {MAX_FILE_BYTES:,} bytes")
        plain = tomllib.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise MappingError(f"--map {name} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MappingError(f"--map {name} is no TOML: {error}") from None
    yield from _flattened(plain, "", name)


def _flattened(table: dict[str, object], above: str, name: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{above}{key}.", name)
        elif isinstance(value, str):
            yield f"{above}{key}={value}"
        else:
            raise MappingError(f'--map {name}: {above}{key} is no text; write {above}{key} = "COLUMN"')
