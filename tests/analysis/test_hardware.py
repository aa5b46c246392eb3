"""Hardware types through the store: like with like, what they cost, and what energy they take."""

import json

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, Span, window

from tailsight_analysis import Filters, NoSpansError, QuestionError, hardware
from tailsight_analysis.requests.covariates import binned, highest_by, inherited
from tailsight_analysis.statistics.intervals import ranks
from tailsight_storage import Store

WIDE = window(0, 400_000_000)
BATCH, TOKENS = "tailsight.batch.size", "gen_ai.usage.input_tokens"
PACE = 10_000  # ticks between requests


def serving(random, requests: int, ratio: float = 1.8, *, confounded: bool = True, hosts: int = 3) -> list[Span]:
    """L4s take `ratio` times as long as H100s at compute, and get larger batches and longer inputs."""
    spans = []
    for trace in range(1, requests + 1):
        kind = "L4" if random.random() < 0.45 else "H100"
        large = confounded and kind == "L4"
        batch = int(random.choice([4, 8, 16, 32], p=[0.1, 0.2, 0.3, 0.4] if large else [0.4, 0.3, 0.2, 0.1]))
        tokens = int(random.lognormal(6.0 if large else 5.6, 0.4))
        ticks = round((200 + 30 * batch + 2 * tokens) * (ratio if kind == "L4" else 1) * random.lognormal(0, 0.2))
        host, start = f"{kind}-{random.integers(hosts)}", trace * PACE
        spans += [
            Span(trace, 1, 0, start, ticks + 60, host="gate", hardware="EPYC", attributes=((TOKENS, str(tokens)),)),
            Span(trace, 2, 1, start, 50, stage="queue", host="gate", hardware="EPYC"),
            Span(
                trace, 3, 1, start + 55, ticks, stage="compute", host=host, hardware=kind, model="m",
                attributes=((BATCH, str(batch)),),
            ),
        ]  # fmt: skip
    return spans


def comparison(result, stage: str | None):
    return next(each for each in result.comparisons if each.stage == stage)


def type_of(result, stage: str | None, name: str):
    return next(each for each in comparison(result, stage).types if each.hardware == name)


def test_the_same_work_is_compared_and_the_raw_numbers_stand_beside(store):
    spans = serving(np.random.default_rng(1), 1500)
    brute_force.insert(store, spans)
    result = hardware(store, WIDE)
    assert {each.name: each.key for each in result.covariates} == {
        "model": None, "batch_size": BATCH, "input_length": TOKENS,
    }  # fmt: skip
    assert comparison(result, "compute").reference == "H100"
    found = type_of(result, "compute", "L4")
    compute = [span for span in spans if span.stage == "compute"]
    ms = {kind: [span.duration / 1000 for span in compute if span.hardware == kind] for kind in ("L4", "H100")}
    assert found.raw_ratio == pytest.approx(np.mean(ms["L4"]) / np.mean(ms["H100"]))
    assert found.raw_ratio > 2.4
    assert (found.count, found.hosts) == (len(ms["L4"]), 3)
    assert (found.raw_p50_ms, found.raw_p99_ms) == pytest.approx(np.quantile(ms["L4"], [0.5, 0.99]))
    # of independent ones, the ranks are as if there were no order in time, or a little wider
    for level, interval in ((0.5, found.raw_p50_interval), (0.99, found.raw_p99_interval)):
        low, high = (np.sort(ms["L4"])[rank - 1] for rank in ranks(len(ms["L4"]), level))
        assert interval.low <= low < high <= interval.high
        assert interval.high - interval.low < 2 * (high - low)
    assert found.to_json()["raw"]["p99_interval_ms"] == [found.raw_p99_interval.low, found.raw_p99_interval.high]
    ours = found.standardised
    assert ours.mean_ratio.low <= 1.8 <= ours.mean_ratio.high
    assert ours.mean_ratio.value == pytest.approx(1.8, rel=0.05)
    assert ours.p50_ratio.value == pytest.approx(1.8, rel=0.05)
    assert ours.p_value < 1e-6
    assert ours.because.name in ("batch_size", "input_length")
    assert ours.more is True
    json.dumps(result.to_json(), allow_nan=False)


def test_no_difference_at_the_same_work_is_none(store):
    brute_force.insert(store, serving(np.random.default_rng(2), 1500, 1.0))
    found = type_of(hardware(store, WIDE), "compute", "L4")
    assert found.raw_ratio > 1.3
    assert found.standardised.p_value > 0.01
    assert found.standardised.mean_ratio.low < 1.02
    assert found.standardised.mean_ratio.high > 0.98


def test_whole_requests_are_of_the_hardware_that_they_spent_most_time_on(store):
    brute_force.insert(store, serving(np.random.default_rng(3), 300, confounded=False))
    whole = hardware(store, WIDE).comparisons[0]
    assert whole.stage is None
    assert {each.hardware for each in whole.types} == {"H100", "L4"}
    assert sum(each.count for each in whole.types) == 300


def test_the_reference_and_the_inputs_key_may_be_chosen(store):
    spans = serving(np.random.default_rng(4), 150)
    brute_force.insert(store, spans)
    result = hardware(store, WIDE, reference="L4", input_key=BATCH)
    assert comparison(result, "compute").reference == "L4"
    assert comparison(result, "queue").reference == "EPYC"  # which no L4 does
    assert {each.key for each in result.covariates if each.name == "input_length"} == {BATCH}
    with pytest.raises(QuestionError, match=r"'T4'.*EPYC, H100, L4"):
        hardware(store, WIDE, reference="T4")
    with pytest.raises(QuestionError, match="input length 'length'"):
        hardware(store, WIDE, input_key="length")
    with pytest.raises(NoSpansError):
        hardware(store, window(0, 1))


def test_other_models_are_other_work(store):
    """One type has the large model, the other the small one: nothing is comparable, and nothing is said."""
    random, spans = np.random.default_rng(5), []
    for trace in range(1, 201):
        kind = "L4" if trace % 2 else "H100"
        spans.append(
            Span(
                trace,
                1,
                0,
                trace * PACE,
                int(random.integers(50, 90)),
                stage="compute",
                hardware=kind,
                model=f"for {kind}",
            )
        )
    brute_force.insert(store, spans)
    result = hardware(store, WIDE)
    (other,) = (each for each in comparison(result, "compute").types if each.raw_ratio)
    assert (other.comparable_share, other.standardised) == (0, None)


def test_own_time_counts_and_filters_pick_spans(store):
    """A compute span on a processor waits for the kernel on a GPU: that time is the GPU's."""
    spans = []
    for trace in range(1, 41):
        spans += [
            Span(trace, 1, 0, trace * PACE, 100, stage="compute", hardware="EPYC"),
            Span(trace, 2, 1, trace * PACE + 10, 80, stage="gpu_kernel", hardware="H100"),
        ]
    brute_force.insert(store, spans)
    result = hardware(store, WIDE)
    assert type_of(result, "compute", "EPYC").raw_mean_ms == pytest.approx(0.02)
    assert type_of(result, "gpu_kernel", "H100").raw_mean_ms == pytest.approx(0.08)
    only = hardware(store, WIDE, Filters(stage=("gpu_kernel",)))
    assert [each.stage for each in only.comparisons] == [None, "gpu_kernel"]


def test_weighted_requests_are_estimates(store):
    random, spans = np.random.default_rng(6), []
    for trace in range(1, 61):
        length, weight = int(random.integers(20, 99)), 9 if trace % 3 else 1
        spans.append(Span(trace, 1, 0, trace * PACE, length, stage="compute", weight=weight))
    brute_force.insert(store, spans)
    result = hardware(store, WIDE)
    found = type_of(result, "compute", "L4")
    repeated = np.repeat([span.duration / 1000 for span in spans], [span.weight for span in spans])
    assert result.weighted
    assert (result.requests, result.stored, found.count, found.sampled) == (len(repeated), 60, len(repeated), 60)
    assert found.raw_mean_ms == pytest.approx(repeated.mean())
    assert (found.raw_p50_ms, found.raw_p99_ms) == pytest.approx(np.quantile(repeated, [0.5, 0.99]))


# --- use, cost, energy ------------------------------------------------------------------------------------------------


def batched(requests: int) -> list[Span]:
    """Requests a second apart: 100 ms of queue, 400 ms of compute in batches of 4, 50 ms of no stage."""
    spans = []
    for trace in range(1, requests + 1):
        start = trace * 1_000_000
        spans += [
            Span(trace, 1, 0, start, 550_000, host=f"h{trace % 2}"),
            Span(trace, 2, 1, start, 100_000, stage="queue", host=f"h{trace % 2}"),
            Span(
                trace, 3, 1, start + 100_000, 400_000, stage="compute", host=f"h{trace % 2}", attributes=((BATCH, "4"),)
            ),
        ]
    return spans


def test_costs_are_busy_time_and_paid_time(store):
    brute_force.insert(store, batched(101))
    (use,) = hardware(store, WIDE, prices={"l4": 3.6, "T4": 1}).uses
    assert (use.hardware, use.devices, use.requests) == ("L4", 2, 101)
    assert use.busy_ms == pytest.approx(100)  # 400 ms of four requests
    assert use.busy_interval_ms == pytest.approx((100, 100))
    assert use.cost_busy == pytest.approx(0.1 * 0.001)
    observed_s = 100.55
    assert use.cost_paid == pytest.approx(2 * observed_s * 0.001 / 101)
    assert use.utilisation == pytest.approx(101 * 0.1 / (2 * observed_s))
    filtered = hardware(store, WIDE, Filters(host=("h1",)), prices={"L4": 3.6}).uses[0]
    assert (filtered.cost_paid, filtered.utilisation) == (None, None)
    assert filtered.cost_busy == pytest.approx(0.1 * 0.001)


def test_without_any_stage_own_time_counts(store):
    brute_force.insert(store, [Span(n, 1, 0, n * PACE, 100) for n in range(1, 11)])
    result = hardware(store, WIDE)
    assert result.uses[0].busy_ms == pytest.approx(0.1)
    assert [each.stage for each in result.comparisons] == [None]


def sample(
    store: Store, metric: str, values: list[tuple[float, float]], service: str = "front", **changes: str
) -> None:
    """Device samples at seconds after the beginning."""
    row = {"host": "h0", "hardware": "L4", "hw_id": "gpu-0", "kind": "gauge", "unit": "W"} | changes
    for second, value in values:
        store.run(
            "INSERT INTO hardware_samples (received_at, time, metric, value, unit, kind, service, host, hardware, hw_id, hw_type) "
            "SELECT now(), fromUnixTimestamp64Nano({time:Int64}, 'UTC'), {metric:String}, {value:Float64}, {unit:String}, "
            "{kind:String}, {service:String}, {host:String}, {hardware:String}, {hw_id:String}, 'gpu'",
            time=BASE_NS + round(second * 1e9), metric=metric, value=value, service=service, **row,
        )  # fmt: skip


def test_energy_from_power_and_from_counters(store):
    brute_force.insert(store, batched(101))  # from second 1 to 101.55
    # 100 W, and 200 W from second 50 on: twice, because two services look; a gap says nothing
    for service in ("front", "back"):
        sample(store, "hw.power", [(10, 100), (30, 100), (50, 200), (70, 200), (90, 200)], service)
    # a counter says more than samples of power: 50 W on the other machine, restarted once
    sample(store, "hw.energy", [(10, 1000), (40, 2500), (41, 0), (71, 1500)], host="h1", hw_id="gpu-1", kind="counter")
    sample(store, "hw.power", [(10, 999), (60, 999), (100, 999)], host="h1", hw_id="gpu-1")
    # of another machine, which no span ran on
    sample(store, "hw.power", [(10, 500), (50, 500)], host="h7", hw_id="gpu-7")
    (use,) = hardware(store, WIDE).uses
    first = (20 * 100 + 20 * 150 + 20 * 200 + 20 * 200) / 80
    assert use.devices == 2
    assert use.power_w == pytest.approx((first + 50) / 2)
    assert use.energy_busy_j == pytest.approx(0.1 * use.power_w)
    assert use.energy_j == pytest.approx(2 * 100.55 * use.power_w / 101)


def test_what_lies_between_samples_a_minute_apart_is_not_known(store):
    brute_force.insert(store, batched(250))
    # 100 W for 20 s, 300 W for 40 s; what it took in between, and over 61 s after that, nobody measured
    sample(store, "hw.power", [(10, 100), (30, 100), (91, 300), (131, 300), (192, 9999)])
    (use,) = hardware(store, WIDE).uses
    assert use.power_w == pytest.approx((20 * 100 + 40 * 300) / 60)


def test_counters_in_millijoules_and_steps_of_energy_count_too(store):
    brute_force.insert(store, batched(101))
    dcgm = "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"
    sample(store, dcgm, [(10, 1_000_000), (40, 4_000_000)], kind="counter", unit="")
    steps = [(10, 777), (30, 1000), (70, 3000)]  # each since the one before; what the first is since, nobody knows
    sample(store, "hw.energy", steps, host="h1", hw_id="gpu-1", kind="delta", unit="J")
    (use,) = hardware(store, WIDE).uses
    assert use.power_w == pytest.approx((100 + (1000 + 3000) / 60) / 2)


def test_of_two_senders_the_one_that_looked_longer_is_believed(store):
    brute_force.insert(store, batched(101))
    for service, length in (("a", 20), ("b", 40), ("c", 30)):
        sample(store, "hw.power", [(10, length), (10 + length, length)], service)
    (use,) = hardware(store, WIDE).uses
    assert (use.devices, use.power_w) == (2, pytest.approx(40))


def test_busy_time_of_requests_that_stand_for_several(store):
    random, spans = np.random.default_rng(7), []
    for n in range(1, 101):
        weight = 1 if n % 4 == 0 else 6
        length = int(random.integers(100, 200)) * (1 if weight > 1 else 9)
        spans.append(Span(n, 1, 0, n * PACE, length + 50, hardware="CPU", weight=weight, decided=True))
        spans.append(Span(n, 2, 1, n * PACE, length, stage="compute"))
    brute_force.insert(store, spans)
    use = next(use for use in hardware(store, WIDE, prices={"L4": 3.6}).uses if use.hardware == "L4")
    weights = [span.weight for span in spans[::2]]
    ms = np.repeat([span.duration / 1000 for span in spans[1::2]], weights)
    assert use.requests == sum(weights)
    assert use.busy_ms == pytest.approx(ms.mean())
    assert use.cost_busy == pytest.approx(ms.mean() / 1000 * 0.001)
    observed_s = (spans[-2].end - spans[0].start) / 1e6
    assert use.utilisation == pytest.approx(ms.sum() / 1000 / observed_s)
    assert use.cost_paid == pytest.approx(observed_s * 0.001 / sum(weights))


def test_only_spans_of_the_requests_count_and_only_those_that_the_filters_pick(store):
    """Beside each request two spans whose parent is lost, one on a type that no request ran on."""
    spans = []
    for n in range(1, 41):
        spans += [
            Span(n, 1, 0, n * PACE, 100, hardware="CPU"),
            Span(n, 2, 1, n * PACE, 30, stage="preprocess"),
            Span(n, 3, 1, n * PACE + 30, 50, stage="compute"),
            *(
                Span(n, 4 + at, 99, n * PACE, 70, stage="compute", hardware=kind)
                for at, kind in enumerate(("T4", "L4"))
            ),
        ]
    brute_force.insert(store, spans)
    whole = hardware(store, WIDE)
    assert {use.hardware: use.busy_ms for use in whole.uses} == pytest.approx({"L4": 0.08, "CPU": 0.02})
    assert {each.hardware for comparison in whole.comparisons for each in comparison.types} <= {"CPU", "L4"}
    assert [(each.count, each.sampled) for each in comparison(whole, "compute").types] == [(40, 40)]
    compute = hardware(store, WIDE, Filters(stage=("compute",)))
    assert {use.hardware: use.busy_ms for use in compute.uses} == pytest.approx({"L4": 0.05})


def test_a_run_is_all_that_its_devices_did_and_a_filter_is_not(store):
    brute_force.insert(store, [Span(n, 1, 0, n * PACE, 100, stage="compute", run="a") for n in range(1, 41)])
    (of_run,) = hardware(store, WIDE, Filters(run=("a",)), prices={"L4": 1}).uses
    assert None not in (of_run.utilisation, of_run.cost_paid)
    (of_host,) = hardware(store, WIDE, Filters(run=("a",), host=("h1",)), prices={"L4": 1}).uses
    assert (of_host.utilisation, of_host.cost_paid) == (None, None)


def test_a_length_that_another_span_of_the_trace_says_is_the_requests(store):
    random, spans = np.random.default_rng(8), []
    for n in range(1, 1501):
        kind = "L4" if n % 2 else "H100"
        tokens = int(random.lognormal(6.2 if kind == "L4" else 5.6, 0.4))
        ticks = round(2 * tokens * (1.5 if kind == "L4" else 1) * random.lognormal(0, 0.1))
        spans += [
            Span(n, 1, 0, n * PACE, ticks + 60, hardware="CPU"),
            Span(n, 2, 1, n * PACE, 50, stage="preprocess", hardware="CPU", attributes=((TOKENS, str(tokens)),)),
            Span(n, 3, 1, n * PACE + 55, ticks, stage="compute", hardware=kind),
        ]
    brute_force.insert(store, spans)
    found = type_of(hardware(store, WIDE, reference="H100"), "compute", "L4")
    assert found.raw_ratio > 2.4
    assert found.standardised.mean_ratio.value == pytest.approx(1.5, rel=0.04)
    assert (found.standardised.because.name, found.standardised.more) == ("input_length", True)


def test_counts_of_a_sample_are_those_of_all(store, monkeypatch):
    monkeypatch.setattr("tailsight_analysis.requests.sample.MAX_REQUESTS", 100)
    brute_force.insert(store, [Span(n, 1, 0, n * PACE, 100, stage="compute") for n in range(1, 401)])
    answer = hardware(store, WIDE)
    (use,), (whole, compute) = answer.uses, answer.comparisons
    assert (answer.requests, answer.stored, answer.sampled, use.requests) == (400, 400, 100, 400)
    assert [(each.count, each.sampled) for each in (*whole.types, *compute.types)] == [(400, 100), (400, 100)]


def test_time_of_stages_on_unknown_hardware_is_said(store):
    spans = [Span(n, 1, 0, n * PACE, 100, stage="compute", hardware="" if n % 4 == 0 else "L4") for n in range(1, 41)]
    brute_force.insert(store, [*spans, *(Span(n, 1, 0, n * PACE, 900, hardware="") for n in range(50, 60))])
    answer = hardware(store, WIDE)
    assert answer.unknown_share == pytest.approx(0.25)
    assert [use.hardware for use in answer.uses] == ["L4"]


def test_several_devices_in_a_machine_are_counted(store):
    brute_force.insert(store, [Span(n, 1, 0, n * 1_000_000, 1000, host="h0", stage="compute") for n in range(1, 31)])
    for device in range(4):
        sample(store, "hw.power", [(5, 80), (20, 80)], hw_id=f"gpu-{device}")
    (use,) = hardware(store, WIDE).uses
    assert (use.devices, use.power_w) == (4, pytest.approx(80))


# --- what work is sorted by ------------------------------------------------------------------------------------------


def test_values_are_inherited_from_the_nearest_ancestor_that_has_one():
    values = np.array([7.0, np.nan, 3.0, np.nan, np.nan, np.nan])
    parent = np.array([-1, 0, 1, 2, 3, -1])
    assert inherited(values, parent)[:5].tolist() == [7, 7, 3, 3, 3]
    assert np.isnan(inherited(values, parent)[5])
    deep = inherited(np.append(1.0, np.full(9999, np.nan)), np.arange(-1, 9999))
    assert (deep == 1).all()


def test_bins_are_values_or_ranges():
    codes, ranges = binned(np.array([4, 8, np.nan, 4]), 8)
    assert (codes.tolist(), ranges) == ([1, 2, 0, 1], False)
    codes, ranges = binned(np.arange(100.0), 4)
    assert (np.bincount(codes).tolist(), ranges) == ([0, 25, 25, 25, 25], True)
    assert highest_by(np.array([0, 0, 1]), np.array([2.0, 5.0, np.nan]), 2).tolist()[0] == 5
