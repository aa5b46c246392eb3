"""Every way in which a command ends, and the one line that says why.

0    fine
1    a regression was found (`gate`)
2    wrong use or configuration: an option, its value, an extra that is not installed
3    not enough data to decide
4    the store or an input could not be read
70   a defect of tailsight itself
130  stopped with Ctrl-C
"""

from __future__ import annotations

import os

FINE = 0
WRONG_USE = 2
NOT_ENOUGH_DATA = 3
UNREADABLE = 4
DEFECT = 70
INTERRUPTED = 130
TRACEBACK_ENV = "TAILSIGHT_TRACEBACK"
_LONGEST_WORD = 300  # characters: longer than paths are
# what to do about a question that a parameter of it spoils: the parameter's name, and the option that has it
WAYS_OUT = {
    "quality": "name the attribute that has it with --quality",
    "by": "choose other variants with --by",
    "serving": "name the one that follows the queue with --serving",
}


class CommandError(Exception):
    """A command's own error: one line that names the thing, the value and the way out, and the exit code."""

    def __init__(self, message: str, exit_code: int = WRONG_USE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def missing_extra(command: str, extra: str, module: str | None) -> CommandError:
    """Say which extra brings what a command needs."""
    return CommandError(f"`tailsight {command}` needs {module or 'more packages'}: pip install 'tailsight[{extra}]'")


def explain(error: BaseException) -> tuple[int, str]:
    """Turn any error into its exit code and its one line.

    The packages are imported here, because a bare installation has none of them and fails before it gets here.
    """
    from tailsight_analysis import AnalysisError, NotEnoughDataError, StorageError
    from tailsight_storage import InvalidDsnError

    if isinstance(error, CommandError):
        return error.exit_code, str(error)
    if isinstance(error, NotEnoughDataError):
        if error.choose:
            return NOT_ENOUGH_DATA, f"{error}; {WAYS_OUT[error.choose]}"
        more = "widen the window with --since or --all-time"
        if error.missing is None:  # nothing is counted that more time would bring
            return NOT_ENOUGH_DATA, str(error)
        return NOT_ENOUGH_DATA, f"{error}; {more}{', or lower --quantile' if error.quantile else ''}"
    if isinstance(error, (AnalysisError, InvalidDsnError)):
        return WRONG_USE, str(error)
    if isinstance(error, StorageError):
        return UNREADABLE, str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return UNREADABLE, f"{where}{error.strerror or error}"
    return DEFECT, (
        f"{type(error).__name__}: {error}; this is a defect of tailsight, please report it "
        f"({TRACEBACK_ENV}=1 shows where it happened)"
    )


def wants_traceback() -> bool:
    """Whether the person at the terminal asked to see where a defect happened."""
    return os.environ.get(TRACEBACK_ENV, "") not in ("", "0")


def one_line(text: str) -> str:
    """Put a message on one line, and make what others named in it harmless: no control characters, no endless word."""
    return " ".join(without_controls(_shortened(word)) for word in text.split())


def without_controls(text: str) -> str:
    """Put � where a terminal would obey a character rather than show it."""
    return "".join(character if character.isprintable() else "�" for character in text)


def _shortened(word: str) -> str:
    return word if len(word) <= _LONGEST_WORD else f"{word[:_LONGEST_WORD]}…"
