"""`tailsight record`: run a command, and keep its spans in a run file."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from pathlib import Path
from random import SystemRandom
from typing import Any

import click

from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.recording.command import Interrupted, Signals
from tailsight_cli.recording.recorder import Plan, Progress, Recorded, Variant, record, shown
from tailsight_cli.recording.run_file import SUFFIX, as_text, run_name
from tailsight_cli.render.record import losses, progress_line, summary_lines

SEPARATOR = "--"
EPILOG = """\b
Examples:
  tailsight record -o base.otlp.zst -- python bench.py
  tailsight record -o base.otlp.zst --repeat 10 --warmup 1 -- python bench.py
\b
Two builds on one noisy machine, in turns (a command each, or a folder each):
  tailsight record -o base.otlp.zst -o cand.otlp.zst --repeat 10 \\
      -- python old.py -- python new.py
  tailsight record -o base.otlp.zst -o cand.otlp.zst --repeat 10 \\
      --in ../base --in . -- python bench.py
\b
How much do runs of the same differ? One command into two files:
  tailsight record -o a.otlp.zst -o b.otlp.zst --repeat 10 -- python bench.py
"""


@click.command(
    "record", epilog=EPILOG, context_settings={"allow_interspersed_args": False}, options_metavar="[OPTIONS] -o FILE"
)
@click.argument("command_line", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND… [-- COMMAND…]")
@click.option(
    "-o", "--output", "outputs", multiple=True, required=True, metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"The run file to write, NAME{SUFFIX}. Several: a file for each command, or all for the one command.",
)  # fmt: skip
@click.option("--repeat", type=click.IntRange(min=1), default=1, show_default=True, help="Run each command so often.")
@click.option(
    "--warmup", type=click.IntRange(min=0), default=0, show_default=True,
    help="Run each command so often first, without keeping its spans.",
)  # fmt: skip
@click.option("--run", "names", multiple=True, metavar="NAME", help="The run's name; one a file. Default: the file's.")
@click.option(
    "--in", "folders", multiple=True, metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Run in this folder, and note its commit; one for all, or one a file.",
)  # fmt: skip
@click.option("--keep-going", is_flag=True, help="Keep runs that fail or record nothing, and go on.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@click.option("--json", "as_json", is_flag=True, help="Print a summary in JSON; the command's stdout goes to stderr.")
@click.pass_context
def command(
    ctx: click.Context,
    command_line: tuple[str, ...],
    outputs: tuple[Path, ...],
    repeat: int,
    warmup: int,
    names: tuple[str, ...],
    folders: tuple[Path, ...],
    keep_going: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Run a command and keep the spans that it records in a file, without any server.

    Spans come from the tailsight SDK in the command and its children, and from any OpenTelemetry SDK that exports OTLP
    over HTTP. Ends with the command's own exit code. `tailsight import` and `tailsight gate` read the file.
    """
    commands = _commands(command_line, len(outputs))
    variants = [
        Variant(name, out, each, folder)
        for name, out, each, folder in zip(
            _names(names, outputs), outputs, commands, _folders(folders, len(outputs)), strict=True
        )
    ]
    _check_outputs(outputs, force=force)
    for variant in variants:
        _check_command(variant)
    plan = Plan(repeat, warmup, keep_going, sys.stderr.buffer if as_json else None)
    signals = Signals()
    for chatty in ("tailsight_collector", "uvicorn"):  # their warnings would stand between the command's own lines
        logging.getLogger(chatty).addHandler(logging.NullHandler())
    try:
        with signals.caught(), collector_errors():
            recorded = record(variants, plan, signals, random=SystemRandom(), on_progress=_say)
    except Interrupted as interruption:
        raise CommandError(f"stopped by {interruption}: nothing is written", interruption.exit_code) from None
    for line in summary_lines(recorded):
        click.echo(line, err=True)
    if as_json:
        click.echo(json.dumps({"files": [_plain(each) for each in recorded]}))
    ctx.exit(next((run.exit_code for each in recorded for run in each.header.runs if run.exit_code), 0))


def _say(progress: Progress) -> None:
    if progress.total > 1:
        click.echo(progress_line(progress), err=True)
    for line in losses(progress):
        click.echo(line, err=True)


def _plain(recorded: Recorded) -> dict[str, Any]:
    return {"path": str(recorded.path), "size_bytes": recorded.size_bytes, "header": recorded.header.to_json()}


def _commands(words: tuple[str, ...], files: int) -> list[tuple[str, ...]]:
    """Split what stands behind the options into a command a file. With one file nothing is split."""
    commands: list[list[str]] = [[]]
    for word in words:
        if word == SEPARATOR and files > 1:
            commands.append([])
        else:
            commands[-1].append(word)
    if len(commands) == 1:
        commands *= files
    if len(commands) != files:
        raise click.UsageError(
            f"{len(commands)} commands for {files} files: give an -o for each command, or one command for all"
        )
    if any(not each or each[0].startswith("-") for each in commands):
        raise click.UsageError(
            "with several -o each `--` begins a command, and one of these is empty or begins with an option; "
            "put a command that has `--` in it into a script"
        )
    return [tuple(each) for each in commands]


def _names(names: tuple[str, ...], outputs: tuple[Path, ...]) -> tuple[str, ...]:
    if names and len(names) != len(outputs):
        raise click.UsageError(f"{len(names)} --run for {len(outputs)} files: give one for each, in the same order")
    if "" in names:
        raise click.UsageError("--run needs a name")
    names = tuple(map(as_text, names)) or tuple(map(run_name, outputs))
    if len(set(names)) < len(names):
        raise click.UsageError(f"two files would have runs of one name, {names[0]}: tell them apart with --run")
    return names


def _folders(folders: tuple[Path, ...], files: int) -> tuple[Path, ...]:
    if len(folders) <= 1:
        return (folders or (Path(),)) * files
    if len(folders) != files:
        raise click.UsageError(f"{len(folders)} --in for {files} files: give one for all, or one for each")
    return folders


def _check_outputs(outputs: tuple[Path, ...], *, force: bool) -> None:
    """Say before a command runs for an hour what would keep its spans from being written."""
    if len({out.absolute() for out in outputs}) < len(outputs):
        raise click.UsageError("two -o name the same file")
    for out in outputs:
        if not out.name.endswith(SUFFIX):
            raise click.UsageError(f"-o {out} must end with {SUFFIX}")
        if out.exists() and not force:
            raise CommandError(f"{out} exists: --force overwrites it")
        if not out.parent.is_dir() or not os.access(out.parent, os.W_OK):
            raise CommandError(f"{out} cannot be written: there is no such folder, or it is not ours", UNREADABLE)


def _check_command(variant: Variant) -> None:
    program = variant.command[0]
    found = (variant.folder / program) if os.sep in program else shutil.which(program)
    if found is None or not os.access(found, os.X_OK):
        raise CommandError(f"{shown(variant.command)}: there is no program {program} that can be run")
