"""What a side is made of, as it was written on the command line: a run file, or a part of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.recording.header import Header
from tailsight_cli.recording.run_file import read_header
from tailsight_cli.sides import KEYS, WINDOW, Asked, read_side
from tailsight_collector.errors import UnreadableFileError
from tailsight_collector.zstd_frames import is_zstd


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of spans; `header` is None where it is none of `tailsight record`."""

    path: Path
    header: Header | None

    @property
    def text(self) -> str:
        """As it was written."""
        return str(self.path)


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A part of the store: `run=A`, `version=2`, `since=2d,until=1d`."""

    text: str
    asked: Asked


Source = FileSource | StoreSource


def read_source(option: str, text: str) -> Source:
    """Tell a file from a part of the store, and read its header.

    Raises UsageError, and CommandError where the file cannot be read.
    """
    if not text.strip():
        raise click.UsageError(f"{option} is empty: name a run file, or a part of the store like run=nightly")
    path = Path(text)
    if not path.exists() and text.partition("=")[0].strip() in (*KEYS, *WINDOW):
        return StoreSource(text, read_side(option, [text]))
    if not path.is_file():
        raise CommandError(f"{text} {_what_is_wrong(path)}", UNREADABLE)
    try:
        with path.open("rb") as file:
            packed = is_zstd(file.read(4))
        return FileSource(path, read_header(path) if packed else None)
    except UnreadableFileError as error:
        raise CommandError(str(error), UNREADABLE) from error


def _what_is_wrong(path: Path) -> str:
    if path.is_dir():
        return "is a folder; name its files"
    if path.exists():
        return "is no file that can be read twice: save it first"
    known = "=, ".join((*KEYS, *WINDOW))
    return f"does not exist; parts of the store begin with {known}=" if "=" in path.name else "does not exist"


def check_twice(baseline: list[Source], candidate: list[Source]) -> None:
    """Refuse what is named twice, before it is read: on both sides it would pass, on one side it would count twice.

    What is the same by other names, `sharing` finds.
    """
    seen: dict[str, int] = {}
    for side, sources in enumerate((baseline, candidate)):
        for source in sources:
            key = str(source.path.resolve()) if isinstance(source, FileSource) else source.text
            if key in seen:
                both = "baseline and candidate" if seen[key] != side else "twice on one side"
                raise click.UsageError(f"{source.text} is {both}: that says nothing about runs of their own")
            seen[key] = side
