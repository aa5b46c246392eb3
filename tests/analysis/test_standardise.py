"""Like with like: textbook sums, paradoxes, what cannot be compared, and whether intervals cover."""

import numpy as np
import pytest

from tailsight_analysis.machines.like_with_like import combined
from tailsight_analysis.requests.covariates import binned
from tailsight_analysis.statistics.linearised import blocks_in_time
from tailsight_analysis.statistics.standardise import LikeWithLike, compare_kinds, standardised_ratio


def compare(values, is_kind, stratum, numbers=(), weight=None, order=None):
    weight = np.ones(len(values)) if weight is None else weight
    population = np.bincount(stratum, weight)
    block = blocks_in_time(np.arange(len(values)) if order is None else order)
    return compare_kinds(values, is_kind, stratum, weight, block, population, numbers)


def test_means_are_those_of_direct_standardisation():
    """Two strata by hand: 10 and 30 ms against 8 and 20 ms; 100 of 400 pieces of work are in the first."""
    values = np.repeat([10.0, 30.0, 8.0, 20.0], [60, 40, 40, 260])
    is_kind = np.repeat([True, True, False, False], [60, 40, 40, 260])
    stratum = np.repeat([0, 1, 0, 1], [60, 40, 40, 260])
    result = compare(values, is_kind, stratum)
    assert result.mean == pytest.approx(10 * 0.25 + 30 * 0.75)
    assert result.reference_mean == pytest.approx(8 * 0.25 + 20 * 0.75)
    assert result.mean_ratio.value == pytest.approx(25 / 17)
    assert result.comparable_share == 1
    assert standardised_ratio(values, is_kind, stratum, np.ones(400), np.array([100.0, 300.0])) == pytest.approx(
        25 / 17
    )


def test_kidney_stones():
    """Charig et al. 1986: open surgery succeeds less often on the whole, and more often at the same stones."""
    table = {(True, 0): (81, 87), (True, 1): (192, 263), (False, 0): (234, 270), (False, 1): (55, 80)}
    columns = [(np.arange(n) < k, np.full(n, kind), np.full(n, size)) for (kind, size), (k, n) in table.items()]
    success, is_kind, stratum = (np.concatenate(column) for column in zip(*columns, strict=True))
    assert (success[is_kind].mean(), success[~is_kind].mean()) == pytest.approx((0.78, 0.826), abs=0.001)
    result = compare(success.astype(float), is_kind, stratum, order=np.random.default_rng(0).permutation(700))
    assert (result.mean, result.reference_mean) == pytest.approx((0.8325, 0.7789), abs=0.0001)


def test_simpsons_paradox():
    """Faster in each stratum, slower in all of them together."""
    random = np.random.default_rng(1)
    counts = {(True, 0): 87, (True, 1): 263, (False, 0): 270, (False, 1): 80}
    base = {0: 10.0, 1: 100.0}
    parts = [(np.full(n, kind), np.full(n, large), base[large] * (0.8 if kind else 1) * np.exp(0.1 * random.normal(size=n)))
             for (kind, large), n in counts.items()]  # fmt: skip
    is_kind, stratum, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert values[is_kind].mean() / values[~is_kind].mean() > 1.5
    result = compare(values, is_kind, stratum, order=random.permutation(len(values)))
    assert result.mean_ratio.value == pytest.approx(0.8, abs=0.03)
    assert result.mean_ratio.high < 1
    assert result.p_value < 0.001


def test_work_of_one_side_only_is_left_out_and_said():
    random = np.random.default_rng(2)
    stratum = np.repeat([0, 1, 2], [200, 200, 100])
    is_kind = np.where(stratum == 0, np.arange(500) % 2 == 0, stratum == 1)
    values = np.where(is_kind, 20.0, 10.0) * np.exp(0.1 * random.normal(size=500)) * np.array([1, 50, 70])[stratum]
    result = compare(values, is_kind, stratum)
    assert result.comparable_share == pytest.approx(0.4)
    assert result.mean_ratio.value == pytest.approx(2, rel=0.05)
    assert compare(values, is_kind, np.where(stratum == 0, 1 - is_kind, stratum + 1)) == 0


def test_quantiles_are_of_the_standardised_mix():
    random = np.random.default_rng(3)
    stratum = np.concatenate((random.random(40_000) < 0.2, random.random(40_000) < 0.7)).astype(np.int64)
    is_kind = np.arange(80_000) < 40_000
    values = np.exp(random.normal(size=80_000)) * np.where(stratum == 1, 5, 1) * np.where(is_kind, 2, 1)
    result = compare(values, is_kind, stratum, order=random.permutation(80_000))
    large = stratum.mean()
    mixed = np.concatenate(
        (np.exp(random.normal(size=int(2e6 * (1 - large)))), 5 * np.exp(random.normal(size=int(2e6 * large))))
    )
    assert result.reference_quantiles == pytest.approx(np.quantile(mixed, [0.5, 0.99]), rel=0.04)
    assert [ratio.value for ratio in result.quantile_ratios] == pytest.approx([2, 2], rel=0.05)


def test_weights_count_as_repeated_work():
    random = np.random.default_rng(4)
    values, stratum = random.lognormal(size=600), random.integers(0, 3, 600)
    is_kind, weight = random.random(600) < 0.5, random.integers(1, 6, 600)
    weighted = compare(values, is_kind, stratum, weight=weight.astype(float))
    repeated = compare(*(np.repeat(column, weight) for column in (values, is_kind, stratum)))
    assert weighted.mean == pytest.approx(repeated.mean)
    assert weighted.reference_mean == pytest.approx(repeated.reference_mean)
    assert weighted.quantiles == pytest.approx(repeated.quantiles, rel=0.02)


def test_what_a_bin_leaves_uneven_is_evened_out():
    """Time grows with the input's length, and one kind gets longer inputs: within bins as well."""
    random = np.random.default_rng(5)
    is_kind = np.arange(20_000) % 2 == 0
    length = random.uniform(0, 100, 20_000) + np.where(is_kind, 20, 0)
    values = 10 + length + random.normal(size=20_000)
    stratum = binned(length, 3)[0]
    plain, evened = compare(values, is_kind, stratum), compare(values, is_kind, stratum, [length])
    assert plain.mean_ratio.value > 1.02
    assert evened.mean_ratio.value == pytest.approx(1, abs=0.003)
    assert isinstance(compare(values, is_kind, stratum, [np.full(20_000, np.nan)]), LikeWithLike)


def test_too_little_has_no_interval():
    random = np.random.default_rng(6)
    values, is_kind = random.lognormal(size=400), np.arange(400) % 2 == 0
    result = compare(values, is_kind, np.zeros(400, dtype=np.int64))
    assert result.quantile_ratios[1].low is result.quantile_ratios[1].high is None  # p99 of 200
    assert result.quantile_ratios[0].low < 1 < result.quantile_ratios[0].high
    few = compare_kinds(
        values, is_kind, np.zeros(400, dtype=np.int64), np.ones(400), np.arange(400) // 100, np.array([400.0])
    )
    assert (few.mean_ratio.low, few.p_value) == (None, None)
    assert compare(np.zeros(400), is_kind, np.zeros(400, dtype=np.int64)) == 1  # nothing takes any time


def case(random, count: int, ratio: float, phi: float):
    """One kind gets larger batches and longer inputs, and takes `ratio` times as long."""
    is_kind = random.random(count) < 0.4
    chances = np.array([0.4, 0.3, 0.2, 0.1])
    batch = 4.0 * 2 ** np.where(is_kind, random.choice(4, count, p=chances[::-1]), random.choice(4, count, p=chances))
    length = np.exp(random.normal(np.where(is_kind, 6.0, 5.6), 0.5))
    lasting = np.zeros(count)
    if phi:
        steps = random.normal(size=count)
        for at in range(1, count):
            lasting[at] = phi * lasting[at - 1] + np.sqrt(1 - phi**2) * steps[at]
    values = (2 + 0.3 * batch + 0.02 * length) * np.exp(0.4 * random.normal(size=count) + 0.2 * lasting)
    stratum = combined([binned(batch, 8)[0], binned(length, 8)[0]], count)
    return values * np.where(is_kind, ratio, 1), is_kind, stratum, [length]


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_intervals_cover_the_truth(phi):
    random, covered = np.random.default_rng(7), []
    for _ in range(200):
        result = compare(*case(random, 2000, 1.8, phi))
        covered.append([ratio.low <= 1.8 <= ratio.high for ratio in (result.mean_ratio, result.quantile_ratios[0])])
    assert (np.mean(covered, axis=0) >= 0.9).all()
    assert np.mean(covered, axis=0)[0] <= 0.985  # and are not too wide to say anything


def test_no_difference_is_seldom_called_one():
    random = np.random.default_rng(8)
    found, raw = [], []
    for _ in range(200):
        values, is_kind, stratum, numbers = case(random, 2000, 1.0, 0.0)
        found.append(compare(values, is_kind, stratum, numbers).p_value < 0.05)
        raw.append(values[is_kind].mean() / values[~is_kind].mean())
    assert np.mean(raw) > 1.4
    assert np.mean(found) <= 0.09
