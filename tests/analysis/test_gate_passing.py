"""When does a gate pass? What must be shown, how narrowly, and what need not be."""

import numpy as np
import pytest
from analysis.gated_runs import COMPUTE, POST, in_turn, row

from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.samples import REQUESTS
from tailsight_analysis.gating.settings import GateSettings

STEADY = {"mood": 0.003, "count": 1500, "spread": 0.15}


def test_the_margin_is_the_tolerance_and_at_the_tail_twice_that_unless_it_is_named():
    settings = GateSettings(tolerance=0.04, tolerances={("*", "jitter"): 0.3, ("compute", "*"): 0.01})
    margins = {metric: settings.margin_of(REQUESTS, metric) for metric in ("p50", "mean", "p95", "p99", "jitter")}
    assert margins == {"p50": 0.04, "mean": 0.04, "p95": 0.08, "p99": 0.08, "jitter": 0.3}
    assert settings.margin_of(COMPUTE, "p99") == 0.01
    assert GateSettings(tolerance=0.04, tail_margin=1).margin_of(REQUESTS, "p99") == 0.04


def test_unchanged_requests_pass_though_a_rare_stage_is_not_decided():
    before, after = in_turn(np.random.default_rng(2), 8, mood=0.003, count=4000, spread=0.1)
    rare = [run.series[POST] for run in (*before, *after)]
    for run, cells in zip((*before, *after), rare, strict=True):
        run.series[POST] = cells.within(0, 2)
    found = judge(before, after, GateSettings())
    open_ = [each for each in found.comparisons if each.verdict == "inconclusive"]
    assert found.verdict == "pass"
    assert found.needed is None
    assert {each.stage for each in open_} == {"postprocess"}
    assert not any(each.decides for each in open_)
    assert any(f"but {len(open_)} are not decided; widest: postprocess" in reason for reason in found.reasons)
    assert judge(before, after, GateSettings(decided_by="all")).verdict == "inconclusive"
    named = GateSettings(tolerances={("postprocess", "*"): 0.05})
    assert judge(before, after, named).verdict == "inconclusive"
    assert judge(before, after, GateSettings(ignored_stages=("request",))).verdict == "inconclusive"


def test_the_tail_passes_within_its_margin_and_not_beyond():
    before, after = in_turn(np.random.default_rng(3), 8, **STEADY)
    high = row(judge(before, after, GateSettings(metrics=("p99",))), REQUESTS, "p99").ci_high
    assert high > 1
    for times, verdict in ((2.0, "pass"), (1.0, "inconclusive")):
        settings = GateSettings(tolerance=(high - 1) / 1.5, tail_margin=times, metrics=("p99",))
        found = judge(before, after, settings)
        assert row(found, REQUESTS, "p99").margin == pytest.approx(times * settings.tolerance)
        assert found.verdict == verdict


def test_a_slower_stage_is_a_regression_though_the_requests_lie_within_their_margins():
    before, after = in_turn(np.random.default_rng(4), 8, slower={POST: 1.2}, **STEADY)
    found = judge(before, after, GateSettings())
    assert found.verdict == "regression"
    assert row(found, REQUESTS, "p50").verdict == "pass"
    assert row(found, POST, "p50").verdict == "regression"


def test_a_shift_of_the_tail_of_a_tenth_hardly_ever_passes():
    passed = 0
    for seed in range(25):
        before, after = in_turn(np.random.default_rng(seed), 8, **STEADY)
        for run in after:
            cells = run.series[REQUESTS]
            slow = cells.value >= np.quantile(cells.value, 0.9)
            cells.value[slow] *= 1.1
        passed += judge(before, after, GateSettings()).verdict == "pass"
    assert passed <= 2  # 1 % asked for: three or more come in 0.2 % of such tests
