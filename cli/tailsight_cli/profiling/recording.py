"""One round of recording: py-spy on each process at once, and what the threads were doing beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tailsight_analysis.profiles import StateReading
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


def record_round(
    targets: Sequence[Target], folder: Path, duration_s: float, options: SpyOptions, *, gil: bool
) -> tuple[list[Recorded], bool]:
    """Record all targets for `duration_s` seconds; Ctrl-C ends it early, and what was seen until then is returned.

    The second value tells whether it was ended so. Raises CommandError where a process cannot be recorded.
    """
    spies: list[Spy] = []
    was_interrupted = False
    with contextlib.ExitStack() as stack:
        states = {}
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
        files = [spy.file() for spy in spies]
    return [
        Recorded(
            target,
            file,
            tuple(states[target.pid].readings) if gil else (),
            (states[target.pid].why_not,) if gil and states[target.pid].why_not else (),
        )
        for target, file in zip(targets, files, strict=False)
    ], was_interrupted
