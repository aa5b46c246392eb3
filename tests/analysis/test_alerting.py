"""Alert rules over real stores whose truth is known: what must fire, what must not, and what is said."""

import time
from dataclasses import replace

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span
from analysis.histories import MINUTE, Version, history
from testkit.metrics import metric, metrics_request, point

from tailsight_analysis import Filters, QuestionError
from tailsight_analysis.alerting.open import open_alerts
from tailsight_analysis.alerting.regression import RegressionRule, history_window, judge_changes
from tailsight_analysis.alerting.rules import KINDS, evaluate, rule_of
from tailsight_analysis.alerting.slo import DEFAULT_BURNS, Burn, SloRule, burn_rate, judge_slo
from tailsight_analysis.alerting.tallies import Counted
from tailsight_analysis.changes.history import HistoryChange
from tailsight_analysis.changes.units import Unit

NS_PER_S = 10**9
TICKS_A_S = NS_PER_S // TICK_NS
HOUR = 3600 * TICKS_A_S
NOW_NS = BASE_NS + HOUR * TICK_NS
COUNTS = {"1h": 3600.0, "5m": 300.0, "6h": 21600.0, "30m": 1800.0}


def counted(**bad_of):
    """Windows by the name of their length: (bad, requests)."""
    return {
        COUNTS[name.strip("_")]: Counted(requests, bad, round(requests)) for name, (bad, requests) in bad_of.items()
    }


SLO = SloRule(0.99, 25.0, False)


@pytest.mark.parametrize(
    ("windows", "fires"),
    [
        ({"_1h": (145, 1000), "_5m": (15, 100), "_6h": (145, 6000), "_30m": (70, 500)}, True),
        ({"_1h": (144, 1000), "_5m": (15, 100), "_6h": (144, 6000), "_30m": (70, 500)}, False),
        ({"_1h": (500, 1000), "_5m": (0, 100), "_6h": (500, 6000), "_30m": (0, 500)}, False),
        ({"_1h": (10, 1000), "_5m": (0, 100), "_6h": (366, 6000), "_30m": (31, 500)}, True),
        ({"_1h": (0, 0), "_5m": (0, 0), "_6h": (0, 0), "_30m": (0, 0)}, False),
        ({"_1h": (20, 29), "_5m": (20, 20), "_6h": (20, 29), "_30m": (20, 29)}, False),
    ],
    ids=["fast", "at-the-rate", "over-already", "slow", "nothing", "too-few"],
)
def test_both_windows_of_a_pair_must_burn_too_fast(windows, fires):
    found = judge_slo(SLO, counted(**windows))
    assert found.firing is fires
    assert found.unit == "burn rate"


def test_the_defaults_are_those_of_the_workbook():
    assert (Burn(3600, 300, 14.4), Burn(21600, 1800, 6.0)) == DEFAULT_BURNS
    # a month of 30 days: 2 % of its budget in an hour, 5 % in six
    assert [round(burn.rate * burn.long_s / (30 * 86400), 6) for burn in DEFAULT_BURNS] == [0.02, 0.05]
    assert burn_rate(SLO, Counted(1000, 10, 1000)) == pytest.approx(1)


def requests_of(count, bad, *, first=1, error=False, start=0, every=1000, **more):
    """So many requests, of which those whose number is in `bad` take 40 ms instead of 10, or fail."""
    return [
        Span(
            first + number, 1, 0, start + number * every,
            40_000 if number in bad and not error else 10_000,
            error=error and number in bad, **{"service": "ranker", "stage": "", **more},
        )
        for number in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("error", [False, True], ids=["slow", "failed"])
def test_an_objective_is_counted_in_the_store(store, error):
    end = HOUR - 20 * TICKS_A_S
    spans = requests_of(400, range(0, 400, 5), error=error, start=end - 400_000)
    spans += requests_of(200, (), first=1000, start=end - 50 * 60 * TICKS_A_S)
    spans += requests_of(300, range(300), first=5000, start=end - 400_000, service="other")
    brute_force.insert(store, spans)
    table = {"objective": 0.99, "service": "ranker", **({"errors": True} if error else {"within": "25ms"})}
    rule = rule_of("rule x", "slo", table)
    [found] = evaluate(store, rule, NOW_NS).found
    # 80 of 600 in an hour are 13.3 times the budget, below 14.4; in six hours, too, and that is above 6
    assert found.firing
    assert (found.value, found.limit) == (pytest.approx(80 / 600 / 0.01), 6.0)
    assert found.labels == {"service": "ranker"}
    assert found.filters == Filters(service=("ranker",))
    assert "13.3 % of 600 were bad in 6h" in found.text
    strict = rule_of("rule x", "slo", {**table, "burn": [{"long": "1h", "short": "5m", "rate": 14.4}]})
    assert not evaluate(store, strict, NOW_NS).found[0].firing
    later = evaluate(store, rule, NOW_NS + 31 * 60 * NS_PER_S).found[0]
    assert not later.firing, "the short windows are over"


def test_a_sampled_request_counts_for_those_that_it_stands_for(store):
    end = HOUR - 20 * TICKS_A_S
    spans = requests_of(100, (), weight=99, decided=True, start=end - 100_000)
    spans += requests_of(100, range(100), first=500, weight=1, decided=True, start=end - 100_000)
    brute_force.insert(store, spans)
    [found] = evaluate(store, rule_of("rule x", "slo", {"objective": 0.99, "within": "25ms"}), NOW_NS).found
    assert found.value == pytest.approx(1.0)
    assert not found.firing


def stages(random, count, spread, *, hardware="L4", stage="compute", first=1):
    starts = np.sort(random.integers(HOUR - 600 * TICKS_A_S, HOUR - 20 * TICKS_A_S, count)).tolist()
    durations = (5000 * random.lognormal(0, spread, count)).astype(int).tolist()
    return [
        Span(first + number, 1, 0, start, duration, stage=stage, hardware=hardware, service="ranker")
        for number, (start, duration) in enumerate(zip(starts, durations, strict=True))
    ]


def true_jitter_ms(spread):
    return 5 * (np.exp(2.3263 * spread) - 1)


def test_jitter_fires_where_it_surely_is_too_large_and_there_alone(store):
    random = np.random.default_rng(3)
    brute_force.insert(store, [*stages(random, 3000, 0.6, hardware="T4"), *stages(random, 3000, 0.2, first=10_000)])
    rule = rule_of("rule x", "jitter", {"limit": "10ms", "stage": "compute"})
    found = {finding.labels["hardware"]: finding for finding in evaluate(store, rule, NOW_NS).found}
    assert true_jitter_ms(0.2) < 10 < true_jitter_ms(0.6)
    assert {hardware: finding.firing for hardware, finding in found.items()} == {"T4": True, "L4": False}
    assert found["T4"].value == pytest.approx(true_jitter_ms(0.6), rel=0.15)
    assert found["T4"].filters == Filters(stage=("compute",), hardware=("T4",))
    assert found["T4"].text.startswith("compute on T4: p99 − p50 is ")


def test_noise_about_the_limit_does_not_fire(store):
    """The estimate passes the limit in about half of the looks; its lower bound hardly ever does."""
    random = np.random.default_rng(4)
    limit_ms = true_jitter_ms(0.4)
    rule = rule_of("rule x", "jitter", {"limit": f"{limit_ms:.6f}ms"})
    looks, above = [], 0
    for number in range(24):
        brute_force.insert(store, stages(random, 600, 0.4, stage=f"s{number}", first=1 + 1000 * number))
    for finding in evaluate(store, rule, NOW_NS).found:
        looks.append(finding.firing)
        above += finding.value > limit_ms
    assert len(looks) == 24
    assert above >= 6
    assert sum(looks) <= 2


def test_too_few_spans_vary_without_an_alert(store):
    brute_force.insert(store, stages(np.random.default_rng(5), 5, 1.5))
    [found] = evaluate(store, rule_of("rule x", "jitter", {"limit": "1ms"}), NOW_NS).found
    assert found.value > 1
    assert not found.firing
    assert "too few spans" in found.text


def sampled(store, token, name, values, *, host="h1", device="0", reasons=None, hardware="NVIDIA L4"):
    now_ns = time.time_ns()
    points = [
        point(value, time_unix_nano=now_ns - (number + 1) * NS_PER_S,
              attributes={"hw.id": device, "hw.type": "gpu", "hw.name": hardware,
                          **({"hw.gpu.throttle_reasons": reasons} if reasons and value else {})})
        for number, value in enumerate(values)
    ]  # fmt: skip
    resource = {"service.name": "ranker", "host.name": host, "tailsight.hardware": hardware}
    body = metrics_request([metric(name, points)], resource).SerializeToString()
    store.insert_otlp_metrics(brute_force._varint(len(body)) + body, f"{now_ns}-{token}")


def test_a_device_that_is_held_down_is_named_with_its_host_and_reason(store):
    sampled(store, "a", "hw.gpu.throttled", [1] * 30 + [0] * 70, host="hot", reasons=["hw_thermal_slowdown"])
    sampled(store, "b", "hw.gpu.throttled", [1] * 5 + [0] * 95, host="warm")
    sampled(store, "c", "hw.gpu.throttled", [1, 1], host="new")
    sampled(store, "d", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", [1] * 50, host="idle")
    sampled(store, "e", "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", [0x41] * 50, host="dcgm")
    findings = evaluate(store, rule_of("rule x", "throttling", {}), time.time_ns()).found
    found = {finding.labels["host"]: finding for finding in findings}
    assert {host: finding.firing for host, finding in found.items()} == {
        "hot": True, "warm": False, "new": False, "idle": False, "dcgm": True,
    }  # fmt: skip
    assert found["hot"].value == pytest.approx(0.3)
    assert "NVIDIA L4 of hot was throttled in 30 % of 5m (" in found["hot"].text
    assert "hw_thermal_slowdown" in found["hot"].text
    only = rule_of("rule x", "throttling", {"host": "warm", "share": 0.04})
    assert [(each.labels["host"], each.firing) for each in evaluate(store, only, time.time_ns()).found] == [
        ("warm", True)
    ]


def test_a_regression_is_told_once_it_is_found_and_not_what_was_there_before(store):
    spans = history(20, lambda number: Version({("compute", "T4"): 1.5} if number >= 12 else None))
    rule = rule_of("rule x", "regression", {"metric": ["p50", "mean"], "window": "1d"})
    known = [span for span in spans if int(span.version[2:]) < 12]
    brute_force.insert(store, known)
    end_ns = BASE_NS + 20 * 10 * MINUTE * TICK_NS
    first = evaluate(store, rule, end_ns)
    assert first.found == ()
    assert first.memory["known"] == {}
    brute_force.insert(store, [span for span in spans if int(span.version[2:]) >= 12])
    second = evaluate(store, rule, end_ns, first.memory)
    firing = [finding for finding in second.found if finding.firing]
    assert [finding.labels for finding in firing] == [{"since": "1.12"}]
    assert "slower since version 1.12: compute on T4 " in firing[0].text
    assert firing[0].filters == Filters(version=("1.12",))
    assert firing[0].value == pytest.approx(1.5, rel=0.1)
    third = evaluate(store, rule, end_ns + 60 * NS_PER_S, second.memory)
    assert [finding.labels for finding in third.found if finding.firing] == [{"since": "1.12"}]
    assert third.memory == second.memory
    # a day later the same is no news
    fourth = evaluate(
        store,
        rule,
        end_ns + 60 * NS_PER_S,
        {**second.memory, "known": dict.fromkeys(second.memory["known"], end_ns - 86400 * NS_PER_S)},
    )
    assert [finding.firing for finding in fourth.found] == [False]
    assert "no longer news" in fourth.found[0].text
    # and who begins to look now takes it as it is
    fresh = evaluate(store, rule, end_ns)
    assert fresh.found == ()
    assert set(fresh.memory["known"]) == set(second.memory["known"])
    told = evaluate(store, replace(rule, existing=True), end_ns)
    assert [finding.labels for finding in told.found if finding.firing] == [{"since": "1.12"}]


def change(first_after, after_ms, *, stage="compute", metric="p99"):
    return HistoryChange(
        stage=stage, hardware="L4", metric=metric, before_ms=10.0, after_ms=after_ms, ratio_interval=(1.1, 1.3), p_value=0.001,
        adjusted_p_value=0.01, first_before=0, last_before=first_after - 1, first_after=first_after, last_after=9, found_at=first_after + 2, mix=(),
    )  # fmt: skip


def test_a_regression_is_over_when_it_is_faster_again():
    units = [Unit(f"v{number}", number, number, 10) for number in range(10)]
    rule = RegressionRule()
    looked = {"of": rule.question, "known": {}}
    before = judge_changes(rule, [change(3, 12.0), change(3, 15.0, stage="queue")], units, looked, NOW_NS)
    assert [finding.firing for finding in before.found] == [True]
    assert before.found[0].text.startswith("slower since version v3: queue on L4 p99 10 → 15 ms (+50 %")
    half = judge_changes(
        rule, [change(6, 9.0), change(3, 12.0), change(3, 15.0, stage="queue")], units, before.memory, NOW_NS
    )
    assert [(finding.firing, "compute" in finding.text) for finding in half.found] == [(True, False)]
    both = [change(6, 9.0), change(6, 9.0, stage="queue"), change(3, 12.0), change(3, 15.0, stage="queue")]
    after = judge_changes(rule, both, units, half.memory, NOW_NS)
    assert [finding.firing for finding in after.found] == [False]
    assert after.found[0].text.startswith("faster again after version v3")
    # one that is not found for a moment is no news when it is found again
    gone = judge_changes(rule, [], units, after.memory, NOW_NS + NS_PER_S)
    assert gone.found == ()
    assert gone.memory == after.memory


@pytest.mark.parametrize("bucket_s", [None, 3600.0], ids=["versions", "hours"])
def test_the_history_of_an_alert_begins_where_it_began_at_the_look_before(bucket_s):
    """Noise is tried anew in each history that begins elsewhere: a false alarm each time."""
    rule = RegressionRule(by="time" if bucket_s else "version", window_s=86400.0)
    looks = [history_window(rule, bucket_s, NOW_NS + look * 600 * NS_PER_S) for look in range(1 + 2 * 144)]
    assert len({window.since_ns for window in looks}) == 1 + 2 * 4
    assert all(86400 - 3600 <= window.duration_s <= 1.25 * 86400 for window in looks)
    ends = {window.until_ns % (3600 * NS_PER_S) for window in looks}
    assert (ends == {0}) is bool(bucket_s), "a stretch that goes on is not looked at"


def test_what_was_there_at_the_first_look_is_no_news_when_it_is_found_again():
    units = [Unit(f"v{number}", number, number, 10) for number in range(10)]
    rule = RegressionRule()
    memory = judge_changes(rule, [change(3, 15.0)], units, {}, NOW_NS).memory
    for at_ns, changes in ((1, []), (2, [change(3, 15.0)])):
        found = judge_changes(rule, changes, units, memory, NOW_NS + at_ns * NS_PER_S)
        assert not any(finding.firing for finding in found.found)
        memory = found.memory
    late_ns = NOW_NS + round(2 * rule.window_s + 1) * NS_PER_S
    assert judge_changes(rule, [], [], memory, late_ns).memory["known"] == {}, "nothing is kept for ever"


def test_a_rule_that_asks_something_else_now_takes_what_it_finds_as_it_is():
    units = [Unit(f"v{number}", number, number, 10) for number in range(10)]
    changes = [change(3, 15.0), change(5, 15.0, metric="p50")]
    memory = judge_changes(RegressionRule(), changes[:1], units, {"of": RegressionRule().question}, NOW_NS).memory
    both = judge_changes(RegressionRule(("p99", "p50")), changes, units, memory, NOW_NS + NS_PER_S)
    assert [finding.labels for finding in both.found if finding.firing] == [{"since": "v3"}], "open before, open still"
    same = judge_changes(RegressionRule(), changes, units, memory, NOW_NS + NS_PER_S)
    assert [finding.labels for finding in same.found if finding.firing] == [{"since": "v3"}, {"since": "v5"}]


def test_a_store_of_an_older_collector_has_no_open_alerts(store):
    store.run("RENAME TABLE alerts TO alerts_away")
    try:
        assert open_alerts(store) == ()
    finally:
        store.run("RENAME TABLE alerts_away TO alerts")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_has_nothing_to_say(store, kind):
    tables = {"slo": {"objective": 0.999, "errors": True}, "jitter": {"limit": "1ms"}}
    findings = evaluate(store, rule_of("rule x", kind, tables.get(kind, {})), time.time_ns())
    assert not any(finding.firing for finding in findings.found)
    assert open_alerts(store) == ()


@pytest.mark.parametrize(
    ("kind", "table", "words"),
    [
        ("slow", {}, "kind = 'slow' is none; use slo, regression, jitter, throttling"),
        ("slo", {"within": "25ms"}, "objective is missing"),
        ("slo", {"objective": 0.99}, "nothing makes a request bad"),
        ("slo", {"objective": 99, "errors": True}, "objective = 99 is no share"),
        ("slo", {"objective": 0.9, "errors": True}, "nothing burns faster than 10 times"),
        ("slo", {"objective": 0.99, "within": 25}, "within = 25 is no length of time"),
        (
            "slo",
            {"objective": 0.99, "errors": True, "burn": [{"long": "1h", "short": "2h", "rate": 3}]},
            "no longer than its long",
        ),
        ("slo", {"objektive": 0.99}, "there is no key 'objektive'; did you mean 'objective'?"),
        ("jitter", {}, "limit is missing"),
        ("jitter", {"limit": "1ms", "hardwear": "L4"}, "did you mean 'hardware'?"),
        ("jitter", {"limit": "1ms", "stage": 3}, "stage = 3 is neither a name nor a list of names"),
        ("throttling", {"stage": "compute"}, "a device has no stage"),
        ("throttling", {"share": 1.5}, "share = 1.5 is no share"),
        ("regression", {"metric": "p98"}, "metric = 'p98' is none; use p50"),
        ("regression", {"bucket": "1h"}, 'bucket is for by = "time"'),
        (
            "regression",
            {"by": "time", "bucket": "1s"},
            "a window of 30d in stretches of 1s cannot be used; use 6 to 1,000",
        ),
        ("regression", {"by": "time", "bucket": "0s"}, "a window of 30d in stretches of 0s cannot be used"),
        ("regression", {"by": "time", "bucket": "31d"}, "cannot be used; use 6 to 1,000 of them"),
        ("regression", {"metric": []}, "metric names none; use p50"),
        ("slo", {"objective": 0.99, "within": "99999999999w"}, "is too long; use 1000d at most"),
        ("slo", {"objective": 0.99, "errors": True, "settle": "9" * 400 + "s"}, "is too long; use 1000d at most"),
        ("slo", {"objective": 10**400, "errors": True}, "is no number from 0 to 1e+15"),
        ("regression", {"existing": 1}, "existing = 1 is neither true nor false"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_makes_no_sense_is_said_with_its_rule_and_key(kind, table, words):
    with pytest.raises(QuestionError) as raised:
        rule_of("rule x", kind, table)
    assert str(raised.value).startswith("rule x: ")
    assert words in str(raised.value)
