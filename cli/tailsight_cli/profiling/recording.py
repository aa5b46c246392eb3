"""One round of recording: py-spy on each process at once, and what the threads were doing beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailsight_analysis.profiles import StateReading
from tailsight_cli._errors import CommandError
from tailsight_cli.profiling.spy import Spy, SpyFile, SpyOptions
from tailsight_cli.profiling.target import Target
from tailsight_cli.profiling.thread_states import ThreadStates


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one process did in a round: py-spy's file, and readings of its threads' states."""

    target: Target
    file: SpyFile
    states: tuple[StateReading, ...]
    notes: tuple[str, ...]
    is_here: bool = True
    """Whether the process runs on this machine: the source of its code can be read."""


def record_round(
    targets: Sequence[Target], folder: Path, duration_s: float, options: SpyOptions, *, gil: bool
) -> tuple[list[Recorded], bool, list[CommandError]]:
    """Record all targets for `duration_s` seconds; Ctrl-C ends it early, and what was seen until then is returned.

    The second value tells whether it was ended so, the third why processes were not recorded that could not be. Raises
    the first such CommandError where none could.
    """
    spies: list[Spy] = []
    recorded: list[Recorded] = []
    failures: list[CommandError] = []
    was_interrupted = False
    with contextlib.ExitStack() as stack:
        states: dict[int, ThreadStates] = {}
        try:
            for target in targets:
                spies.append(Spy(target.pid, folder / f"{target.pid}-{len(spies)}.json", duration_s, options))
                stack.callback(spies[-1].kill)
                if gil:
                    states[target.pid] = stack.enter_context(ThreadStates(target.pid, options.rate_hz))
            for spy in spies:
                spy.wait()
        except KeyboardInterrupt:
            if not spies:
                raise
            was_interrupted = True
            for spy in spies:
                spy.stop()
        for target, spy in zip(targets, spies, strict=False):
            try:
                file = spy.file()
            except CommandError as error:
                failures.append(error)
                continue
            of_threads = states.get(target.pid)
            readings, why_not = (tuple(of_threads.readings), of_threads.why_not) if of_threads else ((), "")
            recorded.append(Recorded(target, file, readings, (why_not,) if why_not else ()))
    if failures and not recorded:
        raise failures[0]
    return recorded, was_interrupted, failures
