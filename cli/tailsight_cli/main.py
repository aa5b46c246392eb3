"""`tailsight`: run a command, and end with its exit code and, where something went wrong, one line on stderr.

What takes long to import is imported inside, where Ctrl-C is caught already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tailsight_cli._errors import (
    DEFECT,
    FINE,
    INTERRUPTED,
    WRONG_USE,
    explain,
    missing_extra,
    one_line,
    wants_traceback,
)

if TYPE_CHECKING:
    import click

PROGRAM = "tailsight"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the console script."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by who started us: `tailsight … >&-`
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  stays open
    try:
        code = run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:  # while the interpreter was still importing what `run` needs
        code = INTERRUPTED
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; never lets an error out."""
    try:
        import click
    except ModuleNotFoundError as error:
        return _fail(WRONG_USE, str(missing_extra("…", "gate", error.name)))
    import logging

    # its warnings would be a second line beside ours
    logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
    for chatty in ("clickhouse_connect", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)
    try:
        outcome = program().main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()  # so that a reader that has gone is noticed here and not when the interpreter ends
    except click.exceptions.Exit as ending:
        return ending.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.UsageError as error:
        return _fail(WRONG_USE, _usage(error))
    except click.ClickException as error:
        return _fail(error.exit_code, error.format_message())
    except BrokenPipeError:
        return _reader_left()
    except SystemExit:  # click and rich end so, and only so, when nobody reads the output any more
        return _reader_left()
    except Exception as error:
        code, line = explain(error)
        if code == DEFECT and wants_traceback():
            raise
        return _fail(code, line)
    return outcome if isinstance(outcome, int) else FINE


def program() -> click.Group:
    """Build the `tailsight` command group."""
    from importlib import metadata

    import click

    from tailsight_cli.commands import LazyGroup

    group = LazyGroup(
        name=PROGRAM,
        help="Why are my slow requests slow? Per stage, per hardware type, at the tail.",
        epilog="Start with `tailsight demo`. Every command has --help with examples.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(metadata.version("tailsight"), prog_name=PROGRAM)(group)


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else PROGRAM
    return f"{error.format_message()} (try `{path} --help`)"


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"{PROGRAM}: {one_line(message)}\n")
    return code


def _reader_left() -> int:
    """Whoever read our output (`head`) has gone: end as a process that SIGPIPE ended, without Python's complaint."""
    import signal

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + signal.SIGPIPE


if __name__ == "__main__":
    main()
