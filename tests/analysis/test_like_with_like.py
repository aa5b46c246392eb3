"""Hardware types over columns: who is the reference, what work is sorted by, and what the raw numbers hide."""

import numpy as np
import pytest

from tailsight_analysis.machines.like_with_like import Work, combined, compare_hardware, with_corrected_p
from tailsight_analysis.machines.result import Covariate
from tailsight_analysis.statistics.linearised import blocks_in_time

TYPES = ["A", "B", "C"]


def work(values, hardware, names=None, numbers=None, weight=None) -> Work:
    count = len(values)
    return Work(
        np.asarray(values, dtype=float), np.asarray(hardware), np.asarray(hardware) * 10,
        np.ones(count) if weight is None else weight, blocks_in_time(np.arange(count)), names or {}, numbers or {},
    )  # fmt: skip


def test_the_most_frequent_type_is_the_reference_and_the_slowest_comes_next():
    random = np.random.default_rng(1)
    hardware = random.choice(3, 900, p=[0.2, 0.5, 0.3])
    values = np.array([2.0, 1.0, 4.0])[hardware] * random.lognormal(0, 0.1, 900)
    result = compare_hardware(work(values, hardware), TYPES, "compute", scale=10)
    assert result.reference == "B"
    assert [each.hardware for each in result.types] == ["B", "C", "A"]
    assert [each.standardised.mean_ratio.value for each in result.types[1:]] == pytest.approx([4, 2], rel=0.05)
    assert [each.count for each in result.types] == [10 * (hardware == code).sum() for code in (1, 2, 0)]
    chosen = compare_hardware(work(values, hardware), TYPES, "compute", 1, reference="A")
    assert (chosen.reference, chosen.types[0].hardware) == ("A", "A")
    assert compare_hardware(work(values, hardware), TYPES, "compute", 1, reference="D").reference == "B"
    assert compare_hardware(work([], np.empty(0, dtype=np.int64)), TYPES, None, 1) is None


def test_another_operation_is_other_work_and_the_reason_is_named():
    """B is as fast as A, and gets the long operation more often."""
    random = np.random.default_rng(2)
    hardware = np.arange(2000) % 2
    operation = (random.random(2000) < np.where(hardware == 1, 0.8, 0.3)).astype(np.int64)
    values = np.where(operation == 1, 50.0, 5.0) * random.lognormal(0, 0.1, 2000)
    covariate = Covariate("operation")
    (found,) = compare_hardware(work(values, hardware, {covariate: operation}), TYPES, "x", 1, "A").types[1:]
    assert found.raw_ratio > 1.5
    assert found.standardised.mean_ratio.value == pytest.approx(1, abs=0.03)
    assert (found.standardised.because, found.standardised.more) == (covariate, None)
    (plain,) = compare_hardware(work(values, hardware), TYPES, "x", 1, "A").types[1:]
    assert plain.standardised.mean_ratio.value == pytest.approx(plain.raw_ratio)
    assert plain.standardised.because is None


def test_rare_names_are_one_sort():
    """Names with ids in them: no name is frequent, and work is compared all the same."""
    random = np.random.default_rng(3)
    hardware = np.arange(1000) % 2
    values = np.where(hardware == 1, 3.0, 1.0) * random.lognormal(0, 0.1, 1000)
    names = {Covariate("operation"): np.arange(1000)}
    (found,) = compare_hardware(work(values, hardware, names), TYPES, "x", 1, "A").types[1:]
    assert found.comparable_share > 0.9
    assert found.standardised.mean_ratio.value == pytest.approx(3, rel=0.05)


def test_few_pieces_of_work_are_shown_and_not_compared():
    random = np.random.default_rng(4)
    hardware = np.append(np.zeros(100, dtype=np.int64), np.ones(29, dtype=np.int64))
    (found,) = compare_hardware(work(random.lognormal(size=129), hardware), TYPES, "x", 1).types[1:]
    assert (found.sampled, found.comparable_share, found.standardised) == (29, 0, None)


def test_p_values_are_corrected_for_all_comparisons():
    """Of a hundred comparisons without a difference hardly any is left; without the correction some would be."""
    random = np.random.default_rng(5)
    comparisons = []
    for _ in range(100):
        hardware = random.integers(0, 2, 400)
        comparisons.append(compare_hardware(work(random.lognormal(size=400), hardware), TYPES, "x", 1))
    raw = [comparison.types[1].standardised.p_value for comparison in comparisons]
    corrected = [comparison.types[1].standardised.p_value for comparison in with_corrected_p(comparisons)]
    assert min(raw) < 0.05
    assert min(corrected) > 0.05
    assert all(after >= before for before, after in zip(raw, corrected, strict=True))


def test_combinations_get_numbers():
    assert combined([np.array([0, 1, 0, 5]), np.array([2, 2, 2, 0])], 4).tolist() == [0, 1, 0, 2]
    assert combined([], 3).tolist() == [0, 0, 0]
