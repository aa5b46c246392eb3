"""Reports that were kept, in a terminal: a list of them, or one as `tailsight gate` printed it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from tailsight_analysis.gate_reports import SHOWN_DIGITS, ListedReport
from tailsight_analysis.gating.kept import KeptReport, ReportSide
from tailsight_analysis.gating.settings import GateSettings
from tailsight_cli._errors import without_controls
from tailsight_cli.gating.config import GateConfig, StoredCalibration
from tailsight_cli.gating.report import GateReport
from tailsight_cli.gating.sampling import Side
from tailsight_cli.render.gate import SIDES, VERDICT_STYLES, render_judged, side_line
from tailsight_cli.render.text import note_lines, percent, printable

NONE_KEPT = (
    "No gate report is kept here. `tailsight gate BASE CAND --keep http://127.0.0.1:4318` sends one to a collector; "
    "`tailsight gate keep FILE…` adds those that `tailsight gate --json` wrote."
)
_NS_PER_S = 1_000_000_000
_INDENT = 2


def render_reports(reports: Sequence[ListedReport], *, more: bool) -> RenderableType:
    """List reports: id, when, verdict and title; the sides; what was decisive; how often such gates are wrong."""
    if not reports:
        return Text(NONE_KEPT)
    parts: list[RenderableType] = []
    for report in reports:
        head = Text.assemble(
            (report.id[:SHOWN_DIGITS], "cyan"),
            (f"  {_when(report.at_ns)}  ", "dim"),
            (report.verdict, VERDICT_STYLES.get(report.verdict, "")),
            (f"  {printable(report.title)}" if report.title else "", "bold"),
        )
        lines: list[RenderableType] = [Text(f"{side_name(report.baseline)} → {side_name(report.candidate)}")]
        lines += [Text(f"unlike: {without_controls(each)}", style="yellow") for each in report.differences[:1]]
        lines += [Text(without_controls(each)) for each in report.reasons[:1]]
        lines += note_lines([_error_rate(report)])
        parts += [head, Padding(Group(*lines), (0, 0, 0, _INDENT)), Text("")]
    if more:
        parts.append(Text("There are more: --limit N.", style="dim"))
    return Group(*parts[: None if more else -1])


def render_kept(kept: KeptReport, *, everything: bool) -> RenderableType:
    """Show one report as `tailsight gate` does, under its title."""
    head = Text.assemble(
        (printable(kept.title) if kept.title else f"gate report {kept.id[:SHOWN_DIGITS]}", "bold"),
        (f"  judged {_when(kept.at_ns)}", "dim"),
    )
    sides = (
        side_line(title, side.sources, side.runs, side.requests, side.commits)
        for title, side in zip(SIDES, (kept.baseline, kept.candidate), strict=True)
    )
    return Group(head, Text(""), render_judged(_as_report(kept), sides, everything=everything))


def side_name(side: ReportSide) -> str:
    """Name a side in a list: its branch and commit where its recording says them, else its first source."""
    name = side.branches[0] if side.branches else side.sources[0] if side.sources else ""
    more = f" and {len(side.sources) - 1} more" if not side.branches and len(side.sources) > 1 else ""
    commit = f" {side.commits[0]}" if side.commits else ""
    return f"{printable(name)}{more}{printable(commit)}"


def _as_report(kept: KeptReport) -> GateReport:
    calibration = kept.judgement.calibration
    stored = StoredCalibration(calibration, kept.calibrated, kept.machine) if calibration else None
    baseline, candidate = (Side(side.sources, (), commits=side.commits) for side in (kept.baseline, kept.candidate))
    config = GateConfig(None, GateSettings(confidence=kept.confidence), None, stored)
    return GateReport(kept.judgement, baseline, candidate, config, kept.notes, 0, kept.at_ns, kept.title)


def _error_rate(report: ListedReport) -> str:
    if report.false_alarm_rate is None or report.false_alarm_interval is None:
        return "not calibrated"
    low, high = map(percent, report.false_alarm_interval)
    return f"false alarms: {percent(report.false_alarm_rate)} (95 %: {low} to {high})"


def _when(at_ns: int) -> str:
    return f"{datetime.fromtimestamp(at_ns // _NS_PER_S, UTC):%Y-%m-%d %H:%M} UTC"
