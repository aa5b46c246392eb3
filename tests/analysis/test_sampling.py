"""What the SDK kept, weighted back, gives the truth about what it saw: simulated populations whose answers are known."""

import time
from dataclasses import dataclass

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import Span, window
from testkit.otlp import request

from tailsight._sampling import TailSampler
from tailsight_analysis import NotEnoughDataError, breakdown, tail, timeline, whole_time
from tailsight_analysis.causes.attributes import judge, judge_weighted
from tailsight_analysis.requests.sample import Picked
from tailsight_analysis.statistics.significance import effective_counts
from tailsight_collector.keep.records import encode_record

RATE = 0.05
STAGES = ("preprocess", "queue", "compute")
FAR = 4.5  # standard errors: one in 300,000 estimates lies farther off by chance


@dataclass
class Population:
    """All requests of a service, also those that will not be kept. Times are in nanoseconds."""

    stage_ns: np.ndarray  # a column a stage
    failed: np.ndarray
    batch: np.ndarray
    low: np.ndarray  # the 64 bits of the trace ids by which the SDK decides

    @property
    def duration_ns(self) -> np.ndarray:
        return self.stage_ns.sum(axis=1) + 100_000


def population(random: np.random.Generator, requests: int) -> Population:
    """A tail that is queueing in batches of 32, and errors of which half are fast: keeping all of them shifts every raw figure."""
    slow, failed = random.random(requests) < 0.012, random.random(requests) < 0.02
    ms = np.stack([random.lognormal(0, 0.4, requests), random.exponential(1.5, requests),
                   random.lognormal(2, 0.25, requests)], axis=1)  # fmt: skip
    ms[slow, 1] += random.uniform(30, 60, slow.sum())
    ms[failed] *= random.choice([0.3, 1.0], (failed.sum(), 1))
    batch = np.where(
        slow & (random.random(requests) < 0.9), 32, random.choice([1, 4, 8, 32], requests, p=[0.4, 0.3, 0.25, 0.05])
    )
    low = random.integers(1, 2**63, requests)
    return Population((ms * 1e6).astype(np.int64), failed, batch, low)


def kept(people: Population) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Let the SDK decide: the indices of what it keeps, their weights and its reasons."""
    sampler = TailSampler(RATE, lambda reason, kept: None)
    decisions = [
        sampler.decide(trace_id=low, name="handle", duration_ns=duration_ns, failed=failed)
        for low, duration_ns, failed in zip(
            people.low.tolist(), people.duration_ns.tolist(), people.failed.tolist(), strict=True
        )
    ]
    index = np.array([at for at, decision in enumerate(decisions) if decision is not None])
    return index, np.array([decisions[at][0] for at in index]), [decisions[at][1] for at in index]


def kept_spans(people: Population, run: str = "") -> tuple[bytes, np.ndarray, np.ndarray]:
    """What the SDK sends of a population, as a record of the journal; the indices and weights of what it keeps."""
    index, weights, reasons = kept(people)
    base_ns = brute_force.BASE_NS
    spans = []
    for at, weight, reason in zip(index.tolist(), weights.tolist(), reasons, strict=True):
        trace, start_ns = bytes(7) + b"\1" + int(people.low[at]).to_bytes(8, "big"), base_ns + at * 10_000
        begin = start_ns
        for number, (stage, length_ns) in enumerate(zip(STAGES, people.stage_ns[at].tolist(), strict=True), 2):
            spans.append(
                {"trace_id": trace, "span_id": number.to_bytes(8, "big"), "parent_span_id": (1).to_bytes(8, "big"),
                 "name": stage, "start_time_unix_nano": begin, "end_time_unix_nano": begin + length_ns,
                 "attributes": {"tailsight.stage": stage}}
            )  # fmt: skip
            begin += length_ns
        about = {"batch": int(people.batch[at]), "cached": "no" if people.failed[at] else "yes"}
        about |= {"tailsight.sampling.reason": reason} | ({"tailsight.sampling.weight": weight} if weight != 1 else {})
        spans.append(
            {"trace_id": trace, "span_id": (1).to_bytes(8, "big"), "name": "handle", "attributes": about,
             "start_time_unix_nano": start_ns, "end_time_unix_nano": begin + 100_000,
             "status": {"code": 2 if people.failed[at] else 0}}
        )  # fmt: skip
    message = request(spans, {"service.name": "s", "tailsight.run": run}).SerializeToString()
    return encode_record(message, time.time_ns()), index, weights


def standard_error(people: Population, chosen: np.ndarray, values: np.ndarray) -> float:
    """Of the weighted mean of `values` over the `chosen` of the population, by the design: Σ (1 − π) / π (y − ȳ)² ÷ N²."""
    always = people.failed | (people.duration_ns > np.quantile(people.duration_ns, 0.99))
    spread = np.where(always, 0.0, (1 - RATE) / RATE)[chosen] * (values[chosen] - values[chosen].mean()) ** 2
    return float(np.sqrt(spread.sum())) / chosen.sum()


@pytest.mark.parametrize("seed", [1])
def test_two_hundred_thousand_requests_of_which_one_in_twelve_is_stored(store, seed):
    people = population(np.random.default_rng(seed), 200_000)
    record, index, weights = kept_spans(people)
    store.insert_otlp_traces(record, f"sampled-{time.time_ns()}")
    everyone = np.ones(len(people.failed), dtype=bool)
    assert len(index) < 20_000
    answer = breakdown(store, whole_time(store))
    requests = answer.requests
    assert answer.weighted
    assert requests.stored == len(index)
    assert requests.count == round(weights.sum())
    assert requests.count == pytest.approx(200_000, abs=FAR * np.sqrt(200_000 * (1 - RATE) / RATE))
    assert requests.error_rate == pytest.approx(people.failed.mean(), rel=0.03)

    ms = people.duration_ns / 1e6
    levels = {"p50_ms": 0.5, "p90_ms": 0.9, "p95_ms": 0.95, "p99_ms": 0.99, "p999_ms": 0.999}
    for name, level in levels.items():
        found = getattr(requests, name)
        error = standard_error(people, everyone, (ms <= np.quantile(ms, level)).astype(float))
        assert (ms <= found).mean() == pytest.approx(level, abs=FAR * error + 2e-5), name
    as_stored = (ms <= np.quantile(ms[index], 0.9)).mean()
    assert as_stored > 0.95, "the stored requests as they are do not say the same"

    rows = {row.group["stage"]: row for row in answer.rows}
    for column, stage in enumerate(STAGES):
        values = people.stage_ns[:, column] / 1e6
        error = standard_error(people, everyone, (values <= np.quantile(values, 0.9)).astype(float))
        assert (values <= rows[stage].p90_ms).mean() == pytest.approx(0.9, abs=FAR * error + 2e-5), stage
        assert rows[stage].count == requests.count
        assert rows[stage].stored == len(index)
        assert rows[stage].self_share == pytest.approx(
            people.stage_ns[:, column].sum() / people.duration_ns.sum(), rel=0.05
        )

    points = timeline(store, whole_time(store), points=10).requests
    assert sum(point.stored for point in points) == len(index)
    assert sum(point.count for point in points) == pytest.approx(requests.count, abs=10)
    assert [point.count for point in points[:9]] == pytest.approx([20_000] * 9, rel=0.15)

    result = tail(store, whole_time(store))
    assert result.requests == requests.count
    assert result.threshold_ms == pytest.approx(requests.p99_ms)
    # "about": the classes are cut at estimated quantiles
    in_tail, cuts = ms >= np.quantile(ms, 0.99), np.quantile(ms, [0.4, 0.6])
    typical = (ms >= cuts[0]) & (ms <= cuts[1])
    assert result.tail_requests == pytest.approx(in_tail.sum(), rel=0.1)
    assert result.typical_requests == pytest.approx(typical.sum(), rel=0.05)
    found = {stage.stage: stage for stage in result.stages}
    for column, stage in enumerate(STAGES):
        values = people.stage_ns[:, column] / 1e6
        assert found[stage].tail_ms == pytest.approx(values[in_tail].mean(), rel=0.05), stage
        error = standard_error(people, typical, values)
        assert found[stage].typical_ms == pytest.approx(values[typical].mean(), abs=FAR * error + 0.01), stage
    assert result.stages[0].stage == "queue"
    # the SDK's own words explain nothing; "cached" is as frequent in both classes, though not among what is stored
    assert [(pair.key, pair.value) for pair in result.attributes] == [("batch", "32")]
    assert result.attributes[0].tail_share == pytest.approx((people.batch[in_tail] == 32).mean(), abs=0.03)
    assert result.attributes[0].typical_share == pytest.approx((people.batch[typical] == 32).mean(), abs=0.02)
    assert people.failed[index][typical[index]].mean() > 3 * people.failed[typical].mean() > 0


def test_estimates_are_unbiased_over_many_samples(store):
    random = np.random.default_rng(3)
    runs, size = 50, 3_000
    everybody = [population(random, size) for _ in range(runs)]
    records = [kept_spans(people, f"run {number}")[0] for number, people in enumerate(everybody)]
    store.insert_otlp_traces(b"".join(records), f"samples-{time.time_ns()}")
    rows = {
        row.group["run"]: row
        for row in breakdown(store, whole_time(store), by=("run", "stage")).rows
        if not row.group["stage"]
    }
    assert len(rows) == runs

    def mean_error(off: list[float]) -> float:
        """Mean deviation from the truth, in standard errors of that mean."""
        return abs(float(np.mean(off))) / (float(np.std(off, ddof=1)) / np.sqrt(runs))

    found = [rows[f"run {number}"] for number in range(runs)]
    pairs = list(zip(found, everybody, strict=True))
    assert mean_error([row.count / size - 1 for row, _ in pairs]) < FAR
    assert mean_error([row.error_rate - people.failed.mean() for row, people in pairs]) < FAR
    for name, level in (("p50_ms", 0.5), ("p90_ms", 0.9), ("p99_ms", 0.99)):
        off = [(people.duration_ns / 1e6 <= getattr(row, name)).mean() - level for row, people in pairs]
        # the weighted distribution is unbiased; a quantile of it nearly so, the less the fewer requests lie beyond it
        assert mean_error(off) < FAR or name == "p99_ms", name
        assert abs(np.mean(off)) < np.std(off), name
    assert abs(np.mean(off)) < 0.004, "p99"
    raw = [row.stored / size - 1 for row in found]
    assert mean_error(raw) > 100, "without weights nothing is right"


# --- significance -----------------------------------------------------------------------------------------------------


def sampled_pairs(
    random, values: list[list[np.ndarray]], weights: list[np.ndarray]
) -> tuple[list[dict], tuple[Picked, Picked], int]:
    """Count the pairs as attributes.py does."""
    rows, tested = [], 0
    for key, (in_tail, in_typical) in enumerate(zip(*values, strict=True)):
        for value in np.union1d(in_tail, in_typical):
            have = [in_tail == value, in_typical == value]
            if have[0].sum() + have[1].sum() < 2:
                continue
            tested += 1
            row = {"key": str(key), "value": str(value)}
            for name, mine, weight in zip(("tail", "typical"), have, weights, strict=True):
                row |= {f"{name}_requests": int(mine.sum()), f"{name}_weight": weight[mine].sum(),
                        f"{name}_weight2": (weight[mine] ** 2).sum()}  # fmt: skip
            rows += [row] if row["tail_requests"] >= 2 else []
    return rows, tuple(Picked(len(w), w.sum(), w.max(initial=1.0)) for w in weights), tested


def drawn(random, requests: int, always: float, errors: float, rate: float, planted: float):
    """One class of a population, sampled: its attributes and weights. Errors have values of their own, and are kept."""
    failed = random.random(requests) < errors
    certain = failed | (random.random(requests) < always)
    values = [random.integers(0, most, requests) for most in (2, 5, 20, 60, 2, 5, 20, 60)]
    values[4:] = [np.where(failed, 100 + random.integers(0, 2, requests), column) for column in values[4:]]
    values.append((random.random(requests) < planted).astype(int))
    held = certain | (random.random(requests) < rate)
    return [column[held] for column in values], np.where(certain, 1.0, 1 / rate)[held]


@pytest.mark.parametrize(
    ("slow_kept", "errors", "rate", "tail_requests", "typical_requests"),
    [(1.0, 0.01, 0.05, 100, 2_000), (0.8, 0.01, 0.05, 200, 4_000), (0.5, 0.03, 0.05, 400, 8_000),
     (0.0, 0.05, 0.05, 2_000, 4_000), (0.8, 0.2, 0.02, 200, 6_000), (0.9, 0.02, 0.3, 60, 1_200)],
)  # fmt: skip
def test_weights_do_not_make_chance_significant_and_keep_what_was_planted(
    slow_kept, errors, rate, tail_requests, typical_requests
):
    random = np.random.default_rng(7)
    weighted = multiplied = found = 0
    for _ in range(120):
        for planted in (0.05, 0.6):
            classes = [
                drawn(random, tail_requests, slow_kept, errors, rate, planted),
                drawn(random, typical_requests, 0.0, errors, rate, 0.05),
            ]
            rows, picked, tested = sampled_pairs(random, *map(list, zip(*classes, strict=True)))
            named = judge_weighted(rows, *picked, tested)
            if planted == 0.6:
                found += ("8", "1") in [(pair.key, pair.value) for pair in named]
                continue
            weighted += bool(named)
            as_if = [
                {**row, "tail_requests": round(row["tail_weight"]), "typical_requests": round(row["typical_weight"])}
                for row in rows
            ]
            multiplied += bool(judge(as_if, round(picked[0].weight), round(picked[1].weight), tested))
    assert weighted / 120 <= 0.05
    assert multiplied / 120 > 0.2, "weights taken for requests would be wrong, and this test would see it"
    assert found / 120 > 0.9


def test_equal_weights_are_the_plain_counts():
    holders = np.array([0, 1, 7, 100])
    for weight, unseen in ((1.0, 1.0), (20.0, 20.0), (10 / 3, 10 / 3)):
        with_value, in_all = effective_counts(holders * weight, holders * weight**2, 100, 100 * weight, unseen)
        assert with_value == pytest.approx(holders)
        assert in_all == pytest.approx([100] * 4)


# --- which weight a span has ------------------------------------------------------------------------------------------


def test_a_stage_counts_as_often_as_its_own_services_request(store):
    spans = []
    for trace in range(1, 21):
        spans += [
            Span(trace, 1, 0, 0, 100 + trace, service="front", weight=20, decided=True),
            Span(trace, 2, 1, 10, 50, service="front", stage="queue"),
            # another service that keeps everything: its spans count for themselves
            Span(trace, 3, 2, 20, 30, service="back", stage="compute"),
        ]
    brute_force.insert(store, spans)
    rows = {row.group["stage"]: (row.count, row.stored) for row in breakdown(store, window(0, 200)).rows}
    assert rows == {"": (400, 20), "queue": (400, 20), "compute": (20, 20)}


def test_two_requests_of_one_service_in_a_trace_have_their_own_weights(store):
    spans = [Span(1, 1, 0, 0, 300, service="caller")]
    spans += [Span(1, 2, 1, 10, 40, weight=20, decided=True), Span(1, 3, 2, 20, 10, stage="a")]
    spans += [Span(1, 4, 1, 100, 190, decided=True), Span(1, 5, 4, 110, 10, stage="b")]
    brute_force.insert(store, spans)
    rows = {row.group["stage"]: row.count for row in breakdown(store, window(0, 200)).rows}
    assert (rows["a"], rows["b"]) == (20, 1)


def test_spans_of_another_library_are_not_taken_for_sampled_ones(store):
    brute_force.insert(store, [Span(1, 1, weight=20, decided=True), Span(1, 2, 1, stage="mine")])
    other = request([brute_force.fields(Span(1, 3, 1, stage="other"))], {"service.name": "front"})
    other.resource_spans[0].scope_spans[0].scope.name = "opentelemetry.instrumentation.redis"
    store.insert_otlp_traces(encode_record(other.SerializeToString(), time.time_ns()), "other")
    rows = {row.group["stage"]: row.count for row in breakdown(store, window(0, 200)).rows}
    assert (rows["mine"], rows["other"]) == (20, 1)


def test_where_nothing_was_sampled_no_answer_speaks_of_it(store):
    brute_force.insert(store, [Span(n, 1, 0, 0, 100 + n, decided=True) for n in range(1, 11)])
    answer = breakdown(store, window(0, 10))
    assert not answer.weighted
    assert "stored" not in answer.requests.to_json()
    assert "stored" not in answer.rows[0].to_json()
    found = tail(store, window(0, 10), quantile=0.9).to_json()
    assert found["weighted"] is False
    assert "stored_requests" not in found


def test_four_stored_requests_are_too_few_whatever_they_stand_for(store):
    brute_force.insert(store, [Span(n, 1, 0, 0, 100 + n, weight=100, decided=True) for n in range(1, 5)])
    with pytest.raises(NotEnoughDataError, match=r"4 stored requests .* stand for 400: 1 more are needed"):
        tail(store, window(0, 10))


def test_p999_is_rough_where_fewer_than_ten_requests_lie_beyond(store):
    def requests(count: int, weight: int, first: int) -> list[Span]:
        return [Span(first + n, 1, 0, n, 100 + n, weight=weight, decided=True) for n in range(count)]

    brute_force.insert(store, requests(9_999, 1, 1))
    assert breakdown(store, window(0, 20_000)).requests.p999_is_rough
    brute_force.insert(store, requests(1, 1, 20_000))
    assert not breakdown(store, window(0, 20_000)).requests.p999_is_rough
    store.run("TRUNCATE TABLE spans")
    brute_force.insert(store, requests(1_000, 20, 1))  # 20,000 requests, but one or two that tell of the last 20
    answer = breakdown(store, window(0, 20_000)).requests
    assert (answer.count, answer.p999_is_rough) == (20_000, True)
