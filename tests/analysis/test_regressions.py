"""Histories in a real store, with known truth: what became slower since which version, and what did not."""

import json
from dataclasses import replace

import numpy as np
import pytest
from analysis import brute_force
from analysis.histories import Version, history

from tailsight_analysis import Filters, NoSpansError, NotEnoughDataError, QuestionError, Store, Window, whole_time
from tailsight_analysis.changes.history import history_changes
from tailsight_analysis.changes.mix import mix_shifts
from tailsight_analysis.changes.units import Line, Mix, Point
from tailsight_analysis.regressions import Regressions, regressions


def asked(store: Store, spans, **options) -> Regressions:
    brute_force.insert(store, spans)
    window = whole_time(store)
    assert window is not None
    return regressions(store, window, **options)


def slow_since(version: int, stage: str = "compute", hardware: str = "T4", factor: float = 1.3):
    return lambda number: Version({(stage, hardware): factor} if number >= version else None)


def test_a_stage_that_is_slower_on_one_hardware_type_is_found_there_and_since_then(store):
    result = asked(store, history(30, slow_since(18)), metrics=("p50", "mean"))
    stages = [change for change in result.changes if change.stage]
    assert {(change.stage, change.hardware, change.metric) for change in stages} == {
        ("compute", "T4", "p50"), ("compute", "T4", "mean"),
    }  # fmt: skip
    for change in stages:
        assert change.direction == "slower"
        assert (result.units[change.last_before].name, result.units[change.first_after].name) == ("1.17", "1.18")
        assert result.units[change.last_after].name == "1.29"
        low, high = change.ratio_interval
        assert low < 1.3 < high
        assert change.adjusted_p_value <= 0.05
        assert change.mix == ()
    # the request is slower too, in the part that ran there
    assert all(change.first_after >= 17 for change in result.changes)
    plain = stages[0].to_json(result.units)
    assert plain["version_range"] == ["1.17", "1.18"]
    assert plain["run_range"] == ["nightly-17", "nightly-18"]
    assert (plain["last_before"], plain["first_after"], plain["mix_moved"]) == ("1.17", "1.18", False)


def test_nothing_is_found_where_nothing_changed(store):
    result = asked(store, history(30, lambda number: Version()))
    assert result.changes == ()
    # p99 and jitter need 200 spans of a version: there are fewer
    assert {line.metric for line in result.lines} == {"p50", "p95", "mean"}
    assert {(line.stage, line.hardware) for line in result.lines if line.metric == "p50"} == {
        ("", ""), *((stage, hardware) for stage in ("queue", "compute", "postprocess") for hardware in ("L4", "T4"))
    }  # fmt: skip


@pytest.mark.parametrize("slow", [(14,), (14, 15), (29,), (28, 29), (0,)])
def test_one_or_two_slow_versions_are_no_change(store, slow):
    result = asked(
        store, history(30, lambda number: slow_since(0, factor=3)(0) if number in slow else Version(), requests=60)
    )
    assert result.changes == ()


def test_a_shift_of_the_workload_is_said_to_be_one(store):
    result = asked(
        store,
        history(24, lambda number: Version(tokens=150.0 if number >= 12 else 100.0, big=0.6 if number >= 12 else 0.2)),
        metrics=("p50",),
    )
    changed = {(change.stage, change.hardware) for change in result.changes}
    assert {("compute", "L4"), ("compute", "T4")} <= changed
    assert not changed & {("queue", "L4"), ("queue", "T4"), ("postprocess", "L4"), ("postprocess", "T4")}
    change = next(each for each in result.changes if each.stage == "compute")
    moved = {(shift.kind, shift.value): (shift.before, shift.after) for shift in change.mix}
    assert moved["input length", ""] == (pytest.approx(98, rel=0.05), pytest.approx(147, rel=0.05))
    assert moved["model", "big"] == (pytest.approx(0.2, abs=0.06), pytest.approx(0.6, abs=0.06))
    assert not {kind for kind, _ in moved} - {"input length", "model"}


def test_new_versions_move_no_change_that_was_reported(store):
    spans = history(26, slow_since(10, factor=1.4))
    known: dict[tuple[str, str, str, str], tuple[str, float]] = {}
    for upto in (16, 20, 26):
        wanted = [span for span in spans if int(span.version.split(".")[1]) < upto]
        for table in ("spans", "stage_latency_1m"):
            store.run(f"TRUNCATE TABLE {table}")
        result = asked(store, wanted, metrics=("p50", "mean"))
        now = {
            (each.stage, each.hardware, each.metric, result.units[each.first_after].name): (
                result.units[each.found_at].name,
                each.adjusted_p_value,
            )
            for each in result.changes
        }
        assert known.items() <= now.items()
        known = now
    assert ("compute", "T4", "p50", "1.10") in known


def test_runs_and_time_tell_the_same(store):
    spans = history(24, slow_since(12, factor=1.5))
    by_run = asked(store, spans, by="run", metrics=("p50",))
    assert by_run.units[0].versions == ("1.0",)
    change = next(each for each in by_run.changes if each.stage == "compute")
    assert by_run.units[change.first_after].name == "nightly-12"
    by_time = regressions(store, by_run.window, by="time", metrics=("p50",), bucket_s=600)
    change = next(each for each in by_time.changes if each.stage == "compute")
    assert "nightly-12" in by_time.units[change.first_after].runs
    assert by_time.units[change.first_after].name.endswith("Z")
    assert by_time.bucket_s == 600


def test_a_stretch_of_time_that_goes_on_is_left_out(store):
    brute_force.insert(store, history(10, lambda number: Version(), requests=30))
    window = whole_time(store)
    part = Window(window.since_ns, window.until_ns)
    result = regressions(store, part, by="time", metrics=("p50",), bucket_s=60)
    ends = [int(np.datetime64(unit.name[:-1], "ns").astype(np.int64)) + 60 * 10**9 for unit in result.units]
    assert max(ends) <= part.until_ns
    whole = regressions(store, Window(window.since_ns, max(ends) + 10**12), by="time", metrics=("p50",), bucket_s=60)
    assert len(whole.units) == len(result.units) + 1


def test_filters_choose_what_is_looked_at(store):
    spans = history(20, slow_since(10, factor=1.5))
    brute_force.insert(store, spans)
    window = whole_time(store)
    result = regressions(store, window, Filters(stage=("compute",), hardware=("L4",)), metrics=("p50",))
    assert {(line.stage, line.hardware) for line in result.lines} == {("", ""), ("compute", "L4")}
    assert not [change for change in result.changes if change.stage]


def test_sampled_requests_stand_for_others(store):
    """Every second request stands for four: the median is that of all that they stand for."""
    spans = history(7, lambda number: Version(), requests=200)
    heavy = [replace(span, weight=4) if span.trace % 2 else span for span in spans]
    brute_force.insert(store, heavy)
    result = regressions(store, whole_time(store), metrics=("p50",))
    line = next(each for each in result.lines if each.stage == "")
    first = sorted((span.duration, span.weight) for span in heavy if span.parent == 0 and span.version == "1.0")
    repeated = np.repeat([duration for duration, _ in first], [weight for _, weight in first]) / 1000
    assert line.points[0].value_ms == pytest.approx(np.median(repeated), rel=0.03)
    assert line.points[0].count == 200


def test_points_are_the_exact_figures_of_each_version(store):
    spans = history(7, lambda number: Version(), requests=250)
    result = asked(store, spans)
    line = next(each for each in result.lines if (each.stage, each.hardware, each.metric) == ("compute", "L4", "p50"))
    other = next(each for each in result.lines if (each.stage, each.metric) == ("", "jitter"))
    for place, point in enumerate(line.points):
        times = [
            span.duration / 1000
            for span in spans
            if (span.stage, span.hardware, span.version) == ("compute", "L4", f"1.{place}")
        ]
        assert point.value_ms == pytest.approx(np.quantile(times, 0.5))
        assert point.count == len(times)
    times = [span.duration / 1000 for span in spans if span.parent == 0 and span.version == "1.0"]
    assert other.points[0].value_ms == pytest.approx(np.quantile(times, 0.99) - np.quantile(times, 0.5))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"by": "colour"}, QuestionError, "no history over 'colour': use version, run, time"),
        ({"metrics": ("p42",)}, QuestionError, "no metric 'p42': use p50"),
        ({"bucket_s": 5.0}, QuestionError, "a history over version has no stretches of time"),
        ({"by": "time", "bucket_s": 0.1}, QuestionError, "a stretch of 0.1 s is too short"),
        ({"least_change": -1.0}, QuestionError, "a least change of -1"),
        ({"filters": Filters(service=("nobody",))}, NoSpansError, "no spans with a version"),
        ({}, NotEnoughDataError, "5 versions in .*: a change needs 8 or more to show, 3 more"),
    ],
)
def test_what_cannot_be_answered_says_why(store, options, error, message):
    brute_force.insert(store, history(5, lambda number: Version(), requests=20))
    with pytest.raises(error, match=message):
        regressions(store, whole_time(store), **options)


def test_the_answer_is_plain_data(store):
    result = asked(store, history(12, slow_since(6, factor=2), requests=60), metrics=("p50",))
    answer = json.loads(json.dumps(result.to_json()))
    assert answer["changes"]
    place = next(each for each in answer["series"] if (each["stage"], each["hardware"]) == ("compute", "T4"))
    assert place["change_units"] == [6]
    assert answer["units"][6]["name"] == "1.6"


# --- without a store --------------------------------------------------------------------------------------------------


def lines_of(values_ms) -> list[Line]:
    return [
        Line(f"stage{number}", "L4", "p50", tuple(Point(place, float(value), 0.01, 500) for place, value in enumerate(row)))
        for number, row in enumerate(values_ms)
    ]  # fmt: skip


def test_histories_of_noise_are_free_of_changes_all_series_together():
    """At most 5 % of histories may have any change: more than one of 12 would be against it."""
    false = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        values = 10 * np.exp(0.05 * random.standard_normal((30, 20)))
        false += bool(history_changes(lines_of(values)))
    assert false <= 1


def test_a_true_change_is_found_among_many_series():
    found = 0
    for seed in range(6):
        random = np.random.default_rng(seed)
        values = 10 * np.exp(0.03 * random.standard_normal((30, 24)))
        values[7, 13:] *= 1.25
        changes = history_changes(lines_of(values))
        found += [(change.stage, change.first_after) for change in changes] == [("stage7", 13)]
    assert found >= 5


def test_a_workload_that_only_wavers_did_not_move():
    random = np.random.default_rng(1)
    units = [
        Mix({("model", "big"): float(share), ("model", "small"): float(1 - share)}, 4.0)
        for share in random.uniform(0.1, 0.5, 20)
    ]
    assert mix_shifts(units[:10], units[10:]) == ()
    moved = mix_shifts([Mix({("model", "big"): 0.2})] * 5, [Mix({("model", "big"): 0.5})] * 5)
    assert [(each.kind, each.value, each.before, each.after) for each in moved] == [("model", "big", 0.2, 0.5)]
    assert mix_shifts([Mix({}, 4.0)] * 5, [Mix({}, 4.02)] * 5) == ()
