"""Only like is compared with like: a mix that moved is no change of the code, and is said first."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tailsight_analysis import NotEnoughDataError
from tailsight_analysis.gate import judge_stratified
from tailsight_analysis.gating.lengths import NOT_SAID, STEPS_AN_OCTAVE, Lengths, divide
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


# --- lengths of inputs ------------------------------------------------------------------------------------------------

SIGMA, FIXED_MS, MS_AT_300 = 0.7, 2.0, 10.0
RUNS = 6


def a_run_of_lengths(
    random, number, *, longer=1.0, slower=1.0, count=1500, key="tokens", lengths=None
) -> StratifiedRun:
    """Requests that take longer for longer inputs; without lengths where `key` is empty, all of one where `lengths` is."""
    tokens = np.round(300 * longer * np.exp(SIGMA * random.standard_normal(count)))
    tokens = np.maximum(tokens, 1) if lengths is None else np.full(count, lengths)
    noise = np.exp(0.1 * random.standard_normal(count) + random.normal(0, 0.005))
    values = (FIXED_MS + MS_AT_300 * slower * tokens / 300) * noise
    steps = np.floor(STEPS_AN_OCTAVE * np.log2(tokens)).astype(np.int64)
    known = Lengths(key, 1, {REQUESTS: {"rank": steps}}) if key else None
    return StratifiedRun(str(number), number, {REQUESTS: {"rank": cells_of(values)}}, {}, known)


def sides_of_lengths(seed, after=None, before=None, count=1500, runs=RUNS):
    random = np.random.default_rng(seed)
    made = ([], [])
    for slot in range(2 * runs):
        changed = slot % 4 in (1, 2)
        made[changed].append(
            a_run_of_lengths(random, slot, **{"count": count, **((after if changed else before) or {})})
        )
    return made


def without_lengths(side):
    return [replace(run, lengths=None) for run in side]


def ratios(found):
    return {row.metric: row.ratio for row in found.comparisons}


@pytest.mark.parametrize("longer", [1.15, 1.5, 3.0])
def test_longer_inputs_are_said_and_are_no_regression(longer):
    before, after = sides_of_lengths(1, {"longer": longer})
    naive = judge_stratified(without_lengths(before), without_lengths(after), GateSettings())
    assert naive.verdict == "regression", "or this test shows nothing"
    found = judge_stratified(before, after, GateSettings())
    assert found.verdict != "regression"
    said = re.fullmatch(
        r"request: inputs are longer \(tokens, mean (\d+(?:\.\d+)?) to (\d+(?:\.\d+)?)\); judged at the baseline's lengths",
        found.differences[0],
    )
    assert said is not None
    assert float(said[2]) / float(said[1]) == pytest.approx(longer, rel=0.03)
    for metric in ("p50", "p95", "mean"):
        assert ratios(found)[metric] == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("longer", [1.5, 0.6], ids=["longer", "shorter, which hides it"])
def test_what_is_slower_at_equal_length_is_found_with_its_size(longer):
    before, after = sides_of_lengths(2, {"longer": longer, "slower": 1.3})
    found = judge_stratified(before, after, GateSettings())
    assert found.verdict == "regression"
    _, alone = sides_of_lengths(3, {"slower": 1.3})
    truth = ratios(judge_stratified(before, alone, GateSettings()))
    for metric in ("p50", "p95", "mean"):
        assert ratios(found)[metric] == pytest.approx(truth[metric], rel=0.03)
        assert truth[metric] == pytest.approx(1.27, abs=0.04)


def test_lengths_that_did_not_move_change_nothing():
    before, after = sides_of_lengths(4, {"slower": 1.1})
    with_lengths = judge_stratified(before, after, GateSettings())
    assert with_lengths.differences == ()
    assert (
        with_lengths.comparisons
        == judge_stratified(without_lengths(before), without_lengths(after), GateSettings()).comparisons
    )


def test_lengths_are_hardly_ever_taken_for_moved_by_chance():
    taken = 0
    for seed in range(150):
        taken += bool(standardise(*sides_of_lengths(100 + seed, count=100, runs=3)).differences)
    assert taken <= 4


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {"key": ""}, "length of the input: baseline tokens, candidate not said; lengths are not compared"),
        ({}, {"key": "chars"}, "length of the input: baseline tokens, candidate chars; lengths are not compared"),
        ({"key": ""}, {"key": ""}, None),
    ],
    ids=["one side", "by another attribute", "neither"],
)
def test_where_lengths_cannot_be_compared_nothing_is_lost(before, after, said):
    alike = standardise(*sides_of_lengths(5, after, before))
    assert alike.differences == ((said,) if said else ())
    for run in (*alike.baseline, *alike.candidate):
        assert run.requests == 1500
        assert (run.series[REQUESTS].weight == 1).all()


def test_requests_that_do_not_say_their_length_stay_a_kind_of_their_own():
    before, after = sides_of_lengths(6, {"longer": 1.5})
    for run in (*before, *after):
        run.lengths.steps[REQUESTS]["rank"][::3] = NOT_SAID
    alike = standardise(before, after)
    for run in (*alike.baseline, *alike.candidate):
        cells = run.series[REQUESTS]
        unknown = np.isin(
            cells.value,
            next(each for each in (*before, *after) if each.label == run.label).series[REQUESTS]["rank"].value[::3],
        )
        assert cells.weight[unknown].sum() / cells.weight.sum() == pytest.approx(1 / 3, abs=0.01)


def test_lengths_that_the_other_side_lacks_are_left_out():
    random = np.random.default_rng(7)
    short, long = ([a_run_of_lengths(random, 0, lengths=each)] for each in (256, 2048))
    with pytest.raises(NotEnoughDataError, match=r"in common: request: inputs are longer \(tokens, mean 256 to 2048\)"):
        judge_stratified(short, long, GateSettings())
    both = [_together(one, other) for one, other in zip(short, long, strict=True)]
    alike = standardise(both, long)
    assert [run.requests for run in (*alike.baseline, *alike.candidate)] == [1500, 1500]
    assert (
        "request: 50% of the baseline's have no counterpart and are left out: rank, tokens 256 to 279"
        in alike.differences
    )


def test_every_range_of_lengths_has_a_name_of_its_own():
    """Of fractions too, and of small numbers, several of which lie in no range: two of one name would be one kind."""
    steps = np.repeat(np.arange(-40, 120), 40)
    made = divide(
        ([{"rank": cells_of(np.ones(len(steps)))}], [{"rank": cells_of(np.ones(len(steps) + 8000))}]),
        ([{"rank": steps}], [{"rank": np.append(steps, np.full(8000, 119))}]),
        "tokens",
    )
    assert len(made.ranges) == 160
    assert sum(cells.count.sum() for cells in made.strata[0][0].values()) == len(steps)
    assert {"rank, tokens 1", "rank, tokens 3", "rank, tokens 9", "rank, tokens 256 to 279"} < made.ranges


def test_runs_whose_lengths_are_known_less_finely_are_compared_as_finely_as_they_can_be():
    before, after = sides_of_lengths(8, {"longer": 1.5})
    coarse = [replace(run, lengths=run.lengths.rounded_to(2)) for run in after]
    found = judge_stratified(before, coarse, GateSettings())
    assert found.verdict != "regression"
    assert ratios(found)["mean"] == pytest.approx(1.0, abs=0.03)


def _together(one: StratifiedRun, other: StratifiedRun) -> StratifiedRun:
    values = np.concatenate([run.series[REQUESTS]["rank"].value for run in (one, other)])
    steps = np.concatenate([run.lengths.steps[REQUESTS]["rank"] for run in (one, other)])
    return replace(
        one, series={REQUESTS: {"rank": cells_of(values)}}, lengths=Lengths("tokens", 1, {REQUESTS: {"rank": steps}})
    )
