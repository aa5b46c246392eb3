"""The cause that was planted is named, and where none was, none is."""

import json
from dataclasses import replace

import numpy as np
import pytest
from analysis.slow_pipelines import Pipeline, plant

from tailsight_analysis.causes.causes import LEAST_SHARE, find_causes
from tailsight_analysis.causes.conditions import Condition, Key, Place, Row, facts_of, is_symptom
from tailsight_analysis.causes.counterfactual import quantile_without
from tailsight_analysis.causes.load import load_at
from tailsight_analysis.causes.rules import Candidate, Question, best_of

SEEDS = 6


def names(cause) -> set[str]:
    """The first words of the keys of a cause's conditions."""
    return {condition.key.split(" ")[0] for condition in cause.conditions}


@pytest.mark.parametrize(
    "kind", ["stage", "hardware", "version", "batch", "host", "hardware and batch", "throttled", "load"]
)
def test_the_planted_cause_is_named_first(kind):
    right_stage, right_condition = 0, 0
    for seed in range(SEEDS):
        pipeline = Pipeline(seed)
        place, keys = plant(pipeline, kind)
        causes = find_causes(*pipeline.finish())
        right_stage += (causes[0].service, causes[0].stage) == place
        right_condition += names(causes[0]) == keys
    assert right_stage >= SEEDS - 1
    assert right_condition >= SEEDS - 1


def test_where_nothing_was_planted_no_condition_is_named():
    """One in a hundred is allowed for; 60 pipelines with 20 attributes that mean nothing, on each of which 2,000 are tried."""
    named = [seed for seed in range(60) if any(c.conditions for c in find_causes(*Pipeline(1000 + seed).finish()))]
    assert len(named) <= 2, named


def test_two_causes_are_both_named():
    pipeline = Pipeline(7)
    first, _ = plant(pipeline, "batch")
    second = Place(next(service for service in ("front", "store") if service != first.service), "preprocess")
    slow = pipeline.random.random(pipeline.count) < 0.01
    pipeline.texts[Key(second, "cache")] = np.where(slow, "miss", "hit")
    pipeline.times[second][slow] += 1.5 * pipeline.typical_ms
    found = {(c.service, c.stage): names(c) for c in find_causes(*pipeline.finish(0.98)) if c.conditions}
    assert found == {first: {"batch"}, second: {"cache"}}


def test_a_condition_is_not_blamed_on_a_stage_that_is_slow_by_itself():
    """What brings requests into the tail is common there beside any stage's bad luck."""
    pipeline = Pipeline(3, count=8000)
    place, _ = plant(pipeline, "hardware")
    other = Place("front" if place.service != "front" else "store", "queue")
    pipeline.times[other] *= np.exp(pipeline.random.normal(0, 0.8, pipeline.count))
    blamed = {(c.service, c.stage) for c in find_causes(*pipeline.finish(0.97)) if "hardware" in names(c)}
    assert blamed == {place}


@pytest.mark.parametrize("quantile", [0.95, 0.99])
def test_a_rare_pause_is_named_where_most_of_the_tail_is_noise(quantile):
    """Of 1,000 requests of one host 24 stand still for 20 requests' time: hardly any request, and most of the excess."""
    pipeline = Pipeline(11)
    place = Place("ranker", "compute")
    on_host = np.flatnonzero(pipeline.host["ranker"] == 1)
    pipeline.times[place] *= 3 * np.exp(pipeline.random.normal(0, 0.5, pipeline.count))
    slow = pipeline.random.choice(on_host, 24, replace=False)
    pipeline.times[place][slow] += 20 * pipeline.typical_ms * pipeline.random.uniform(0.5, 1.5, 24)
    first = find_causes(*pipeline.finish(quantile))[0]
    assert (first.service, first.stage) == place
    assert [condition.label for condition in first.conditions] == ["host = ranker1 (compute of ranker)"]
    assert first.excess_share > 0.5


@pytest.mark.parametrize(
    ("share", "times"), [(0.5, 2.0), (0.02, 20.0), (0.8, 1.5)], ids=["of half", "of few", "of most, hardly likelier"]
)
def test_a_second_condition_is_named_only_where_the_first_needs_it(share, times):
    """On L4 some are slow, and those with a cache miss are that so many times as often, which a share of all have."""
    pipeline = Pipeline(22, count=24_000, distractors=4)
    place = Place("ranker", "compute")
    on_l4 = pipeline.kind["ranker"][pipeline.host["ranker"]] == 0
    miss = pipeline.random.random(pipeline.count) < share
    slow = on_l4 & (pipeline.random.random(pipeline.count) < 0.03 * np.where(miss, times, 1.0))
    pipeline.texts[Key(place, "cache")] = np.where(miss, "miss", "hit")
    pipeline.times[place][slow] += 2 * pipeline.typical_ms
    first = find_causes(*pipeline.finish(0.96))[0]
    assert (first.service, first.stage, names(first)) == (*place, {"hardware"})


@pytest.mark.parametrize(("share", "more", "spread", "quantile"), [(0.3, 0.5, 0.7, 0.97), (0.1, 1.0, 0.8, 0.95)])
def test_what_makes_another_stage_slow_is_no_condition_of_bad_luck(share, more, spread, quantile):
    """Red requests take longer at one stage, so more of those with bad luck at another one are in the tail."""
    pipeline = Pipeline(2, count=8_000, distractors=4)
    slow, unlucky = Place("ranker", "compute"), Place("front", "queue")
    red = pipeline.random.random(pipeline.count) < share
    noise = pipeline.random.normal(size=(2, pipeline.count))
    pipeline.texts[Key(slow, "colour")] = np.where(red, "red", "blue")
    pipeline.times[slow] = np.where(red, more, 0.0) * pipeline.typical_ms * np.exp(0.1 * noise[0]) + 1
    pipeline.times[unlucky] = 0.4 * pipeline.typical_ms * np.exp(spread * noise[1])
    causes = find_causes(*pipeline.finish(quantile))
    assert {(cause.service, cause.stage) for cause in causes} >= {slow, unlucky}
    assert {(cause.service, cause.stage) for cause in causes if names(cause) == {"colour"}} == {slow}


def test_a_condition_that_explains_next_to_nothing_is_not_named():
    """Of 250 requests one is red, and takes a little longer than the noise of all."""
    pipeline = Pipeline(1, count=12_000, distractors=4)
    place = Place("ranker", "compute")
    red = pipeline.random.random(pipeline.count) < 0.004
    pipeline.texts[Key(place, "colour")] = np.where(red, "red", "blue")
    noise = np.exp(pipeline.random.normal(0, 0.6, pipeline.count))
    pipeline.times[place] = pipeline.typical_ms * (noise + np.where(red, 1.2, 0.0))
    causes = find_causes(*pipeline.finish(0.95))
    assert [(cause.service, cause.stage, cause.conditions) for cause in causes] == [(*place, ())]


def test_a_better_name_is_shown_only_where_it_explains_nearly_as_much():
    met = np.arange(1000) < 100
    asked = replace(_question(1000), case=met)

    def candidate(key: str, score: float, rank: int, missing: int) -> Candidate:
        return Candidate(
            Condition(Place("s", "a"), key, "x"), met & (np.arange(1000) >= missing), score, 1e-9, (rank, 0), 0
        )

    for score, shown in ((90.0, "hardware"), (80.0, "cache")):
        found = best_of([candidate("cache", 100.0, 4, 0), candidate("hardware", score, 0, 5)], asked)
        assert found.condition.key == shown
        assert [other.key for other in found.condition.same_as] == [{"hardware": "cache", "cache": "hardware"}[shown]]
    apart = best_of([candidate("cache", 100.0, 4, 0), candidate("hardware", 99.0, 0, 15)], asked)
    assert (apart.condition.key, apart.condition.same_as) == ("cache", ())


def _question(count: int) -> Question:
    everyone, no_one = np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    none = np.zeros(0, dtype=bool)
    return Question(
        no_one, everyone, no_one, np.ones(count), np.ones(count), np.zeros(count, dtype=int), "s", "a", none, none
    )


def test_what_explains_next_to_nothing_is_not_listed():
    """A stage that takes a little longer in the tail, whatever the request is like, beside the one that makes it."""
    for seed in range(4):
        pipeline = Pipeline(seed)
        plant(pipeline, "batch")
        causes = find_causes(*pipeline.finish())
        assert causes
        assert all(cause.excess_share >= LEAST_SHARE for cause in causes)


def test_p_values_are_corrected_for_all_conditions_that_were_tried():
    """Hundreds of conditions that mean nothing make the one that does less certain by as much."""
    found = []
    for meaningless in (0, 400):
        pipeline = Pipeline(23, distractors=0)
        place = Place("ranker", "compute")
        slow = pipeline.random.random(pipeline.count) < 0.02
        caught = np.where(
            slow, pipeline.random.random(pipeline.count) < 0.7, pipeline.random.random(pipeline.count) < 0.1
        )
        pipeline.texts[Key(place, "cache")] = np.where(caught, "miss", "hit")
        pipeline.times[place][slow] += 2 * pipeline.typical_ms
        for number in range(meaningless):
            pipeline.texts[Key(place, f"more{number}")] = pipeline.random.permutation(
                np.arange(pipeline.count) % 2
            ).astype(str)
        first = find_causes(*pipeline.finish())[0]
        assert names(first) == {"cache"}
        assert all(caught[int(trace_id)] for trace_id in first.examples)
        found.append(first.p_value)
    assert found[1] > 100 * found[0] > 0


def test_causes_of_a_stage_and_its_rest_add_up_to_the_stage():
    for seed in range(4):
        pipeline = Pipeline(seed)
        place, _ = plant(pipeline, "batch")
        requests, facts, threshold, quantile = pipeline.finish()
        causes = [c for c in find_causes(requests, facts, threshold, quantile) if (c.service, c.stage) == place]
        column = requests.contribution_ns[:, requests.places.index(place)]
        excess_ms = (column[requests.in_tail].mean() - column[requests.in_typical].mean()) / 1e6
        whole_ms = (
            requests.duration_ns[requests.in_tail].mean() - requests.duration_ns[requests.in_typical].mean()
        ) / 1e6
        unnamed = 0 if any(not c.conditions for c in causes) else 0.05
        assert sum(c.excess_ms for c in causes) == pytest.approx(excess_ms, abs=unnamed * whole_ms + 1e-6)
        assert all(c.excess_share == pytest.approx(c.excess_ms / whole_ms) for c in causes)
        assert all(c.excess_share_interval[0] < c.excess_share < c.excess_share_interval[1] for c in causes)


def test_conditions_that_say_the_same_are_merged_under_the_better_name():
    pipeline = Pipeline(5)
    place, _ = plant(pipeline, "version")
    version = pipeline.version[place.service]
    pipeline.texts[Key(place, "build")] = np.char.add("b", version.astype(str))
    nearly = np.where(pipeline.random.random(pipeline.count) < 0.02, 1 - version, version)
    pipeline.texts[Key(place, "ring")] = np.where(nearly == 1, "canary", "stable")
    first = find_causes(*pipeline.finish())[0]
    (condition,) = first.conditions
    assert (condition.key, condition.value, condition.on) == ("version", "1", place)
    assert {"build", "ring"} <= {other.key for other in condition.same_as}
    assert Condition(Place(place.service, "queue"), "version", "1") in condition.same_as


def test_a_host_is_named_only_where_its_hardware_is_not_the_same():
    pipeline = Pipeline(6)
    service, host = "ranker", 3  # the only H100
    slow = (pipeline.host[service] == host) & (pipeline.random.random(pipeline.count) < 0.1)
    pipeline.times[Place(service, "compute")][slow] += 1.5 * pipeline.typical_ms
    first = find_causes(*pipeline.finish())[0]
    assert [(c.key, c.value) for c in first.conditions] == [("hardware", "H100")]
    assert ("host", "ranker3") in {(c.key, c.value) for c in first.conditions[0].same_as}
    slow_network = Pipeline(6)
    place = Place(service, "network")
    slow_network.places.append(place)
    slow_network.times[place] = np.where(slow, 1.5 * pipeline.typical_ms, 0.5)
    first = find_causes(*slow_network.finish())[0]
    assert (first.stage, [c.key for c in first.conditions]) == ("network", ["host"])


def test_what_restates_the_time_or_follows_from_it_is_no_cause():
    pipeline = Pipeline(8)
    place, keys = plant(pipeline, "batch")
    time_ms = pipeline.times[place]
    pipeline.numbers[Key(place, "spent")] = time_ms / 1000 * pipeline.random.uniform(0.98, 1.02, pipeline.count)
    pipeline.numbers[Key(place, "kernel.duration")] = time_ms
    pipeline.numbers[Key(place, "wait_ms")] = time_ms * 2 + 5
    pipeline.texts[Key(place, "retry_count")] = (time_ms > pipeline.typical_ms / 2).astype(int).astype(str)
    first = find_causes(*pipeline.finish())[0]
    assert names(first) == keys


@pytest.mark.parametrize("key", ["duration_ms", "http.duration", "retries", "llm.ttft", "latency", "http.resend_count",
                                 "queue.wait", "compute_time", "elapsed_us", "error", "timed_out", "http.status_code"])  # fmt: skip
def test_symptoms_are_known_by_their_names(key):
    assert is_symptom(key)


@pytest.mark.parametrize("key", ["tailsight.batch.size", "tokens", "cache", "tailsight.queue.depth", "hardware", "sometime_zone",
                                 "hw.gpu.throttled", "timezone", "lock.waiters", "model.terrors"])  # fmt: skip
def test_other_names_are_no_symptoms(key):
    assert not is_symptom(key)


def test_slowness_that_lasts_does_not_blame_the_requests_that_pile_up_behind_it():
    """Slow for a reason of its own, the service has more in flight; but no more arrive than before."""
    blamed = 0
    for seed in range(8):
        pipeline = Pipeline(50 + seed)
        lasting = np.exp(1.2 * np.repeat(pipeline.random.normal(size=pipeline.count // 40 + 1), 40)[: pipeline.count])
        pipeline.times[Place("ranker", "compute")] *= lasting
        blamed += any("requests" in names(cause) for cause in find_causes(*pipeline.finish()))
    assert blamed <= 1


def test_what_is_said_without_the_condition():
    """Half of the requests take 10 ms, the other half, which meet it, 30 ms: without it all would take 10 ms."""
    pipeline = Pipeline(0, count=1000)
    place = pipeline.places[0]
    met = np.arange(1000) % 2 == 0
    pipeline.times = {other: np.full(1000, 1.0) for other in pipeline.places}
    pipeline.times[place] = np.where(met, 30.0, 10.0) + np.repeat(np.arange(500), 2) / 1000
    requests, *_ = pipeline.finish()
    assert quantile_without(requests, 0, met, 0.99) / 1e6 == pytest.approx(8 + 10.495, abs=0.01)
    assert quantile_without(requests, 0, np.zeros(1000, dtype=bool), 0.5) / 1e6 == pytest.approx(8 + 20, abs=11)
    # others are not made slower where those that meet it are faster
    assert quantile_without(requests, 0, ~met, 0.99) / 1e6 == pytest.approx(8 + 30.495, abs=0.01)


def test_the_tail_may_be_sampled_more_densely_than_the_rest():
    pipeline = Pipeline(11, count=20_000)
    _place, keys = plant(pipeline, "batch")
    requests, facts, threshold, quantile = pipeline.finish()
    whole = find_causes(requests, facts, threshold, quantile)[0]
    everyone = np.arange(20_000) % 5 == 0
    part = replace(requests, everyone=everyone, in_typical=requests.in_typical & everyone)
    sampled = find_causes(part, facts, threshold, quantile)[0]
    assert names(sampled) == names(whole) == keys
    assert sampled.excess_share == pytest.approx(whole.excess_share, abs=0.03)
    assert sampled.without_ms == pytest.approx(whole.without_ms, rel=0.05)


def test_requests_that_stand_for_others_are_weighted():
    """Slow requests are all kept, of the rest one in ten: found alike, and measured alike."""
    pipeline = Pipeline(12, count=12_000)
    _place, keys = plant(pipeline, "hardware")
    requests, facts, threshold, quantile = pipeline.finish()
    whole = find_causes(requests, facts, threshold, quantile)[0]
    kept = (requests.duration_ns >= np.quantile(requests.duration_ns, 0.97)) | (np.arange(12_000) % 10 == 0)
    heavy = np.where(requests.duration_ns >= np.quantile(requests.duration_ns, 0.97), 1.0, 10.0)
    part = replace(
        requests,
        everyone=kept,
        in_tail=requests.in_tail & kept,
        in_typical=requests.in_typical & kept,
        weight=heavy,
    )
    sampled = find_causes(part, facts, threshold, quantile)[0]
    assert names(sampled) == names(whole) == keys
    assert sampled.excess_share == pytest.approx(whole.excess_share, abs=0.03)
    assert sampled.typical_share == pytest.approx(whole.typical_share, abs=0.06)


def test_nothing_to_explain_or_to_say_is_no_error():
    pipeline = Pipeline(0, count=200)
    requests, facts, threshold, quantile = pipeline.finish()
    nothing = facts_of([], 200)
    assert all(not cause.conditions for cause in find_causes(requests, nothing, threshold, quantile))
    same = replace(requests, duration_ns=np.full(200, 10), contribution_ns=np.full((200, 9), 10 / 9))
    assert find_causes(same, facts, 10.0, quantile) == ()
    alone = replace(requests, places=(), contribution_ns=np.empty((200, 0)))
    assert find_causes(alone, facts, threshold, quantile) == ()


# --- what is said of requests -----------------------------------------------------------------------------------------


def rows(key: str, values: list[str]) -> list[Row]:
    texts = np.array(values)
    return [Row("s", "a", key, str(value), np.flatnonzero(texts == value)) for value in np.unique(texts)]


def test_numbers_are_told_from_texts():
    many = [str(n % 7) for n in range(100)]
    facts = facts_of(
        [*rows("n", many), *rows("t", [f"x{n % 7}" for n in range(100)]), *rows("two", ["0", "1"] * 50)], 100
    )
    assert [key.name for key in facts.number_keys] == ["n"]
    assert facts.numbers[0].tolist() == [n % 7 for n in range(100)]
    assert {key.name for key, _ in facts.pairs} == {"t", "two"}
    assert {value for key, value in facts.pairs if key.name == "two"} == {"0", "1"}


def test_what_all_or_hardly_any_requests_have_is_left_out():
    facts = facts_of([*rows("all", ["x"] * 100), *rows("few", ["y"] * 96 + ["z"] * 4)], 100)
    assert [(key.name, value) for key, value in facts.pairs] == [("few", "y")]


def test_of_a_key_that_a_request_has_twice_the_greater_number_counts():
    twice = [Row("s", "a", "n", str(value), np.arange(100)[value::3]) for value in range(3)]
    facts = facts_of([*twice, Row("s", "a", "n", "9", np.array([0, 1]))], 100)
    assert facts.numbers[0][:4].tolist() == [9, 9, 2, 0]


@pytest.mark.parametrize(
    ("condition", "label"),
    [
        (Condition(Place("ranker", "compute"), "hardware", "L4"), "hardware = L4 (compute of ranker)"),
        (Condition(Place("", ""), "requests in flight", None, 24.0, None), "requests in flight ≥ 24"),
        (Condition(Place("ranker", ""), "clock", None, None, 1500.0), "clock < 1500 (ranker)"),
        (Condition(Place("", "queue"), "tokens", None, 16.0, 32.0), "16 ≤ tokens < 32 (queue)"),
    ],
)
def test_conditions_have_names(condition, label):
    assert condition.label == label
    assert condition.to_json()["label"] == label


def test_load_equals_a_count():
    random = np.random.default_rng(4)
    start = np.sort(random.integers(0, 2000, 300))
    duration, weight = random.integers(0, 60, 300), random.integers(1, 4, 300).astype(float)
    keys, numbers = load_at(start, start, duration, weight, 20)
    for row, at in enumerate(start.tolist()):
        running = (start < at) & (start + duration > at)
        assert numbers[0][row] == weight[running].sum()
        for number, length in enumerate((20, 80, 320), 1):
            assert numbers[number][row] == weight[(start < at) & (start >= at - length)].sum()
    assert next(key.name for key in keys) == "requests in flight"


def test_numbers_that_each_request_has_of_its_own_may_come_in_one_row():
    own = Row("s", "a", "n", "", np.array([3, 5, 5, 7]), np.array([1.5, 2.5, 9.0, 3.5]))
    shared = Row("s", "a", "n", "4", np.array([0, 1, 7]))
    facts = facts_of([own, shared], 10)
    assert facts.number_keys == (Key(Place("s", "a"), "n"),)
    assert facts.numbers[0][[0, 1, 3, 5, 7]].tolist() == [4, 4, 1.5, 9, 4]
    assert np.isnan(facts.numbers[0][[2, 4, 6, 8, 9]]).all()


def test_few_odd_or_simultaneous_requests_are_no_error():
    random = np.random.default_rng(0)
    for seed in range(60):
        count = int(random.choice([5, 8, 12, 30, 60, 100, 300]))
        pipeline = Pipeline(seed, count, int(random.choice([0, 4, 12])))
        if random.random() < 0.3:
            pipeline.start_ns = np.zeros(count, dtype=np.int64)
        if random.random() < 0.3:
            pipeline.times = {place: np.round(time_ms) for place, time_ms in pipeline.times.items()}
        weight = random.integers(1, 20, count).astype(float) if random.random() < 0.4 else None
        causes = find_causes(*pipeline.finish(float(random.choice([0.7, 0.9, 0.99])), weight))
        json.dumps([cause.to_json() for cause in causes], allow_nan=False)
