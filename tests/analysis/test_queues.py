"""Formulas of queues against published values and closed forms, and the replay against them."""

import math

import numpy as np
import pytest

from tailsight_analysis.statistics.queues import erlang_c, expected_waits, most_at_once, replay, sum_up, variability


@pytest.mark.parametrize(
    ("servers", "offered", "chance"),
    [
        (1, 0.5, 0.5),  # M/M/1: ρ
        (2, 1.0, 1 / 3),  # Kleinrock 1975, M/M/2: 2ρ² / (1 + ρ)
        (2, 1.5, 2 * 0.75**2 / 1.75),
        (5, 4.0, 0.5541),  # tables of Erlang C: 5 agents, 4 Erlang
        (10, 8.0, 0.4092),
        (3, 2.0, 4 / 9),
    ],
)
def test_erlang_c(servers, offered, chance):
    assert erlang_c(servers, offered) == pytest.approx(chance, abs=5e-5)


def test_erlang_c_is_its_definition():
    for servers in (1, 2, 7, 40):
        for offered in (0.1 * servers, 0.5 * servers, 0.97 * servers):
            terms = [offered**k / math.factorial(k) for k in range(servers)]
            last = offered**servers / math.factorial(servers) * servers / (servers - offered)
            assert erlang_c(servers, offered) == pytest.approx(last / (sum(terms) + last))
    assert erlang_c(3, 3.0) == 1


def test_closed_forms_of_one_server():
    # M/M/1: ρ / (μ − λ); M/D/1: half of it; M/G/1: Pollaczek and Khinchine
    assert expected_waits(0.8, 1.0, 1, 1, 1).mean == pytest.approx(4)
    assert expected_waits(0.8, 1.0, 1, 0, 1).mean == pytest.approx(2)
    assert expected_waits(0.8, 1.0, 1, 3, 1).mean == pytest.approx(0.8 * (1 + 3) / (2 * 0.2))
    # P(W > t) = ρ e^(−(μ − λ)t)
    assert 0.8 * math.exp(-0.2 * expected_waits(0.8, 1.0, 1, 1, 1).p99) == pytest.approx(0.01)
    assert expected_waits(1.0, 1.0, 1, 1, 1) is None
    assert expected_waits(0.0, 1.0, 1, 1, 1).mean == 0
    assert expected_waits(0.009, 1.0, 1, 1, 1).p99 == 0


def replay_by_loop(arrival, service, servers):
    free = [0.0] * servers
    waits = []
    for at, length in zip(arrival, service, strict=True):
        worker = min(range(servers), key=free.__getitem__)
        start = max(at, free[worker])
        free[worker] = start + length
        waits.append(start - at)
    return waits


@pytest.mark.parametrize("servers", [1, 2, 5])
def test_replay_is_first_come_first_served(servers):
    random = np.random.default_rng(servers)
    arrival, service = np.cumsum(random.exponential(1, 400)), random.exponential(0.9 * servers, 400)
    assert replay(arrival, service, servers) == pytest.approx(replay_by_loop(arrival, service, servers), abs=1e-9)


@pytest.mark.parametrize(("servers", "service_scv"), [(1, 1.0), (1, 0.0), (3, 1.0), (4, 0.25)])
def test_replay_and_formula_agree_on_poisson_arrivals(servers, service_scv):
    random = np.random.default_rng(7)
    count = 200_000
    arrival = np.cumsum(random.exponential(1, count))
    mean = 0.75 * servers
    service = np.full(count, mean) if service_scv == 0 else random.gamma(1 / service_scv, mean * service_scv, count)
    waits = replay(arrival, service, servers)
    formula = expected_waits(1, mean, 1, service_scv, servers)
    tolerance = 0.05 if servers == 1 or service_scv == 1 else 0.15  # of G/G/c it is an approximation
    assert waits.mean() == pytest.approx(formula.mean, rel=tolerance)
    if service_scv == 1:
        assert np.quantile(waits, 0.99) == pytest.approx(formula.p99, rel=0.1)


@pytest.mark.parametrize("count", [4_000, 20_000])
def test_intervals_of_waits_hold_the_true_ones(count):
    """M/M/1: P(wait > t) = ρ·e^(−(1 − ρ)·t/S), with S = ρ."""
    random = np.random.default_rng(8)
    load, settling, rounds = 0.6, 2_000, 150
    mean, p99 = load**2 / (1 - load), load / (1 - load) * np.log(load / 0.01)
    held = np.zeros(2)
    for _ in range(rounds):
        arrival = np.cumsum(random.exponential(1, settling + count))
        summed = sum_up(replay(arrival, random.exponential(load, settling + count), 1)[settling:])
        assert summed.p99_interval.low <= summed.p99
        held += (
            summed.mean_interval is None or summed.mean_interval[0] <= mean <= summed.mean_interval[1],
            summed.p99_interval.low <= p99 <= (summed.p99_interval.high or np.inf),
        )
    assert (held / rounds >= 0.88).all(), held / rounds


def test_summing_up_weighs_and_needs_enough():
    summed = sum_up(np.array([0.0, 10.0]), np.array([3.0, 1.0]))
    assert (summed.mean, summed.p99, summed.mean_interval) == (2.5, 10.0, None)
    assert variability(np.array([1.0, 3.0]), np.array([1.0, 1.0])) == pytest.approx(0.25)
    assert variability(np.array([0.0, 0.0])) == 0


def test_most_at_once_leaves_out_what_hardly_lasts():
    begin = np.arange(1_000) * 10.0
    assert most_at_once(begin, begin + 10) == 1
    assert most_at_once(np.append(begin, begin), np.append(begin + 9, begin + 9)) == 2
    assert most_at_once(np.append(begin, 55.0), np.append(begin + 10, 55.5)) == 1
    assert most_at_once(np.array([5.0]), np.array([5.0])) == 1
