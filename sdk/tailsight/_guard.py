"""The host application is protected: an error of ours is logged once, counted, and goes no further."""

import functools
import logging
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ._signals import raise_if_host_signal
from ._stats import counters

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("tailsight")

_logged: set[object] = set()


def caught(where: str, error: BaseException) -> None:
    """Account for an error of ours, from inside the `except` block that caught it.

    The hot path has its own try/except, which costs nothing until something is raised, and calls this. What a signal
    handler of the host raised is raised on.
    """
    raise_if_host_signal(error)
    counters.internal_errors += 1
    kind = (where, type(error))
    if kind in _logged:
        return
    # Before logging: a log handler that uses tailsight itself must not get here again and again.
    _logged.add(kind)
    _log(
        logging.ERROR,
        "internal error in %s: the application is not affected, but telemetry is incomplete. "
        "Further errors of this kind are only counted, see tailsight.stats(). Please report this one.",
        where,
        exc_info=error,
    )


def warn(message: str, *args: object) -> None:
    """Log one line for the user. A broken log handler stays the log handler's problem."""
    _log(logging.WARNING, message, *args)


def warn_once(kind: object, message: str, *args: object) -> None:
    """Like warn(), but only the first time for this `kind`."""
    if kind not in _logged:
        _logged.add(kind)
        _log(logging.WARNING, message, *args)


def guarded(where: str, fallback: Callable[[], T]) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Guard a function off the hot path: where it fails, `fallback()` is returned instead."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                return function(*args, **kwargs)
            except Exception as error:
                caught(where, error)
                return fallback()

        return wrapper

    return decorate


def run_guarded(where: str, function: Callable[[], object]) -> None:
    """Run the work of a thread of ours: an error must not get to the host's threading.excepthook."""
    try:
        function()
    except Exception as error:
        caught(where, error)


def _log(level: int, message: str, *args: object, exc_info: BaseException | None = None) -> None:
    try:
        logger.log(level, "tailsight: " + message, *args, exc_info=exc_info)
    except Exception as error:  # a filter or handler of the host raised: the host's logging is none of our business
        raise_if_host_signal(error)
        counters.internal_errors += 1
