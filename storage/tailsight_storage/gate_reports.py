"""Reports of gates, as they are kept: read from JSON that anybody may have sent, and written into `gate_reports`.

What is kept is what `tailsight gate --json` prints (docs/gate.md). A report's id is a hash of what it says, so that the
same one, sent twice, is there once. Keys that are not known here stay in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tailsight_storage.errors import InvalidReportError
from tailsight_storage.queries import NamedQuery, load_query
from tailsight_storage.report_shape import SIDES, check_report

TABLE = "gate_reports"
MAX_REPORT_BYTES = 4 * 1024 * 1024
ID_DIGITS = 32
MOST_LISTED = 8  # reasons, commits and so on that stand in columns; `report` has all
LONGEST_LISTED = 400  # characters of each
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_NAMES = ("sources", "commits", "branches", "versions")
_COUNTS = {"regressions": "regression", "improvements": "improvement", "inconclusive": "inconclusive", "passed": "pass"}


class Rows(Protocol):
    """What keeping a report needs of a store."""

    def ask(self, query: NamedQuery, **parameters: object) -> list[dict[str, Any]]:
        """Run a named query."""

    def insert_rows(self, table: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Store rows of a table."""


@dataclass(frozen=True, slots=True)
class GateReportRow:
    """A report that may be kept: `columns` are those of the table, but for the time of keeping."""

    id: str
    columns: Mapping[str, Any]


def read_gate_report(data: bytes, now: datetime | None = None) -> GateReportRow:
    """Check what claims to be a report; raises InvalidReportError, which says what is wrong and where."""
    if len(data) > MAX_REPORT_BYTES:
        raise InvalidReportError(f"the report has {len(data):,} bytes, more than {MAX_REPORT_BYTES:,}")
    try:
        plain = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InvalidReportError(f"this is no JSON: {error}") from None
    check_report(plain)
    at = _moment(plain["judged"], now or datetime.now(UTC))
    try:
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        encoded = text.encode()
    except UnicodeEncodeError:
        raise InvalidReportError("a text of the report holds half a character (a lone surrogate)") from None
    except RecursionError:
        raise InvalidReportError("the report is nested too deeply") from None
    found_id = hashlib.sha256(encoded).hexdigest()[:ID_DIGITS]
    columns: dict[str, Any] = {
        "at": _written(at),
        "id": found_id,
        "verdict": plain["verdict"],
        "title": _short(plain.get("title") or ""),
        "reasons": _some(plain["reasons"]),
        "differences": _some(plain["differences"]),
        "report": text,
    }
    for side in SIDES:
        said = plain[side]
        columns |= {f"{side}_{name}": _some(said.get(name, ())) for name in _NAMES}
        columns[f"{side}_runs"] = len(said["runs"])
        columns[f"{side}_requests"] = sum(run["requests"] for run in said["runs"])
    verdicts = [row["verdict"] for row in plain["comparisons"]]
    columns |= {column: verdicts.count(verdict) for column, verdict in _COUNTS.items()}
    if calibration := plain["calibration"]:
        low, high = calibration["false_alarm_interval"]
        rates = (calibration["false_alarm_rate"], low, high)
        columns |= dict(zip(("false_alarm_rate", "false_alarm_low", "false_alarm_high"), rates, strict=True))
    return GateReportRow(found_id, columns)


def keep_gate_report(store: Rows, row: GateReportRow, now: datetime | None = None) -> bool:
    """Write a report; False where it is there already. Returns when it is stored. Raises StorageError."""
    [answer] = store.ask(load_query("tailsight_storage", "gate_report_is_kept"), id=row.id)
    if answer["is_kept"]:
        return False
    store.insert_rows(TABLE, [{**row.columns, "kept_at": _written(now or datetime.now(UTC))}])
    return True


def _moment(text: str, now: datetime) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        at = (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidReportError(f"judged = {text[:40]!r} is no time of ISO 8601") from None
    if not _FIRST <= at <= now + timedelta(days=1):
        raise InvalidReportError(f"judged = {text[:40]!r} is before 2000 or in the future")
    return at


def _written(at: datetime) -> str:
    """Write a time as the database reads it, in milliseconds."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03}"


def _some(texts: Sequence[str]) -> list[str]:
    return [_short(text) for text in texts[:MOST_LISTED]]


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_LISTED else f"{text[: LONGEST_LISTED - 1]}…"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
