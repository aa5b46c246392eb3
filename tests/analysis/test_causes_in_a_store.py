"""From spans and device samples in a real store to causes: what `tail` reads, joins and leaves out."""

import time
from dataclasses import replace

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, Span
from testkit.metrics import metric, metrics_request, point

from tailsight_analysis import Place, tail, whole_time
from tailsight_analysis.causes.conditions import Row
from tailsight_analysis.causes.device_state import device_numbers, fetch_samples

REQUESTS = 1500
STEP = 40_000  # ticks between starts: a minute in all


def spans_of(random, slow, attributes=(), host=None, more=30_000) -> list[Span]:
    """A front that asks a ranker, which computes on one of four hosts; `slow` requests wait there before."""
    spans = []
    for number in range(REQUESTS):
        trace, start = number + 1, number * STEP
        where = f"node-{random.integers(4)}" if host is None else host[number]
        first, last = int(random.lognormal(7, 0.3)), int(random.lognormal(8, 0.2))
        wait = int(random.lognormal(6, 0.4)) + (int(more * random.uniform(0.9, 1.1)) if slow[number] else 0)
        said = tuple((key, str(values[number])) for key, values in attributes)
        ranker = {"service": "ranker", "host": where, "hardware": "L4" if where in ("node-0", "node-1") else "H100"}
        spans += [
            Span(trace, 1, 0, start, first + wait + last + 500, service="front", host="web"),
            Span(trace, 2, 1, start + 100, first, stage="preprocess", service="front", host="web"),
            Span(trace, 3, 1, start + 200 + first, wait, stage="queue", attributes=said, **ranker),
            Span(trace, 4, 1, start + 300 + first + wait, last, stage="compute", **ranker),
        ]
    return spans


def test_the_purpose_hardware_and_batch_size(store):
    random = np.random.default_rng(1)
    host = [f"node-{n}" for n in random.integers(4, size=REQUESTS)]
    batch = random.choice([1, 2, 4, 8, 16, 24, 32], REQUESTS)
    waits = np.isin(host, ["node-0", "node-1"]) & (batch >= 24) & (random.random(REQUESTS) < 0.3)
    said = [("batch", batch), ("user", range(REQUESTS)), ("wait_ms", np.where(waits, 30, 1))]
    brute_force.insert(store, spans_of(random, waits, said, host))
    result = tail(store, whole_time(store), quantile=0.97)
    first = result.causes[0]
    assert (first.service, first.stage) == ("ranker", "queue")
    assert {(c.key, c.value, c.low, c.high) for c in first.conditions} == {
        ("batch", None, 24.0, None),
        ("hardware", "L4", None, None),
    }
    assert all(condition.on == Place("ranker", "queue") for condition in first.conditions)
    assert first.excess_share > 0.9
    assert first.excess_share_interval[0] > 0.8
    assert first.without_ms < result.threshold_ms / 2
    slow = {f"{number + 1:032x}" for number in np.flatnonzero(waits)}
    assert set(first.examples) <= slow
    assert set(result.examples.tail) <= slow
    assert not set(result.examples.typical) & slow


def test_a_throttled_device_is_found_by_host_and_time(store):
    random = np.random.default_rng(2)
    host = np.array([f"node-{n}" for n in random.integers(4, size=REQUESTS)])
    number = np.arange(REQUESTS)
    hot = (number > 500) & (number < 750)
    slow = hot & (host == "node-2")
    brute_force.insert(store, spans_of(random, slow, host=host))
    for name in ("node-0", "node-1", "node-2", "node-3"):
        points = {"hw.gpu.throttled": [], "hw.temperature": [], "process.cpu.utilization": []}
        for second in range(61):
            throttled = name == "node-2" and 500 * 0.04 <= second < 750 * 0.04
            figures = (float(throttled), 84.0 + throttled if throttled else 60 + random.random(), random.random())
            for values, figure in zip(points.values(), figures, strict=True):
                at = BASE_NS + second * 10**9
                values.append(point(figure, time_unix_nano=at, attributes={"hw.type": "gpu", "hw.id": "gpu-0"}))
        message = metrics_request(
            [metric(key, values) for key, values in points.items()], {"service.name": "exporter", "host.name": name}
        ).SerializeToString()
        store.insert_otlp_metrics(brute_force._varint(len(message)) + message, f"{name}-{time.time_ns()}")
    result = tail(store, whole_time(store), quantile=0.96)
    first = result.causes[0]
    assert (first.service, first.stage) == ("ranker", "queue")
    (condition,) = first.conditions
    named = {(c.key, c.on.service) for c in (condition, *condition.same_as)}
    assert ("hw.gpu.throttled", "ranker") in named
    assert ("hw.temperature", "ranker") in named
    assert not any(key.startswith("process.") for key, _ in named)


def test_nothing_that_the_spans_say(store):
    random = np.random.default_rng(3)
    said = [("color", random.choice(["red", "green"], REQUESTS)), ("size", random.integers(0, 500, REQUESTS))]
    brute_force.insert(store, spans_of(random, random.random(REQUESTS) < 0.03, said))
    causes = tail(store, whole_time(store), quantile=0.97).causes
    assert (causes[0].service, causes[0].stage, causes[0].conditions) == ("ranker", "queue", ())
    assert not any(cause.conditions for cause in causes)


def test_a_part_of_the_attributes_is_read_and_the_answer_stays(store, monkeypatch):
    random = np.random.default_rng(4)
    cache = np.where(random.random(REQUESTS) < 0.04, "miss", "hit")
    brute_force.insert(store, spans_of(random, cache == "miss", [("cache", cache)]))
    whole = tail(store, whole_time(store), quantile=0.95).causes[0]
    monkeypatch.setattr("tailsight_analysis.causes.attributes.MOST_OF_TAIL", 40)
    monkeypatch.setattr("tailsight_analysis.causes.attributes.MOST", 700)
    part = tail(store, whole_time(store), quantile=0.95).causes[0]
    assert part != whole
    assert [c.text for c in part.conditions] == [c.text for c in whole.conditions] == ["cache = miss"]
    assert part.excess_share == pytest.approx(whole.excess_share, abs=0.1)


def test_several_requests_of_one_trace_share_what_it_says(store):
    spans = []
    for trace in range(1, 201):
        for root in (1, 2):
            slow = trace % 20 == 0
            spans.append(Span(trace, root, 0, trace * STEP + root, 1000 + trace + 5000 * slow, stage="a",
                              attributes=(("color", "red" if slow else "blue"),)))  # fmt: skip
    brute_force.insert(store, spans)
    result = tail(store, whole_time(store), quantile=0.95)
    assert result.requests == 400
    assert [c.text for c in result.causes[0].conditions] in (["color = red"], [])
    assert ("color", "red", 1.0, 0.0) in {(a.key, a.value, a.tail_share, a.typical_share) for a in result.attributes}


def test_numbers_of_which_no_two_are_equal_become_ranges(store):
    random = np.random.default_rng(5)
    length, name = random.uniform(0, 100, REQUESTS), [f"r{n}" for n in range(REQUESTS)]
    brute_force.insert(store, spans_of(random, length > 95, [("length", length), ("request.id", name)]))
    result = tail(store, whole_time(store), quantile=0.96)
    (condition,) = result.causes[0].conditions
    assert (condition.key, condition.value, condition.high) == ("length", None, None)
    assert condition.low == pytest.approx(95, abs=1.5)
    # each is of one request: there is nothing to test
    assert not {"length", "request.id"} & {attribute.key for attribute in result.attributes}


def test_trace_ids_that_count_in_both_halves_are_told_apart(store):
    """Not every exporter draws its ids: what one trace says must not be taken for another's."""
    random = np.random.default_rng(9)
    host = [f"node-{n}" for n in random.integers(4, size=REQUESTS)]
    slow = (np.array(host) == "node-2") & (random.random(REQUESTS) < 0.15)
    spans = [
        replace(span, trace=(span.trace % 4 + 1) << 64 | (span.trace // 4 + 1))
        for span in spans_of(random, slow, host=host)
    ]
    brute_force.insert(store, spans)
    result = tail(store, whole_time(store), quantile=0.97)
    assert [condition.text for condition in result.causes[0].conditions] == ["host = node-2"]
    assert [(pair.key, pair.value, pair.tail_share) for pair in result.attributes[:1]] == [("host", "node-2", 1.0)]


def test_of_several_devices_the_one_that_holds_back_most_counts_until_it_is_stale(store):
    """Two devices of a host: of clocks the lower is its state, of all else the higher; after a while it is unknown."""

    def gauges(name: str, device: int, figures: list[tuple[float, float]]):
        at = [
            point(
                value, time_unix_nano=BASE_NS + round(second * 1e9), attributes={"hw.type": "gpu", "hw.id": str(device)}
            )
            for second, value in figures
        ]
        return metric(name, at)

    metrics = [
        gauges("hw.gpu.clock_frequency", 0, [(0, 1500), (10, 1400)]),
        gauges("hw.gpu.clock_frequency", 1, [(0, 700), (10, 1450)]),
        gauges("hw.temperature", 0, [(0, 50), (10, 60)]),
        gauges("hw.temperature", 1, [(0, 80), (10, 55)]),
    ]
    message = metrics_request(metrics, {"service.name": "exporter", "host.name": "node-0"}).SerializeToString()
    store.insert_otlp_metrics(brute_force._varint(len(message)) + message, f"devices-{time.time_ns()}")
    samples = fetch_samples(store, brute_force.window(0, 60_000_000))
    seconds = np.array([-1, 0, 4, 10, 39, 41])
    rows = [Row("ranker", "queue", "host", "node-0", np.arange(6)), Row("ranker", "queue", "other", "x", np.arange(6))]
    keys, numbers = device_numbers(rows, BASE_NS + seconds * 10**9, samples)
    state = {key.name: values.tolist() for key, values in zip(keys, numbers, strict=True)}
    nothing = pytest.approx(np.nan, nan_ok=True)
    # what was sampled every ten seconds is stale after thirty
    assert state["hw.gpu.clock_frequency"] == [nothing, 700, 700, 1400, 1400, nothing]
    assert state["hw.temperature"] == [nothing, 80, 80, 60, 60, nothing]
    assert {key.place for key in keys} == {Place("ranker", "")}
