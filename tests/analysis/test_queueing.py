"""Queues in a store against simulated ones, whose workers, waits and losses are known."""

import numpy as np
import pytest
from analysis.brute_force import Span, insert, window

from tailsight_analysis import Filters, NoSpansError, NotEnoughDataError, QuestionError, queueing
from tailsight_analysis.statistics.queues import replay

EVERYTHING = window(0, 10**9)
MEAN = 10_000  # ticks of a service


def served(random, workers, load, count=3_000, host="h1", first=1, **more) -> tuple[list[Span], np.ndarray]:
    """A simulated queue's spans: a request, its wait, its service and a span inside that; and the waits."""
    arrival = np.cumsum(random.exponential(MEAN / workers / load, count)).astype(np.int64)
    service = np.maximum(2, random.gamma(4, MEAN / 4, count)).astype(np.int64)
    waits = replay(arrival.astype(float), service.astype(float), workers).astype(np.int64)
    begun = arrival + waits
    # who came before and has not begun; the one that comes does not count itself
    depth = np.arange(count) - np.array([(begun[:n] <= at).sum() for n, at in enumerate(arrival.tolist())])
    spans = []
    for n, (at, wait, length, before) in enumerate(
        zip(*(v.tolist() for v in (arrival, waits, service, depth)), strict=True)
    ):
        spans += [
            Span(first + n, 1, 0, at - 5, wait + length + 20, host=host, **more),
            Span(
                first + n,
                2,
                1,
                at,
                wait,
                stage="queue",
                host=host,
                attributes=(("tailsight.queue.depth", before),),
                **more,
            ),
            Span(first + n, 3, 1, at + wait, length, stage="compute", host=host, **more),
            Span(first + n, 4, 3, at + wait + 1, length - 2, stage="gpu_kernel", host=host, **more),
            Span(first + n, 5, 1, at + wait + length, 10, stage="postprocess", host=host, **more),
        ]
    return spans, waits


def test_two_hosts_with_one_and_three_workers(store):
    random = np.random.default_rng(1)
    one, waits_one = served(random, 1, 0.8, host="a")
    three, waits_three = served(random, 3, 0.85, host="b", first=10_000)
    insert(store, [*one, *three])
    stations = queueing(store, EVERYTHING).stations
    assert stations[0].wait.mean > stations[1].wait.mean
    answer = {station.host: station for station in stations}
    for host, workers, load, waits in (("a", 1, 0.8, waits_one), ("b", 3, 0.85, waits_three)):
        station = answer[host]
        plain = station.to_json()
        assert (plain["serving"], plain["workers"], plain["items"]) == ("compute", workers, 3_000)
        assert plain["utilisation"] == pytest.approx(load, abs=0.05)
        assert plain["service_ms"] == pytest.approx(10, rel=0.03)
        assert plain["service_scv"] == pytest.approx(0.25, abs=0.03)
        assert plain["arrival_scv"] == pytest.approx(1, abs=0.15)
        assert plain["wait"]["mean_ms"] == pytest.approx(waits.mean() / 1e3)
        assert plain["wait"]["p99_ms"] == pytest.approx(np.quantile(waits, 0.99) / 1e3, rel=0.02)
        assert plain["replay_reproduces"]
        assert plain["replay"]["mean_ms"] == pytest.approx(plain["wait"]["mean_ms"], rel=1e-3)
        begin, end = plain["wait"]["mean_interval_ms"]
        assert begin < plain["wait"]["mean_ms"] < end
        assert plain["replay_one_more"]["mean_ms"] < 0.35 * plain["replay"]["mean_ms"]
        assert plain["formula"]["mean_ms"] == pytest.approx(plain["replay"]["mean_ms"], rel=0.4)
        assert plain["formula_one_more"]["mean_ms"] < 0.35 * plain["formula"]["mean_ms"]
        little = plain["little"]
        assert little["in_queue"] == pytest.approx(little["expected"])
        assert little["found_spans"] == pytest.approx(little["found_said"], abs=0.02)
        assert little["holds"]
        assert (plain["unserved"], plain["unqueued"], plain["notes"]) == (0, 0, [])


@pytest.mark.parametrize("lost", ["queue", "compute", "traces"])
def test_lost_spans_break_littles_law(store, lost):
    random = np.random.default_rng(2)
    spans, _ = served(random, 2, 0.9, count=1_500)
    gone = {n for n in range(1, 1_501) if random.random() < 0.4}
    kept = [span for span in spans if span.trace not in gone or lost not in (span.stage, "traces")]
    insert(store, kept)
    (station,) = queueing(store, EVERYTHING).stations
    assert not station.little.holds
    assert (station.unserved > 0) == (lost == "compute")
    assert (station.unqueued > 0) == (lost == "queue")


def test_workers_that_are_not_there_are_found_out(store):
    spans, _ = served(np.random.default_rng(3), 2, 0.85, count=1_500)
    insert(store, spans)
    (wrong,) = queueing(store, EVERYTHING, workers=1).stations
    assert (wrong.workers, wrong.workers_given, wrong.reproduced) == (1, True, False)
    assert wrong.one_more.formula is None
    assert any("cannot keep up" in note for note in wrong.notes)
    (right,) = queueing(store, EVERYTHING, workers=2).stations
    assert right.reproduced


def test_a_batch_is_one_service(store):
    """One worker takes all that wait, at most four, and holds them for ten milliseconds."""
    random = np.random.default_rng(4)
    arrival = np.cumsum(random.exponential(4_000, 2_000)).astype(np.int64).tolist()
    spans, free, at, batches = [], 0, 0, 0
    while at < len(arrival):
        begin = max(free, arrival[at])
        size = max(1, min(4, sum(1 for other in arrival[at : at + 4] if other <= begin)))
        for n in range(at, at + size):
            spans += [
                Span(n + 1, 1, 0, arrival[n], begin - arrival[n] + MEAN + 10),
                Span(n + 1, 2, 1, arrival[n], max(0, begin - arrival[n] - 20), stage="queue"),
                # taken from the queue, an item waits for its batch
                Span(n + 1, 3, 1, max(arrival[n], begin - 20), begin - max(arrival[n], begin - 20), stage="queue"),
                Span(n + 1, 4, 1, begin, MEAN, stage="compute", attributes=(("tailsight.batch.size", size),)),
            ]
        free, at, batches = begin + MEAN, at + size, batches + 1
    insert(store, spans)
    (station,) = queueing(store, EVERYTHING).stations
    assert station.batch_mean > 1
    assert station.batch_mean == pytest.approx(len(arrival) / batches)
    assert station.workers == 1
    assert station.items == 2_000
    assert station.utilisation == pytest.approx(batches * MEAN / free, rel=0.01)
    assert station.arrival_rate / station.service_rate == pytest.approx(len(arrival) / batches)
    assert any("batches of" in note for note in station.notes)


def test_sampled_requests_cannot_be_replayed(store):
    random = np.random.default_rng(5)
    spans, waits = served(random, 1, 0.7, count=1_200)
    weighted = [
        Span(span.trace, span.id, span.parent, span.start, span.duration, stage=span.stage,
             weight=4 if span.id == 1 else 1, decided=span.id == 1)
        for span in spans
        if span.trace % 4 == 0
    ]  # fmt: skip
    insert(store, weighted)
    answer = queueing(store, EVERYTHING)
    (station,) = answer.stations
    assert answer.weighted
    assert (station.items, station.stored) == (1_200, 300)
    assert (station.workers, station.utilisation, station.reproduced) == (None, None, None)
    assert station.one_more.replayed is None
    assert station.wait.mean / 1e3 == pytest.approx(waits[3::4].mean())
    (known,) = queueing(store, EVERYTHING, workers=1).stations
    assert known.utilisation == pytest.approx(0.7, abs=0.08)
    assert known.one_more == station.one_more


def test_of_sampled_requests_each_counts_as_often_as_it_stands_for(store):
    """Every other request stands for seven; those wait and are served longer. One in five never queued."""
    spans, weights = [], np.where(np.arange(300) % 2, 7, 1)
    random = np.random.default_rng(9)
    waits, lengths = random.integers(100, 400, (2, 300)) * np.where(weights > 1, 5, 1)
    for n, (wait, length, weight) in enumerate(zip(waits.tolist(), lengths.tolist(), weights.tolist(), strict=True)):
        at = n * 10_000
        spans.append(Span(n + 1, 1, 0, at, wait + length, weight=weight, decided=True))
        if n % 5:
            spans.append(Span(n + 1, 2, 1, at, wait, stage="queue"))
        spans.append(Span(n + 1, 3, 1, at + wait, length, stage="compute"))
    insert(store, [*spans, *spans[:90]])  # some are stored twice
    (station,) = queueing(store, EVERYTHING, workers=2).stations
    queued = np.arange(300) % 5 > 0
    every = {name: np.repeat(values[queued], weights[queued]) for name, values in (("wait", waits), ("held", lengths))}
    items = len(every["wait"])
    seconds = (299 * 10_000 + waits[299] + lengths[299] - 10_000) / 1e6  # from the first arrival to the last end
    assert (station.items, station.stored, station.unqueued) == (items, 240, 60)
    assert station.wait.mean / 1e3 == pytest.approx(every["wait"].mean())
    assert station.wait.p99 / 1e3 == pytest.approx(np.quantile(every["wait"], 0.99, method="inverted_cdf"))
    assert station.service_wait_ns / 1e3 == pytest.approx(every["wait"].mean())
    assert station.service_ns / 1e3 == pytest.approx(every["held"].mean())
    assert station.service_scv == pytest.approx(every["held"].var() / every["held"].mean() ** 2)
    assert station.arrival_rate == pytest.approx(items / seconds)
    assert station.utilisation == pytest.approx(every["held"].sum() / 1e6 / seconds / 2)
    assert station.little.in_queue == pytest.approx(every["wait"].sum() / 1e6 / seconds)
    # as many more came as never queued: the law is broken by just that
    assert station.little.expected == pytest.approx(station.little.in_queue * 300 / 240)


def test_messy_traces(store):
    spans, _ = served(np.random.default_rng(6), 1, 0.5, count=300)
    again = [span for span in spans if span.trace < 50]  # sent twice
    orphans = [Span(n, 9, 77, n, 5, stage="queue") for n in range(5_000, 5_040)]  # never served
    other = [Span(n, 1, 0, n, 5, stage="compute", service="direct") for n in range(6_000, 6_200)]  # no queue at all
    insert(store, [*spans, *again, *orphans, *other])
    (station,) = queueing(store, EVERYTHING).stations
    assert (station.items, station.unserved, station.unqueued, station.workers) == (300, 40, 0, 1)
    assert station.service == "front"


def test_the_serving_stage_can_be_said(store):
    spans, _ = served(np.random.default_rng(7), 1, 0.5, count=300)
    insert(store, spans)
    (station,) = queueing(store, EVERYTHING, serving="postprocess").stations
    assert station.serving == "postprocess"
    (usual,) = queueing(store, EVERYTHING).stations
    # held from the queue to its end, ten microseconds after the other one's
    assert station.service_ns == pytest.approx(usual.service_ns + 10_000, abs=1)


def test_too_little_and_wrong_questions(store):
    with pytest.raises(NoSpansError, match="stage queue"):
        queueing(store, EVERYTHING)
    spans, _ = served(np.random.default_rng(8), 1, 0.5, count=60)
    insert(store, spans)
    with pytest.raises(NotEnoughDataError, match="40 more are needed"):
        queueing(store, EVERYTHING)
    for wrong in ({"workers": 0}, {"serving": "queue"}, {"filters": Filters(stage=("queue",))}):
        with pytest.raises(QuestionError):
            queueing(store, EVERYTHING, **wrong)
