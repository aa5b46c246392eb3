"""A gate's report as annotations of a GitHub workflow run.

See "Workflow commands for GitHub Actions": message and properties are escaped as @actions/core does it.
"""

from __future__ import annotations

from tailsight_cli.gating.report import GateReport
from tailsight_cli.render import gate_words as words

MOST_ANNOTATIONS = 10  # of one kind in one step: GitHub shows no more
_TITLE = "Latency"


def gate_annotations(report: GateReport) -> list[str]:
    """Write an error a regression; else a warning that something is not decided, or a notice."""
    slower = report.of_verdict("regression")
    if slower:
        room = MOST_ANNOTATIONS if len(slower) <= MOST_ANNOTATIONS else MOST_ANNOTATIONS - 1
        lines = [
            annotation("error", f"{_TITLE} regression: {words.name(row)} {row.metric}", words.finding(row))
            for row in slower[:room]
        ]
        if len(slower) > room:
            more = f"{len(slower) - room} more metrics are slower: the report has them all"
            lines.append(annotation("error", f"{_TITLE} regression", more))
        return lines
    kind = "warning" if report.judgement.verdict == "inconclusive" else "notice"
    return [annotation(kind, f"{_TITLE}: {report.judgement.verdict}", words.headline(report))]


def annotation(kind: str, title: str, message: str) -> str:
    """Write one workflow command."""
    return f"::{kind} title={_property(title)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
