"""Keeping the tail: what is kept for which reason, by whom, and that the weights give the truth back."""

import contextlib
import contextvars
import random
import sys
import threading
from typing import Any

import numpy as np
import pytest

import tailsight
from tailsight import attributes as keys
from tailsight._ids import Ids
from tailsight._sampling import MIN_OBSERVATIONS, RunningP99, SlowRequests, TailSampler
from tailsight._stats import counters
from tailsight._trace import MAX_WAITING_SPANS
from tailsight.testing import Capture, CapturedSpan, FakeClock, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

RARE = 2**128 - 2**56  # the last 56 bits are 0: kept by no rate below 1


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def sampling(clock: FakeClock, rate: float, trace_id: int | None = None) -> Any:
    ids = Ids()
    if trace_id is not None:
        ids.trace_id = lambda: trace_id
    return capture(clock=clock, ids=ids, sampler=TailSampler(rate, counters.decided))


def request(clock: FakeClock, ns: int, **options: Any) -> None:
    with tailsight.request("r", **options), tailsight.stage("compute"):
        clock.advance(ns)


def entry(captured: Capture) -> CapturedSpan:
    return captured.one(name="r")


def test_without_a_rate_everything_is_kept_and_nothing_is_said_about_it(captured: Capture) -> None:
    with tailsight.request("r"):
        pass
    assert keys.SAMPLING_WEIGHT not in entry(captured).attributes
    assert tailsight.stats().kept == {}


def test_the_rate_keeps_by_the_last_56_bits_of_the_trace_id(clock: FakeClock) -> None:
    for bits, kept in ((0, False), (2**56 - 1, True), (3 * 2**54 - 1, False), (3 * 2**54, True)):
        with sampling(clock, 0.25, (7 << 56) + bits) as captured:
            request(clock, 10)
        assert bool(captured.spans) == kept
        if kept:
            assert entry(captured).attributes[keys.SAMPLING_WEIGHT] == 4.0
            assert entry(captured).attributes[keys.SAMPLING_REASON] == "rate"
            stage = captured.one(stage="compute")
            assert stage.attributes[keys.SAMPLING_WEIGHT] == 4.0, "a stage may be asked about without its request"
            assert keys.SAMPLING_REASON not in stage.attributes
    assert tailsight.stats().kept == {"rate": 2}
    assert tailsight.stats().sampled_out == {"rate": 2}


def test_two_services_agree_about_a_trace_without_asking_each_other(clock: FakeClock) -> None:
    generator = random.Random(1)
    for _ in range(200):
        trace_id = generator.getrandbits(128) or 1
        decisions = set()
        for _service in range(2):
            with sampling(clock, 0.3, trace_id) as captured:
                request(clock, 10)
            decisions.add(bool(captured.spans))
        assert len(decisions) == 1


def test_an_error_anywhere_in_the_request_keeps_it(clock: FakeClock) -> None:
    with sampling(clock, 0.0, RARE) as captured, pytest.raises(ValueError, match="x"), tailsight.request("r"):
        raise ValueError("x")
    assert entry(captured).attributes[keys.SAMPLING_REASON] == "error"
    with (
        sampling(clock, 0.0, RARE) as captured,
        tailsight.request("r"),
        contextlib.suppress(ValueError),
        tailsight.stage("compute"),
    ):
        raise ValueError("x")
    assert entry(captured).attributes[keys.SAMPLING_REASON] == "error"
    assert entry(captured).attributes[keys.SAMPLING_WEIGHT] == 1.0


def test_a_missed_deadline_keeps_it(clock: FakeClock) -> None:
    for taken_ms, kept in ((20, False), (21, True)):
        with sampling(clock, 0.0, RARE) as captured:
            request(clock, taken_ms * 1_000_000, deadline_ms=20)
        assert bool(captured.spans) == kept
    assert entry(captured).attributes[keys.SAMPLING_REASON] == "deadline"
    assert entry(captured).attributes[keys.DEADLINE_MS] == 20


def test_what_is_slower_than_the_running_p99_is_kept(clock: FakeClock) -> None:
    with sampling(clock, 0.0, RARE) as captured:
        for _ in range(MIN_OBSERVATIONS):
            request(clock, 1_000_000)
        assert captured.spans == []
        request(clock, 1_000_000)
        assert captured.spans == [], "as slow as the others is not slow"
        request(clock, 5_000_000)
    assert entry(captured).attributes[keys.SAMPLING_REASON] == "slow"
    assert entry(captured).duration_ns == 5_000_000


def test_each_name_has_its_own_idea_of_slow(clock: FakeClock) -> None:
    with sampling(clock, 0.0, RARE) as captured:
        for _ in range(MIN_OBSERVATIONS):
            request(clock, 1_000_000)
        with tailsight.request("other"):
            clock.advance(100_000_000)
    assert captured.spans == []


@pytest.mark.parametrize("name", ["lognormal", "exponential", "uniform", "pareto"])
def test_the_running_p99_is_one(name: str) -> None:
    generator = np.random.default_rng(3)
    draw = {
        "lognormal": lambda n: generator.lognormal(15, 0.7, n),
        "exponential": lambda n: generator.exponential(1e7, n),
        "uniform": lambda n: generator.uniform(1e6, 2e6, n),
        "pareto": lambda n: (generator.pareto(2.0, n) + 1) * 1e6,
    }[name]
    running = RunningP99()
    slow = 0
    for duration in draw(60_000):
        slow += running.threshold_ns is not None and int(duration) > running.threshold_ns
        running.add(int(duration))
    # The threshold lies at the upper end of a bucket: a little over the quantile, under it by no more than noise.
    assert 0.002 <= slow / 60_000 <= 0.013
    assert running.threshold_ns is not None
    true = np.quantile(draw(1_000_000), 0.99)
    assert 0.8 * true <= running.threshold_ns <= 1.3 * true  # 60 observations are beyond it: the noise is 6 %


def test_the_running_p99_follows_a_service_that_became_slower() -> None:
    running = RunningP99()
    for _ in range(30_000):
        running.add(1_000_000)
    for _ in range(30_000):
        running.add(9_000_000)
    assert running.threshold_ns is not None
    assert running.threshold_ns >= 9_000_000


def test_weights_give_counts_and_quantiles_back(clock: FakeClock) -> None:
    generator = np.random.default_rng(5)
    durations = generator.lognormal(15, 0.8, 20_000).astype(int)
    ids, draw = Ids(), random.Random(6)
    ids.trace_id = lambda: draw.getrandbits(128)  # drawn anew each time, they would miss these bounds now and then
    with capture(clock=clock, ids=ids, sampler=TailSampler(0.05, counters.decided)) as captured:
        for duration in durations:
            request(clock, int(duration))
    kept = captured.find(name="r")
    weights = np.array([span.attributes[keys.SAMPLING_WEIGHT] for span in kept])
    values = np.array([span.duration_ns for span in kept])
    assert len(kept) < 0.09 * len(durations)
    assert weights.sum() == pytest.approx(len(durations), rel=0.1)
    order = np.argsort(values)
    cumulated = np.cumsum(weights[order]) / weights.sum()
    for quantile in (0.5, 0.9, 0.99):
        estimated = values[order][np.searchsorted(cumulated, quantile)]
        low, high = np.quantile(durations, [quantile - 0.03 * (1 - quantile) / 0.5 - 0.002, min(1, quantile + 0.03)])
        assert low <= estimated <= high
    stats = tailsight.stats()
    assert sum(stats.kept.values()) == len(kept)
    assert sum(stats.kept.values()) + sum(stats.sampled_out.values()) == len(durations)
    assert stats.kept["slow"] >= 0.004 * len(durations)


def test_a_long_request_waits_packed_and_is_decided_as_a_whole(clock: FakeClock) -> None:
    for trace_id, kept in ((RARE, False), (RARE - 1, True)):
        with sampling(clock, 0.5, trace_id) as captured, tailsight.request("r"):
            for _ in range(3 * MAX_WAITING_SPANS):
                with tailsight.stage("compute"):
                    pass
            assert captured.spans == []
        assert len(captured.spans) == (3 * MAX_WAITING_SPANS + 1 if kept else 0)


def test_a_request_too_large_to_wait_is_kept(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailsight._trace.MAX_PARKED_BYTES", 10_000)
    with sampling(clock, 0.0, RARE) as captured, tailsight.request("r"):
        for _ in range(10 * MAX_WAITING_SPANS):
            with tailsight.stage("compute"):
                pass
        assert captured.spans
    assert len(captured.spans) == 10 * MAX_WAITING_SPANS + 1
    assert entry(captured).attributes[keys.SAMPLING_REASON] == "long"
    assert entry(captured).attributes[keys.SAMPLING_WEIGHT] == 1.0


def test_a_stage_that_ends_after_its_request_follows_the_decision(clock: FakeClock) -> None:
    for trace_id, spans in ((RARE, 0), (RARE - 1, 2)):
        with sampling(clock, 0.5, trace_id) as captured:
            late = tailsight.stage("postprocess")
            with tailsight.request("r"):
                elsewhere = contextvars.copy_context()
                elsewhere.run(late.__enter__)
            elsewhere.run(late.__exit__, None, None, None)
        assert len(captured.spans) == spans


def test_threads_that_decide_at_once_do_not_disturb_each_other(clock: FakeClock) -> None:
    interval = sys.getswitchinterval()
    sampler = TailSampler(0.5, lambda reason, kept: None)
    raised: list[BaseException] = []

    def decide(seed: int) -> None:
        generator = random.Random(seed)
        try:
            for _ in range(30_000):
                sampler.decide(
                    trace_id=generator.getrandbits(128),
                    name="r",
                    duration_ns=int(generator.lognormvariate(14, 2)),
                    failed=False,
                )
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=decide, args=(seed,)) for seed in range(6)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert raised == []
    assert counters.internal_errors == 0, "an error in a decision is caught there"
    threshold_ns = sampler._slow._by_name["r"].threshold_ns
    assert threshold_ns is not None
    true = np.quantile(np.random.default_rng(1).lognormal(14, 2, 1_000_000), 0.99)
    assert 0.5 * true <= threshold_ns <= 2 * true


def test_a_table_that_changes_under_a_refresh_is_no_error() -> None:
    running = RunningP99()

    class Changing(dict[int, float]):
        """Another thread comes in between any two steps."""

        def get(self, key: int, default: Any = None) -> Any:
            running._counts = type(self)({1: 1.0})
            return super().get(key, default)

        def items(self) -> Any:
            for item in super().items():
                self[len(self) + 10_000] = 1.0
                yield item

    running._counts = Changing()
    for duration in range(3 * MIN_OBSERVATIONS):
        running.add(duration * 1000)
    assert running.threshold_ns is not None


@pytest.mark.parametrize("deadline_ms", [10**400, -(10**400), float("nan"), float("inf"), 1e308, "x", None])
def test_no_deadline_is_too_odd_for_a_decision(deadline_ms: object) -> None:
    sampler = TailSampler(1.0, counters.decided)
    decision = sampler.decide(trace_id=1, name="r", duration_ns=5, failed=False, deadline_ms=deadline_ms)
    assert decision is not None


def test_a_decision_in_the_past_of_its_begin_is_one() -> None:
    sampler = TailSampler(1.0, counters.decided)
    for _ in range(2 * MIN_OBSERVATIONS):
        assert sampler.decide(trace_id=1, name="r", duration_ns=-5, failed=False) == (1.0, "rate")


def test_the_options_switch_it_on(collector: Any) -> None:
    tailsight.configure(endpoint=collector.url, sample_rate=0.0)
    with tailsight.request("r"):
        pass
    with pytest.raises(ValueError, match="x"), tailsight.request("r"):
        raise ValueError("x")
    assert tailsight.flush()
    assert [span.status.code for span in collector.spans] == [2]
    assert tailsight.stats().sampled_out == {"rate": 1}
    tailsight.shutdown()
    said = {
        item.key: item.value
        for item in collector.received[-1].message.resource_spans[0].scope_spans[0].scope.attributes
    }
    assert [(item.key, item.value.int_value) for item in said[keys.SENDER_SAMPLED_OUT].kvlist_value.values] == [
        ("rate", 1)
    ]
    assert [(item.key, item.value.int_value) for item in said[keys.SENDER_KEPT].kvlist_value.values] == [("error", 1)]
    assert said[keys.SENDER_LAST].bool_value


class TestDefects:
    """Errors of ours, which the fixture above forbids elsewhere."""

    def test_a_request_whose_decision_fails_is_kept(self, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: object) -> bool:
            raise KeyError("a defect")

        monkeypatch.setattr(SlowRequests, "is_slow", fail)
        with sampling(clock, 0.0, RARE) as captured:
            request(clock, 10)
        assert entry(captured).attributes[keys.SAMPLING_REASON] == "undecided"
        assert entry(captured).attributes[keys.SAMPLING_WEIGHT] == 1.0
        assert len(captured.spans) == 2, "nothing is lost"
        assert tailsight.stats().kept == {"undecided": 1}
        assert counters.internal_errors == 1
        counters.internal_errors = 0

    def test_a_decision_that_cannot_be_counted_stands(self, clock: FakeClock) -> None:
        def fail(*args: object) -> None:
            raise ValueError("operation forbidden on released memoryview object")

        ids = Ids()
        ids.trace_id = lambda: RARE - 1
        with capture(clock=clock, ids=ids, sampler=TailSampler(0.5, fail)) as captured:
            request(clock, 10)
        assert entry(captured).attributes[keys.SAMPLING_REASON] == "rate"
        assert counters.internal_errors == 1
        counters.internal_errors = 0
