"""A child process's bond to its parent: it speaks in lines of JSON, and it ends when the parent is gone."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable

import click


def say(**facts: object) -> None:
    """Tell the parent something: one line of JSON on stdout."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def when_stdin_closes(act: Callable[[], None]) -> None:
    """Call `act`, in a thread, when stdin ends.

    The parent holds the other end and never writes. It closes when the parent dies, by kill -9 as well: the one news
    of it that needs no polling.
    """

    def watch() -> None:
        # Not sys.stdin: its lock, held by a thread that never returns, would break the interpreter's exit.
        while os.read(0, 4096):
            pass
        act()

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


def end_this_process() -> None:
    """End as on SIGTERM: the way out that every process here has."""
    os.kill(os.getpid(), signal.SIGTERM)


def lifeline_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add the option that `Child` gives: speak JSON, and end when stdin does."""
    return click.option("--until-stdin-closes", "lifeline", is_flag=True, hidden=True)(command)
