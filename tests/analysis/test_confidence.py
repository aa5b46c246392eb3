"""How sure is a quantile, and what is not in the data? Coverage is measured where the truth is known."""

import functools
import itertools
import json
import math
import time

import numpy as np
import pytest
from analysis import brute_force
from analysis.brute_force import BASE_NS, TICK_NS, Span, window
from scipy.signal import lfilter
from scipy.stats import norm
from testkit.otlp import request, span
from testkit.senders import Sidecar

from tailsight_analysis import Filters, Window, breakdown, confidence, data_quality
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals, ranks, values_needed
from tailsight_collector.keep.records import encode_record

LEVELS = (0.5, 0.9, 0.95, 0.99, 0.999)
BLOCKS = 64
_tokens = itertools.count()


def each_its_own(values: np.ndarray, weight: np.ndarray | None = None) -> Cells:
    """Values in the order of time, at an even pace."""
    block = np.arange(len(values)) * BLOCKS // max(1, len(values))
    return Cells.of_values(values, block, np.ones(len(values)) if weight is None else weight)


# --- which values are the bounds ------------------------------------------------------------------------------------


def below(count: int, level: float, fewer_than: int) -> float:
    """Chance that fewer than so many of `count` values lie below the quantile."""
    return sum(math.comb(count, k) * level**k * (1 - level) ** (count - k) for k in range(fewer_than))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("count", [1, 5, 6, 10, 36, 100, 367, 368, 500])
def test_ranks_are_the_closest_that_are_wrong_in_at_most_one_case_of_forty(count, level):
    low, high = ranks(count, level)
    fitting = [rank for rank in range(1, count + 1) if below(count, level, rank) <= 0.025]
    assert low == (max(fitting) if fitting else None)
    fitting = [rank for rank in range(1, count + 1) if 1 - below(count, level, rank) <= 0.025 + 1e-12]
    assert high == (min(fitting) if fitting else None)


def test_the_median_of_ten_lies_between_the_second_and_the_ninth():
    assert ranks(10, 0.5) == (2, 9)  # as the tables of the sign test have it


@pytest.mark.parametrize(("level", "needed"), [(0.5, 6), (0.9, 36), (0.95, 72), (0.99, 368), (0.999, 3688)])
def test_so_many_values_are_needed_for_both_bounds(level, needed):
    assert values_needed(level) == needed
    assert None in ranks(needed - 1, level)
    assert None not in ranks(needed, level)


def test_without_enough_values_a_bound_is_open_and_it_says_how_many_are_missing():
    values = np.random.default_rng(3).permutation(100) + 1.0
    found = quantile_intervals(each_its_own(values), (0.5, 0.99), np.quantile(values, (0.5, 0.99)))
    assert (found[0].low, found[0].high) == (40, 61)
    assert found[1] == Interval(97, None, 268)
    assert quantile_intervals(each_its_own(np.empty(0)), (0.99,), (math.nan,)) == (Interval(None, None, 368),)


def test_values_that_are_all_equal_are_their_own_bounds():
    found = quantile_intervals(each_its_own(np.full(5000, 7.0)), LEVELS, [7.0] * 5)
    assert found == (Interval(7.0, 7.0),) * 5


# --- coverage -------------------------------------------------------------------------------------------------------


def autoregressive(random: np.random.Generator, count: int, phi: float) -> np.ndarray:
    noise = random.standard_normal(count + 500) * np.sqrt(1 - phi**2)
    return np.exp(lfilter([1], [1, -phi], noise)[500:])


def bimodal(random: np.random.Generator, count: int) -> np.ndarray:
    """One in thirty takes fifty times as long: p95 lies on the near hill, p99 on the far one."""
    return np.exp(0.2 * random.standard_normal(count)) * np.where(random.random(count) < 1 / 30, 50, 1)


@functools.cache
def bimodal_quantile(level: float) -> float:
    points = np.exp(np.linspace(-2, 6, 200_001))
    share = (29 * norm.cdf(np.log(points) / 0.2) + norm.cdf(np.log(points / 50) / 0.2)) / 30
    return float(points[np.searchsorted(share, level)])


def lognormal_quantile(level: float) -> float:
    return float(np.exp(norm.ppf(level)))


WORLDS = {
    "lognormal": (lambda random, count: np.exp(random.standard_normal(count)), lognormal_quantile, 0.94),
    "pareto": (lambda random, count: (1 - random.random(count)) ** (-1 / 1.5), lambda q: (1 - q) ** (-1 / 1.5), 0.94),
    "bimodal": (bimodal, bimodal_quantile, 0.94),
    "autoregressive 0.9": (lambda random, count: autoregressive(random, count, 0.9), lognormal_quantile, 0.90),
    "autoregressive 0.5": (lambda random, count: autoregressive(random, count, 0.5), lognormal_quantile, 0.92),
}


@pytest.mark.parametrize(
    ("world", "count"), [*((world, 2000) for world in WORLDS), ("lognormal", 20_000), ("autoregressive 0.9", 20_000)]
)
def test_intervals_hold_the_true_quantile_as_often_as_they_say(world, count):
    make, true_quantile, least = WORLDS[world]
    random = np.random.default_rng(11)
    rounds = 400
    held = np.zeros(len(LEVELS))
    for _ in range(rounds):
        values = make(random, count)
        found = quantile_intervals(each_its_own(values), LEVELS, np.quantile(values, LEVELS))
        held += [
            (each.low is None or each.low <= true_quantile(level))
            and (each.high is None or true_quantile(level) <= each.high)
            for level, each in zip(LEVELS, found, strict=True)
        ]
    assert (held / rounds >= least).all(), held / rounds


def test_intervals_of_independent_values_are_hardly_wider_than_they_must_be():
    random = np.random.default_rng(12)
    wider = []
    for _ in range(100):
        values = np.sort(random.lognormal(size=5000))
        found = quantile_intervals(each_its_own(random.permutation(values)), LEVELS, np.quantile(values, LEVELS))
        bounds = [ranks(5000, level) for level in LEVELS[:4]]
        wider.append(
            [(each.high - each.low) / (values[high - 1] - values[low - 1]) for each, (low, high) in zip(found, bounds)]  # noqa: B905 — the first four
        )
    assert np.mean(wider) < 1.15


def test_a_burst_makes_the_interval_wider():
    values = np.random.default_rng(13).permutation(5000) + 1.0
    spread = quantile_intervals(each_its_own(values), (0.95,), np.quantile(values, (0.95,)))[0]
    values = np.sort(values)
    burst = quantile_intervals(each_its_own(values), (0.95,), np.quantile(values, (0.95,)))[0]
    assert burst.high is None or burst.high - burst.low > 4 * (spread.high - spread.low)


def weighted_quantiles(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    return values[order][np.searchsorted(np.cumsum(weight[order]) / weight.sum(), LEVELS)]


@pytest.mark.parametrize("slow_are_kept", [True, False])
def test_weighted_intervals_hold_the_quantile_of_all_that_the_kept_ones_stand_for(slow_are_kept):
    """One in twenty is kept, and beside them all that are slow, or any tenth whatever it took."""
    random = np.random.default_rng(14)
    rounds, count, slow = 400, 20_000, lognormal_quantile(0.985)
    held, p99_width = np.zeros(len(LEVELS)), []
    truth = [lognormal_quantile(level) for level in LEVELS]
    for _ in range(rounds):
        values = random.lognormal(size=count)
        always = values >= slow if slow_are_kept else random.random(count) < 0.1
        kept = always | (random.random(count) < 0.05)
        weight = np.where(always[kept], 1.0, 20.0)
        quantiles = weighted_quantiles(values[kept], weight)
        found = quantile_intervals(each_its_own(values[kept], weight), LEVELS, quantiles)
        held += [
            (each.low is None or each.low <= value) and (each.high is None or value <= each.high)
            for each, value in zip(found, truth, strict=True)
        ]
        p99_width.append(found[3].high / found[3].low if found[3].high else math.inf)
    assert (held / rounds >= 0.94).all(), held / rounds
    if slow_are_kept:
        assert np.median(p99_width) < 1.2, "the p99 is known nearly as well as if all were kept"


def test_bounds_do_not_depend_on_the_order_of_cells_nor_on_which_block_a_value_is_counted_in():
    """The store gives cells as they come; values that lie in one wide cell are those of 64 blocks of time."""
    random = np.random.default_rng(5)
    cell, block = np.divmod(np.arange(40 * 64), 64)
    count = random.integers(900, 1100, len(cell))
    value, width = 10.0 + cell, np.ones(len(cell))
    cells = Cells(value, width, block, count, count.astype(float), count.astype(float))
    levels, quantiles = (0.5, 0.9, 0.99), (30.0, 46.0, 49.6)
    found = quantile_intervals(cells, levels, quantiles)
    mixed = random.permutation(len(cell))
    told_otherwise = Cells(
        *(getattr(cells, part)[mixed] for part in ("value", "width", "block", "count", "weight", "weight2"))
    )
    assert quantile_intervals(told_otherwise, levels, quantiles) == found
    for interval, level in zip(found, levels, strict=True):
        exact = 10 + 40 * level  # values lie evenly
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low == pytest.approx(exact, abs=0.08)
        assert interval.high == pytest.approx(exact, abs=0.08)


def test_a_part_of_the_blocks_says_as_much_about_bounds_as_all_of_them():
    random = np.random.default_rng(15)
    rounds, held = 400, np.zeros(4)
    for _ in range(rounds):
        values = random.lognormal(size=20_000)
        cells = each_its_own(values)
        seen = cells.block % 4 == 0
        part = Cells(*(getattr(cells, name)[seen] for name in Cells.__slots__))
        found = quantile_intervals(part, LEVELS[:4], np.quantile(values, LEVELS[:4]), part=seen.mean())
        held += [
            each.low <= lognormal_quantile(level) <= each.high for level, each in zip(LEVELS[:4], found, strict=True)
        ]
    assert (held / rounds >= 0.93).all(), held / rounds


# --- of spans in a store --------------------------------------------------------------------------------------------


def bounds_of(values_ms: np.ndarray, level: float) -> list[float | None]:
    ordered = np.sort(values_ms)
    return [None if rank is None else pytest.approx(ordered[rank - 1]) for rank in ranks(len(ordered), level)]


def test_a_breakdown_has_the_order_statistics_as_bounds(store):
    ticks = np.random.default_rng(16).permutation(500) + 1000
    spans = []
    for number, duration in enumerate(ticks.tolist(), 1):
        spans += [
            Span(number, 1, 0, number * 100, duration),
            Span(number, 2, 1, number * 100, duration - 500, stage="compute"),
        ]
    brute_force.insert(store, spans)
    answer = breakdown(store, window(0, 100_000))
    for summary, off in ((answer.requests, 0), (answer.rows[0], 500)):
        found = summary.to_json()
        for name, level in zip(("p50", "p90", "p95", "p99"), LEVELS, strict=False):
            assert found[f"{name}_interval_ms"] == bounds_of((ticks - off) * TICK_NS / 1e6, level), name
        assert found["p999_interval_ms"][1] is None
        assert found["missing"] == {"p999": 3188}
    assert answer.interval_accuracy == 0


@pytest.fixture
def many(store):
    """Three hundred thousand spans of two stages without a parent; how long they are, by stage."""
    store.run(
        "INSERT INTO spans (received_at, start_time, duration_ns, trace_id, span_id, stage) SELECT "
        "fromUnixTimestamp64Nano({base:Int64} + toInt64(number), 'UTC') AS start, start, "
        "toUInt64(1e6 * exp(sqrt(-2 * log((cityHash64(number) + 1) / 18446744073709551616.)) * cos(2 * pi() * "
        "cityHash64(number, 1) / 18446744073709551616.))), sipHash128(number), "
        "reinterpretAsFixedString(cityHash64(number, 2)), if(number % 3 = 0, 'a', 'b') FROM numbers(300000)",
        base=BASE_NS,
    )
    rows = store.rows("SELECT stage, groupArray(duration_ns) FROM spans GROUP BY stage")
    return {stage: np.array(durations) / 1e6 for stage, durations in rows}


def test_many_spans_are_counted_in_cells_and_the_bounds_are_as_exact_as_it_says(store, many):
    answer = breakdown(store, window(0, 1000))
    assert answer.interval_accuracy == 2**-9
    for row in answer.rows:
        ordered = np.sort(many[row.group["stage"]])
        for level, interval in zip(LEVELS, row.intervals, strict=True):
            low, high = ranks(len(ordered), level)
            slack = 1 + answer.interval_accuracy
            assert interval.low <= ordered[low - 1] * slack, "no later than without any batches"
            assert interval.high >= ordered[high - 1] / slack
            # and no more than if the effective size were half
            low, high = ranks(len(ordered) // 2, level)
            assert interval.low >= ordered[2 * low - 3] / slack
            assert interval.high <= ordered[min(2 * high + 1, len(ordered) - 1)] * slack


def test_of_very_many_spans_every_fourth_block_is_counted(store, many, monkeypatch):
    whole = breakdown(store, window(0, 1000))
    monkeypatch.setattr(confidence, "ALL_BLOCKS_UP_TO", 50_000)
    quarter = breakdown(store, window(0, 1000))
    assert quarter.interval_accuracy == 2**-7
    for row, same in zip(whole.rows, quarter.rows, strict=True):
        assert row.p99_ms == same.p99_ms
        for one, other, value in zip(
            row.intervals, same.intervals, (same.p50_ms, same.p90_ms, same.p95_ms), strict=False
        ):
            assert other.low <= value <= other.high
            assert other.high - other.low == pytest.approx(one.high - one.low, rel=0.6)


def test_path_shares_add_up_to_one_where_self_times_add_up_to_more(store):
    spans = []
    for number in range(1, 21):
        spans += [
            Span(number, 1, 0, 0, 100),
            Span(number, 2, 1, 10, 80, stage="a", name="left"),
            Span(number, 3, 1, 20, 60, stage="b", name="right"),
        ]
    brute_force.insert(store, spans)
    rows = {row.group["stage"]: row for row in breakdown(store, window(0, 100)).rows}
    assert {stage: row.path_share for stage, row in rows.items()} == pytest.approx({"a": 0.8, "": 0.2, "b": 0.0})
    assert sum(row.self_share for row in rows.values()) == pytest.approx(1.6)
    by_name = breakdown(store, window(0, 100), by=("name",)).rows
    assert {row.group["name"]: row.path_share for row in by_name} == pytest.approx(
        {"left": 0.8, "work": 0.2, "right": 0.0}
    )


# --- what is not in the data ----------------------------------------------------------------------------------------

S = 10**9


def arrive(store, message, at_s: float = 1.0) -> None:
    record = encode_record(message.SerializeToString(), BASE_NS + round(at_s * S))
    store.insert_otlp_traces(record, f"confidence-{time.time_ns()}-{next(_tokens)}")


def quality(store, since_s: float = 0, until_s: float = 3600, filters: Filters = Filters()):  # noqa: B008 — it is frozen
    window = Window(BASE_NS + round(since_s * S), BASE_NS + round(until_s * S))
    return data_quality(store, request_parameters(store, window, filters), stored=0, estimated=0)


def test_drops_and_gaps_count_where_they_were_told_of(store):
    sidecar = Sidecar(service="ranker")
    messages = []
    for number, dropped in enumerate((0, 3, 3, 3, 10), 1):
        sidecar.dropped = {"buffer_full": dropped, "spool_full": 99} if dropped else {}
        messages.append(sidecar.batch(number * 10))
    for number, at_s in ((1, 10), (2, 20), (4, 1000), (5, 1010)):  # the third never comes
        arrive(store, messages[number - 1], at_s)
    whole, first, second = quality(store), quality(store, 0, 500), quality(store, 500)
    assert (whole.dropped_spans, whole.missing_spans) == (10, 30)
    assert (first.dropped_spans, first.missing_spans) == (3, 0)
    assert (second.dropped_spans, second.missing_spans) == (7, 30)
    other = quality(store, filters=Filters(service=("other",)))
    assert (other.dropped_spans, other.missing_spans, other.rejected_spans) == (0, 0, 0)
    arrive(store, messages[2], 2000)
    assert quality(store).missing_spans == 0


def test_rejected_and_late_spans_are_counted(store):
    def message(number: int, *, length_s: float = 1.0):
        start_ns = BASE_NS + number * S
        return request(
            [
                span(
                    trace_id=bytes(15) + bytes([number]),
                    span_id=bytes(7) + b"\1",
                    name="work",
                    start_time_unix_nano=start_ns,
                    end_time_unix_nano=start_ns + round(length_s * S),
                )
            ],
            {"service.name": "s"},
        )

    arrive(store, message(1), 3)
    arrive(store, message(2), 62.9)  # within a minute of its end
    arrive(store, message(3), 64.2)
    arrive(store, message(4, length_s=-1), 5)  # ends before it starts
    answer = breakdown(store, Window(BASE_NS, BASE_NS + 3600 * S))
    assert (answer.data.late_spans, answer.data.spans, answer.data.rejected_spans) == (1, 3, 1)
    assert answer.to_json()["data"] == {
        "stored": 3, "estimated": 3, "sampled_share": 1.0, "dropped_spans": 0, "missing_spans": 0, "rejected_spans": 1,
        "late_spans": 1,
    }  # fmt: skip
    json.dumps(answer.to_json(), allow_nan=False)


def test_a_sampled_answer_says_what_share_was_kept(store):
    brute_force.insert(store, [Span(number, 1, weight=4 if number % 2 else 1) for number in range(1, 21)])
    data = breakdown(store, window(0, 10)).data
    assert (data.stored, data.estimated, data.sampled_share) == (20, 50, 0.4)
