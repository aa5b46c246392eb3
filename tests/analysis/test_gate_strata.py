"""Only like is compared with like: a mix that moved is no change of the code, and is said first."""

import re

import numpy as np
import pytest

from tailsight_analysis.gate import judge_stratified
from tailsight_analysis.gating.samples import REQUESTS, Series, cells_of
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.strata import StratifiedRun, standardise

COMPUTE = Series("compute", "L4")


def a_run(random, number, *, large_share, large_ms=40.0, count=1000, kinds=("small", "large")) -> StratifiedRun:
    """Requests of two kinds, one four times as long as the other."""
    is_large = random.random(count) < large_share
    values = np.where(is_large, large_ms, 10.0) * np.exp(0.1 * random.standard_normal(count) + random.normal(0, 0.005))
    strata = {
        kind: cells_of(values[is_large == number_]) for number_, kind in enumerate(kinds) if (is_large == number_).any()
    }
    return StratifiedRun(str(number), number, {REQUESTS: strata})


def sides(random, before, after, runs=6):
    made = ([], [])
    for slot in range(2 * runs):
        changed = slot % 4 in (1, 2)
        made[changed].append(a_run(random, slot, **(after if changed else before)))
    return made


def test_a_mix_that_moved_is_said_and_is_no_regression():
    found = judge_stratified(
        *sides(np.random.default_rng(1), {"large_share": 0.2}, {"large_share": 0.4}), GateSettings()
    )
    assert found.verdict != "regression"
    assert len(found.differences) == 1
    assert re.fullmatch(
        r"request: the mix moved \(large: (19|20|21)% to (39|4[01])%\); judged on the baseline's mix",
        found.differences[0],
    )
    mean = next(row for row in found.comparisons if row.metric == "mean")
    assert mean.ratio == pytest.approx(1.0, abs=0.02)


def test_a_slower_kind_is_found_beneath_a_mix_that_moved():
    """The candidate has fewer large requests, so that its mean is lower, though each large one takes longer."""
    before, after = sides(np.random.default_rng(2), {"large_share": 0.4}, {"large_share": 0.2, "large_ms": 52.0})
    found = judge_stratified(before, after, GateSettings())
    assert found.verdict == "regression"
    mean = next(row for row in found.comparisons if row.metric == "mean")
    assert mean.ratio == pytest.approx((0.6 * 10 + 0.4 * 52) / (0.6 * 10 + 0.4 * 40), rel=0.02)


def test_a_kind_without_counterpart_is_left_out_of_both_sides():
    random = np.random.default_rng(3)
    before = [a_run(random, number, large_share=0.3) for number in range(4)]
    after = [a_run(random, number, large_share=0.3, kinds=("small", "huge"), large_ms=400) for number in range(4)]
    alike = standardise(before, after)
    assert max(run.series[REQUESTS].value.max() for run in (*alike.baseline, *alike.candidate)) < 20
    assert len(alike.differences) == 2
    assert all("have no counterpart and are left out" in each for each in alike.differences)


def test_a_mix_that_did_not_move_leaves_every_duration_as_it_is():
    random = np.random.default_rng(4)
    before = [a_run(random, number, large_share=0.3) for number in range(4)]
    after = [a_run(random, number, large_share=0.3) for number in range(4)]
    alike = standardise(before, after)
    assert alike.differences == ()
    for run in (*alike.baseline, *alike.candidate):
        assert (run.series[REQUESTS].weight == 1).all()


def test_weights_give_every_run_the_baselines_shares():
    random = np.random.default_rng(5)
    before = [a_run(random, number, large_share=0.5) for number in range(2)]
    after = [a_run(random, number, large_share=0.1) for number in range(2)]
    alike = standardise(before, after)
    large = sum(float(run.series[REQUESTS]["large"].weight.sum()) for run in before) / 2000
    for run in (*alike.baseline, *alike.candidate):
        cells = run.series[REQUESTS]
        assert cells.weight[cells.value > 20].sum() / cells.weight.sum() == pytest.approx(large)
        assert cells.weight.sum() == pytest.approx(1000)


def test_kinds_that_are_rare_on_both_sides_are_one():
    random = np.random.default_rng(6)

    def with_rare(number, name):
        run = a_run(random, number, large_share=0.3)
        return StratifiedRun(run.label, number, {REQUESTS: {**run.series[REQUESTS], name: cells_of(np.full(3, 11.0))}})

    alike = standardise([with_rare(0, "one-off a")], [with_rare(1, "one-off b")])
    assert alike.differences == ()
    assert (alike.baseline[0].series[REQUESTS].value == 11.0).sum() == 3
