"""The diagnosis benchmark's cases have the truth that they claim, and its scoring says right to right answers alone."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit import simulator
from testkit.simulator import KINDS, QUIET, Accepted, Case, make_case
from testkit.simulator.effects import paused
from testkit.simulator.encode import span_id
from testkit.simulator.engine import Moment, Simulation
from testkit.simulator.noise import Noise
from testkit.simulator.pipeline import Batching, Host, Pipeline, Service, Stage, Station
from testkit.simulator.traffic import draw
from testkit.simulator.truth import classes, leading_stage, read_range

CAUSED = [kind for kind in KINDS if kind not in QUIET]


# cases that are found at the first attempts, so that the tests are quick
NUMBERS = {"two_causes": 2, "cache_misses": 12}


@functools.cache
def case_of(kind: str, number: int | None = None) -> Case:
    return make_case(kind, NUMBERS.get(kind, 1) if number is None else number)


# --- causes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CAUSED)
def test_a_cause_makes_most_of_the_tail_and_is_not_overdone(kind):
    case = case_of(kind)
    tail, typical = classes(case.injected.duration_ms, case.quantile)
    gone_ms = case.injected.duration_ms - case.without.duration_ms
    whole = case.injected.duration_ms[tail].mean() - case.injected.duration_ms[typical].mean()
    assert (gone_ms[tail].mean() - gone_ms[typical].mean()) / whole >= 0.55
    for truth in case.truths:
        assert 0.01 <= truth.affected <= 0.3
        assert truth.share >= (0.55 if len(case.truths) == 1 else 0.3)
    assert leading_stage(case.injected, case.quantile) in {truth.stage for truth in case.truths}


@pytest.mark.parametrize("kind", CAUSED)
def test_the_stage_of_a_cause_takes_longer_than_without_it_and_others_do_not(kind):
    case = case_of(kind)
    grown = {key: (case.injected.own_ms[key] - case.without.own_ms[key]).mean() for key in case.injected.own_ms}
    injected = {truth.key for truth in case.truths}
    assert all(grown[key] > 0 for key in injected)
    others = sum(abs(ms) for key, ms in grown.items() if key not in injected)
    assert others < 0.35 * sum(grown[key] for key in injected)  # what waits behind it, and nothing else


@pytest.mark.parametrize("kind", ["slow_stage", "slow_hardware", "slow_version", "cache_misses"])
def test_a_slow_stage_is_slower_by_one_factor_where_its_condition_holds_and_the_same_elsewhere(kind):
    case = case_of(kind)
    [truth] = case.truths
    factor = case.injected.own_ms[truth.key] / case.without.own_ms[truth.key]
    hit = factor > 1.25
    [cause] = case.candidate.causes
    held = holds(case, truth.conditions[0])
    assert np.array_equal(hit, held)
    # drift is read at another moment where an earlier stage ended later
    assert np.median(factor[hit]) == pytest.approx(factor[hit].mean(), rel=0.1)
    assert 1.3 <= np.median(factor[hit]) <= 5.0
    assert np.allclose(np.median(factor[~hit]), 1.0)
    assert cause.truth.key == truth.key


def holds(case: Case, accepted: Accepted) -> np.ndarray:
    """By request, whether an accepted condition holds, read from what the spans say."""
    truth, run = case.truths[0], case.candidate
    for column in run.columns:
        if column.key == accepted.key:
            return np.array([str(value).lower() == accepted.values[0].lower() for value in column.values])
    if run.causes[0].rollout:
        return run.draws.arrivals_ms >= run.causes[0].rollout[1]
    hosts = [host.says()[accepted.key] in accepted.values for host in run.pipeline.services[truth.key[0]].hosts]
    return np.array(hosts)[run.draws.hosts[truth.key[0]]]


@pytest.mark.parametrize("kind", ["slow_hardware", "slow_version", "network_delay", "two_causes"])
def test_every_accepted_label_of_hosts_holds_on_the_same_requests(kind):
    case = case_of(kind)
    for truth in case.truths:
        labels = [a for a in truth.conditions if not a.side and a.values and a.key != "network.peer.address"]
        held = [holds(replace(case, truths=(truth,)), each) for each in labels if _is_label(case, each.key)]
        assert all(np.array_equal(one, held[0]) for one in held)


def _is_label(case: Case, key: str) -> bool:
    return key in case.candidate.pipeline.services[0].hosts[0].says()


def test_large_batches_cost_more_and_small_ones_the_same():
    case = case_of("batch_size")
    [truth] = case.truths
    least = int(truth.variant.split()[1])
    number = truth.key[0]
    sizes, own_ms = case.before.batch[number], case.before.own_ms[truth.key]
    usual = np.polynomial.Polynomial.fit(sizes, own_ms, 1)  # what a batch of a size costs without the cause
    large = case.injected.batch[number] >= least
    ratio = case.injected.own_ms[truth.key] / usual(case.injected.batch[number])
    assert 1.25 < np.median(ratio[large]) < 5.5
    assert 0.85 < np.median(ratio[~large]) < 1.15
    assert large.mean() < 0.4
    assert all(each.pivot <= least for each in truth.conditions)


def test_a_pause_comes_back_with_its_period():
    case = case_of("periodic_pause")
    [truth] = case.truths
    more_ms = case.injected.own_ms[truth.key] - case.without.own_ms[truth.key]
    service = case.candidate.pipeline.services[truth.key[0]].name
    starts = {
        span.request: span.start_ms for span in case.candidate.spans
        if (case.candidate.pipeline.services[span.service].name, span.stage) == (service, truth.stage)
    }  # fmt: skip
    hit = np.array([starts[n] for n in range(len(more_ms)) if more_ms[n] > 0.5 * more_ms.max()])
    direction = np.exp(2j * np.pi * hit / truth.period_ms).mean()
    wrong = np.exp(2j * np.pi * hit / (truth.period_ms * 1.37)).mean()
    assert abs(direction) > 0.7 > abs(wrong)
    assert 512 <= truth.period_ms <= 30_000


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_throttled_spans_say_so_where_the_case_promises_it(number):
    case = case_of("thermal_throttling", number)
    [truth] = case.truths
    factor = case.injected.own_ms[truth.key] / case.without.own_ms[truth.key]
    said = {}
    for _, span in spans_of(simulator.traces(case.candidate)):
        told = {a.key: a.value for a in span.attributes}
        if "hw.gpu.throttled" in told:
            said[span.trace_id] = told["hw.gpu.throttled"].int_value == 1
        if "hw.gpu.clock.graphics" in told:
            said[span.trace_id] = told["hw.gpu.clock.graphics"].double_value < 1500
    held_back = sum(said.values())
    samples = metrics_of(simulator.metrics(case.candidate))
    quiet = metrics_of(simulator.metrics(case.baseline))
    assert quiet.keys() == samples.keys()
    assert not any(point.as_double for point in quiet["hw.gpu.throttled"])
    if truth.variant == "metrics":
        assert not said
    else:
        assert held_back == pytest.approx((factor > 1.2).sum(), rel=0.02, abs=3)
    if "metrics" in truth.variant:
        values = {name: [p.as_double for p in points] for name, points in samples.items()}
        assert set(values) == {"hw.gpu.throttled", "hw.gpu.clock.graphics", "hw.temperature"}
        held = np.array(values["hw.gpu.throttled"]) == 1
        assert 0 < held.mean() < 0.5
        assert np.array_equal(np.array(values["hw.gpu.clock.graphics"]) < 1500, held)
        assert np.array_equal(np.array(values["hw.temperature"]) > 74, held)
    else:
        assert not samples


# --- no cause ---------------------------------------------------------------------------------------------------------


def test_a_mix_shift_changes_no_latency_of_inputs_of_one_length():
    case = case_of("mix_shift", 1)
    assert case.variant == "longer inputs"
    assert case.injected.duration_ms.mean() > 1.1 * case.before.duration_ms.mean()
    edges = np.quantile(case.baseline.draws.tokens, [0.2, 0.4, 0.6, 0.8])
    tokens_before, tokens_after = case.baseline.draws.tokens, case.candidate.draws.tokens
    for key, before in case.before.own_ms.items():
        after = case.injected.own_ms[key]
        if not before.any():  # nobody calls the first service, and nobody waits
            assert key in ((0, "network"), (key[0], "queue"))
            assert not after.any()
            continue
        # by the number of tokens itself: within wide bins, lengths differ too
        fit = np.polynomial.Polynomial.fit(tokens_before, before, 1)
        for low, high in itertools.pairwise(edges):
            one, other = (tokens_before >= low) & (tokens_before < high), (tokens_after >= low) & (tokens_after < high)
            a, b = before[one] - fit(tokens_before[one]), after[other] - fit(tokens_after[other])
            error = np.sqrt(a.var() / len(a) + b.var() / len(b))
            assert abs(a.mean() - b.mean()) < 4.5 * error + 0.03 * before.mean()  # drift is correlated in time


def test_moved_traffic_changes_no_latency_of_one_hardware_type():
    case = case_of("mix_shift", 3)
    assert case.variant == "other hardware"
    [number] = {n for n, s in enumerate(case.candidate.pipeline.services) if len({h.speed for h in s.hosts}) > 1 and s.station and any(g.tokens for g in s.station.stages())}  # fmt: skip
    shares = []
    for run, outcome in ((case.baseline, case.before), (case.candidate, case.injected)):
        types = np.array([h.hardware for h in run.pipeline.services[number].hosts])[run.draws.hosts[number]]
        work_ms = sum(outcome.own_ms[number, s.stage] for s in run.pipeline.services[number].station.stages())
        shares.append({name: ((types == name).mean(), work_ms[types == name].mean()) for name in np.unique(types)})
    before, after = shares
    slowest = max(before, key=lambda name: before[name][1])
    assert after[slowest][0] > before[slowest][0] + 0.3
    for name in before:
        assert after[name][1] == pytest.approx(before[name][1], rel=0.15)


@pytest.mark.parametrize("kind", ["clock_skew", "nothing"])
def test_quiet_cases_have_the_same_latency_in_both_runs(kind):
    case = case_of(kind)
    assert not case.truths
    for quantile in (0.5, 0.9):
        assert np.quantile(case.injected.duration_ms, quantile) == pytest.approx(
            np.quantile(case.before.duration_ms, quantile), rel=0.08
        )


def test_in_pure_quiet_cases_no_attribute_has_a_bearing():
    case = case_of("nothing", 1)
    assert case.variant == "pure"
    assert not case.genuine
    assert all(host.speed == 1 for service in case.candidate.pipeline.services for host in service.hosts)
    waits = [own for (_, stage), own in case.injected.own_ms.items() if stage == "queue"]
    assert all(own.max() == 0 for own in waits)


def test_skewed_clocks_tear_callers_and_callees_apart_and_change_no_duration():
    case = case_of("clock_skew")
    offsets = {host.name: host.clock_ms for service in case.candidate.pipeline.services for host in service.hosts}
    assert max(offsets.values()) - min(offsets.values()) > 5
    spans = {span.span_id: (host, span) for host, span in spans_of(simulator.traces(case.candidate))}
    true = {span_id(span.id): span for span in case.candidate.spans}
    torn = 0
    for number, (host, span) in spans.items():
        assert (
            abs(
                span.end_time_unix_nano
                - span.start_time_unix_nano
                - (true[number].end_ms - true[number].start_ms) * 1e6
            )
            <= 2
        )
        at_ms = (span.start_time_unix_nano - case.candidate.begins_ns) / 1e6 - true[number].start_ms
        assert at_ms == pytest.approx(offsets[host], abs=1e-5)
        parent = spans.get(span.parent_span_id)
        torn += parent is not None and span.start_time_unix_nano < parent[1].start_time_unix_nano
    assert torn > 100


# --- the simulation ---------------------------------------------------------------------------------------------------


def one_station(workers: int, noise: Noise, batching: Batching | None = None) -> Pipeline:
    host = Host("h", "L4", 1.0, "1", 1.0, workers, ())
    station = Station(Stage("compute", 10.0, noise), batching=batching)
    return Pipeline((Service("s", (host,), (), station, (), (), 0.0),), "sequential", 0.0, 1.0, 0.0, False, False, 0.0)


@pytest.mark.parametrize(("load", "sigma"), [(0.5, 0.3), (0.75, 0.8)])
def test_waiting_follows_pollaczek_and_khinchine(load, sigma):
    pipeline = one_station(1, Noise("lognormal", sigma))
    count = 60_000
    draws = draw(np.random.default_rng(5), pipeline, count, count * 10 / load)
    waited_ms = Simulation(pipeline, draws).run().own_ms[0, "queue"].mean()
    second_moment = 100 * np.exp(sigma**2)
    assert waited_ms == pytest.approx(load / 10 * second_moment / (2 * (1 - load)), rel=0.12)


def test_no_more_work_at_once_than_there_are_workers_and_first_come_is_first_served():
    pipeline = one_station(3, Noise("lognormal", 0.5))
    draws = draw(np.random.default_rng(6), pipeline, 4000, 4000 * 10 / 2.6)
    spans = Simulation(pipeline, draws, records=True).run().spans
    work = sorted((span.start_ms, span.end_ms, span.request) for span in spans if span.stage == "compute")
    changes = sorted([(end, -1) for _, end, _ in work] + [(start, 1) for start, _, _ in work])
    assert np.cumsum([change for _, change in changes]).max() == 3
    assert [request for *_, request in work] == sorted(request for *_, request in work)


def test_a_batch_waits_until_it_is_full_or_old_enough_and_a_worker_is_free():
    batching = Batching(8, 5.0, 0.6)
    pipeline = one_station(2, Noise("lognormal", 0.2), batching)
    draws = draw(np.random.default_rng(7), pipeline, 4000, 4000 * 1.2)
    spans = Simulation(pipeline, draws, records=True).run().spans
    came = {span.request: span.start_ms for span in spans if span.stage == "queue"}
    batches = defaultdict(list)
    for span in spans:
        if span.stage == "compute":
            batches[span.start_ms, span.end_ms].append(span)
    sizes = {len(members) for members in batches.values()}
    assert {1, 8} < sizes
    assert max(sizes) == 8
    busy = sorted(batches)
    for (start, _), members in batches.items():
        assert all(span.said["tailsight.batch.size"] == len(members) for span in members)
        oldest = min(came[span.request] for span in members)
        assert len(members) == 8 or start - oldest >= 5 - 1e-6
        running = sum(other_start < start < other_end for other_start, other_end in busy)
        assert running < 2
        if len(members) < 8 and start - oldest > 5 + 1e-6:  # it was late: all were busy until then
            assert any(abs(other_end - start) < 1e-6 for _, other_end in busy)


def test_a_pause_stretches_work_as_a_clock_that_stands_still():
    effect = paused(100.0, 7.0, [20.0], None)
    for at_ms in np.arange(0, 230, 3.7):
        for work_ms in (1.0, 30.0, 250.0):
            left, now, step = work_ms, float(at_ms), 0.01
            while left > 0:
                left -= step if (now - 7) % 100 >= 20 else 0
                now += step
            assert effect(Moment(0, 0, float(at_ms), work_ms)) == pytest.approx(now - at_ms - work_ms, abs=0.1)


def test_stages_and_gaps_add_up_to_the_request_where_nothing_runs_in_parallel():
    case = case_of("queue_build_up")
    pipeline = case.candidate.pipeline
    if any(len(group) > 1 for service in pipeline.services for group in service.calls):
        pytest.skip("this case runs in parallel")
    own_ms = sum(case.injected.own_ms.values())
    gaps_ms = case.injected.duration_ms - own_ms
    assert np.all(gaps_ms > 0)
    assert np.ptp(gaps_ms) < 1e-6


# --- what is sent -----------------------------------------------------------------------------------------------------


def spans_of(segment: bytes):
    for message in messages_of(segment):
        for resource_spans in ExportTraceServiceRequest.FromString(message).resource_spans:
            host = next(a.value.string_value for a in resource_spans.resource.attributes if a.key == "host.name")
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    yield host, span


def metrics_of(segment: bytes):
    found = defaultdict(list)
    for message in messages_of(segment):
        for resource_metrics in ExportMetricsServiceRequest.FromString(message).resource_metrics:
            for metric in resource_metrics.scope_metrics[0].metrics:
                found[metric.name].extend(metric.gauge.data_points)
    return found


def messages_of(segment: bytes):
    at = 0
    while at < len(segment):
        length = shift = 0
        while True:
            byte = segment[at]
            at += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        yield segment[at : at + length]
        at += length


def test_the_official_classes_read_what_was_recorded_and_write_the_same():
    case = case_of("cache_misses")
    segment = simulator.traces(case.candidate)
    for message in messages_of(segment):
        assert len(ExportTraceServiceRequest.FromString(message).SerializeToString()) == len(message)
    read = {span.span_id: (host, span) for host, span in spans_of(segment)}
    lost = case.candidate.pipeline.lost_share * len(case.candidate.spans)
    assert len(case.candidate.spans) - len(read) == pytest.approx(lost, abs=4 * lost**0.5 + 0.1)
    assert len({span.trace_id for _, span in read.values()}) == case.candidate.draws.count
    for recorded in case.candidate.spans[::97]:
        if span_id(recorded.id) not in read:
            continue
        host, span = read[span_id(recorded.id)]
        attributes = {a.key: a.value for a in span.attributes}
        assert (span.name, span.kind) == (recorded.name, recorded.kind)
        assert span.parent_span_id == (span_id(recorded.parent) if recorded.parent else b"")
        assert (
            attributes["tailsight.stage"].string_value == recorded.stage
            if recorded.stage
            else "tailsight.stage" not in attributes
        )
        assert host == case.candidate.pipeline.services[recorded.service].hosts[recorded.host].name


def test_a_case_is_the_same_every_time():
    first, second = make_case("slow_version", 0), make_case("slow_version", 0)
    for run in ("baseline", "candidate"):
        assert simulator.traces(getattr(first, run)) == simulator.traces(getattr(second, run))
    assert first.truths == second.truths
    assert make_case("slow_version", 1).truths != first.truths


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_has_a_real_size_and_its_runs_do_not_overlap(kind):
    case = case_of(kind)
    assert 1500 <= case.baseline.draws.count + case.candidate.draws.count <= 6000
    assert 10_000 < len(case.baseline.spans) + len(case.candidate.spans) <= 60_000
    last_ms = max(span.end_ms for span in case.baseline.spans)
    assert case.baseline.begins_ns + last_ms * 1e6 < case.candidate.begins_ns


# --- the plan and the scoring -----------------------------------------------------------------------------------------


def test_the_plan_has_at_least_two_hundred_cases_of_all_kinds_and_finds_each_by_name_and_by_seed():
    tasks = simulator.plan()
    assert len(tasks) == len(set(tasks)) >= 200
    assert {kind for kind, _ in tasks} == set(KINDS)
    for kind, number in tasks:
        assert simulator.find(f"{kind}-{number:02}") == (kind, number)
        assert simulator.find(str(1000 * KINDS.index(kind) + number)) == (kind, number)
    with pytest.raises(ValueError, match="no case 'nonsense'"):
        simulator.find("nonsense")


def test_other_seeds_are_other_cases_of_the_same_kinds():
    tasks, others = simulator.plan(), simulator.plan(first=500)
    assert [(kind, number + 500) for kind, number in tasks] == others
    assert simulator.plan(3, "nothing", 500) == [("nothing", 500), ("nothing", 501), ("nothing", 502)]


def test_half_the_effect_is_half_of_what_an_affected_request_is_meant_to_lose():
    lost = []
    for effect in (1.0, 0.5):
        more_ms = [
            case.injected.duration_ms - case.without.duration_ms
            for case in (make_case("network_delay", number, effect) for number in (1, 2, 3))
        ]
        lost.append(np.mean([np.median(each[each > 0.25 * np.quantile(each, 0.995)]) for each in more_ms]))
    assert 0.3 < lost[1] / lost[0] < 0.7


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("≥ 24", (24, np.inf)), ("> 1,200", (1200, np.inf)), ("24–64", (24, 64)), ("24 – 64", (24, 64)), ("1.5 .. 3", (1.5, 3)),
        ("< 1500", (-np.inf, 1500)), ("≤ 3", (-np.inf, 3)), ("32", (32, 32)), ("-4 to 9", (-4, 9)), ("[12, 40)", (12, 40)),
        ("32+", (32, np.inf)), ("-3", (-3, -3)), ("many", (-np.inf, np.inf)),
    ],
)  # fmt: skip
def test_ranges_are_read(text, ends):
    assert read_range(text) == ends


def test_conditions_are_accepted_by_value_side_and_place():
    hardware = Accepted("hardware", ("NVIDIA L4",), places=("ranker", "compute"))
    assert hardware.accepts("hardware", "NVIDIA L4", "compute")
    assert hardware.accepts("hardware", "NVIDIA L4")
    assert not hardware.accepts("hardware", "NVIDIA L4", "retriever")
    assert not hardware.accepts("hardware", "NVIDIA H100", "compute")
    batch = Accepted("tailsight.batch.size", side="high", pivot=8)
    assert batch.accepts("tailsight.batch.size", "≥ 24")
    assert not batch.accepts("tailsight.batch.size", "≥ 4")
    assert not batch.accepts("tailsight.batch.size", "≤ 24")
    assert not batch.accepts("tailsight.queue.depth", "≥ 24")
    clock = Accepted("hw.gpu.clock.graphics", side="low", pivot=1500)
    assert clock.accepts("hw.gpu.clock.graphics", "< 1200")
    assert not clock.accepts("hw.gpu.clock.graphics", "≥ 1200")


@pytest.fixture
def scoring(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import diagnosis_answers
    import diagnosis_scoring

    return diagnosis_answers, diagnosis_scoring


@pytest.mark.parametrize("kind", KINDS)
def test_the_truth_scores_as_right_and_anything_else_as_wrong(kind, scoring):
    answers, rules = scoring
    case = case_of(kind)
    nothing = answers.Answer()

    def cause(truth):
        named = next(iter(truth.conditions), None)
        text = "" if named is None else f"≥ {named.pivot}" if named.side == "high" else f"≤ {named.pivot}" if named.side else (named.values or ("x",))[0]  # fmt: skip
        told = (answers.Condition(named.key, text, truth.stage),) if named else ()
        return answers.Cause(truth.stage, told, truth.services[0], hardware=truth.hardware)

    oracle = answers.Answer(tuple(t.stage for t in case.truths), tuple(map(cause, case.truths)))
    periods = answers.Answer((), tuple(answers.Cause("", (answers.Condition("period", str(t.period_ms * 1.01)),)) for t in case.truths if t.period_ms))  # fmt: skip
    assert rules.score(case, oracle, oracle, periods).failed == ()
    wrong = answers.Answer(("wrong",), (answers.Cause("wrong", (answers.Condition("app.locale", "de"),), "wrong"),))
    failed = rules.score(case, wrong, wrong, nothing).failed
    expected = (
        {"stage", "condition", "compared_stage", "compared_place"} if case.truths else {"false_tail", "false_compare"}
    )
    if not case.asks_compare:
        expected -= {"compared_stage", "compared_place"}
    if not case.asks_tail:
        expected -= {"false_tail"}
    if case.truths and not any(truth.has_condition for truth in case.truths):
        expected -= {"condition"}
    assert set(failed) == expected


def test_a_case_with_two_false_answers_is_one_false_case_and_a_suspect_is_none_but_is_counted(scoring):
    answers, rules = scoring
    case = case_of("nothing")
    suspect = answers.Cause("compute", (), "ranker", p_value=0.4)
    period = answers.Answer((), (answers.Cause("", (answers.Condition("period", "512"),)),))
    false = answers.Answer((), (answers.Cause("x", (answers.Condition("app.locale", "de"),)),))
    told = rules.score(case, answers.Answer(), answers.Answer(("compute",), (), (suspect,)), answers.Answer())
    assert (told.is_false, told.named_nothing, told.failed) == (False, True, ())
    twice = rules.score(case, false, answers.Answer(), period)
    assert (twice.is_false, twice.named_nothing) == (True, False)
    assert rules.score(case_of("slow_stage"), false, false, period).is_false is None


def test_a_period_is_right_within_three_percent_and_a_harmonic_is_wrong(scoring):
    answers, rules = scoring
    [truth] = case_of("periodic_pause").truths
    for factor, right in ((1.0, True), (1.02, True), (0.98, True), (1.04, False), (0.5, False), (2.0, False)):
        assert rules.is_right(truth, answers.Condition("period", str(truth.period_ms * factor))) is right


def test_the_analysis_does_not_know_the_simulator():
    packages = [
        Path(__file__).parents[2] / name for name in ("analysis", "cli", "dashboard", "storage", "collector", "sdk")
    ]
    for module in (path for package in packages for path in package.rglob("*.py")):
        text = module.read_text()
        assert "testkit" not in text, module
        assert "simulator" not in text, module
