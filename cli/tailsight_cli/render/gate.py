"""A gate's report in a terminal: the verdict, what makes the sides unlike, the metrics that matter, and how sure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.result import Compared
from tailsight_cli._errors import without_controls
from tailsight_cli.gating.report import GateReport
from tailsight_cli.gating.sampling import requests_of
from tailsight_cli.render import gate_words as words
from tailsight_cli.render.fitting import FittingRow, FittingTable
from tailsight_cli.render.text import note_lines, percent, printable, requests_text, significant

VERDICT_STYLES = {"regression": "bold red", "inconclusive": "bold yellow", "pass": "bold green"}
_SOURCES = 3
SIDES = ("baseline ", "candidate")


def render_gate(report: GateReport, *, everything: bool = False) -> RenderableType:
    """Verdict in a sentence, sides and differences, a row for each metric that does not just pass, and the remarks."""
    sides = (
        side_line(title, side.sources, len(side.runs), sum(map(requests_of, side.runs)), side.commits)
        for title, side in zip(SIDES, (report.baseline, report.candidate), strict=True)
    )
    return render_judged(report, sides, everything=everything)


def render_judged(report: GateReport, sides: Iterable[Text], *, everything: bool) -> RenderableType:
    """Do the same, with lines for the sides that the caller has."""
    judgement = report.judgement
    shown = by_importance(judgement.comparisons) if everything else report.shown()
    folded = [] if everything else report.folded()
    parts: list[RenderableType] = [
        Text(words.headline(report), style=VERDICT_STYLES[judgement.verdict]),
        Text(""),
        *sides,
    ]
    parts += [Text(f"unlike     {without_controls(each)}", style="yellow") for each in judgement.differences]
    if shown:
        parts += [Text(""), _table(shown, report.config.settings.confidence)]
    if folded:
        parts += [Text(""), Text(f"{words.folded(report)}. --all shows them.")]
    return Group(*parts, Text(""), *note_lines([*words.remarks(report), words.calibration_line(report)]))


def side_line(title: str, sources: Sequence[str], run_count: int, requests: int, commits: Sequence[str]) -> Text:
    """Name a side, and count its runs."""
    names = ", ".join(printable(each) for each in sources[:_SOURCES])
    if len(sources) > _SOURCES:
        names += f" and {len(sources) - _SOURCES} more"
    runs = "1 run" if run_count == 1 else f"{run_count} runs"
    at = f", commit {printable(', '.join(commits))}" if commits else ""
    return Text.assemble(f"{title}  {names}", (f", {runs}, {requests_text(requests)}{at}", "dim"))


def _table(rows: list[Compared], confidence: float) -> RenderableType:
    wanting = any(words.needed(row.needed) for row in rows)
    return FittingTable(
        "compared",
        [FittingRow(words.name(row), _figures(row, confidence, wanting=wanting)) for row in rows],
        dropped=("p", "passes", "would decide", "baseline ms", "allowed", "candidate ms"),
        left=("metric", "verdict", "would decide"),
        least_name=20,
    )


def _figures(row: Compared, confidence: float, *, wanting: bool) -> dict[str, str]:
    return {
        "metric": row.metric,
        "verdict": row.verdict,
        "baseline ms": significant(row.baseline_ms),
        "candidate ms": significant(row.candidate_ms),
        "change": words.change(row.ratio),
        percent(confidence): words.interval(row),
        "allowed": words.allowed(row),
        "passes": words.passes(row),
        "p": "" if row.p_value is None else f"{row.p_value:.0e}" if row.p_value < 0.001 else f"{row.p_value:.3f}",
        **({"would decide": words.needed(row.needed)} if wanting else {}),
    }
