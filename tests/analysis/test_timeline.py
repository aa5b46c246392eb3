"""Timelines: their quantiles and bounds bucket by bucket against numpy, and as rare as they say beyond the truth."""

from __future__ import annotations

import json

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span
from scipy.signal import lfilter
from scipy.stats import norm

from tailsight_analysis import QuestionError, Window, confidence, timeline
from tailsight_analysis.statistics.intervals import Cells, quantile_intervals

BUCKETS, LENGTH, BLOCKS = 4, 160, 16  # ticks a bucket, blocks a bucket
WINDOW = Window(BASE_NS, BASE_NS + BUCKETS * LENGTH * TICK_NS)


def spans_of(random: np.random.Generator, count: int, weight: int = 1) -> list[Span]:
    """Requests, each with a stage of most of its time, which get slower bucket by bucket; an empty third bucket."""
    spans = []
    for trace in range(count):
        start = int(random.integers(0, BUCKETS * LENGTH))
        if start // LENGTH == 2:
            continue
        took = int(1000 * np.exp(0.3 * random.standard_normal()) * (1 + start // LENGTH))
        stands_for = weight if took < 1500 else 1
        spans.append(Span(trace + 1, 2 * trace + 1, start=start, duration=took, weight=stands_for))
        inner = Span(trace + 1, 2 * trace + 2, 2 * trace + 1, start, took - 10, "compute", weight=stands_for)
        spans.append(inner)
    return spans


def bounds_by_hand(spans: list[Span], bucket: int) -> list[tuple[float | None, float | None]]:
    mine = [span for span in spans if span.start // LENGTH == bucket]
    values = np.array([span.duration for span in mine]) * TICK_NS / 1e6
    block = np.array([span.start * BLOCKS // LENGTH for span in mine])
    weight = np.array([float(span.weight) for span in mine])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weight[order]) - weight[order] / 2
    if (weight == 1).all():
        at = [float(np.quantile(values, level)) for level in (0.5, 0.99)]
    else:
        at = [float(np.interp(level * weight.sum(), reached, values[order])) for level in (0.5, 0.99)]
    # equal ones of a block are counted together
    pairs, cell = np.unique(np.stack((values, block)), axis=1, return_inverse=True)
    sums = [np.bincount(cell.ravel(), of) for of in (np.ones(len(values)), weight, weight**2)]
    cells = Cells(pairs[0], 0 * pairs[0], pairs[1].astype(int), sums[0].astype(int), sums[1], sums[2])
    found = quantile_intervals(cells, (0.5, 0.99), at)
    return [(each.low, each.high) for each in found]


@pytest.mark.parametrize("weight", [1, 5])
def test_each_point_has_the_bounds_of_its_own_bucket(store, weight):
    spans = spans_of(np.random.default_rng(1), 5000, weight)
    brute_force.insert(store, spans)
    result = timeline(store, WINDOW, points=BUCKETS)
    for points, mine in ((result.requests, [s for s in spans if not s.stage]), (result, [s for s in spans if s.stage])):
        assert [(point.time_ns - BASE_NS) // (LENGTH * TICK_NS) for point in points] == [0, 1, 3]
        for point, bucket in zip(points, (0, 1, 3), strict=True):
            got = [(each.low, each.high) for each in (point.p50_interval, point.p99_interval)]
            assert np.array(got) == pytest.approx(np.array(bounds_by_hand(mine, bucket)), rel=1e-9)
            assert point.p50_interval.low < point.p50_ms < point.p50_interval.high
            assert point.p99_interval.low < point.p99_ms <= point.p99_interval.high
    assert result.interval_accuracy == 0
    assert (result.data.stored, result.data.estimated) == (
        sum(point.stored or point.count for point in result.requests),
        sum(point.count for point in result.requests),
    )
    assert (result.data.estimated > result.data.stored) == (weight > 1)
    json.dumps([point.to_json() for point in result], allow_nan=False)


def test_a_point_of_few_says_how_many_more_it_takes(store):
    brute_force.insert(
        store, [Span(number, number, start=number, stage="queue", duration=number) for number in range(1, 101)]
    )
    point = timeline(store, WINDOW, points=1).requests[0]
    assert (point.p99_interval.high, point.p99_interval.missing) == (None, 268)
    assert point.to_json()["missing"] == {"p99": 268}
    assert point.to_json()["p99_interval_ms"][1] is None


def test_many_spans_are_counted_in_cells_and_the_bounds_are_as_near_as_it_says(store, monkeypatch):
    spans = spans_of(np.random.default_rng(2), 3000)
    brute_force.insert(store, spans)
    exact = timeline(store, WINDOW, points=BUCKETS)
    monkeypatch.setattr(confidence, "EXACT_UP_TO", 1000)
    for many in (10_000, 1000):
        monkeypatch.setattr(confidence, "ALL_BLOCKS_UP_TO", many)
        counted = timeline(store, WINDOW, points=BUCKETS)
        assert 0 < counted.interval_accuracy < 0.04
        for one, other in zip((*exact, *exact.requests), (*counted, *counted.requests), strict=True):
            assert (one.p50_ms, one.p99_ms) == (other.p50_ms, other.p99_ms)
            for mine, theirs in ((one.p50_interval, other.p50_interval), (one.p99_interval, other.p99_interval)):
                assert theirs.low == pytest.approx(mine.low, rel=counted.interval_accuracy)
                assert theirs.high == pytest.approx(mine.high, rel=counted.interval_accuracy)


@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.93), (0.9, 0.88)])
def test_the_truth_lies_between_the_bounds_of_a_point_as_often_as_they_say(store, phi, least):
    """A thousand requests a point, one after the other: independent ones, and ones that are alike in stretches."""
    random, points, each = np.random.default_rng(3), 60, 1000
    held = np.zeros(2)
    for repeat in range(2):
        noise = random.standard_normal(points * each + 500) * np.sqrt(1 - phi**2)
        ticks = (10_000 * np.exp(0.3 * lfilter([1], [1, -phi], noise)[500:])).astype(int)
        first = repeat * points * each
        brute_force.insert(
            store,
            [Span(first + n + 1, first + n + 1, start=first + n, duration=int(took)) for n, took in enumerate(ticks)],
        )
        window = Window(BASE_NS + first * TICK_NS, BASE_NS + (first + points * each) * TICK_NS)
        found = timeline(store, window, points=points).requests
        assert len(found) == points
        for at, level in enumerate((0.5, 0.99)):
            true_ms = 10_000 * np.exp(0.3 * norm.ppf(level)) * TICK_NS / 1e6
            for point in found:
                interval = (point.p50_interval, point.p99_interval)[at]
                held[at] += interval.low <= true_ms and (interval.high is None or true_ms <= interval.high)
    assert (held / (2 * points) >= least).all(), held / (2 * points)


@pytest.mark.parametrize("points", [0, -1, 4001])
def test_a_number_of_points_that_cannot_be_is_refused(store, points):
    with pytest.raises(QuestionError, match=f"cannot have {points} points"):
        timeline(store, WINDOW, points=points)
