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

MOST_CHARACTERS = 65_536  # of GitHub's comments: the rooms below stay within it, whatever the names
MOST_ROWS = 60
_ROOM_TABLE = 16_000  # each of two
_ROOM_DIFFERENCES = 5_000
_ROOM_REMARKS = 5_000
_ROOM_SOURCES = 2_000  # each of two sides
_LONGEST = 700
_SIGNS = {"regression": "❌", "inconclusive": "❔", "pass": "✅", "improvement": "⬇️"}
# what Markdown, or what GitHub and GitLab make of Markdown, would take for more than text
_SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]|~@#!$"}


def gate_markdown(report: GateReport) -> str:
    """Write the comment; it ends with a newline. What there is no room for is counted."""
    judgement = report.judgement
    shown, folded = report.shown(), report.folded()
    unlike = [f"> **Unlike:** {text(each)}" for each in judgement.differences]
    head = [
        MARK,
        f"### {_SIGNS[judgement.verdict]} Latency: {judgement.verdict}",
        "",
        text(words.headline(report)),
        "",
        *_fitting(unlike, _ROOM_DIFFERENCES, "> "),
        *([""] if unlike else []),
    ]
    tail = [
        "<details><summary>How sure is that?</summary>",
        "",
        *_fitting([f"- {text(each)}" for each in words.remarks(report)], _ROOM_REMARKS, "- "),
        f"- {text(words.calibration_line(report))}",
        f"- Baseline: {_side(report.baseline)}",
        f"- Candidate: {_side(report.candidate)}",
        "",
        "</details>",
    ]
    if shown:
        head += [*_table(shown, report, _ROOM_TABLE), ""]
    if folded:
        title = text(words.folded(report))
        head += [f"<details><summary>{title}</summary>", "", *_table(folded, report, _ROOM_TABLE), "", "</details>", ""]
    return "\n".join((*head, *tail)) + "\n"


def text(plain: str) -> str:
    """Make plain text mean itself in Markdown, on one line."""
    line = " ".join(plain.split())
    short = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    escaped = html.escape(without_controls(short), quote=False).translate(_SPECIAL)
    # links make themselves of bare addresses
    return escaped.replace("://", "&#58;//").replace("www.", "www&#46;")


def code(name: str) -> str:
    """Show a name as code: there, GitHub mentions nobody and links no issue."""
    return f"<code>{text(name)}</code>" if name else ""


def _fitting(lines: Sequence[str], room: int, beginning: str = "") -> list[str]:
    """Take lines as long as there is room, and count the others."""
    taken: list[str] = []
    for line in lines:
        room -= len(line) + 1
        if room < 0 and taken:
            return [*taken, f"{beginning}and {len(lines) - len(taken)} more: `--json` has all."]
        taken.append(line)
    return taken


def _table(rows: Sequence[Compared], report: GateReport, room: int) -> list[str]:
    confidence = percent(report.config.settings.confidence)
    wanting = any(words.needed(row.needed) for row in rows)
    headings = ["", "stage", "metric", "baseline", "candidate", "change", confidence, "allowed", "passes"]
    headings += ["would decide"] if wanting else []
    head = [_row(headings), _row(["---", "---", "---", *["---:"] * 6, *(["---"] if wanting else [])])]
    lines = []
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
            words.passes(row),
        ]
        lines.append(_row([*cells, *([words.needed(row.needed)] if wanting else [])]))
    taken = [line for line in _fitting(lines, room) if line.startswith("|")]
    more = [] if len(taken) == len(rows) else ["", f"and {len(rows) - len(taken)} more: `--json` has all."]
    return [*head, *taken, *more]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _side(side: Side) -> str:
    names = ", ".join(_fitting([code(printable(each)) for each in side.sources], _ROOM_SOURCES))
    runs = "1 run" if len(side.runs) == 1 else f"{len(side.runs)} runs"
    commits = ", ".join(_fitting([code(each) for each in side.commits], _ROOM_SOURCES))
    at = f", commit {commits}" if commits else ""
    return f"{names}, {runs}, {requests_text(sum(map(requests_of, side.runs)))}{at}"
