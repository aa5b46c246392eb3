"""Charts, tables and sentences on jitter and hardware from answers made by hand: nothing lost, nothing executed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tailsight_analysis import (
    Certainty,
    DataQuality,
    Dominated,
    Estimate,
    Filters,
    Hardware,
    HardwareComparison,
    HardwareType,
    HardwareUse,
    HardwareVariance,
    Interval,
    Jitter,
    JitterRow,
    Pareto,
    Ratio,
    StageVariance,
    Standardised,
    Station,
    Variance,
    VarianceLedger,
    VarianceTerm,
    Variant,
    Window,
)
from tailsight_analysis.jitter import Spike
from tailsight_analysis.queueing import Little, OneMore
from tailsight_analysis.statistics.dispersion import Bounded, Dispersion
from tailsight_analysis.statistics.modes import Mode, Modes
from tailsight_analysis.statistics.periodicity import Period
from tailsight_analysis.statistics.queues import Waits
from tailsight_analysis.statistics.shape import Histogram
from tailsight_dashboard import (
    charts_hardware,
    charts_jitter,
    charts_pareto,
    charts_variance,
    tables_hardware,
    tables_jitter,
    wording_hardware,
    wording_jitter,
    wording_pareto,
    wording_queues,
    wording_variance,
)

WINDOW = Window(1_000_000_000, 61_000_000_000)
MS = 1e6


def a_row(stage: str | None, jitter_ms: float, *, hardware: str = "L4", known: bool = True) -> JitterRow:
    bounds = (jitter_ms * 0.9 * MS, jitter_ms * 1.2 * MS) if known else (None, None)
    spread = Dispersion(
        5 * MS, (5 + jitter_ms) * MS, 6 * MS, Bounded(jitter_ms * MS, *bounds), Bounded(MS, None, None), None,
        0 if known else 12, 100.0,
    )  # fmt: skip
    group = {} if stage is None else {"stage": stage, "hardware": hardware}
    return JitterRow(group, 100, None, spread, None, None, None, None, None, None)


def a_jitter(*rows: JitterRow, requests: JitterRow | None = None) -> Jitter:
    return Jitter(WINDOW, Filters(), None, requests, rows, WINDOW, 0.0, False)


def a_spike(period_ms: float = 512.0) -> Spike:
    return Spike(Period(period_ms * MS, 0.0, 0.9, 1e-6, 0.03, 40), 2_500_000_000, (None, 0.0, *[0.1] * 22))


def test_rows_stay_in_order_whether_their_interval_is_known_or_not() -> None:
    rows = [a_row("queue", 40.0, known=False), a_row("compute", 30.0), a_row("", 20.0, hardware="")]
    figure = charts_jitter.spreads(rows)
    names = ["queue on L4", "compute on L4", "(no stage)"]
    assert list(figure.layout.yaxis.categoryarray) == names
    dots = figure.data[-1]
    assert dict(zip(dots.y, dots.x, strict=True)) == pytest.approx(dict(zip(names, (40.0, 30.0, 20.0), strict=True)))
    assert len(figure.data) == 3  # two intervals, and the dots
    assert [note.text for note in figure.layout.annotations] == ["40.0 ms", "30.0 ms", "20.0 ms"]


def test_a_histogram_keeps_its_shares_and_marks_the_gaps() -> None:
    shape = Histogram((1 * MS, 2 * MS, 4 * MS, 8 * MS), (0.7, 0.0, 0.3))
    found = Modes(0.001, (Mode(1.4 * MS, 0.7), Mode(5 * MS, 0.3)), (3 * MS,), (0.3,))
    row = replace(a_row("compute", 5.0), histogram=shape, modes=found)
    figure = charts_jitter.distribution(row)
    assert sum(figure.data[1].y) == pytest.approx(100)
    assert list(figure.data[0].x) == [1, 1, 2, 2, 4, 4, 8, 8]
    assert [shape.x0 for shape in figure.layout.shapes] == [3.0]
    assert [note.text for note in figure.layout.annotations] == ["gap 3.00 ms", "<b>70 %</b>", "<b>30 %</b>"]
    assert "2 modes, **70 % around 1.40 ms**, **30 % around 5.00 ms**; gap at 3.00 ms" in wording_jitter.modes(row)
    one = charts_jitter.distribution(replace(row, histogram=Histogram((0.95 * MS, 1.05 * MS), (1.0,)), modes=None))
    assert list(one.layout.annotations) == []
    assert charts_jitter.distribution(a_row("compute", 5.0)).data == ()


@pytest.mark.parametrize(("period_ms", "unit", "last"), [(512.0, "ms", 256 - 512 / 48), (60_000.0, "s", 30 - 60 / 48)])
def test_a_folded_period_has_all_its_parts(period_ms: float, unit: str, last: float) -> None:
    row = replace(a_row("queue", 5.0), spike=a_spike(period_ms))
    figure = charts_jitter.phases(row)
    assert figure.data[0].y[:3] == (None, 0.0, 10.0)
    assert len(figure.data[0].x) == 24
    assert figure.data[0].x[-1] == pytest.approx(last)
    assert f"({unit})" in figure.layout.xaxis.title.text
    assert charts_jitter.phases(a_row("queue", 5.0)).data == ()


def test_the_headline_names_what_jitters_most_and_the_period() -> None:
    rows = (a_row("", 50.0), a_row("queue", 40.0, known=False), a_row("compute", 30.0))
    requests = a_row(None, 51.0)
    said = wording_jitter.headline(a_jitter(*rows, requests=requests))
    assert said == "p99 − p50 of the requests is **51.0 ms**; **queue on L4** jitters most, by about 40.0 ms."
    scanned = replace(requests, scanned=(1e6, 1e9))
    assert wording_jitter.headline(a_jitter(*rows, requests=scanned)).endswith("40.0 ms, and no period was found.")
    assert "between 1 ms and 1 s" in wording_jitter.no_period(a_jitter(*rows, requests=scanned))
    assert wording_jitter.no_period(a_jitter(*rows)) == wording_jitter.NOT_LOOKED
    periodic = replace(requests, spike=a_spike())
    assert "Slow ones come back **every 512 ms**." in wording_jitter.headline(a_jitter(*rows, requests=periodic))
    of_stage = (rows[0], replace(rows[1], spike=a_spike()))
    assert "Its slow ones come back **every 512 ms**." in wording_jitter.headline(
        a_jitter(*of_stage, requests=requests)
    )
    # without requests, spans without a stage are all there is
    assert wording_jitter.headline(a_jitter(*rows)).startswith("**\\(no stage\\) on L4** jitters most")
    assert "still needed: queue on L4 12." in wording_jitter.notes(a_jitter(*rows))


def test_foreign_texts_are_harmless() -> None:
    evil = a_row("<b>[x](http://e.example)</b>", 9.0)
    assert "<b>" not in charts_jitter.spreads([evil]).data[-1].y[0]
    assert "](http" not in wording_jitter.headline(a_jitter(evil))
    assert tables_jitter.measures(a_jitter(evil)).data["Stage"][0] == evil.group["stage"]


def a_station(**changes: Any) -> Station:
    waits = Waits(4 * MS, 30 * MS, (3 * MS, 5 * MS), (20 * MS, 40 * MS))
    more = OneMore(Waits(4.2 * MS, 31 * MS), Waits(0.2 * MS, 2 * MS), waits, Waits(0.1 * MS, 1 * MS))
    station = Station(
        "ranker", "node-1", "compute", 500, None, 20.0, 20.0, 10 * MS, 1.0, 0.5, 1, False, 0.2, 1.0, waits, 4 * MS,
        Little(0.08, 0.08, None, None), more, 0, 0, (),
    )  # fmt: skip
    return replace(station, **changes)


def test_a_queue_says_what_one_more_worker_would_change_only_where_it_can() -> None:
    assert "with one more worker it would be **0.100 ms**" in wording_queues.headline(a_station())
    assert len(charts_jitter.waits(a_station()).layout.annotations) == 5
    misfit = a_station(service_wait_ns=20 * MS)
    assert "the model does not fit" in wording_queues.headline(misfit)
    assert "Replayed, the wait is 4.00 ms where 20.0 ms were measured" in " ".join(wording_queues.checks(misfit))
    unknown = a_station(
        workers=None, utilisation=None, stored=50, one_more=OneMore(None, None, None, None),
        notes=("requests were sampled, so how many workers ran at once is not known",),
    )  # fmt: skip
    assert "cannot be told" in wording_queues.headline(unknown)
    assert "how many workers ran at once is not known." in " ".join(wording_queues.checks(unknown))
    assert "--workers" not in " ".join(wording_queues.checks(unknown)).replace("\\", "")
    assert len(charts_jitter.waits(unknown).layout.annotations) == 1
    lossy = a_station(little=Little(0.02, 0.08, None, None), unserved=7)
    assert "0.02 in the queue on average, where rate × wait says 0.08. Spans are missing." in " ".join(
        wording_queues.checks(lossy)
    )
    assert "7 queue spans without compute" in " ".join(wording_queues.checks(lossy))


def a_type(name: str, ratio: Ratio | None, raw: float | None = 1.1, p_value: float | None = 0.001) -> HardwareType:
    ours = None
    if ratio:
        ours = Standardised(2.0, 2.0, 3.0, 1.0, 1.0, 1.5, ratio, None, None, p_value)
    return HardwareType(name, 2, 400, 400, 2.0, 2.0, 3.0, Interval(1.9, 2.1), Interval(2.8, None, 7), raw, 0.9, ours)


def a_hardware(*comparisons: HardwareComparison, uses: tuple[HardwareUse, ...] = ()) -> Hardware:
    return Hardware(WINDOW, Filters(), 800, 800, 800, False, (), 0.0, comparisons, uses)


def a_comparison(stage: str | None, *types: HardwareType) -> HardwareComparison:
    reference = replace(a_type("H100", None), raw_ratio=None)
    return HardwareComparison(stage, "H100", (reference, *types))


def test_every_comparison_is_drawn_known_or_not() -> None:
    comparisons = (
        a_comparison(None, a_type("L4", Ratio(2.0, 1.8, 2.2))),
        a_comparison("compute", a_type("L4", Ratio(0.5, None, None)), a_type("T4", None, raw=4.0)),
        a_comparison("queue", a_type("L4", Ratio(1e9, 1.0, 1e12))),
    )
    figure = charts_hardware.ratios(comparisons)
    drawn = {trace.name: trace for trace in figure.data if trace.name and trace.x[0] is None}
    assert set(drawn) == {"raw", "like with like"}
    names = ["whole requests: L4", "compute: L4", "compute: T4", "queue: L4"]
    assert list(figure.layout.yaxis.categoryarray) == names
    filled = next(trace for trace in figure.data if trace.mode == "markers" and trace.marker.symbol == "circle")
    assert list(filled.x) == [2.0, 0.5, None, 1000.0]
    assert [note.text for note in figure.layout.annotations] == ["2.0×", "0.50×", "not comparable", ">9,999×"]
    frame = tables_hardware.types(a_hardware(*comparisons)).data
    assert list(frame["95 %"]) == ["reference", "1.80 to 2.2×", "reference", "—", "—", "reference", "1.00 to >9,999×"]  # fmt: skip


def test_the_verdict_is_of_significant_differences_at_work_that_devices_do() -> None:
    slow, fast = a_type("L4", Ratio(2.0, 1.8, 2.2)), a_type("T4", Ratio(0.5, 0.4, 0.625), raw=1.25)
    said = wording_hardware.headline(a_hardware(a_comparison("compute", slow, fast), a_comparison("queue", slow)))
    assert said == [
        "**L4** is **2.0× slower** [1.80 to 2.2×] than H100 at **compute**, like with like; raw 1.10×.",
        "**T4** is **2.0× faster** [1.60 to 2.5×] than H100 at **compute**, like with like; raw 1.25× slower.",
    ]
    chance = a_comparison("compute", a_type("L4", Ratio(1.2, 0.9, 1.5), p_value=0.2))
    assert "beyond chance" in wording_hardware.headline(a_hardware(chance))[0]
    tiny = a_comparison("compute", a_type("L4", Ratio(1.0001, 1.00005, 1.00015)))
    assert "beyond chance" in wording_hardware.headline(a_hardware(tiny))[0]
    apart = a_comparison("compute", a_type("L4", None))
    assert "too little of the same work" in wording_hardware.headline(a_hardware(apart))[0]
    assert "no span says" in wording_hardware.headline(a_hardware())[0]


def test_costs_are_shown_for_types_that_have_a_price() -> None:
    def use(name: str, price: float | None) -> HardwareUse:
        cost = None if price is None else price / 1000
        return HardwareUse(name, 2, 400, 9.0, None, None, price, cost, None, None, None, None)

    answer = a_hardware(uses=(use("L4", 0.71), use("T4", None)))
    frame = tables_hardware.uses(answer).data
    assert frame["Cost busy"][0] == pytest.approx(0.71)
    assert "Power (W)" not in frame
    said = wording_hardware.use_notes(answer, ["l4", "A100"], "PRICES")
    assert "Priced, but not seen: A100." in said
    assert "energy is not known" in said


def a_ledger(**shares: float) -> VarianceLedger:
    stages = tuple(
        StageVariance("" if name == "rest" else name, 5.0, 2.0, part, None, part, 0.0, part)
        for name, part in shares.items()
    )
    terms = tuple(VarianceTerm((each.stage,), 4.0, each.own_share, None, None) for each in stages)
    pair = VarianceTerm((stages[0].stage, stages[1].stage), 1.0, -0.2, None, -0.5)
    return VarianceLedger(800, 10.0, 3.0, stages, (*terms, pair), 0.7)


def a_variance(total: VarianceLedger, *parts: HardwareVariance) -> Variance:
    return Variance(WINDOW, Filters(), 800, 800, 800, False, total, parts, 0.2, (0.1, 0.3))


def test_shares_of_every_bar_add_up_negative_ones_too() -> None:
    total = a_ledger(queue=0.8, compute=0.3, network=-0.15, rest=0.05)
    part = HardwareVariance("L4", 400, 0.5, 10.0, 3.0, 0.4, 0.1, total)
    result = a_variance(total, part, replace(part, hardware="", ledger=None))
    figure = charts_variance.shares(result)
    assert list(figure.data[0].y) == ["all requests", "L4"]
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(100)
    assert {trace.name for trace in figure.data} == {"queue", "compute", "network", "unaccounted"}
    said = wording_variance.headline(result)
    assert (
        said == "**80 %** of the requests' variance is **queue**; 20 % [10 to 30 %] of it lies between hardware types."
    )
    assert "The slowest 1 % of the requests have 70 % of the variance" in wording_variance.notes(result)
    assert "nothing varies" in wording_variance.headline(a_variance(replace(total, sd_ms=0.0)))


def test_many_stages_leave_a_bar_for_the_others() -> None:
    total = a_ledger(**{f"stage-{number}": 0.1 for number in range(10)})
    figure = charts_variance.shares(a_variance(total))
    assert figure.data[-1].name == "others"
    assert sum(trace.x[0] for trace in figure.data) == pytest.approx(100)


def test_the_map_adds_up_to_what_its_terms_have() -> None:
    figure = charts_variance.together(a_ledger(queue=0.9, compute=0.3, rest=0.001))
    cells = figure.data[0].z
    assert [list(row) for row in cells] == [pytest.approx([90.0, -10.0]), pytest.approx([-10.0, 30.0])]
    assert [note.text for note in figure.layout.annotations] == ["90 %", "−10 %", "−10 %", "30 %"]
    assert "correlation −0.50" in figure.data[0].hovertext[0][1]


def a_variant(name: str, quality: float | None, p99_ms: float, *by: Dominated) -> Variant:
    rated = None if quality is None else Estimate(quality, quality - 0.01, None)
    p99 = Estimate(p99_ms, p99_ms * 0.9, p99_ms * 1.2)
    return Variant({"model": name}, 400, 400, 400, rated, p99, p99, None, not by, not by, by)


def a_pareto(*variants: Variant, lower: bool = False) -> Pareto:
    return Pareto(WINDOW, Filters(), ("model",), "eval.score", lower, "p99_ms", (), 800, 800, 800, False, 0.0, variants)


def test_the_front_is_marked_and_the_beaten_are_named() -> None:
    beaten = Dominated({"model": "large"}, Certainty.CERTAIN)
    answer = a_pareto(a_variant("large", 0.9, 50), a_variant("mini", 0.8, 20), a_variant("old", 0.7, 60, beaten),
                      a_variant("none", None, 9))  # fmt: skip
    figure = charts_pareto.quality_against_latency(answer)
    points = {trace.text[0]: trace for trace in figure.data if trace.mode == "markers+text"}
    assert {name: trace.marker.symbol for name, trace in points.items()} == {
        "large": "circle", "mini": "circle", "old": "circle-open",
    }  # fmt: skip
    assert points["large"].error_y.array == (0.0,)  # an open end
    assert list(figure.data[0].x) == [20, 50]
    assert wording_pareto.headline(answer) == (
        "On the front of quality and p99: **large**, **mini**; one is beaten at both."
    )
    assert "old is beaten at both by large." in wording_pareto.notes(answer)
    assert list(tables_hardware.variants(answer).data["On the front"]) == ["yes", "yes", "no", "—"]
    low, high = charts_pareto.quality_against_latency(a_pareto(a_variant("a", 0.1, 5), lower=True)).layout.yaxis.range
    assert low > high  # less is better: up is better all the same


def test_a_single_type_is_not_called_sorted() -> None:
    alone = HardwareComparison("compute", "H100", (replace(a_type("H100", None), raw_ratio=None),))
    assert wording_hardware.notes(a_hardware(alone)) == ""
    assert wording_hardware.headline(a_hardware(alone)) == ["Nothing to compare: all work was done on **H100**."]
    assert "Like with like" not in tables_hardware.types(a_hardware(alone)).data


def test_what_is_missing_or_late_is_said_under_each_answer() -> None:
    data = DataQuality(800, 800, 3, 0, 12_000, 5000, 40)
    said = "Spans of this time: 3 dropped by their senders, 12,000 rejected, 40 (0.8 %) more than a minute late."
    assert said in wording_jitter.notes(replace(a_jitter(a_row("queue", 4.0)), data=data))
    assert said in wording_hardware.notes(replace(a_hardware(), data=data))
    assert said in wording_variance.notes(replace(a_variance(a_ledger(queue=0.8, compute=0.2)), data=data))
    assert said in wording_pareto.notes(replace(a_pareto(a_variant("large", 0.9, 50)), data=data))
    imported = replace(data, dropped_spans=0, rejected_spans=0, late_spans=5000)
    assert "Spans of" not in wording_jitter.notes(replace(a_jitter(a_row("queue", 4.0)), data=imported))
