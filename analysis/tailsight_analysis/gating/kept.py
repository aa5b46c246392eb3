"""A gate's report, read back from the JSON that it was kept as (docs/gate.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tailsight_analysis.gating.result import Calibration, Compared, Judgement, Needed

_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ReportSide:
    """One side of a gate: its sources as they were written, what their recordings say of the code, and how much ran."""

    sources: tuple[str, ...]
    commits: tuple[str, ...]
    branches: tuple[str, ...]
    versions: tuple[str, ...]
    runs: int
    requests: int

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "sources": list(self.sources),
            "commits": list(self.commits),
            "branches": list(self.branches),
            "versions": list(self.versions),
            "runs": self.runs,
            "requests": self.requests,
        }


@dataclass(frozen=True, slots=True)
class KeptReport:
    """A report: when it was judged, in nanoseconds since 1970, of what, and what was found.

    `machine` and `calibrated` are of the calibration, empty without one; `plain` is all that the report says.
    """

    id: str
    at_ns: int
    title: str
    judgement: Judgement
    baseline: ReportSide
    candidate: ReportSide
    notes: tuple[str, ...]
    confidence: float
    machine: str
    calibrated: str
    plain: Mapping[str, Any]


def kept_report(report_id: str, plain: Mapping[str, Any]) -> KeptReport:
    """Read a report. Raises KeyError, TypeError, ValueError or AttributeError where it is something else."""
    calibrated = plain.get("calibrated") or {}
    return KeptReport(
        id=report_id,
        at_ns=time_ns(str(plain["judged"])),
        title=str(plain.get("title") or ""),
        judgement=_judgement(plain),
        baseline=_side(plain["baseline"]),
        candidate=_side(plain["candidate"]),
        notes=_texts(plain["notes"]),
        confidence=float(plain["settings"]["confidence"]),
        machine=str(calibrated.get("machine", "")),
        calibrated=str(calibrated.get("created", "")),
        plain=plain,
    )


def time_ns(text: str) -> int:
    """Read a time of ISO 8601, in UTC where it names no zone: nanoseconds since 1970. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86400 + since.seconds) * _S + since.microseconds * 1000


def _judgement(plain: Mapping[str, Any]) -> Judgement:
    calibration = plain["calibration"]
    return Judgement(
        verdict=plain["verdict"],
        calibration=Calibration.of_json(calibration) if calibration else None,
        comparisons=tuple(_compared(row) for row in plain["comparisons"]),
        reasons=_texts(plain["reasons"]),
        differences=_texts(plain["differences"]),
        baseline_runs=int(plain["baseline_runs"]),
        candidate_runs=int(plain["candidate_runs"]),
        needed=_needed(plain["needed"]),
    )


def _compared(row: Mapping[str, Any]) -> Compared:
    bounds = row.get("candidate_interval_ms")
    return Compared(
        stage=str(row["stage"]),
        hardware=str(row["hardware"]),
        metric=str(row["metric"]),
        baseline_ms=float(row["baseline_ms"]),
        candidate_ms=float(row["candidate_ms"]),
        ratio=float(row["ratio"]),
        ci_low=_number(row["ci_low"]),
        ci_high=_number(row["ci_high"]),
        p_value=_number(row["p_value"]),
        verdict=row["verdict"],
        needed=_needed(row["needed"]),
        tolerance=float(row["tolerance"]),
        margin=float(row.get("margin", row["tolerance"])),
        decides=bool(row.get("decides", True)),
        limit_ms=_number(row.get("limit_ms")),
        candidate_interval_ms=(_number(bounds[0]), _number(bounds[1])) if bounds else None,
    )


def _needed(plain: Mapping[str, Any] | None) -> Needed | None:
    return Needed(_count(plain["requests"]), _count(plain["runs"])) if plain else None


def _side(plain: Mapping[str, Any]) -> ReportSide:
    runs = plain["runs"]
    return ReportSide(
        sources=_texts(plain["sources"]),
        commits=_texts(plain["commits"]),
        branches=_texts(plain.get("branches", ())),
        versions=_texts(plain.get("versions", ())),
        runs=len(runs),
        requests=sum(int(run["requests"]) for run in runs),
    )


def _texts(plain: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(text) for text in plain)


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


def _count(value: int | None) -> int | None:
    return None if value is None else int(value)
