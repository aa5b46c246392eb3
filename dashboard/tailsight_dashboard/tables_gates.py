"""The tables of gate reports: pure functions from what analysis returns to pandas Stylers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis.gate_reports import ListedReport
from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.kept import KeptReport
from tailsight_analysis.gating.result import Compared
from tailsight_dashboard import wording_gates as wording
from tailsight_dashboard.colours import VERDICTS as PAINTS
from tailsight_dashboard.format import duration, milliseconds, p_value, share
from tailsight_dashboard.tables import styled
from tailsight_dashboard.wording_regressions import moved


def reports(found: Sequence[ListedReport]) -> Styler:
    """Build the table of reports, the latest first."""
    frame = pd.DataFrame(
        {
            "Judged (UTC)": [wording.minute(report.at_ns) for report in found],
            "Verdict": [report.verdict for report in found],
            "What": [report.title or "—" for report in found],
            "Baseline": [wording.side(report.baseline) for report in found],
            "Candidate": [wording.side(report.candidate) for report in found],
            "Runs": [f"{report.baseline.runs} : {report.candidate.runs}" for report in found],
            "False alarms": [wording.rate(report.false_alarm_rate, report.false_alarm_interval) for report in found],
            "Decisive": [_decisive(report) for report in found],
        }
    )
    return _painted(styled(frame, {}))


def comparisons(report: KeptReport) -> Styler:
    """Build the table of all comparisons of a report, the most important first."""
    rows = by_importance(report.judgement.comparisons)
    wanting = any(wording.needed(row.needed) for row in rows)
    frame = pd.DataFrame(
        {
            "Compared": [wording.compared(row) for row in rows],
            "Metric": [row.metric for row in rows],
            "Verdict": [row.verdict for row in rows],
            "Change": [row.ratio for row in rows],
            share(report.confidence): [wording.interval(row) for row in rows],
            "Allowed": [_allowed(row) for row in rows],
            "To pass": [f"below {moved(1 + row.margin)}" if row.decides else "need not" for row in rows],
            "Baseline (ms)": [row.baseline_ms for row in rows],
            "Candidate (ms)": [row.candidate_ms for row in rows],
            "p-value": ["—" if row.p_value is None else p_value(row.p_value) for row in rows],
            **({"Would decide": [wording.needed(row.needed) for row in rows]} if wanting else {}),
        }
    )
    formats = {"Change": moved, "Baseline (ms)": milliseconds, "Candidate (ms)": milliseconds}
    return _painted(styled(frame, formats))


def _decisive(report: ListedReport) -> str:
    """Say what makes the sides unlike, where something does, and the first reason."""
    unlike = [f"unlike: {each}" for each in report.differences[:1]]
    return "; ".join([*unlike, *report.reasons[:1]])


def _allowed(row: Compared) -> str:
    limit = f", {duration(row.limit_ms)}" if row.limit_ms is not None else ""
    return f"{moved(1 + row.tolerance)}{limit}"


def _painted(style: Styler) -> Styler:
    """Give verdicts their colours."""
    return style.map(lambda verdict: f"color: {PAINTS[verdict]}", subset=["Verdict"])
