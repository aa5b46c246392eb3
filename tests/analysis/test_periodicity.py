"""Periods: what was planted is found, and nothing else."""

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.special import gammaincc

from tailsight_analysis.statistics import periodicity
from tailsight_analysis.statistics.periodicity import find_period

S = 1e9
MS = 1e6


def poisson(random, count, whole=60 * S):
    return np.sort(random.uniform(0, whole, count))


def regular(random, count, whole=60 * S):
    return np.arange(count) * whole / count + random.normal(0, whole / count / 100, count).clip(
        -whole / count / 3, whole / count / 3
    )


def in_bursts(random, count, whole=60 * S):
    centres = random.uniform(0, whole, count // 20)
    return np.sort(
        np.clip(np.repeat(centres, 20) + random.exponential(2 * whole / count, 20 * (count // 20)), 0, whole)
    )


def periodic_bursts(random, count, whole=60 * S):
    return np.sort(
        np.repeat(np.arange(count // 10) * whole / (count // 10), 10) + random.exponential(2 * MS, 10 * (count // 10))
    )


def independent(random, at):
    return 5 * MS * np.exp(0.5 * random.normal(size=len(at)))


def ar1(phi):
    def latencies(random, at):
        noise = lfilter([np.sqrt(1 - phi**2)], [1, -phi], random.normal(size=len(at) + 3_000))[3_000:]
        return 5 * MS * np.exp(0.5 * noise)

    return latencies


def single_server(random, at):
    service = random.exponential(0.7 * np.mean(np.diff(at)), len(at))
    work = np.concatenate(([0], np.cumsum(service)))
    return np.maximum.accumulate(at - work[:-1]) - (at - work[:-1]) + service


def few_slow_bursts(random, at):
    values = independent(random, at)
    for centre in random.uniform(0, at[-1], 12):
        values[(at > centre) & (at < centre + 0.003 * at[-1])] += 50 * MS
    return values


QUIET = {
    "poisson, independent": (poisson, independent),
    "regular, independent": (regular, independent),
    "poisson, memory": (poisson, ar1(0.9)),
    "regular, long memory": (regular, ar1(0.999)),
    "bursts, queue": (in_bursts, single_server),
    "poisson, queue": (poisson, single_server),
    "poisson, few slow bursts": (poisson, few_slow_bursts),
    "periodic bursts, queue": (periodic_bursts, single_server),
}


@pytest.mark.parametrize("kind", sorted(QUIET))
def test_no_period_where_there_is_none(kind):
    random = np.random.default_rng(1)
    arrivals, latencies = QUIET[kind]
    found = 0
    for count in (1_000, 5_000):
        for _ in range(20):
            at = arrivals(random, count)
            scan = find_period(at.astype(np.int64), latencies(random, at).astype(np.int64))
            found += scan is not None and scan.period is not None
    assert found <= 1


def pauses(period, length):
    def plant(random, at):
        phase = (at + random.uniform(0, period)) % period
        return independent(random, at) + np.where(phase < length, length - phase, 0)

    return plant


def slower(period, length, more):
    def plant(random, at):
        return independent(random, at) + np.where((at + random.uniform(0, period)) % period < length, more, 0)

    return plant


MET_BY_BURSTS = pauses(1000 * MS, 100 * MS)
PLANTED = {
    "a pause of 20 ms every 512 ms": (512 * MS, pauses(512 * MS, 20 * MS), poisson),
    "a pause of 40 ms every 512 ms, regular load": (512 * MS, pauses(512 * MS, 40 * MS), regular),
    "15 ms more for 5 % of 700 ms": (700 * MS, slower(700 * MS, 35 * MS, 15 * MS), poisson),
    "a pause of 100 ms every second, in bursts": (1000 * MS, MET_BY_BURSTS, in_bursts),
}


@pytest.mark.parametrize("kind", sorted(PLANTED))
def test_a_planted_period_is_found(kind):
    """Nineteen times of twenty, or more; seventeen where bursts meet only every second pause."""
    random = np.random.default_rng(2)
    period, latencies, arrivals = PLANTED[kind]
    right = 0
    for _ in range(20):
        at = arrivals(random, 6_000)
        scan = find_period(at.astype(np.int64), latencies(random, at).astype(np.int64))
        right += scan.period is not None and abs(scan.period.period_ns / period - 1) < 0.02
    assert right >= (17 if latencies is MET_BY_BURSTS else 19)


def test_phase_strength_and_cycles_mean_what_they_say():
    random = np.random.default_rng(3)
    at = poisson(random, 8_000)
    hit = (at % (512 * MS) > 100 * MS) & (at % (512 * MS) < 116 * MS)
    values = independent(random, at) + np.where(hit, 60 * MS, 0)
    period = find_period(at.astype(np.int64), values.astype(np.int64)).period
    assert period.period_ns == pytest.approx(512 * MS, rel=1e-4)
    # the beginning is the first event
    assert (period.phase_ns + at[0]) % (512 * MS) == pytest.approx(108 * MS, abs=5 * MS)
    slow = values > np.quantile(values, 1 - period.slow_share)
    assert period.strength == pytest.approx((hit & slow).sum() / slow.sum(), abs=0.1)
    assert period.cycles <= 60 * S / (512 * MS) + 1
    assert 0 < period.p_value < 1e-20


def test_events_that_stand_for_others_count_as_many():
    random = np.random.default_rng(4)
    at = poisson(random, 20_000)
    values = pauses(512 * MS, 30 * MS)(random, at)
    kept = (values > np.quantile(values, 0.97)) | (random.random(len(at)) < 0.1)
    weight = np.where(values > np.quantile(values, 0.97), 1.0, 10.0)[kept]
    period = find_period(at[kept].astype(np.int64), values[kept].astype(np.int64), weight).period
    assert period.period_ns == pytest.approx(512 * MS, rel=0.01)
    assert min(abs(period.slow_share - share) for share in periodicity.SLOW_SHARES) < 0.01


def test_too_few_events_or_equal_ones_say_nothing():
    random = np.random.default_rng(5)
    at = poisson(random, 1_000).astype(np.int64)
    values = independent(random, at).astype(np.int64)
    assert find_period(at[:150], values[:150]) is None
    assert find_period(at, np.full(len(at), 7)) is None
    assert find_period(np.zeros(1_000, dtype=np.int64), values) is None
    assert find_period(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)) is None


def test_the_tail_of_a_sum_of_exponentials():
    values = np.array([0.1, 1.0, 5.0, 30.0])
    for shape in (1, 2, 4, 8):
        assert np.exp(periodicity._log_upper_gamma(shape, values)) == pytest.approx(gammaincc(shape, values))
