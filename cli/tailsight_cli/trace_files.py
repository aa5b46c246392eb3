"""Trace files as the command line names them: folders, patterns, stdin; --start and --map; a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tailsight_cli._errors import UNREADABLE, WRONG_USE, CommandError
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.request_csv_mapping import MappingError, items_of, mapping_of
from tailsight_collector.importing.source import STDIN, FileSource, file_source, stdin_source
from tailsight_collector.importing.times import TimeError, iso_ns


def file_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --start and --map, which say what files do not."""
    command = click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="FIELD=COLUMN,…",
        help="Which column of a CSV of requests is what: start, duration_ms, stage.NAME_ms, …; or a TOML file.",
    )(command)
    return click.option(
        "--start",
        metavar="TIME",
        help="When a file began that does not say it (Triton's, offsets of a CSV, most profiles); ISO 8601.",
    )(command)


def options_of(start: str | None, mapping: Iterable[str]) -> Options:
    """Read --start and --map; raises CommandError."""
    try:
        start_ns = None if start is None else iso_ns(start, "time")
    except TimeError:
        raise CommandError(
            f"--start {start} is no time with a zone before the year 2262; use one as 2026-11-23T08:30:00Z"
        ) from None
    try:
        items = items_of(mapping)
        if items:
            mapping_of(items)
    except MappingError as error:
        raise CommandError(str(error)) from None
    return Options(start_ns=start_ns, mapping=items)


def opened(names: Iterable[str], stack: ExitStack) -> Iterator[Callable[[], FileSource]]:
    """Yield what opens each file, folders and patterns unfolded; raises CommandError where there is none."""
    has_stdin = False
    for name in names:
        if name == STDIN:
            if has_stdin:
                raise CommandError("- stands there twice, and stdin can be read once; name it once", WRONG_USE)
            has_stdin = True
            if sys.stdin is None:
                raise CommandError("- is stdin, and that is closed; name a file", WRONG_USE)
            yield partial(stack.enter_context, stdin_source(sys.stdin.buffer))
            continue
        for path in _paths(name):
            yield partial(file_source, path)


def _paths(name: str) -> list[Path]:
    if not name:
        raise CommandError("a file's name is empty; name a file, a folder (. is this one), or - for stdin", WRONG_USE)
    path = Path(name)
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if each.is_file() and not _is_hidden(each.relative_to(path)))
        if not found:
            raise CommandError(f"{name} is a folder without files", UNREADABLE)
        return found
    if path.exists():
        return [path]
    if any(sign in name for sign in "*?["):
        root = Path(path.anchor or ".")
        try:
            found = sorted(each for each in root.glob(str(path.relative_to(path.anchor))) if each.is_file())
        except ValueError:
            raise CommandError(f"{name} is no pattern: ** stands for folders, between two /", WRONG_USE) from None
        if found:
            return found
        raise CommandError(f"{name} matches no file", UNREADABLE)
    raise CommandError(f"{name} does not exist", UNREADABLE)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Show on stderr, where that is a terminal, what is being done, how much of it is done, and of how much."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total or None)
