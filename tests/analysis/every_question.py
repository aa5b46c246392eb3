"""One set of requests that every question has an answer about, and the questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from analysis.brute_force import Span, window

from tailsight_analysis import (
    Window,
    breakdown,
    compare,
    hardware,
    jitter,
    pareto,
    queueing,
    tail,
    variance,
    whatif,
)
from tailsight_analysis.compare import Side
from tailsight_storage import Store

REQUESTS = 480
PACE = 34_000  # ticks between requests
MIDDLE = REQUESTS // 2 * PACE
ALL = window(0, REQUESTS * PACE + PACE)


def spans(weight: int = 1) -> list[Span]:
    """Requests of one worker, on one of two types, which they wait for; each says how good its answer was.

    Every other one stands for `weight`; all arrive hours after they ended, as what somebody imported.
    """
    random, result, free = np.random.default_rng(1), [], 0
    for n in range(1, REQUESTS + 1):
        before, work = int(random.lognormal(6, 0.5)), int(random.lognormal(8.7, 0.4))
        kind, model = ("L4", "small") if random.random() < 0.5 else ("H100", "large")
        work = 3 * work if kind == "L4" else work
        at = (n - 1) * PACE
        wait = max(0, free - at - before)
        free = at + before + wait + work
        result += [
            Span(n, 1, 0, at, before + wait + work + 100, hardware="CPU", weight=weight if n % 2 else 1,
                 decided=weight > 1, attributes=(("score", f"{random.random():.3f}"),)),
            Span(n, 2, 1, at, before, stage="preprocess", hardware="CPU"),
            Span(n, 3, 1, at + before, wait, stage="queue", hardware="CPU"),
            Span(n, 4, 1, at + before + wait, work, stage="compute", hardware=kind, model=model,
                 attributes=(("tailsight.batch.size", "1"),)),
        ]  # fmt: skip
    return result


def _compare(store: Store, asked: Window) -> Any:
    middle = window(0, MIDDLE).until_ns
    return compare(store, Side(Window(asked.since_ns, middle)), Side(Window(middle, asked.until_ns)))


QUESTIONS: dict[str, Callable[[Store, Window], Any]] = {
    "breakdown": breakdown,
    "tail": lambda store, asked: tail(store, asked, quantile=0.9),
    "variance": variance,
    "jitter": jitter,
    "hardware": hardware,
    "queueing": queueing,
    "whatif": lambda store, asked: whatif(store, asked, quantile=0.9),
    "compare": _compare,
    "pareto": pareto,
}
