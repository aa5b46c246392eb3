"""The rules of sources that a command is given: --sources, or TAILSIGHT_SOURCES."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tailsight_cli._errors import UNREADABLE, WRONG_USE, CommandError

if TYPE_CHECKING:
    from tailsight_storage.source_rules import Rules

SOURCES_ENV = "TAILSIGHT_SOURCES"


def sources_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --sources."""
    return click.option(
        "--sources",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=SOURCES_ENV,
        show_envvar=True,
        help="File of rules for what other tools send, in TOML, before the built-in ones; see docs/sources.md.",
    )(command)


def rules_of(sources: Path | None) -> Rules:
    """Read the rules; raises CommandError, whose one line names the file, the rule and the key."""
    from tailsight_storage.errors import InvalidSourcesError
    from tailsight_storage.source_files import read_rules

    try:
        return read_rules(sources)
    except InvalidSourcesError as error:
        raise CommandError(str(error), UNREADABLE if error.is_missing else WRONG_USE) from None
