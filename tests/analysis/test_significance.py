"""Fisher's exact test and Benjamini–Hochberg against scipy and published examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import false_discovery_control, fisher_exact

from tailsight_analysis.causes.attributes import judge, over_represented
from tailsight_analysis.causes.conditions import Row
from tailsight_analysis.requests.sample import Picked
from tailsight_analysis.statistics.significance import benjamini_hochberg, fisher_over_represented


def test_fishers_lady_tasting_tea():
    """Fisher 1935: three of four cups told right has p = 17/70, all four 1/70."""
    p = fisher_over_represented(np.array([3, 4]), np.array([1, 0]), 4, 4)
    assert p == pytest.approx([17 / 70, 1 / 70])


@given(st.integers(1, 60), st.integers(1, 200), st.data())
def test_fisher_equals_scipy(tail, typical, data):
    in_tail, in_typical = data.draw(st.integers(0, tail)), data.draw(st.integers(0, typical))
    table = [[in_tail, tail - in_tail], [in_typical, typical - in_typical]]
    found = fisher_over_represented(np.array([in_tail]), np.array([in_typical]), tail, typical)
    assert found[0] == pytest.approx(fisher_exact(table, "greater").pvalue, rel=1e-6)


def test_fisher_holds_far_out_in_the_tail():
    p = fisher_over_represented(np.array([20_000]), np.array([10]), 20_000, 20_000)
    assert 0 <= p[0] < 1e-300


def test_benjamini_and_hochbergs_own_example():
    """Benjamini and Hochberg 1995, section 3.1: of 15 tests at 0.05, the four smallest are rejected."""
    p = np.array([0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
                  0.6528, 0.7590, 1.0])  # fmt: skip
    assert (benjamini_hochberg(p) <= 0.05).sum() == 4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(0, 20))
def test_benjamini_hochberg_equals_scipy_and_counts_tests_not_given_as_hopeless(p_values, unseen):
    expected = false_discovery_control([*p_values, *[1.0] * unseen])[: len(p_values)]
    assert benjamini_hochberg(np.array(p_values), len(p_values) + unseen) == pytest.approx(expected)


def test_nothing_to_test_is_no_error():
    assert judge([], 10, 100, 0) == ()


def test_lift_is_a_lower_bound_where_no_typical_request_has_the_value():
    row = {"key": "k", "value": "v", "tail_requests": 10, "typical_requests": 0}
    (found,) = judge([row], 20, 400, 1)
    assert (found.tail_share, found.typical_share) == (0.5, 0.0)
    assert found.lift == pytest.approx(0.5 * 400)


def listed_by_chance(phi: float, planted: bool = False) -> list[set[str]]:
    """Names listed in each of 40 windows where 20 values hold for stretches of time, and `real` may make requests slow.

    Durations remember with `phi` from request to request.
    """
    random = np.random.default_rng(31)
    found = []
    for _ in range(40):
        noise = lfilter([1], [1, -phi], random.standard_normal(2_500) * np.sqrt(1 - phi**2))[500:]
        rows = []
        for name in range(20):
            stretch = np.searchsorted(np.sort(random.integers(0, 2000, 12)), np.arange(2000)) % 3
            rows.append(Row("s", "", f"k{name}", "v", np.flatnonzero(stretch == 0)))
        drawn = random.random(2000) < 0.1
        rows.append(Row("s", "", "real", "v", np.flatnonzero(drawn)))
        durations = np.exp(noise + planted * 1.5 * drawn)
        cuts = np.quantile(durations, [0.4, 0.6, 0.95])
        in_tail, in_typical = durations >= cuts[2], (durations >= cuts[0]) & (durations <= cuts[1])
        tail, typical = (Picked(int(chosen.sum()), float(chosen.sum()), 1.0) for chosen in (in_tail, in_typical))
        listed, _ = over_represented(rows, in_tail, in_typical, np.ones(2000), np.arange(2000), tail, typical)
        found.append({each.key for each in listed})
    return found


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_what_holds_for_a_while_is_not_listed_because_slow_requests_come_together(phi):
    assert sum(bool(names) for names in listed_by_chance(phi)) <= 4  # of 40; by Fisher's test alone nearly all


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_what_makes_requests_slow_is_listed_also_where_they_come_together(phi):
    assert sum("real" in names for names in listed_by_chance(phi, planted=True)) >= 36
