"""Change points of a series: known series exactly, nothing in noise, outliers are none, and what was found stays."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailsight_analysis import QuestionError
from tailsight_analysis.changes.autoregression import autoregression_p_value
from tailsight_analysis.changes.discoveries import Candidate, Standing, standing
from tailsight_analysis.changes.permutations import permutation_p_value
from tailsight_analysis.changes.search import change_points, growing_evidence
from tailsight_analysis.changes.settings import ChangeSettings
from tailsight_analysis.changes.split import inflation, split_at

SHARED = Path(__file__).parents[3] / "shared" / "data"
EXPECTED = SHARED / "expected" / "change_points.json"
NO_FLOOR = ChangeSettings(least_change=0.0)


def known_series() -> list[str]:
    return sorted(json.loads(EXPECTED.read_text())["series"]) if EXPECTED.exists() else ["(absent)"]


def indices(values, **options) -> list[int]:
    return [change.index for change in change_points(values, **options)]


def ar1(random, count, phi):
    noise = random.standard_normal(count)
    for at in range(1, count):
        noise[at] = phi * noise[at - 1] + np.sqrt(1 - phi**2) * noise[at]
    return noise


@pytest.mark.shared_data
@pytest.mark.skipif(not EXPECTED.exists(), reason="../shared/data/expected/change_points.json is not here")
@pytest.mark.parametrize("name", known_series())
def test_known_series_have_exactly_the_known_changes(name):
    known = json.loads(EXPECTED.read_text())["series"][name]
    values = known.get("values")
    if values is None:
        with (SHARED / known["file"]).open() as file:
            rows = list(csv.DictReader(file))
        values = [float(row[known["column"]]) for row in rows]
        assert indices([float(row["metric1"]) for row in rows]) == known["metric1_expected"]
    found = change_points(values, settings=ChangeSettings(known.get("min_segment_size", 3)))
    assert [change.index for change in found] == known["expected"]
    if "change_percent" in known:
        assert 100 * (found[0].ratio - 1) == pytest.approx(known["change_percent"], abs=0.1)


@pytest.mark.parametrize(
    ("kind", "points", "most"),
    [
        ("normal", 10, 0.01), ("normal", 30, 0.01), ("normal", 80, 0.01), ("student", 80, 0.01),
        ("autocorrelated", 10, 0.02), ("autocorrelated", 30, 0.05), ("autocorrelated", 80, 0.05), ("log-normal", 80, 0.05),
        ("drifting", 60, 0.05), ("random walk", 60, 0.06), ("louder", 60, 0.16),
    ],
)  # fmt: skip
def test_noise_has_no_changes(kind, points, most):
    """The shares are of the whole series, all looks at it together; 150 series, and two standard errors of leave."""
    random = np.random.default_rng(points)
    draw = {
        "normal": lambda: random.standard_normal(points),
        "student": lambda: random.standard_t(3, points),
        "autocorrelated": lambda: ar1(random, points, 0.5),
        "log-normal": lambda: np.exp(random.standard_normal(points)),
        "drifting": lambda: ar1(random, points, 0.95),
        "random walk": lambda: np.cumsum(random.standard_normal(points)),
        "louder": lambda: random.standard_normal(points) * np.repeat([0.3, 3], points // 2),
    }[kind]
    false = sum(bool(indices(100 + draw(), settings=NO_FLOOR)) for _ in range(150)) / 150
    assert false <= most + 2 * np.sqrt(most * (1 - most) / 150)


@pytest.mark.parametrize(
    ("before", "after", "step", "least"), [(15, 15, 4, 0.8), (30, 30, 2.5, 0.85), (60, 40, -2, 0.85)]
)
def test_a_step_is_found_where_it_is(before, after, step, least):
    hits = 0
    for seed in range(40):
        values = 100 + np.random.default_rng(seed).standard_normal(before + after)
        values[before:] += step
        hits += any(abs(index - before) <= 2 for index in indices(values, settings=NO_FLOOR))
    assert hits / 40 >= least


def test_interval_and_levels_are_those_of_the_step():
    held = 0
    for seed in range(60):
        values = 100 + np.random.default_rng(seed).standard_normal(60)
        values[30:] += 5
        (change,) = change_points(values)[:1]
        assert change.before == pytest.approx(100, abs=1)
        assert change.after == pytest.approx(105, abs=1)
        held += change.low <= 5 <= change.high
    assert held >= 54


@pytest.mark.parametrize("outliers", [(12,), (12, 13), (0, 1), (23, 24), (5, 17), (22, 24)])
@pytest.mark.parametrize("size", [-60.0, 10.0, 1000.0])
def test_one_or_two_outliers_are_no_change(outliers, size):
    values = 100 + np.random.default_rng(3).standard_normal(25)
    values[list(outliers)] += size
    assert indices(values) == []
    flat = np.full(25, 100.0)
    flat[list(outliers)] += size
    assert indices(flat) == []


def test_outliers_do_not_hide_a_change():
    found = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        values = 100 + random.standard_normal(50)
        values[25:] += 6
        values[random.integers(0, 50, 2)] += 40
        found += any(abs(index - 25) <= 2 for index in indices(values))
    assert found >= 16


def test_a_level_that_came_and_went_is_two_changes():
    values = 100 + 0.5 * np.random.default_rng(1).standard_normal(80)
    values[40:52] += 8
    assert indices(values) == [40, 52]


def test_a_change_below_the_floor_is_none():
    values = 100 + 0.05 * np.random.default_rng(1).standard_normal(40)
    values[20:] += 1
    assert indices(values) == []
    assert indices(values, settings=ChangeSettings(least_change=0.005)) == [20]
    assert indices(values, settings=ChangeSettings(least_change=0.0, least_difference=2.0)) == []


values_of_steps = st.lists(
    st.tuples(st.floats(-1e6, 1e6), st.integers(1, 14), st.floats(0, 100)), min_size=1, max_size=4
).flatmap(
    lambda levels: st.builds(
        lambda seed: np.concatenate(
            [level + noise * np.random.default_rng(seed).standard_normal(length) for level, length, noise in levels]
        ),
        st.integers(0, 2**31),
    )
)


@given(values_of_steps, st.data())
@settings(max_examples=60, deadline=None)
def test_new_points_add_changes_and_move_none(values, data):
    whole = change_points(values)
    cut = data.draw(st.integers(0, len(values)))
    known = change_points(values[:cut])
    then = [each for each in whole if each.found_at < cut]
    assert [(each.index, each.found_at, each.p_value) for each in known] == [
        (each.index, each.found_at, each.p_value) for each in then
    ]
    assert [each.index for each in whole][: len(known)] == [each.index for each in known]


@given(values_of_steps, st.integers(-7, 10))
@settings(max_examples=40, deadline=None)
def test_the_unit_and_the_sign_do_not_matter(values, power):
    once = indices(values, settings=NO_FLOOR)
    assert indices(values * 2.0**power, settings=NO_FLOOR) == once
    assert indices(-values, settings=NO_FLOOR) == once


def test_uncertain_points_count_less():
    """A level of points whose own error is larger than the step is no change; the same with small errors is one."""
    random = np.random.default_rng(4)
    values = 100 + 0.3 * random.standard_normal(24)
    values[12:] += 3
    assert indices(values, errors=np.full(24, 0.2)) == [12]
    assert indices(values, errors=np.full(24, 6.0)) == []


@pytest.mark.parametrize("values", [[], [1.0], [5.0] * 5, [5.0] * 40, [0.0] * 10])
def test_what_is_short_or_flat_has_no_changes(values):
    assert change_points(values) == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: change_points([1.0, float("nan"), 2.0]), "value 1 of the series is nan"),
        (lambda: change_points([1.0, 1e200] * 8), "value 1 of the series is 1e\\+200: use numbers of a size below"),
        (lambda: change_points([1.0, 2.0], [1.0]), "2 values have 1 standard errors"),
        (lambda: change_points([[1.0], [2.0]]), "not of 2 dimensions"),
        (lambda: ChangeSettings(min_segment=2), "a level of 2 points"),
        (lambda: ChangeSettings(least_change=-1), "a least change of -1"),
    ],
)
def test_what_cannot_be_asked_is_refused(call, message):
    with pytest.raises(QuestionError, match=message):
        call()


def test_permutations_are_exact_where_they_can_be_counted():
    assert permutation_p_value(np.array([6.0] * 4 + [9] * 3), 3) == pytest.approx(2 / 35)
    assert permutation_p_value(np.array([6.0] * 4 + [12] * 4), 3) == pytest.approx(2 / 70)
    uniform = [permutation_p_value(np.random.default_rng(seed).standard_normal(12), 3) for seed in range(300)]
    assert np.mean(np.array(uniform) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_means_of_autocorrelated_noise_vary_as_much_as_is_said():
    random = np.random.default_rng(1)
    means = [ar1(random, 10, 0.6).mean() for _ in range(4000)]
    # the noise begins with variance 1 and keeps it
    assert np.var(means) * 10 == pytest.approx(inflation(10, 0.6), rel=0.1)
    assert inflation(7, 0.0) == 1


def test_a_split_chosen_beforehand_has_a_calibrated_p_value():
    p_values = [split_at(np.random.default_rng(seed).standard_normal(40), 20).p_value for seed in range(400)]
    # autocorrelation is reckoned with, and there is none: fewer small ones than uniform
    assert np.mean(np.array(p_values) < 0.05) <= 0.05
    alike = [split_at(ar1(np.random.default_rng(seed), 40, 0.5), 20).p_value for seed in range(400)]
    assert 0.01 <= np.mean(np.array(alike) < 0.05) <= 0.08


@pytest.mark.parametrize("phi", [0.0, 0.8, 0.99])
def test_autocorrelation_alone_explains_its_own_splits_whatever_it_is(phi):
    p_values = [autoregression_p_value(ar1(np.random.default_rng(seed), 40, phi), 20) for seed in range(400)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.1
    step = np.repeat([0.0, 6.0], 20)
    found = [autoregression_p_value(step + ar1(np.random.default_rng(seed), 40, phi), 20) < 1e-3 for seed in range(40)]
    assert np.mean(found) >= 0.9


def test_noise_that_is_known_to_be_independent_hides_no_step():
    values = np.repeat([0.0, 2.0], 15) + np.random.default_rng(2).standard_normal(30)
    assert autoregression_p_value(values, 15, white=1.0) < autoregression_p_value(values, 15) / 3


def test_steps_of_whole_numbers_are_a_staircase_only_where_they_go_one_way():
    """Rounded noise repeats itself, too, and is autocorrelated as it was."""
    drift = [np.round(ar1(np.random.default_rng(seed), 60, 0.8)) for seed in range(100)]
    assert np.mean([bool(indices(values, settings=NO_FLOOR)) for values in drift]) <= 0.25
    assert indices([1, 1, 5, 5, 5, 5, 9, 9, 9, 9]) == [6]


def test_what_stands_among_many_series_is_not_taken_back():
    weak = Candidate(0, (5,), (0.004,))
    assert standing([weak], [0] * 10) == [Standing(5, pytest.approx(0.04))]
    # later, a hundred more series begin: what stood stands, and a new one as weak does not
    began = [0] * 10 + [6] * 100
    assert standing([weak, Candidate(1, (8,), (0.004,))], began) == [Standing(5, pytest.approx(0.04)), None]
    # two that agree help each other
    together = [Candidate(number, (5,), (0.008,)) for number in (0, 1)]
    assert standing(together, [0] * 10) == [Standing(5, pytest.approx(0.04))] * 2
    # more points make it surer
    assert standing([Candidate(0, (5, 7, 9), (0.01, 0.006, 0.001))], [0] * 10) == [Standing(9, pytest.approx(0.01))]
    assert standing([], []) == []


def test_a_change_that_was_found_becomes_surer_with_more_points():
    values = 100 + np.random.default_rng(2).standard_normal(50)
    values[20:] += 4
    (change,) = change_points(values)
    evidence = growing_evidence(values, None, 0, change.index, change.found_at, len(values))
    assert evidence[0][0] == change.found_at
    assert evidence[0][1] <= change.split_p_value
    assert evidence[-1][1] < 1e-6
    assert [p_value for _, p_value in evidence] == sorted((p_value for _, p_value in evidence), reverse=True)
