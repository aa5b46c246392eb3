"""What a CSV without a mapping is told: which columns it has, and a mapping that may be what is wanted."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from decimal import Decimal, InvalidOperation

from tailsight_collector.importing.times import TimeError, iso_ns

SHOWN_COLUMNS = 30
SHOWN_CHARS = 40
_ATTRIBUTES = 4
_START = re.compile(r"time_?stamp|start|arriv|time$|^ts$|^t$|date|sent|issued", re.IGNORECASE)
_DURATION = re.compile(r"latency|duration|elapsed|response.?time|e2e|total.?time|took", re.IGNORECASE)
_STAGE = re.compile(r"queue|prefill|decode|preprocess|postprocess|tokeni[sz]e|compute|network|serialize", re.IGNORECASE)
_ID = re.compile(r"^(trace|request|req|query|session)?_?(id|uuid)$", re.IGNORECASE)
_SERVICE = re.compile(r"^(service|server|model_?server|app)(_?name)?$", re.IGNORECASE)
_MODEL = re.compile(r"^model(_?name)?$", re.IGNORECASE)
_UNITS = (
    ("ns", re.compile(r"nano|(^|[_ (.])ns\)?$", re.IGNORECASE)),
    ("us", re.compile(r"micro|(^|[_ (.])(us|µs)\)?$", re.IGNORECASE)),
    ("ms", re.compile(r"milli|(^|[_ (.])ms\)?$", re.IGNORECASE)),
    ("s", re.compile(r"second|(^|[_ (.])(s|sec|secs)\)?$", re.IGNORECASE)),
)
# Unix time of the years 2001 to 2286, in each unit
_EPOCHS = (("s", 10**9, 10**10), ("ms", 10**12, 10**13), ("us", 10**15, 10**16), ("ns", 10**18, 10**19))


def advice(columns: Sequence[str], first: Sequence[str]) -> str:
    """Say what a CSV is, and how to say what its columns are. `first` is its first row, empty where there is none."""
    shown = ", ".join(shortened(each) for each in columns[:SHOWN_COLUMNS])
    more = f", … ({len(columns):,} in all)" if len(columns) > SHOWN_COLUMNS else ""
    items = list(_items(columns, dict(zip(columns, first, strict=False))))
    text = shlex.quote(",".join(_quoted(item) for item in items))
    start = " --start 2026-11-23T08:30:00Z" if any(item.startswith("offset_") for item in items) else ""
    lacks = [what for what, at in (("start", 0), ("duration", 1)) if items[at].endswith("=COLUMN")]
    missing = f" (no column looks like a {' or a '.join(lacks)}, and each request needs one)" if lacks else ""
    return (
        f"it is a CSV with the columns {shown}{more}; say with --map which of them is what, for example "
        f"--map {text}{start}{missing}; all fields are in docs/import.md"
    )


def shortened(column: str) -> str:
    """Show a column's name in a message."""
    text = column if column.isprintable() else repr(column)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _items(columns: Sequence[str], row: dict[str, str]) -> Iterator[str]:
    left = [column for column in columns if column and column.isprintable()]

    def take(wanted: re.Pattern[str]) -> str | None:
        found = next((column for column in left if wanted.search(column)), None)
        if found is not None:
            left.remove(found)
        return found

    duration, start = take(_DURATION), take(_START)
    yield f"{_start_field(start, row.get(start, ''))}={start}" if start else "start=COLUMN"
    yield f"duration_{_unit(duration or '', 'ms')}={duration or 'COLUMN'}"
    while stage := take(_STAGE):
        name = "".join(_STAGE.findall(stage)[:1]).lower()
        yield f"stage.{name}_{_unit(stage, 'ms')}={stage}"
    for field, pattern in (("trace_id", _ID), ("service", _SERVICE), ("model", _MODEL)):
        if column := take(pattern):
            yield f"{field}={column}"
    for column in left[:_ATTRIBUTES]:
        yield f"attr.{re.sub(r'[^A-Za-z0-9_.]+', '_', column)}={column}"


def _start_field(column: str, value: str) -> str:
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        try:
            iso_ns(value, "time")
        except TimeError:
            return "start_utc" if re.match(r"\d{4}-\d\d-\d\d", value.strip()) else "start"
        return "start"
    if number.is_finite():
        for unit, least, most in _EPOCHS:
            if least <= number < most:
                return f"start_{unit}"
    return f"offset_{_unit(column, 's')}"


def _unit(column: str, default: str) -> str:
    return next((unit for unit, pattern in _UNITS if pattern.search(column)), default)


def _quoted(item: str) -> str:
    return '"' + item.replace('"', '""') + '"' if "," in item or '"' in item else item
