"""Where a gate's report goes beside the terminal: files, GitHub's annotations and the summary of its job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import click

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.gating.report import GateReport
from tailsight_cli.render.gate_github import gate_annotations
from tailsight_cli.render.gate_junit import gate_junit
from tailsight_cli.render.gate_markdown import gate_markdown

STDOUT = "-"
STEP_SUMMARY_ENV = "GITHUB_STEP_SUMMARY"


@dataclass(frozen=True, slots=True)
class Outputs:
    """What was asked for. `markdown` is a file or STDOUT; `stdout_taken`: what goes there is for a program."""

    markdown: str | None
    junit: Path | None
    github: bool
    stdout_taken: bool

    def check(self) -> None:
        """Say before anything is read what would keep the report from being written."""
        for path in (None if self.markdown == STDOUT else self.markdown, self.junit):
            if path is None:
                continue
            folder = Path(path).parent
            if Path(path).is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
                raise CommandError(f"{path} cannot be written: there is no such folder, or it is not ours", UNREADABLE)

    def write(self, report: GateReport) -> None:
        """Write what was asked for; raises OSError."""
        if self.markdown == STDOUT:
            click.echo(gate_markdown(report), nl=False)
        elif self.markdown is not None:
            Path(self.markdown).write_text(gate_markdown(report), encoding="utf-8")
        if self.junit is not None:
            self.junit.write_bytes(gate_junit(report))
        if self.github:
            for line in gate_annotations(report):
                click.echo(line, err=self.stdout_taken)
            if summary := os.environ.get(STEP_SUMMARY_ENV):
                with Path(summary).open("a", encoding="utf-8") as file:
                    file.write(gate_markdown(report))
