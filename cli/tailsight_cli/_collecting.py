"""The collector's and the demo's errors as a command's: which exit code each has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tailsight_cli._errors import UNREADABLE, WRONG_USE, CommandError
from tailsight_cli.processes import ProcessError
from tailsight_collector import CollectorError, SettingsError


@contextmanager
def collector_errors() -> Iterator[None]:
    """Raise a CommandError in place of what the collector's side raises."""
    try:
        yield
    except SettingsError as error:
        raise CommandError(str(error), WRONG_USE) from error
    except ProcessError as error:
        raise CommandError(str(error), WRONG_USE if error.exit_code == WRONG_USE else UNREADABLE) from error
    except CollectorError as error:
        raise CommandError(str(error), UNREADABLE) from error
