"""What was planted is found first; where nothing was planted, nothing is named."""

import time

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span

from tailsight_analysis import breakdown, tail, whole_time
from tailsight_analysis.causes.attributes import judge

STAGES = ("preprocess", "queue", "compute", "postprocess")


def pipeline(seed: int, requests: int, slow_stage: str = "", slow_value: str = "") -> list[Span]:
    """Sequential requests of four stages; `slow_stage` takes long in a few, most of which have color = `slow_value`."""
    random = np.random.default_rng(seed)
    spans = []
    for trace in range(1, requests + 1):
        slow = trace % 40 == 0
        color = str(random.choice(["red", "green", "blue", "grey"]))
        if slow and slow_value and random.random() < 0.9:
            color = slow_value
        start, at = trace * 50, trace * 50
        stages = []
        for number, stage in enumerate(STAGES, 2):
            ticks = int(random.lognormal(3, 0.2)) + (200 if slow and stage == slow_stage else 0)
            stages.append(Span(trace, number, 1, at, ticks, stage=stage, host=f"h{random.integers(4)}"))
            at += ticks
        given = (("color", color), ("user", f"user-{trace}"), ("size", str(random.integers(20))))
        spans += [Span(trace, 1, 0, start, at - start + 5, host="h0", attributes=given), *stages]
    return spans


@pytest.mark.parametrize("stage", ["queue", "compute"])
def test_the_planted_stage_and_attribute_come_first(store, stage):
    brute_force.insert(store, pipeline(1, 1000, stage, "purple"))
    result = tail(store, whole_time(store), quantile=0.98)
    assert result.stages[0].stage == stage
    assert result.stages[0].excess_share > 0.8
    assert (result.attributes[0].key, result.attributes[0].value) == ("color", "purple")
    shares = [part.excess_share for part in (*result.stages, result.unaccounted)]
    assert sum(shares) == pytest.approx(1)


def test_nothing_planted_names_no_attribute(store):
    brute_force.insert(store, pipeline(2, 1000))
    assert tail(store, whole_time(store), quantile=0.98).attributes == ()


def test_chance_alone_names_an_attribute_in_at_most_one_of_twenty_cases():
    random = np.random.default_rng(20)
    named = 0
    for _ in range(400):
        values = [random.integers(2, 60, 1100) % random.integers(2, 60) for _ in range(8)]
        rows = [
            {"key": str(key), "value": str(value), "tail_requests": int((column[:100] == value).sum()),
             "typical_requests": int((column[100:] == value).sum())}
            for key, column in enumerate(values) for value in np.unique(column)
        ]  # fmt: skip
        tested = [row for row in rows if row["tail_requests"] + row["typical_requests"] >= 2]
        named += bool(judge([row for row in tested if row["tail_requests"] >= 2], 100, 1000, len(tested)))
    assert named / 400 <= 0.05


def test_a_trace_of_100_000_spans_is_answered_in_bounded_time(store):
    count = 100_000
    spans = [Span(1, 1, 0, 0, 2 * count)]
    spans += [Span(1, n, n - 1 if n % 2 else 1, n, 3, stage="compute") for n in range(2, count + 1)]
    brute_force.insert(store, spans)
    brute_force.insert(store, [Span(n, 1, 0, 0, 100 + n) for n in range(2, 31)])
    started = time.process_time()
    window = whole_time(store)
    assert breakdown(store, window).rows[0].count > 0
    assert tail(store, window, quantile=0.95).tail_requests == 2
    assert time.process_time() - started < 20


def test_a_sample_says_so_and_keeps_the_counts_of_all(store, monkeypatch):
    brute_force.insert(store, pipeline(3, 400, "queue"))
    whole = tail(store, whole_time(store), quantile=0.9)
    assert not whole.is_sampled
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_REQUESTS", 400)
    part = tail(store, whole_time(store), quantile=0.9)
    assert part.is_sampled
    assert part.to_json()["sampled"] is True
    assert (part.tail_requests, part.typical_requests) == (whole.tail_requests, whole.typical_requests)
    assert part.tail_sampled <= 100
    assert part.typical_sampled <= 100
    assert part == tail(store, whole_time(store), quantile=0.9)
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_REQUESTS", 20)
    shares = breakdown(store, whole_time(store))
    assert shares.sampled_requests <= 20
    assert sum(row.self_share for row in shares.rows) == pytest.approx(1)


def test_too_many_spans_leave_out_whole_traces(store, monkeypatch):
    brute_force.insert(store, pipeline(4, 100))
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_SPANS", 101)
    result = breakdown(store, whole_time(store))
    assert result.requests.count == 100
    assert result.sampled_requests == 20
    assert sum(row.self_share for row in result.rows) == pytest.approx(1)
