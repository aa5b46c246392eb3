"""A gate's report as the Markdown of a pull-request comment: short, with the rest folded away."""

from __future__ import annotations

import html
from collections.abc import Sequence

from tailsight_analysis.gating.result import Compared
from tailsight_cli._errors import without_controls
from tailsight_cli.gating.report import GateReport
from tailsight_cli.gating.sampling import Side, requests_of
from tailsight_cli.render import gate_words as words
from tailsight_cli.render.text import percent, printable, requests_text, significant

MARK = "<!-- tailsight gate -->"
"""The first line: by it a job finds its own comment again."""

MOST_ROWS = 60  # a comment has room for 65,536 characters
_SIGNS = {"regression": "❌", "inconclusive": "❔", "pass": "✅", "improvement": "⬇️"}
# what Markdown, or what GitHub and GitLab make of Markdown, would take for more than text
_SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]|~@#!$"}


def gate_markdown(report: GateReport) -> str:
    """Write the comment; it ends with a newline."""
    judgement = report.judgement
    shown, folded = report.shown(), report.folded()
    lines = [
        MARK,
        f"### {_SIGNS[judgement.verdict]} Latency: {judgement.verdict}",
        "",
        text(words.headline(report)),
        "",
    ]
    lines += [f"> **Unlike:** {text(each)}" for each in judgement.differences]
    lines += [""] if judgement.differences else []
    if shown:
        lines += [*_table(shown, report), ""]
    if folded:
        title = text(words.folded(report))
        lines += [f"<details><summary>{title}</summary>", "", *_table(folded, report), "", "</details>", ""]
    lines += ["<details><summary>How sure is that?</summary>", ""]
    lines += [f"- {text(each)}" for each in words.remarks(report)]
    lines += [
        f"- {text(words.calibration_line(report))}",
        f"- Baseline: {_side(report.baseline)}",
        f"- Candidate: {_side(report.candidate)}",
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def text(plain: str) -> str:
    """Make plain text mean itself in Markdown, on one line."""
    escaped = html.escape(without_controls(" ".join(plain.split())), quote=False).translate(_SPECIAL)
    # links make themselves of bare addresses
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def code(name: str) -> str:
    """Show a name as code: there, GitHub mentions nobody and links no issue."""
    return f"<code>{text(name)}</code>" if name else ""


def _table(rows: Sequence[Compared], report: GateReport) -> list[str]:
    confidence = percent(report.config.settings.confidence)
    wanting = any(words.needed(row.needed) for row in rows)
    headings = ["", "stage", "metric", "baseline", "candidate", "change", confidence, "allowed"]
    headings += ["would decide"] if wanting else []
    lines = [_row(headings), _row(["---", "---", "---", *["---:"] * 5, *(["---"] if wanting else [])])]
    for row in rows[:MOST_ROWS]:
        cells = [
            f"{_SIGNS[row.verdict]} {row.verdict}",
            code(words.name(row)),
            row.metric,
            f"{significant(row.baseline_ms)} ms",
            f"{significant(row.candidate_ms)} ms",
            f"**{words.change(row.ratio)}**" if row.verdict == "regression" else words.change(row.ratio),
            words.interval(row),
            words.allowed(row),
        ]
        lines.append(_row([*cells, *([words.needed(row.needed)] if wanting else [])]))
    if len(rows) > MOST_ROWS:
        lines += ["", f"and {len(rows) - MOST_ROWS} more: `--json` has all."]
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _side(side: Side) -> str:
    names = ", ".join(code(printable(each)) for each in side.sources[:MOST_ROWS])
    runs = "1 run" if len(side.runs) == 1 else f"{len(side.runs)} runs"
    commits = f", commit {', '.join(code(each) for each in side.commits)}" if side.commits else ""
    return f"{names}, {runs}, {requests_text(sum(map(requests_of, side.runs)))}{commits}"
