"""Tests in blocks of time: right where requests are independent, and not deceived where they are not."""

import itertools

import numpy as np
import pytest
from analysis.slow_pipelines import ar1
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from tailsight_analysis.causes.redraw import Redraw
from tailsight_analysis.statistics.blocks import (
    Resampler,
    chance_in_time,
    chance_of_difference,
    chance_of_rising,
    chance_within,
    interval,
    time_blocks,
)


def test_blocks_hold_about_as_many_requests_each():
    start = np.sort(np.random.default_rng(0).exponential(1e9, 1000).astype(np.int64))
    block = time_blocks(start)
    assert (np.diff(block) >= 0).all()
    assert set(np.bincount(block)) <= {19, 20, 21}
    assert time_blocks(np.array([5, 5, 5])).tolist() == [0, 0, 0]
    assert len(time_blocks(np.empty(0, dtype=np.int64))) == 0


def test_within_one_block_the_bound_is_chernoffs_of_a_binomial():
    holds, is_case = np.zeros(100, dtype=bool), np.zeros(100, dtype=bool)
    holds[:30], is_case[20:40] = True, True  # 10 of 20 cases, where 6 are expected
    found = chance_within(is_case, holds, np.zeros(100, dtype=np.int64))
    divergence = 0.5 * np.log(0.5 / 0.3) + 0.5 * np.log(0.5 / 0.7)
    assert found == pytest.approx(np.exp(-20 * divergence), rel=1e-6)
    assert found >= binom.sf(9, 20, 0.3)


def test_within_blocks_the_bound_is_above_all_ways_to_draw_the_cases():
    random = np.random.default_rng(1)
    block = np.repeat([0, 1, 2], 6)
    holds = np.array([1, 1, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0], dtype=bool)
    cases = [2, 1, 2]
    counts = [
        sum(holds[list(drawn)].sum() for drawn in ways)
        for ways in itertools.product(*(itertools.combinations(range(6 * b, 6 * b + 6), cases[b]) for b in range(3)))
    ]
    for _ in range(20):
        is_case = np.zeros(18, dtype=bool)
        for number, few in enumerate(cases):
            is_case[6 * number + random.choice(6, few, replace=False)] = True
        met = int((is_case & holds).sum())
        assert chance_within(is_case, holds, block) >= np.mean(np.array(counts) >= met) - 1e-12


def test_a_condition_that_follows_time_is_not_blamed_within_blocks():
    """Slow in the second half; the condition is more common there, but means nothing."""
    random = np.random.default_rng(2)
    half = np.repeat([0.0, 1.0], 2000)
    is_case, holds = random.random(4000) < 0.01 + 0.1 * half, random.random(4000) < 0.2 + 0.6 * half
    block = np.arange(4000) // 20
    assert chance_within(is_case, holds, block) > 0.05
    assert chance_within(is_case, random.random(4000) < 0.2 + 0.6 * is_case, block) < 1e-10


@pytest.mark.parametrize("alike", [0.0, 0.9, 0.98, 0.995])
@pytest.mark.parametrize("condition", ["drawn", "lasting"])
def test_chance_alone_is_significant_no_more_often_than_it_may_be(alike, condition):
    random = np.random.default_rng(round(alike * 1000))
    block = np.arange(3000) // 20
    found = []
    for _ in range(300):
        noise = ar1(random, 3000, alike)
        holds = random.random(3000) < 0.2 if condition == "drawn" else ar1(random, 3000, max(alike, 0.5)) > 0.8
        found.append(chance_in_time(noise > np.quantile(noise, 0.98), holds, block))
    assert np.mean(np.array(found) <= 0.05) <= 0.09
    assert np.mean(np.array(found) <= 0.001) <= 0.01


@pytest.mark.parametrize("alike", [0.0, 0.9, 0.99])
def test_two_numbers_that_last_do_not_rise_together_by_chance(alike):
    random = np.random.default_rng(7)
    block = np.arange(3000) // 20
    found = [chance_of_rising(ar1(random, 3000, alike), ar1(random, 3000, alike), block) for _ in range(300)]
    assert np.mean(np.array(found) <= 0.05) <= 0.09
    one = ar1(random, 3000, alike)
    assert chance_of_rising(one, one + random.normal(size=3000), block) < 1e-6
    assert chance_of_rising(one, -one, block) == 1.0


@given(st.integers(0, 60), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_requests_have_a_p_value(count, blocks, seed):
    """Also where a condition is met by all of a block or equally in each, or there are hardly any requests."""
    random = np.random.default_rng(seed)
    block = np.sort(random.integers(0, blocks, count))
    is_case = random.random(count) < 0.3
    for holds in (random.random(count) < 0.5, np.arange(count) % 2 == 0, block % 2 == 0, np.ones(count, dtype=bool)):
        assert 0 <= chance_in_time(is_case, holds, block) <= 1
        assert 0 <= chance_of_rising(holds.astype(float), is_case.astype(float), block) <= 1


def test_one_stretch_of_time_proves_nothing():
    is_case = np.zeros(2000, dtype=bool)
    is_case[1000:1020] = True
    assert chance_of_difference(is_case, is_case, np.arange(2000) // 20) == 1.0
    several = np.isin(np.arange(2000) // 20, np.arange(3, 100, 7))
    assert chance_of_difference(several, several, np.arange(2000) // 20) < 1e-6


def test_draws_are_the_same_each_time_and_keep_the_number_of_blocks():
    block = np.repeat(np.arange(10), 5)
    one, other = Resampler.of(block), Resampler.of(block)
    assert (one.draws == other.draws).all()
    assert (one.sums(np.ones(50)) == 50).all()


@pytest.mark.parametrize("tail", ["exponential", "heavy"])
def test_intervals_of_an_excess_cover_it(tail):
    """Of 200 windows of 3,000 requests, of which 30 are the tail. The excess is that of the population: of a million."""
    random = np.random.default_rng(3)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        own = random.exponential(10, count) if tail == "exponential" else 10 * random.pareto(4, count)
        return own, own + random.lognormal(2, 0.3, count)

    def cuts(duration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high, from_ = np.quantile(duration, [0.4, 0.6, 0.99])
        return duration >= from_, (duration >= low) & (duration <= high)

    own, duration = draw(1_000_000)
    in_tail, in_typical = cuts(duration)
    truth = own[in_tail].mean() - own[in_typical].mean()
    covered = 0
    for _ in range(200):
        own, duration = draw(3000)
        in_tail, in_typical = cuts(duration)
        redraw = Redraw.of(np.arange(3000), duration, np.ones(3000), in_tail, in_typical)
        low, high = interval(own[in_tail].mean() - own[in_typical].mean(), redraw.excesses(own))
        covered += low <= truth <= high
    assert covered >= (178 if tail == "exponential" else 170)
    assert covered < 200
