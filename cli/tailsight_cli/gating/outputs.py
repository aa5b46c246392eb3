"""Where a gate's report goes beside the terminal: files, GitHub's annotations and the summary of its job."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tailsight_cli._errors import UNREADABLE, WRONG_USE, CommandError
from tailsight_cli.gating.report import GateReport
from tailsight_cli.gating.sources import FileSource, Source
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

    def check(self, sources: Sequence[Source]) -> None:
        """Say before anything is read what would keep the report from being written, or what it would destroy."""
        markdown = None if self.markdown in (None, STDOUT) else Path(self.markdown or "")
        paths = [path for path in (markdown, self.junit) if path is not None]
        if str(self.junit) == STDOUT:
            raise CommandError("--junit - : only --markdown can go to stdout; name a file, like gate.xml", WRONG_USE)
        if len(paths) == 2 and _are_one(*paths):
            raise CommandError(f"--markdown and --junit are both {paths[0]}: name two files", WRONG_USE)
        for path in paths:
            place = path if path.exists() else path.parent
            if path.is_dir() or not path.parent.is_dir() or not os.access(place, os.W_OK):
                raise CommandError(f"{path} cannot be written: there is no such folder, or it is not ours", UNREADABLE)
            if any(_are_one(path, source.path) for source in sources if isinstance(source, FileSource)):
                raise CommandError(f"{path} is compared: a report in its place would destroy it", WRONG_USE)

    def write_files(self, report: GateReport) -> None:
        """Write the files that were asked for, and the summary of GitHub's job; raises OSError."""
        if self.markdown not in (None, STDOUT):
            Path(self.markdown or "").write_text(gate_markdown(report), encoding="utf-8")
        if self.junit is not None:
            self.junit.write_bytes(gate_junit(report))
        if self.github and (summary := os.environ.get(STEP_SUMMARY_ENV)):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(gate_markdown(report))

    @contextmanager
    def printing(self, report: GateReport) -> Iterator[None]:
        """Keep what is printed inside from being obeyed, since names of stages may look like commands; then annotate.

        See "Stopping and starting workflow commands": the word that starts them again is not to be guessed.
        """
        if not self.github:
            yield
            return
        word = secrets.token_hex(16)
        fence = not self.stdout_taken
        if fence:
            click.echo(f"::stop-commands::{word}")
        try:
            yield
        finally:
            if fence:
                click.echo(f"::{word}::")
        for line in gate_annotations(report):
            click.echo(line, err=self.stdout_taken)


def _are_one(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return one.resolve() == other.resolve()
