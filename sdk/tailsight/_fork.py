"""Forks and what is open: a child must close what it has of its parent's, exactly that, and nothing of anybody else's.

A ring file that a child keeps would stay locked when its service is gone; of a socket to the sidecar nobody would see
the end. So both are known here, as objects: the number of a descriptor that was closed may be somebody else's by now.
No fork falls between the opening of one and its being known, nor into the start of a process, whose pipes a child
would keep as well: a fork waits for that, a few milliseconds at most.
"""

import contextlib
import threading
import weakref
from collections.abc import Iterator
from typing import Protocol, TypeVar

_PATIENCE_S = 1.0
"""How long a fork waits at most. Without, a start that hangs would have the host hang."""


class _Closable(Protocol):
    def close(self) -> object: ...


C = TypeVar("C", bound=_Closable)


class _Forks:
    """What a forked child finds, and makes anew."""

    def __init__(self) -> None:
        self.begin_anew()

    def begin_anew(self) -> None:
        self.opening = threading.RLock()  # reentrant: a signal handler may fork
        self.known: weakref.WeakSet[_Closable] = weakref.WeakSet()
        self.has_forked = False


_forks = _Forks()


@contextlib.contextmanager
def no_fork() -> Iterator[None]:
    """Keep other threads from forking for a moment."""
    with _forks.opening:
        yield


def known(opened: C) -> C:
    """Have what was opened closed in forked children. Call it in no_fork(), with the opening."""
    _forks.known.add(opened)
    return opened


def has_forked() -> bool:
    """Tell whether this process has forked, from Python."""
    return _forks.has_forked


def before() -> None:
    """Wait until nothing is half open. In the thread that forks."""
    _forks.opening.acquire(timeout=_PATIENCE_S)


def after_in_parent() -> None:
    """Let the others go on."""
    _forks.has_forked = True
    with contextlib.suppress(RuntimeError):  # it waited in vain
        _forks.opening.release()


def after_in_child() -> None:
    """Close what is the parent's. Each object closes its own descriptor, and knows if it has done so already."""
    inherited = list(_forks.known)
    _forks.begin_anew()  # the lock may be held by a thread that does not exist here
    for opened in inherited:
        with contextlib.suppress(Exception):
            opened.close()
