"""Jitter: every measure against its definition as a loop, in a real store; messy, weighted and too little data."""

import importlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
from analysis.brute_force import BASE_NS, TICK_NS, Span, insert, window

from tailsight_analysis import (
    Filters,
    NoSpansError,
    NotEnoughDataError,
    QuestionError,
    breakdown,
    jitter,
    whole_time,
)
from tailsight_analysis.statistics import modes, periodicity
from tailsight_analysis.statistics.dispersion import dispersion
from tailsight_analysis.statistics.intervals import Cells
from tailsight_analysis.statistics.modes import cells_of, find_modes
from tailsight_analysis.statistics.periodicity import find_period
from tailsight_analysis.timing import reading
from tailsight_analysis.timing.order import Events, deadlines, gaps, interarrival, longest_run

EVERYTHING = window(0, 10**9)


def pipeline(random: np.random.Generator, count: int, **more) -> list[Span]:
    """Requests of two stages on two hosts, of which every tenth computes for long."""
    spans = []
    for n, start in enumerate(np.sort(random.integers(0, 30_000_000, count)).tolist(), 1):
        host = f"h{random.integers(2)}"
        before = int(random.lognormal(7, 0.3))
        work = int((9_000 if random.random() < 0.1 else 3_000) * random.lognormal(0, 0.1))
        limit = (("tailsight.deadline_ms", 8.0),) if n % 2 else ()
        spans += [
            Span(n, 1, 0, start, before + work + 50, host=host, attributes=limit, **more),
            Span(n, 2, 1, start, before, stage="preprocess", host=host, hardware="EPYC", **more),
            Span(n, 3, 1, start + before, work, stage="compute", host=host, hardware="H100", **more),
        ]
    return spans


def rfc3550(durations: list[int]) -> list[float]:
    smoothed, values = 0.0, []
    for before, after in itertools.pairwise(durations):
        smoothed += (abs(after - before) - smoothed) / 16
        values.append(smoothed)
    return values


def test_measures_are_their_definitions(store):
    spans = pipeline(np.random.default_rng(1), 1_500)
    insert(store, spans)
    answer = jitter(store, EVERYTHING)
    rows = {(row.group["stage"], row.group["hardware"]): row for row in answer.rows}
    assert set(rows) == {("", "L4"), ("preprocess", "EPYC"), ("compute", "H100")}
    for (stage, hardware), row in rows.items():
        mine = sorted((s for s in spans if (s.stage, s.hardware) == (stage, hardware)), key=lambda s: s.start)
        ms = np.array([span.duration for span in mine]) * TICK_NS / 1e6
        p25, p50, p75, p99 = np.quantile(ms, [0.25, 0.5, 0.75, 0.99])
        plain = row.to_json()
        assert plain["count"] == 1_500
        assert plain["p50_ms"] == pytest.approx(p50)
        assert plain["jitter_ms"] == pytest.approx(p99 - p50)
        assert plain["iqr_ms"] == pytest.approx(p75 - p25)
        assert plain["cv"] == pytest.approx(ms.std() / ms.mean())
        assert plain["jitter_interval_ms"][0] < p99 - p50 < plain["jitter_interval_ms"][1]
        streams = [rfc3550([s.duration for s in mine if s.host == host]) for host in ("h0", "h1")]
        settled = [np.array(values[48:]) for values in streams]
        expected = sum(v.mean() * len(s) for v, s in zip(settled, streams, strict=True)) / sum(map(len, streams))
        assert plain["interarrival_jitter_ms"] == pytest.approx(expected / 1e3, rel=1e-9)
        assert plain["interarrival_jitter_max_ms"] == pytest.approx(max(v.max() for v in settled) / 1e3)
        assert plain["streams"] == 2
    modes = rows["compute", "H100"].to_json()["modes"]
    assert [mode["ms"] for mode in modes["at"]] == pytest.approx([3, 9], rel=0.1)
    assert modes["gaps"][0]["share_above"] == pytest.approx(0.1, abs=0.03)
    assert len(rows["preprocess", "EPYC"].to_json()["modes"]["at"]) == 1
    assert all(row.spike is None for row in answer.rows)
    assert answer.requests.to_json()["streams"] == 1
    assert [row.spread.above_median.value for row in answer.rows] == sorted(
        (row.spread.above_median.value for row in answer.rows), reverse=True
    )


@pytest.mark.parametrize(("limit_ms", "missed"), [(0.3, 0), (0.299999, 1), (1e308, 0)])
def test_taking_exactly_as_long_as_a_deadline_allows_is_no_miss(limit_ms, missed):
    one = np.ones(1)
    events = Events(np.zeros(1, dtype=np.int64), 0 * one, np.array([300_000]), one, one, one, one, one)
    assert deadlines(events, limit_ms).missed == missed


def test_deadlines_of_requests_and_the_longest_streak(store):
    spans = pipeline(np.random.default_rng(2), 600)
    insert(store, spans)
    entries = sorted((span for span in spans if span.id == 1), key=lambda span: span.start)

    def expected(limited: list[Span], limit: int) -> tuple[int, int, int, int]:
        longest, begins, run = 0, 0, 0
        for at, span in enumerate(limited):
            run = run + 1 if span.duration > limit else 0
            if run > longest:
                longest, begins = run, limited[at - run + 1].start
        return len(limited), sum(span.duration > limit for span in limited), longest, begins

    for given, limited, limit in ((None, [s for s in entries if s.attributes], 8_000), (4.5, entries, 4_500)):
        found = jitter(store, EVERYTHING, deadline_ms=given).requests.to_json()["deadline"]
        count, missed, longest, begins = expected(limited, limit)
        assert (found["count"], found["missed"], found["longest_streak"]) == (count, missed, longest)
        assert found["streak_from_ns"] == BASE_NS + begins * TICK_NS
        assert found["miss_rate"] == pytest.approx(missed / count)
    compute = next(row for row in jitter(store, EVERYTHING, deadline_ms=1).rows if row.group["stage"] == "compute")
    assert compute.deadlines is None, "a request's deadline is none of its stages"


def test_a_pause_every_half_second_is_a_period_of_its_stage_only(store):
    random = np.random.default_rng(3)
    spans = []
    for n, start in enumerate(np.sort(random.integers(0, 60_000_000, 4_000)).tolist(), 1):
        before, work = int(random.lognormal(7, 0.3)), int(random.lognormal(8, 0.2))
        late = max(0, 25_000 - (start + before - 77_000) % 512_000)
        spans += [
            Span(n, 1, 0, start, before + work + late),
            Span(n, 2, 1, start, before, stage="preprocess"),
            Span(n, 3, 1, start + before, work + late, stage="compute"),
        ]
    insert(store, spans)
    answer = jitter(store, EVERYTHING)
    rows = {row.group["stage"]: row.to_json() for row in answer.rows}
    period = rows["compute"]["period"]
    assert period["period_ms"] == pytest.approx(512, rel=0.001)
    # late ones begin from 77 ms on, most of the slow ones in the first half of 25
    assert ((period["first_ns"] - BASE_NS) / 1e6) % 512 == pytest.approx(85, abs=10)
    assert rows["preprocess"]["period"] is None
    assert answer.requests.spike.period.period_ns == pytest.approx(512e6, rel=0.001)


def test_more_spans_than_are_fetched_are_counted(store, monkeypatch):
    spans = pipeline(np.random.default_rng(4), 1_500)
    insert(store, spans)
    exact = jitter(store, whole_time(store))
    monkeypatch.setattr(reading, "MAX_EVENTS", 4_000)
    monkeypatch.setattr(reading.latest_part, "__defaults__", (900,))
    counted = jitter(store, whole_time(store))
    assert (exact.accuracy, counted.accuracy) == (0, 1 / 256)
    assert counted.in_order.until_ns == exact.window.until_ns
    assert counted.in_order.since_ns > exact.window.since_ns
    for one, other in [(exact.requests, counted.requests), *zip(exact.rows, counted.rows, strict=True)]:
        assert one.group == other.group
        assert one.count == other.count
        assert other.spread.p50 == pytest.approx(one.spread.p50, rel=1 / 256)
        assert other.spread.p99 == pytest.approx(one.spread.p99, rel=0.02)
        assert other.spread.cv.value == pytest.approx(one.spread.cv.value, rel=0.01)
        assert other.spread.above_median.low == pytest.approx(one.spread.above_median.low, rel=0.1)
        assert len(one.modes.modes) == len(other.modes.modes)


def test_sampled_requests_are_weighted_and_have_no_order(store):
    random = np.random.default_rng(5)
    spans = [
        span
        for n in range(1, 401)
        for slow in [n % 4 == 0]
        for start in [n * 1_000]
        for spans in [
            Span(n, 1, 0, start, 40_000 if slow else 5_000 + int(random.integers(100)), weight=1 if slow else 10,
                 decided=True, attributes=(("tailsight.deadline_ms", 20),)),
        ]
        for span in [spans]
    ]  # fmt: skip
    insert(store, spans)
    answer = jitter(store, EVERYTHING)
    assert answer.weighted
    everyone = np.repeat([s.duration for s in spans], [s.weight for s in spans]) / 1e3
    plain = answer.requests.to_json()
    assert (plain["count"], plain["stored"]) == (len(everyone), 400)
    assert plain["p50_ms"] == pytest.approx(np.quantile(everyone, 0.5))
    assert plain["jitter_ms"] == pytest.approx(np.quantile(everyone, 0.99) - np.quantile(everyone, 0.5))
    assert plain["cv"] == pytest.approx(everyone.std() / everyone.mean())
    assert plain["deadline"]["miss_rate"] == pytest.approx(100 / len(everyone))
    assert plain["deadline"]["longest_streak"] is None
    assert plain["interarrival_jitter_ms"] is None


def test_p50_and_p99_have_the_bounds_that_breakdown_gives_them(store):
    insert(store, pipeline(np.random.default_rng(7), 1_000))
    asked = whole_time(store)
    known = {row.group["stage"]: row for row in breakdown(store, asked).rows}
    for row in jitter(store, asked).rows:
        of_stage = known[row.group["stage"]]
        p50, _, _, p99, _ = of_stage.intervals
        plain = row.to_json()
        assert (plain["p50_ms"], plain["p99_ms"]) == pytest.approx((of_stage.p50_ms, of_stage.p99_ms))
        assert plain["p50_interval_ms"] == pytest.approx([p50.low, p50.high])
        assert plain["p99_interval_ms"] == pytest.approx([p99.low, p99.high])


def pausing(random: np.random.Generator, count: int, weighted: bool = False) -> list[Span]:
    """Requests that compute for long one time in five, and most of those that begin when a pause does."""
    spans = []
    for n, start in enumerate(np.sort(random.integers(0, 20_000_000, count)).tolist(), 1):
        work = int((9_000 if random.random() < 0.2 else 3_000) * random.lognormal(0, 0.15))
        late = 25_000 if (start % 512_000) < 20_000 and random.random() < 0.7 else 0
        weight = int(random.integers(1, 4)) if weighted else 1
        spans += [
            Span(n, 1, 0, start, work + late + 40, weight=weight, decided=weighted),
            Span(n, 2, 1, start, int(random.lognormal(6, 0.3)), stage="preprocess", hardware="EPYC"),
            Span(n, 3, 1, start, work + late, stage="compute"),
        ]
    return spans


def computing(answer):
    return next(row for row in answer.rows if row.group["stage"] == "compute")


@pytest.mark.parametrize("weighted", [False, True])
def test_p_values_are_corrected_for_all_groups_that_were_scanned(store, monkeypatch, weighted):
    spans = pausing(np.random.default_rng(8), 600, weighted)
    insert(store, spans)
    answer = jitter(store, EVERYTHING)
    row = computing(answer)
    compute = [span for span in spans if span.stage == "compute"]
    start_ns, duration_ns = (
        np.array([getattr(span, name) * TICK_NS for span in compute]) for name in ("start", "duration")
    )
    weight = np.array([span.weight for span in spans if span.parent == 0], dtype=float)
    period = find_period(start_ns, duration_ns, weight if weighted else None).period.p_value
    groups = len(answer.rows) + 1  # and the requests as wholes
    assert period > 0
    assert row.spike.period.p_value == pytest.approx(min(1, groups * period), rel=1e-6)
    counted = cells_of(duration_ns, weight)
    split = find_modes(replace(counted, effective=row.spread.independent))
    assert len(row.modes.modes) == len(split.modes) > 1
    assert row.modes.p_value == pytest.approx(min(1, groups * split.p_value))
    # what would be significant alone is not among so many
    monkeypatch.setattr(periodicity, "SIGNIFICANCE", (groups - 0.5) * period)
    monkeypatch.setattr(modes, "SIGNIFICANCE", (groups - 0.5) * split.p_value)
    less_sure = computing(jitter(store, EVERYTHING))
    assert less_sure.spike is None
    assert len(less_sure.modes.modes) == 1


def test_the_groups_with_the_most_time_are_scanned_and_of_these_the_latest_spans(store, monkeypatch):
    spans = pausing(np.random.default_rng(9), 1_500)
    insert(store, spans)
    module = importlib.import_module("tailsight_analysis.jitter")  # the package's name for it is the function
    monkeypatch.setattr(module, "MOST_SCANNED", 2)
    monkeypatch.setattr(module, "MOST_SCANNED_EVENTS", 1_000)
    answer = jitter(store, EVERYTHING)
    assert {row.group["stage"]: row.histogram is not None for row in answer.rows} == {
        "": True,
        "compute": True,
        "preprocess": False,
    }
    spike = computing(answer).spike
    first_scanned_ns = BASE_NS + [span for span in spans if span.stage == "compute"][500].start * TICK_NS
    assert first_scanned_ns <= spike.first_ns < first_scanned_ns + spike.period.period_ns


def test_stages_count_as_often_as_their_requests(store):
    random = np.random.default_rng(10)
    weights, lengths = random.integers(1, 6, 200), random.integers(100, 5_000, 200)
    spans = []
    for n, (weight, length) in enumerate(zip(weights.tolist(), lengths.tolist(), strict=True), 1):
        spans.append(Span(n, 1, 0, n * 10_000, length + 5, weight=weight, decided=True))
        spans.append(Span(n, 2, 1, n * 10_000, length, stage="compute"))
    insert(store, spans)
    row = computing(jitter(store, EVERYTHING)).to_json()
    everyone = np.repeat(lengths, weights) / 1e3
    assert (row["count"], row["stored"]) == (len(everyone), 200)
    assert (row["p50_ms"], row["p99_ms"]) == pytest.approx(np.quantile(everyone, [0.5, 0.99]))


def test_messy_traces_and_equal_spans(store):
    spans = [Span(1, 5, 4, n, 10, stage="compute") for n in range(30)]  # one id, no such parent
    spans += [Span(2, 6, 6, 0, 0, stage="nothing") for _ in range(40)]  # its own parent, and no time at all
    spans += [
        Span(3, 7, 0, 50, 10, attributes=(("tailsight.deadline_ms", "soon"), ("tailsight.stream.gap_p99_ms", "x")))
    ]
    insert(store, spans)
    answer = jitter(store, EVERYTHING)
    rows = {row.group["stage"]: row.to_json() for row in answer.rows}
    assert rows["nothing"]["cv"] is None
    assert rows["nothing"]["jitter_ms"] == 0
    assert rows["nothing"]["missing"] > 0
    assert rows["compute"]["cv"] == 0
    assert rows[""]["deadline"] is None
    assert rows[""]["stream_gaps"] is None
    assert answer.requests.count == 3


def test_streams_have_gaps(store):
    said = [("gap_p50_ms", 10), ("gap_p99_ms", 30), ("gap_max_ms", 70)]
    spans = [
        Span(n, 1, 0, n, 10, stage="compute", attributes=tuple((f"tailsight.stream.{k}", v + n) for k, v in said))
        for n in range(1, 40)
    ]
    insert(store, spans)
    answer = jitter(store, EVERYTHING).to_json()
    assert answer["rows"][0]["stream_gaps"] == {"streams": 39, "p50_ms": 30.0, "p99_ms": 50.0, "max_ms": 109.0}
    assert answer["requests"]["stream_gaps"] == answer["rows"][0]["stream_gaps"]


def test_too_little_is_said(store):
    with pytest.raises(NoSpansError):
        jitter(store, EVERYTHING)
    insert(store, [Span(n, 1, 0, n, 10) for n in range(1, 13)])
    with pytest.raises(NotEnoughDataError, match="8 more are needed") as error:
        jitter(store, EVERYTHING)
    assert error.value.missing == 8
    with pytest.raises(NoSpansError):
        jitter(store, EVERYTHING, Filters(stage=("compute",)))
    with pytest.raises(QuestionError, match="deadline of -1"):
        jitter(store, EVERYTHING, deadline_ms=-1)


def events(durations, stream=0, deadline=np.nan) -> Events:
    count = len(durations)
    nothing = np.full(count, np.nan)
    return Events(
        np.full(count, stream, dtype=np.uint64), np.arange(count), np.array(durations, dtype=np.int64), np.ones(count),
        np.full(count, float(deadline)), nothing, nothing, nothing,
    )  # fmt: skip


def test_order_of_few_events():
    assert interarrival(events([1] * 16)) is None
    assert interarrival(events([1, 17] * 20)).mean_ns == pytest.approx(rfc3550([1, 17] * 20)[-1])
    assert gaps(events([1])) is None
    assert deadlines(events([1, 2])) is None
    assert deadlines(events([1, 2], deadline=0)) is None
    assert deadlines(events([1_000_000, 1_000_001], deadline=1)).missed == 1
    assert longest_run(np.array([], dtype=bool)) == (0, 0)
    assert longest_run(np.array([True, False, True, True, False, True, True])) == (2, 2)


def test_intervals_hold_the_truth():
    """Log-normal values of which stretches are alike, or not: p99 − p50 and CV lie in their intervals."""
    random = np.random.default_rng(6)
    held = {"jitter": 0, "iqr": 0, "cv": 0}
    runs, count = 200, 6_000
    sigma = 0.4
    truth = {
        "jitter": np.exp(sigma * 2.3263479) - 1,
        "iqr": 2 * np.sinh(sigma * 0.6744898),
        "cv": np.sqrt(np.exp(sigma**2) - 1),
    }
    for run in range(runs):
        block = np.arange(count) * 64 // count
        noise = random.normal(size=count)
        if run % 2:  # half of the variance is common to a block
            noise = np.sqrt(0.9) * noise + np.sqrt(0.1) * random.normal(size=64)[block]
        ones = np.ones(count)
        found = dispersion(Cells(np.exp(sigma * noise), 0 * ones, block, np.ones(count, dtype=np.int64), ones, ones))
        for name, figure in (("jitter", found.above_median), ("iqr", found.middle_half), ("cv", found.cv)):
            held[name] += figure.low <= truth[name] <= figure.high
    assert min(held.values()) >= 0.9 * runs, held
    assert held["cv"] < runs, "an interval that always holds is too wide"


def test_a_coefficient_of_variation_that_rests_on_few_values_has_no_interval():
    """Of a heavy tail the next value may be longer than all before: whatever the interval, it would not hold."""
    random = np.random.default_rng(9)
    heavy, ones = random.pareto(1.2, 4000) + 1, np.ones(4000)
    found = dispersion(Cells.of_values(heavy, np.arange(4000) * 64 // 4000, ones))
    assert (found.cv.low, found.cv.high) == (None, None)
    assert found.above_median.low < found.above_median.value < found.above_median.high
