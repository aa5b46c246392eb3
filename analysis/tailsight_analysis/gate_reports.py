"""What did gates find? The reports that were kept in the store: a list of them, or one with all that it says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.errors import QuestionError
from tailsight_analysis.gating.kept import KeptReport, ReportSide, kept_report
from tailsight_analysis.queries import query
from tailsight_analysis.scope import iso
from tailsight_storage import QueryFailedError, StorageError, Store

DEFAULT_LIMIT = 50
SHOWN_DIGITS = 8  # of an id: enough to tell a few thousand apart
_UNKNOWN_TABLE = 60
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class ListedReport:
    """A report as lists show it. `at_ns`: when it was judged, in nanoseconds since 1970.

    Counts are of comparisons. `reasons` and `differences` are the first of them; `false_alarm_rate` and its interval
    are of the calibration, None without one.
    """

    id: str
    at_ns: int
    verdict: str
    title: str
    baseline: ReportSide
    candidate: ReportSide
    regressions: int
    improvements: int
    inconclusive: int
    passed: int
    reasons: tuple[str, ...]
    differences: tuple[str, ...]
    false_alarm_rate: float | None
    false_alarm_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/gate.md."""
        return {
            "id": self.id,
            "judged": iso(self.at_ns),
            "verdict": self.verdict,
            "title": self.title,
            "baseline": self.baseline.to_json(),
            "candidate": self.candidate.to_json(),
            "regressions": self.regressions,
            "improvements": self.improvements,
            "inconclusive": self.inconclusive,
            "passed": self.passed,
            "reasons": list(self.reasons),
            "differences": list(self.differences),
            "false_alarm_rate": self.false_alarm_rate,
            "false_alarm_interval": list(self.false_alarm_interval) if self.false_alarm_interval else None,
        }


def gate_reports(store: Store, limit: int = DEFAULT_LIMIT) -> tuple[ListedReport, ...]:
    """Read the latest reports, the latest first; none in a store that an older collector made."""
    return tuple(_listed(row) for row in _rows(store, "gate_reports", limit=limit))


def gate_report(store: Store, report_id: str) -> KeptReport:
    """Read one report, by its id or its first digits.

    Raises QuestionError where there is none, or several, and StorageError where it cannot be read.
    """
    wanted = report_id.strip().lower()
    found = _rows(store, "gate_report", id=wanted) if wanted else []
    if not found:
        raise QuestionError(f"no gate report {report_id!r} is in this store; `tailsight gate reports` lists them")
    if len(found) > 1:
        named = " and ".join(str(row["id"])[: len(wanted) + SHOWN_DIGITS] for row in found)
        raise QuestionError(f"gate reports {named} both begin with {report_id!r}: give more of the id")
    [row] = found
    try:
        return kept_report(str(row["id"]), json.loads(row["report"]))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"gate report {row['id']} in store {store.dsn} cannot be read ({type(error).__name__}: {error}): something "
            "else than tailsight wrote it"
        ) from error


def _rows(store: Store, name: str, **parameters: object) -> list[dict[str, Any]]:
    try:
        return store.ask(query(name), **parameters)
    except QueryFailedError as error:
        if error.code == _UNKNOWN_TABLE:
            return []
        raise


def _listed(row: Mapping[str, Any]) -> ListedReport:
    rate, low, high = (row[f"false_alarm_{name}"] for name in ("rate", "low", "high"))
    return ListedReport(
        id=str(row["id"]),
        at_ns=int(row["at_ms"]) * _NS_PER_MS,
        verdict=str(row["verdict"]),
        title=str(row["title"]),
        baseline=_side(row, "baseline"),
        candidate=_side(row, "candidate"),
        regressions=int(row["regressions"]),
        improvements=int(row["improvements"]),
        inconclusive=int(row["inconclusive"]),
        passed=int(row["passed"]),
        reasons=tuple(row["reasons"]),
        differences=tuple(row["differences"]),
        false_alarm_rate=rate,
        false_alarm_interval=None if low is None or high is None else (float(low), float(high)),
    )


def _side(row: Mapping[str, Any], side: str) -> ReportSide:
    names = {name: tuple(row[f"{side}_{name}"]) for name in ("sources", "commits", "branches", "versions")}
    return ReportSide(**names, runs=int(row[f"{side}_runs"]), requests=int(row[f"{side}_requests"]))
