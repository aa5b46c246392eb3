"""Histograms and folded periods: nothing lost, everything in its place."""

from __future__ import annotations

import numpy as np
import pytest

from tailsight_analysis.statistics.intervals import Cells
from tailsight_analysis.statistics.shape import PHASES, histogram, slow_by_phase


def _cells(values, weights=None, width=0.0):
    value = np.asarray(values, dtype=np.float64)
    ones = np.ones(len(value))
    weight = ones if weights is None else np.asarray(weights, dtype=np.float64)
    return Cells(value, ones * width, ones.astype(np.int64), ones.astype(np.int64), weight, weight**2)


def test_a_histogram_has_all_weight_where_it_belongs():
    values = np.random.default_rng(1).lognormal(2, 1, 3000)
    weights = np.random.default_rng(2).uniform(1, 20, 3000)
    found = histogram(_cells(values, weights))
    assert sum(found.shares) == pytest.approx(1)
    assert (found.edges[0], found.edges[-1]) == (values.min(), values.max())
    for low, high, share in zip(found.edges[1:-1], found.edges[2:-1], found.shares[1:], strict=False):
        assert share == pytest.approx(weights[(values >= low) & (values < high)].sum() / weights.sum())


def test_one_value_is_one_bin_and_zeros_count():
    assert histogram(_cells([5.0, 5.0])).shares == (1.0,)
    assert histogram(_cells([0.0, 0.0])) is None
    found = histogram(_cells([0.0, 1.0, 100.0]))
    assert (found.shares[0], found.shares[-1]) == pytest.approx((2 / 3, 1 / 3))
    assert histogram(_cells([8.0], width=2.0)).edges == pytest.approx((9 / 1.05, 9 * 1.05))


def test_a_pause_stands_in_the_middle_of_the_folded_period():
    random = np.random.default_rng(3)
    start = np.sort(random.integers(0, 60 * 10**9, 6000))
    paused = np.abs((start - start[0] - 100e6 + 250e6) % 500e6 - 250e6) < 500e6 / PHASES  # two parts wide
    duration = np.where(paused, 20, 5) * 10**6 + random.integers(0, 10**6, len(start))
    found = slow_by_phase(
        start, duration, np.ones(len(start)), period_ns=500e6, middle_ns=100e6, slow_share=float(paused.mean())
    )
    assert len(found) == PHASES
    assert found[PHASES // 2 - 1 : PHASES // 2 + 1] == pytest.approx((1, 1))
    assert sum(found) == pytest.approx(2)


def test_a_part_without_events_is_unknown_and_weights_count():
    start, duration = np.array([0, 10, 500, 1010]), np.array([1, 1, 9, 1])
    found = slow_by_phase(
        start, duration, np.array([1.0, 1, 2, 1]), period_ns=1000, middle_ns=500, slow_share=0.4, phases=4
    )
    assert found == (0.0, None, 1.0, None)
