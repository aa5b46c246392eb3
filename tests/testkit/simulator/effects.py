"""What a cause does to a stage, in milliseconds more: each a function of the moment at which the stage begins."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Sequence

from testkit.simulator.engine import Effect, Moment

Stretches = Sequence[tuple[float, float]]  # (from, to) in ms, ascending, apart


def is_within(stretches: Stretches, at_ms: float) -> bool:
    """Whether a moment lies in one of the stretches."""
    place = bisect.bisect_right(stretches, (at_ms, math.inf)) - 1
    return place >= 0 and at_ms < stretches[place][1]


def slower(
    factor: float, *, hosts: Collection[int] | None = None, requests: Sequence[bool] | None = None,
    stretches: Stretches | None = None, applies: Callable[[Moment], bool] | None = None,
) -> Effect:  # fmt: skip
    """Multiply the work by `factor` on these hosts, for these requests, in these stretches of time: all that are given."""

    def effect(moment: Moment) -> float:
        if hosts is not None and moment.host not in hosts:
            return 0.0
        if requests is not None and not requests[moment.request]:
            return 0.0
        if stretches is not None and not is_within(stretches, moment.at_ms):
            return 0.0
        if applies is not None and not applies(moment):
            return 0.0
        return (factor - 1) * moment.work_ms

    return effect


def later(extra_ms: Sequence[float], hosts: Collection[int]) -> Effect:
    """Add each request's own delay on these hosts."""
    return lambda moment: extra_ms[moment.request] if moment.host in hosts else 0.0


def contended(beyond: float, each_ms: float) -> Effect:
    """Every request at work beyond `beyond` costs `each_ms`: a lock is handed from one to the next."""
    return lambda moment: max(0.0, moment.active - beyond) * each_ms


def paused(period_ms: float, phase_ms: float, pause_ms: Sequence[float], hosts: Collection[int] | None) -> Effect:
    """Stop all work of the stage at the start of every period; what is in work, or comes meanwhile, stands still."""

    def effect(moment: Moment) -> float:
        if hosts is not None and moment.host not in hosts:
            return 0.0
        number = math.floor((moment.at_ms - phase_ms) / period_ms)
        into_ms = moment.at_ms - phase_ms - number * period_ms
        stood_ms = max(0.0, pause_ms[number % len(pause_ms)] - into_ms)
        room_ms = period_ms - max(into_ms, pause_ms[number % len(pause_ms)])
        left_ms = moment.work_ms
        while left_ms > room_ms:
            left_ms -= room_ms
            number += 1
            stood_ms += pause_ms[number % len(pause_ms)]
            room_ms = period_ms - pause_ms[number % len(pause_ms)]
        return stood_ms

    return effect
