"""Modes: the dip against its definition, no modes in unimodal data, and the gap where there is one."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.signal import lfilter

from tailsight_analysis.statistics import modes
from tailsight_analysis.statistics.modes import cells_of, dip, dip_p_value, find_modes


def dip_by_definition(x: np.ndarray) -> float:
    """Least distance to a distribution that is convex up to a value, and concave from there: a linear programme for each."""
    count = len(x)
    best = 1.0
    for mode in range(count):
        # unknown: the distribution at each value, and the distance, which must hold on both sides of each step
        rows, limits = [], []
        for at in range(count):
            above, below = np.zeros(count + 1), np.zeros(count + 1)
            above[at], above[-1] = 1, -1
            below[at], below[-1] = -1, -1
            rows += [above, above, below, below]
            limits += [(at + 1) / count, at / count, -(at + 1) / count, -at / count]
        for at in range(1, count - 1):
            if at == mode:
                continue
            slope = np.zeros(count + 1)
            slope[at] += 1 / (x[at] - x[at - 1]) + 1 / (x[at + 1] - x[at])
            slope[at - 1] -= 1 / (x[at] - x[at - 1])
            slope[at + 1] -= 1 / (x[at + 1] - x[at])
            rows.append(slope if at < mode else -slope)
            limits.append(0.0)
        for at in range(count - 1):
            rising = np.zeros(count + 1)
            rising[at], rising[at + 1] = 1, -1
            rows.append(rising)
            limits.append(0.0)
        cost = np.zeros(count + 1)
        cost[-1] = 1
        found = linprog(cost, A_ub=np.array(rows), b_ub=np.array(limits), bounds=[(None, None)] * count + [(0, None)])
        best = min(best, found.fun)
    return best


@pytest.mark.parametrize("seed", range(6))
def test_the_dip_is_the_distance_to_the_nearest_unimodal_distribution(seed):
    random = np.random.default_rng(seed)
    x = np.sort(np.concatenate((random.normal(0, 1, 7), random.normal(seed, 1, 7))))
    assert dip(x) == pytest.approx(dip_by_definition(x), abs=1e-7)


def test_published_quantiles_of_the_dip():
    # Hartigan and Hartigan 1985, table 1, by simulation anew: uniform values, n = 50 and 200
    random = np.random.default_rng(1)
    for count, level in ((50, 0.95), (200, 0.99)):
        dips = [dip(np.sort(random.random(count))) for _ in range(1500)]
        beyond = np.mean([dip_p_value(value, count) <= 1 - level for value in dips])
        assert beyond == pytest.approx(1 - level, abs=4 * np.sqrt(level * (1 - level) / 1500))


def ar1(random: np.random.Generator, count: int, phi: float) -> np.ndarray:
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], random.normal(size=count + 200))[200:]


UNIMODAL = {
    "log-normal": lambda r, n: 5e6 * np.exp(0.4 * r.normal(size=n)),
    "wide log-normal": lambda r, n: 5e6 * np.exp(1.5 * r.normal(size=n)),
    "pareto": lambda r, n: 5e6 * (1 + r.pareto(1.5, n)),
    "exponential": lambda r, n: r.exponential(5e6, n) + 1,
    "uniform": lambda r, n: r.uniform(1e6, 1e8, n),
    "milliseconds": lambda r, n: np.round(20 * np.exp(0.4 * r.normal(size=n))) * 1e6,
    "memory": lambda r, n: 5e6 * np.exp(0.4 * ar1(r, n, 0.9)),
}


@pytest.mark.parametrize("kind", sorted(UNIMODAL))
def test_unimodal_data_has_one_mode(kind):
    random = np.random.default_rng(2)
    found = [find_modes(cells_of(UNIMODAL[kind](random, n).astype(np.int64))) for n in (300, 2_000) for _ in range(30)]
    assert all(each is not None for each in found)
    assert sum(len(each.modes) > 1 for each in found) <= 1


@pytest.mark.parametrize(("share", "factor", "count"), [(0.5, 1.5, 2_000), (0.1, 2, 2_000), (0.02, 4, 20_000)])
def test_two_modes_and_the_gap_between_them(share, factor, count):
    random = np.random.default_rng(3)
    slow = random.random(count) < share
    values = np.where(slow, 5e6 * factor, 5e6) * np.exp(0.1 * random.normal(size=count))
    found = find_modes(cells_of(values.astype(np.int64)))
    assert found.p_value <= modes.SIGNIFICANCE
    assert [mode.at for mode in found.modes] == pytest.approx([5e6, 5e6 * factor], rel=0.05)
    assert 5e6 < found.gaps[0] < 5e6 * factor
    assert found.share_above[0] == pytest.approx((values > found.gaps[0]).mean(), abs=0.002)
    assert sum(mode.share for mode in found.modes) == pytest.approx(1)
    assert found.share_above[0] == pytest.approx(slow.mean(), abs=0.02)


def test_weights_count():
    random = np.random.default_rng(4)
    values = (np.repeat([5e6, 2e7], 1_000) * np.exp(0.1 * random.normal(size=2_000))).astype(np.int64)
    weights = np.repeat([9.0, 1.0], 1_000)
    found = find_modes(cells_of(values, weights))
    assert [mode.share for mode in found.modes] == pytest.approx([0.9, 0.1], abs=0.01)


def test_too_few_values_or_too_coarse_a_clock_say_nothing():
    random = np.random.default_rng(5)
    values = 5e6 * np.exp(0.4 * random.normal(size=1_000))
    assert find_modes(cells_of(values[:150].astype(np.int64))) is None
    assert find_modes(cells_of((np.round(values / 2e6) * 10_000_000).astype(np.int64))) is None
    assert find_modes(cells_of(np.full(1_000, 7_000_000))) is None
    assert find_modes(cells_of(np.empty(0, dtype=np.int64))) is None
