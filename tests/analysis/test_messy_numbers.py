"""Attributes and clocks that say numbers which nobody measured: every question still answers, in JSON that is strict."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span

from tailsight_analysis import (
    Filters,
    Scenario,
    Side,
    compare,
    hardware,
    jitter,
    pareto,
    queueing,
    tail,
    variance,
    whatif,
    whole_time,
)
from tailsight_analysis.causes.load import load_at

NUMBERS = ("nan", "inf", "-inf", "1.7e308", "-1.7e308", "1e61", "1e400", "5e-324", "many", "٣", "-1")
SAYING = (
    "tailsight.batch.size", "tailsight.queue.depth", "tailsight.deadline_ms", "tailsight.stream.gap_p50_ms",
    "tailsight.stream.gap_p99_ms", "tailsight.stream.gap_max_ms", "gen_ai.usage.input_tokens", "quality",
)  # fmt: skip
EVERYONE = Filters()
QUESTIONS: dict[str, Callable] = {
    "tail": lambda store, window: tail(store, window, quantile=0.9),
    "variance": variance,
    "hardware": hardware,
    "jitter": jitter,
    "queueing": queueing,
    "pareto": lambda store, window: pareto(store, window, quality="quality"),
    "whatif": lambda store, window: whatif(
        store, window, quantile=0.9, scenarios=(Scenario(("compute",), on="L4"), Scenario(("compute",), times=0.5))
    ),
    "compare": lambda store, window: compare(store, Side(window, EVERYONE), Side(window, Filters(stage=("compute",)))),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_numbers_that_nobody_measured_are_none(store, question):
    spans = []
    for n in range(1, 241):
        said = tuple((key, NUMBERS[(n + place) % len(NUMBERS)]) for place, key in enumerate(SAYING))
        said = said if n % 3 else tuple((key, "7") for key in SAYING)
        spans += [
            Span(n, 1, 0, 2000 * n, 1000 + n, attributes=said),
            Span(n, 2, 1, 2000 * n, 300 + n % 7, stage="queue", attributes=said),
            Span(n, 3, 1, 2000 * n + 400, 500 + n % 11, stage="compute", model="ab"[n % 2], attributes=said),
        ]
    brute_force.insert(store, spans)
    answer = QUESTIONS[question](store, whole_time(store))
    json.dumps(answer.to_json(), allow_nan=False)


def test_load_is_counted_where_a_clock_is_wrong_by_decades():
    starts = np.arange(1, 4, dtype=np.int64) * 10**18
    keys, counts = load_at(starts, starts, np.full(3, 8 * 10**17), np.ones(3), 8 * 10**17)
    assert len(keys) == len(counts)
    assert counts[0].tolist() == [0, 0, 0]
    assert counts[-1].tolist() == [0, 1, 1]
