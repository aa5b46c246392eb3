"""Progress on stderr: a live line in a terminal, and plain lines, a few, where there is none (CI, a pipe)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_LINES_WITHOUT_TERMINAL = 4


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is going on while it lasts."""
    screen = Console(stderr=True, highlight=False)
    if screen.is_terminal:
        with screen.status(text):
            yield
    else:
        screen.print(text)
        yield


@contextmanager
def steps(text: str) -> Iterator[Callable[[str], None]]:
    """Give a function that says which step of several begins; `text` stands until the first one does."""
    screen = Console(stderr=True, highlight=False)
    if screen.is_terminal:
        with screen.status(text) as status:
            yield lambda begun: status.update(f"{begun} …")
    else:
        yield lambda begun: screen.print(f"{begun} …")


@contextmanager
def counted(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Give a function that takes how many are done; without a total it counts up."""
    screen = Console(stderr=True, highlight=False)
    if screen.is_terminal:
        bar = (BarColumn(), MofNCompleteColumn()) if total else (TextColumn("{task.completed:,.0f}"),)
        columns = (SpinnerColumn(), TextColumn(what), *bar, TimeElapsedColumn())
        with Progress(*columns, console=screen, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda done: progress.update(task, completed=done)
    elif total:
        yield _said_in_lines(screen, what, total)
    else:
        yield lambda _: None


def _said_in_lines(screen: Console, what: str, total: int) -> Callable[[int], None]:
    said = 0

    def update(done: int) -> None:
        nonlocal said
        part = done * _LINES_WITHOUT_TERMINAL // total
        if part > said:
            said = part
            screen.print(f"{done:,} of {total:,} {what}")

    return update
