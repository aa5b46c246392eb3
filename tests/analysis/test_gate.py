"""The gate's statistics where the truth is known: what is found, what is not, and what is said when nothing can be known."""

import json

import numpy as np
import pytest
from analysis.gated_runs import COMPUTE, POST, QUEUE, in_turn, row
from benchmarks.gate_worlds import World, sides
from scipy.stats import t as student

from tailsight_analysis import NotEnoughDataError, QuestionError
from tailsight_analysis.gating.calibration import calibrate
from tailsight_analysis.gating.estimates import RunEstimate, estimate
from tailsight_analysis.gating.fitting import fit, may_repeat, repeats
from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.result import Calibration
from tailsight_analysis.gating.samples import REQUESTS, RunSample, Series, run_of_values
from tailsight_analysis.gating.settings import METRICS, GateSettings
from tailsight_analysis.gating.together import chance_of
from tailsight_analysis.statistics.intervals import Cells

DEFAULT = GateSettings()
REQUEST_KEYS = tuple((REQUESTS, metric) for metric in METRICS)


# --- what one run says ------------------------------------------------------------------------------------------------


def test_metrics_of_a_run_are_those_of_its_durations():
    values = np.exp(np.random.default_rng(1).standard_normal(777))
    found = np.exp(estimate(run_of_values("a", 0, {REQUESTS: values}), REQUEST_KEYS).values)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    assert found == pytest.approx([p50, p95, p99, values.mean(), p99 - p50], rel=1e-9)


def test_metrics_are_exact_where_durations_repeat():
    values = np.random.default_rng(1).integers(1, 30, 500).astype(float)
    once, count = np.unique(values, return_counts=True)
    cells = Cells(once, np.zeros(len(once)), np.zeros(len(once), dtype=np.int64), count, count * 1.0, count * 1.0)
    found = np.exp(estimate(RunSample("a", 0, {REQUESTS: cells}), REQUEST_KEYS).values)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    assert found == pytest.approx([p50, p95, p99, values.mean(), p99 - p50], rel=1e-9)


def test_metrics_of_counted_durations_lie_within_their_cells():
    values = np.exp(np.random.default_rng(1).standard_normal(20_000))
    low = np.floor(values * 64) / 64
    once, count = np.unique(low, return_counts=True)
    cells = Cells(
        once, np.full(len(once), 1 / 64), np.zeros(len(once), dtype=np.int64), count, count * 1.0, count * 1.0
    )
    found = np.exp(estimate(RunSample("a", 0, {REQUESTS: cells}), REQUEST_KEYS).values)
    p50, p95, p99 = np.quantile(values, [0.5, 0.95, 0.99])
    assert found == pytest.approx([p50, p95, p99, values.mean(), p99 - p50], abs=2 / 64)


@pytest.mark.parametrize("alike", [0.0, 0.8], ids=["independent", "alike"])
def test_a_run_knows_how_uncertain_its_requests_leave_it(alike):
    random, found = np.random.default_rng(2), []
    for _ in range(150):
        latent = random.standard_normal(1500)
        for at in range(1, 1500) if alike else ():
            latent[at] = alike * latent[at - 1] + np.sqrt(1 - alike**2) * latent[at]
        found.append(estimate(run_of_values("a", 0, {REQUESTS: np.exp(0.4 * latent)}), REQUEST_KEYS))
    true = np.std([each.values for each in found], axis=0)
    said = np.sqrt(np.mean([np.diag(each.covariance) for each in found], axis=0))
    assert said / true == pytest.approx(np.ones(5), abs=0.35)


def test_a_stage_without_spans_has_no_metrics():
    found = estimate(run_of_values("a", 0, {REQUESTS: np.ones(10)}), [(COMPUTE, "p50"), (REQUESTS, "p50")])
    assert np.isnan(found.values[0])
    assert found.values[1] == 0.0


# --- sides ------------------------------------------------------------------------------------------------------------


def estimates_of(values) -> list[RunEstimate]:
    return [RunEstimate(start, np.array([value]), np.zeros((1, 1)), 100) for start, value in values]


def test_a_drift_is_no_difference_where_runs_take_turns():
    slots = [(slot, slot % 4 in (1, 2), 0.02 * slot) for slot in range(16)]
    before = estimates_of((slot, drift) for slot, changed, drift in slots if not changed)
    after = estimates_of((slot, drift + 0.1) for slot, changed, drift in slots if changed)
    found = fit(before, after)
    assert found.in_turn
    assert found.difference[0] == pytest.approx(0.1, abs=1e-9)
    assert found.between[0] == pytest.approx(0, abs=1e-12)


def test_runs_in_blocks_are_not_taken_in_turn_and_neighbours_that_are_alike_count_less():
    random = np.random.default_rng(3)
    course = np.cumsum(random.normal(0, 0.03, 40))
    wandering = fit(
        estimates_of((slot, course[slot]) for slot in range(20)),
        estimates_of((slot, course[slot]) for slot in range(20, 40)),
    )
    steady = random.normal(0, 0.03, 40)
    other = fit(
        estimates_of((slot, steady[slot]) for slot in range(20)),
        estimates_of((slot, steady[slot]) for slot in range(20, 40)),
    )
    assert not wandering.in_turn
    assert more_varied(wandering) > 2
    assert more_varied(other) == 1.0
    assert may_repeat(wandering) == may_repeat(other) == 1.0


def more_varied(fitted) -> float:
    return repeats(fitted.residuals, fitted.between, np.diag(fitted.within), fitted.neighbours)


def test_of_few_runs_in_blocks_nobody_knows_how_alike_neighbours_are():
    slots = estimates_of((slot, 0.01 * (slot % 3)) for slot in range(8))
    assert may_repeat(fit(slots[:4], slots[4:])) > 1
    assert may_repeat(fit(slots[0::2], slots[1::2])) == 1.0  # in turn: a course over time is taken off


# --- many comparisons -------------------------------------------------------------------------------------------------


def test_comparisons_that_say_the_same_cost_nothing_and_independent_ones_what_bonferroni_says():
    nothing = np.zeros(30)
    same = chance_of(np.ones((30, 30)), np.ones((30, 30)), 20, np.ones(30), nothing)
    own = chance_of(np.eye(30), np.eye(30), 20, np.ones(30), nothing)
    freedom = np.full(30, 20.0)
    assert same.critical(0.01, freedom)[0] == pytest.approx(student.isf(0.01, 20), rel=0.08)
    assert own.critical(0.01, freedom)[0] == pytest.approx(student.isf(0.01 / 30, 20), rel=0.08)


def test_a_noisy_comparison_takes_nothing_from_the_others():
    weight = np.array([1.0, *[0.02] * 29])
    found = chance_of(np.eye(30), np.eye(30), 20, weight, np.zeros(30)).critical(0.01, np.full(30, 20.0))
    assert found[0] < student.isf(0.01 / 3, 20) < student.isf(0.01 / 30, 20) < found[1]


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_nothing_changed_is_no_regression():
    found = [judge(*in_turn(np.random.default_rng(seed), 2 + seed % 5), DEFAULT).verdict for seed in range(45)]
    assert found.count("regression") <= 2  # 1 % asked for: three or more come in 1 % of such tests


def test_a_slower_stage_is_found_and_named_and_no_other():
    for seed in range(10):
        found = judge(*in_turn(np.random.default_rng(seed), 5, slower={COMPUTE: 1.3}), DEFAULT)
        assert found.verdict == "regression"
        assert row(found, COMPUTE, "p50").verdict == "regression"
        assert {each.stage for each in found.comparisons if each.verdict == "regression"} <= {"compute", ""}


def test_what_is_shown_to_be_alike_passes():
    random = np.random.default_rng(4)
    found = judge(*in_turn(random, 12, mood=0.003, count=4000, spread=0.1), DEFAULT)
    assert found.verdict == "pass"
    assert all(each.ci_high < 1.05 for each in found.comparisons)
    assert found.needed is None


def test_a_change_of_ten_per_cent_never_passes():
    for seed in range(20):
        sides_ = in_turn(np.random.default_rng(seed), 6, slower={COMPUTE: 1.1}, mood=0.003, count=1500, spread=0.1)
        assert judge(*sides_, DEFAULT).verdict != "pass"


def test_an_improvement_is_reported_and_passes():
    random = np.random.default_rng(5)
    found = judge(*in_turn(random, 12, slower={POST: 0.7}, mood=0.003, count=4000, spread=0.1), DEFAULT)
    assert found.verdict == "pass"
    assert row(found, POST, "p50").verdict == "improvement"
    assert row(found, COMPUTE, "p50").verdict == "pass"


def test_others_that_became_faster_make_no_regression_of_a_stage_that_did_not():
    for seed in range(10):
        faster = {QUEUE: 0.8, POST: 0.7}
        found = judge(*in_turn(np.random.default_rng(seed), 6, slower=faster, mood=0.003, count=1500), DEFAULT)
        assert found.verdict != "regression"


def test_a_stage_is_told_from_the_machines_mood_by_the_others():
    """Moods of 6 % hide a change of 15 % in a stage, unless the other stages of the same runs say what the mood was."""
    alone = with_others = 0
    for seed in range(12):
        before, after = in_turn(np.random.default_rng(seed), 5, slower={COMPUTE: 1.15}, mood=0.06, count=1000)
        with_others += judge(before, after, DEFAULT).verdict == "regression"
        only = [
            [RunSample(run.label, run.start_ns, {COMPUTE: run.series[COMPUTE]}) for run in side]
            for side in (before, after)
        ]
        alone += judge(*only, DEFAULT).verdict == "regression"
    assert with_others >= 10 > alone


def test_intervals_hold_the_true_ratio():
    held = [0, 0]
    for seed in range(40):
        found = judge(*in_turn(np.random.default_rng(seed), 4, slower={COMPUTE: 1.2}), DEFAULT)
        for metric in METRICS:
            each = row(found, COMPUTE, metric)
            held[0] += each.ci_low <= 1.2 * 1.0001
            held[1] += each.ci_high >= 1.2 / 1.0001
    assert min(held) >= 0.97 * 200


# --- little data ------------------------------------------------------------------------------------------------------


def test_one_run_a_side_says_what_it_cannot_know_and_is_careful():
    found = judge(*in_turn(np.random.default_rng(6), 1, slower={COMPUTE: 1.3}), DEFAULT)
    assert found.verdict == "inconclusive"
    assert any("one run a side cannot show how much runs differ" in reason for reason in found.reasons)
    assert found.needed.requests is None  # no number of requests tells how much runs differ


def test_one_run_a_side_finds_what_is_many_times_slower():
    found = judge(*in_turn(np.random.default_rng(6), 1, slower={COMPUTE: 4.0}), DEFAULT)
    assert found.verdict == "regression"


def test_a_calibration_lets_one_run_a_side_find_more():
    before, after = in_turn(np.random.default_rng(7), 6)
    calibration = calibrate([*before, *after], DEFAULT)
    pair = in_turn(np.random.default_rng(8), 1, slower={COMPUTE: 1.35})
    assert judge(*pair, DEFAULT).verdict == "inconclusive"
    assert judge(*pair, DEFAULT, calibration).verdict == "regression"
    assert judge(*in_turn(np.random.default_rng(9), 1), DEFAULT, calibration).verdict == "inconclusive"


def test_a_calibration_of_a_steadier_machine_is_not_used():
    before, after = in_turn(np.random.default_rng(7), 8, mood=0.002)
    calibration = calibrate([*before, *after], DEFAULT)
    found = judge(*in_turn(np.random.default_rng(10), 4, mood=0.4), DEFAULT, calibration)
    assert found.verdict != "regression"
    assert any("vary far more than the calibration says" in reason for reason in found.reasons)


def test_what_is_needed_decides():
    decided = tried = 0
    for seed in range(40):
        world = World("log-normal", "independent", 3, 300, 0.2, "body", True, seed)
        found = judge(*sides(world), DEFAULT)
        if (
            found.verdict != "inconclusive"
            or found.needed is None
            or found.needed.runs is None
            or found.needed.runs > 25
        ):
            continue
        tried += 1
        decided += judge(*sides(world, found.needed.runs), DEFAULT).verdict != "inconclusive"
        if tried == 8:
            break
    assert tried >= 4
    assert decided >= tried - 1


def test_an_empty_side_or_nothing_in_common_is_not_enough_data():
    one = run_of_values("a", 0, {COMPUTE: np.ones(50)})
    other = run_of_values("b", 1, {QUEUE: np.ones(50)})
    with pytest.raises(NotEnoughDataError, match="candidate has no run"):
        judge([one], [], DEFAULT)
    with pytest.raises(NotEnoughDataError, match="in common"):
        judge([one], [other], DEFAULT)


def test_a_stage_of_one_side_is_said_and_not_compared():
    before, after = in_turn(np.random.default_rng(11), 3)
    after = [
        RunSample(run.label, run.start_ns, {**run.series, Series("rerank", "cpu"): run.series[POST]}) for run in after
    ]
    found = judge(before, after, DEFAULT)
    assert any("rerank on cpu is only in the candidate" in each for each in found.differences)
    assert all(each.stage != "rerank" for each in found.comparisons)


# --- settings ---------------------------------------------------------------------------------------------------------


def test_the_most_specific_tolerance_counts():
    settings = GateSettings(
        tolerance=0.05,
        tolerances={("compute", "*"): 0.2, ("compute", "p99"): 0.5, ("*", "jitter"): 0.3, ("request", "p50"): 0.01},
    )
    assert settings.tolerance_of(COMPUTE, "p50") == 0.2
    assert settings.tolerance_of(COMPUTE, "p99") == 0.5
    assert settings.tolerance_of(QUEUE, "jitter") == 0.3
    assert settings.tolerance_of(REQUESTS, "p50") == 0.01
    assert settings.tolerance_of(REQUESTS, "p95") == 0.05


def test_a_tolerance_lets_a_slower_stage_pass_and_an_ignored_stage_is_not_compared():
    before, after = in_turn(np.random.default_rng(12), 6, slower={POST: 1.4}, mood=0.003)
    assert judge(before, after, DEFAULT).verdict == "regression"
    allowed = judge(before, after, GateSettings(tolerances={("postprocess", "*"): 1.0, ("request", "*"): 0.5}))
    assert allowed.verdict != "regression"
    ignored = judge(before, after, GateSettings(ignored_stages=("postprocess", "request")))
    assert {each.stage for each in ignored.comparisons} == {"compute", "queue"}


@pytest.mark.parametrize(
    ("limit_ms", "verdict"),
    [(10.0, "regression"), (40.0, "pass"), (15.5, "inconclusive")],
    ids=["above", "below", "about"],
)
def test_an_absolute_limit_is_held_by_the_candidate_alone(limit_ms, verdict):
    before, after = in_turn(np.random.default_rng(13), 6, mood=0.02, count=2000)
    settings = GateSettings(tolerance=1.0, limits_ms={("request", "p50"): limit_ms}, metrics=("p50",))
    found = row(judge(before, after, settings), REQUESTS, "p50")
    assert found.verdict == verdict
    assert found.candidate_interval_ms[0] < found.candidate_ms < found.candidate_interval_ms[1]


@pytest.mark.parametrize(
    "wrong",
    [{"tolerance": -0.1}, {"metrics": ("p98",)}, {"confidence": 1.0}, {"limits_ms": {("request", "p99"): 0.0}}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(QuestionError):
        GateSettings(**wrong)


# --- calibration and JSON ---------------------------------------------------------------------------------------------


def test_a_calibration_says_how_often_gates_are_wrong_and_what_they_find():
    before, after = in_turn(np.random.default_rng(14), 5, mood=0.02)
    found = calibrate([*before, *after], DEFAULT)
    assert (found.runs, found.gates) == (10, 32)
    assert found.false_alarm_rate <= 0.1
    assert found.false_alarm_interval[0] <= found.false_alarm_rate <= found.false_alarm_interval[1]
    assert found.smallest_change == min(found.smallest_changes.values()) > 0.05
    assert found.between_runs["compute|L4|p50"] == pytest.approx(0.02, abs=0.02)


def test_the_smallest_change_of_a_calibration_is_found():
    before, after = in_turn(np.random.default_rng(15), 5, mood=0.02)
    change = 1 + calibrate([*before, *after], DEFAULT).smallest_change
    slower = dict.fromkeys((COMPUTE, QUEUE, POST), change)
    found = [
        judge(*in_turn(np.random.default_rng(seed), 5, slower=slower, mood=0.02), DEFAULT).verdict for seed in range(20)
    ]
    assert found.count("regression") >= 16


def test_too_few_runs_to_calibrate():
    before, after = in_turn(np.random.default_rng(16), 1)
    with pytest.raises(NotEnoughDataError, match="2 runs cannot show") as caught:
        calibrate([*before, *after], DEFAULT)
    assert caught.value.missing == 2


def test_json_has_the_keys_that_are_promised_and_a_calibration_survives_it():
    before, after = in_turn(np.random.default_rng(17), 4)
    calibration = calibrate([*before, *after], DEFAULT)
    found = json.loads(json.dumps(judge(before, after, DEFAULT, calibration).to_json(), allow_nan=False))
    assert {"verdict", "calibration", "comparisons", "reasons", "differences", "needed"} <= set(found)
    assert {
        "stage",
        "hardware",
        "metric",
        "baseline_ms",
        "candidate_ms",
        "ratio",
        "ci_low",
        "ci_high",
        "p_value",
        "verdict",
        "needed",
    } <= set(found["comparisons"][0])
    assert Calibration.of_json(found["calibration"]) == calibration


def test_the_same_runs_give_the_same_answer():
    before, after = in_turn(np.random.default_rng(18), 4)
    assert judge(before, after, DEFAULT).to_json() == judge(before, after, DEFAULT).to_json()


def zeros_of(random, number, share) -> RunSample:
    took = 10.0 * np.exp(0.05 * random.standard_normal(400))
    cached = np.where(random.random(400) < share, 0.0, took)
    return run_of_values(f"run {number}", number * 10**9, {REQUESTS: took + 20.0, COMPUTE: cached})


def test_what_took_no_time_and_now_does_is_slower():
    random = np.random.default_rng(0)
    before, after = (
        [zeros_of(random, 2 * run, 0.7) for run in range(8)],
        [zeros_of(random, 2 * run + 1, 0.3) for run in range(8)],
    )
    found = row(judge(before, after, GateSettings(metrics=("p50",))), COMPUTE, "p50")
    assert found.verdict == "regression"
    assert found.baseline_ms == pytest.approx(0.001)


def test_runs_in_which_a_stage_took_no_time_count():
    random = np.random.default_rng(0)
    before = [zeros_of(random, 2 * run, 0.7 if run else 0.3) for run in range(8)]
    after = [zeros_of(random, 2 * run + 1, 0.3) for run in range(8)]
    found = row(judge(before, after, GateSettings(metrics=("p50",))), COMPUTE, "p50")
    assert found.verdict != "pass"
    assert found.ratio > 100


def test_runs_that_are_constant_are_judged():
    before = [run_of_values(str(number), number, {REQUESTS: np.full(50, 10.0)}) for number in range(0, 8, 2)]
    after = [run_of_values(str(number), number, {REQUESTS: np.full(50, 12.0)}) for number in range(1, 8, 2)]
    found = judge(before, after, DEFAULT)
    assert found.verdict == "regression"
    assert row(found, REQUESTS, "p50").ratio == pytest.approx(1.2)
