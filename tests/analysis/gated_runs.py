"""Runs of a gate whose truth is known: three stages, one after the other, on a machine with moods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tailsight_analysis.gating.result import Compared, Judgement
from tailsight_analysis.gating.samples import REQUESTS, RunSample, Series, run_of_values

COMPUTE, QUEUE, POST = Series("compute", "L4"), Series("queue", "L4"), Series("postprocess", "cpu")


def a_run(
    random: np.random.Generator,
    number: int,
    *,
    slower: Mapping[Series, float] | None = None,
    mood: float = 0.01,
    count: int = 400,
    spread: float = 0.3,
) -> RunSample:
    """A run of three stages, one after the other; `slower` has factors by series."""
    factor = np.exp(random.normal(0, mood))
    stages = {
        series: median * factor * (slower or {}).get(series, 1.0) * np.exp(spread * random.standard_normal(count))
        for series, median in ((COMPUTE, 10.0), (QUEUE, 3.0), (POST, 2.0))
    }
    return run_of_values(f"run {number}", number * 10**9, {REQUESTS: sum(stages.values()), **stages})


def in_turn(
    random: np.random.Generator, runs: int, *, slower: Mapping[Series, float] | None = None, **how: Any
) -> tuple[list[RunSample], list[RunSample]]:
    """So many runs a side: A B B A …"""
    every = [
        (slot % 4 in (1, 2), a_run(random, slot, slower=slower if slot % 4 in (1, 2) else None, **how))
        for slot in range(2 * runs)
    ]
    return [run for changed, run in every if not changed], [run for changed, run in every if changed]


def row(judgement: Judgement, series: Series, metric: str) -> Compared:
    """The comparison of this name."""
    found = [
        each
        for each in judgement.comparisons
        if (each.stage, each.hardware, each.metric) == (series.stage, series.hardware, metric)
    ]
    assert len(found) == 1
    return found[0]
