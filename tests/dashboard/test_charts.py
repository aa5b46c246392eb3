"""Charts, tables and sentences from answers made by hand: nothing lost, nothing cut off, nothing executed."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tailsight_analysis import (
    Breakdown,
    BreakdownRow,
    DataQuality,
    Excess,
    Filters,
    Interval,
    OverRepresented,
    StageExcess,
    Tail,
    Timeline,
    TimelinePoint,
    Window,
)
from tailsight_dashboard import charts, tables, wording
from tailsight_dashboard.colours import OTHERS, STAGES, colour, in_order
from tailsight_dashboard.format import chart_text, duration, share

WINDOW = Window(1_000_000_000, 61_000_000_000)


def a_tail(excesses: dict[str, float], *, typical_ms: float = 10.0, unaccounted_ms: float = 0.5) -> Tail:
    total = sum(excesses.values()) + unaccounted_ms
    stages = tuple(
        StageExcess(tail_ms=2 + more, typical_ms=2.0, excess_ms=more, excess_share=more / total, stage=name)
        for name, more in sorted(excesses.items(), key=lambda item: -item[1])
    )
    return Tail(
        window=WINDOW,
        filters=Filters(),
        quantile=0.99,
        threshold_ms=41.2,
        requests=2000,
        tail_requests=20,
        typical_requests=400,
        total=Excess(typical_ms + total, typical_ms, total, 1.0),
        stages=stages,
        unaccounted=Excess(1.0 + unaccounted_ms, 1.0, unaccounted_ms, unaccounted_ms / total),
        attributes=(),
        attributes_tested=12,
        tail_sampled=20,
        typical_sampled=400,
    )


def a_row(name: str, p50_ms: float = 1.0, path_share: float | None = 0.5) -> BreakdownRow:
    quantiles = {f: p50_ms * k for f, k in (("p50_ms", 1), ("p90_ms", 2), ("p95_ms", 3), ("p99_ms", 4), ("p999_ms", 5))}
    return BreakdownRow(
        count=10,
        **quantiles,
        max_ms=9.0,
        jitter_ms=3.0,
        error_rate=0.0,
        group={"stage": name},
        self_share=0.9,
        path_share=path_share,
    )


@pytest.mark.parametrize("stages", [1, 3, 40])
def test_waterfall_goes_from_typical_to_tail_without_a_gap(stages: int) -> None:
    answer = a_tail({f"stage-{number}": (-1) ** number * (number + 1.0) for number in range(stages)})
    bars = charts.from_typical_to_tail(answer).data[0]
    assert len(bars.x) == min(stages + 1, charts.MOST_STEPS) + 2
    reached = answer.total.typical_ms
    for base, width in list(zip(bars.base, bars.x, strict=True))[1:-1]:
        assert base == pytest.approx(reached)
        reached = base + width
    assert reached == pytest.approx(answer.total.tail_ms)
    assert bars.x[-1] == answer.total.tail_ms


def test_waterfall_shows_unaccounted_time_and_stage_colours() -> None:
    bars = charts.from_typical_to_tail(a_tail({"queue": 17.0, "compute": 3.0})).data[0]
    colours = dict(zip(bars.y, bars.marker.color, strict=True))
    assert colours["queue"] == STAGES["queue"]
    assert colours["compute"] == STAGES["compute"]
    assert colours["unaccounted"] == STAGES[""]


def test_headline_names_stage_share_and_extra_time() -> None:
    answer = a_tail({"queue": 17.08, "compute": 10.42})
    assert wording.tail_headline(answer) == "p99 is **41.2 ms**; **61 %** of the extra 28.0 ms is **queue**."
    hidden = a_tail({"queue": 1.0}, unaccounted_ms=9.0)
    assert wording.tail_headline(hidden).endswith(
        "**90 %** of the extra 10.0 ms is **time that no stage accounts for**."
    )
    same = replace(answer, total=Excess(10.0, 10.0, 0.0, 0.0))
    assert wording.tail_headline(same) == "p99 is **41.2 ms**; the tail takes no longer than typical requests."


def test_stages_show_shares_of_the_critical_path_which_add_up() -> None:
    rows = (a_row("compute", path_share=0.7), a_row("", path_share=0.3))  # self_share, 0.9 each, would not
    answer = Breakdown(WINDOW, Filters(), ("stage",), None, rows, 0)
    bars = charts.path_shares(answer.rows, "stage").data[0]
    assert list(bars.x) == [30.0, 70.0]
    assert list(bars.text) == ["30 %", "70 %"]
    assert wording.stages_headline(replace(answer, requests=rows[0])).endswith(
        "**70 %** of the requests' time is **compute**."
    )


def test_no_attribute_is_said_in_words() -> None:
    assert "None of the 12 attribute values" in wording.nothing_stands_out(a_tail({"queue": 1.0}))


def test_names_of_others_stay_text() -> None:
    name = "<b>x</b> [a](http://such.example) $y$ :red[z]"
    figure = charts.quantiles([a_row(name)], "stage", log=True)
    assert "<b>" not in "".join(map(str, figure.data[0].y))
    headline = wording.tail_headline(a_tail({name: 5.0}))
    assert "](" not in headline
    assert "$y" not in headline.replace("\\$y", "")


def test_long_names_break_instead_of_being_cut() -> None:
    text = chart_text("NVIDIA H100 80GB HBM3 in a rack with a very long description " + "x" * 70)
    assert max(map(len, text.split("<br>"))) <= 30
    assert text.replace("<br>", "").count("x") == 70


def a_point(second: int) -> TimelinePoint:
    return TimelinePoint(
        second * 1_000_000_000, "queue", 5, 1.0, 2.0, 0.0, Interval(0.9, 1.1), Interval(1.9, None, 363)
    )


def a_timeline(points: tuple[TimelinePoint, ...]) -> Timeline:
    return Timeline(WINDOW, 1_000_000_000, points, (), 0.0, DataQuality(0, 0, 0, 0, 0))


def test_timeline_breaks_where_buckets_are_missing() -> None:
    points = tuple(a_point(second) for second in (1, 2, 7))
    figure = charts.latency_over_time(a_timeline(points), log=False)
    line = next(trace for trace in figure.data if trace.name == "queue")
    assert list(line.y) == [2.0, 2.0, None, 2.0]
    assert line.hovertext[0].startswith("queue p99: 2.00 ms [≥ 1.90 ms]<br>")
    p50 = [trace.hovertext[0] for trace in figure.data if trace.hovertext][1]
    assert p50.startswith("queue p50: 1.00 ms [0.900 to 1.10 ms]<br>")


def test_tables_keep_numbers_and_show_texts() -> None:
    found = [
        OverRepresented("batch", "32", 1.0, 0.09, 11.05, 5e-18),
        OverRepresented("gc", "1", 0.2, 0.0, 80.0, 0.0481),
    ]
    html = tables.attributes(found).to_html()
    assert "<0.001" in html
    assert "≥80×" in html
    assert ">11×" in html
    assert "0.048" in html
    assert tables.latencies([a_row("queue", path_share=None)], "stage").data["Critical path"].isna().all()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value_ms", "text"),
    [
        (0, "0 ms"),
        (0.00731, "7 µs"),
        (0.0731, "73 µs"),
        (0.168, "0.168 ms"),
        (0.9999, "1.00 ms"),
        (9.996, "10.0 ms"),
        (41.23, "41.2 ms"),
        (99.96, "100 ms"),
        (1234.5, "1,234 ms"),
        (9_999, "10.0 s"),
        (-0.036, "−36 µs"),
        (-41.2, "−41.2 ms"),
    ],
)
def test_durations_have_three_figures_and_a_unit(value_ms: float, text: str) -> None:
    assert duration(value_ms) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 %"),
        (0.61, "61 %"),
        (0.0421, "4.2 %"),
        (0.0004, "<0.1 %"),
        (-0.0004, "<0.1 %"),
        (-0.25, "−25 %"),
        (1, "100 %"),
        (None, "—"),
    ],
)
def test_shares_are_per_cent(value: float | None, text: str) -> None:
    assert share(value) == text


def test_stages_come_in_the_order_of_a_request() -> None:
    assert in_order(["", "zeta", "queue", "preprocess", "alpha"]) == ["preprocess", "queue", "alpha", "zeta", ""]


def test_a_colour_depends_on_the_name_alone() -> None:
    assert colour("rerank") == colour("rerank") in OTHERS
    assert colour("queue") == STAGES["queue"]


# Machado, Oliveira, Fernandes 2009: how colours look without one kind of cone, on linear RGB
_VISION = {
    "full": np.eye(3),
    "deuteranopia": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "protanopia": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "tritanopia": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def _linear(colour_code: str) -> np.ndarray:
    parts = np.array([int(colour_code[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", list(_VISION))
def test_stage_colours_are_apart_for_every_kind_of_eye(vision: str) -> None:
    seen = {name: _lab(_VISION[vision] @ _linear(code)) for name, code in STAGES.items()}
    closest = min(float(np.linalg.norm(seen[a] - seen[b])) for a, b in itertools.combinations(seen, 2))
    assert closest > 18, "two stages look alike"  # CIE76; 2.3 is just noticeable side by side


@pytest.mark.parametrize("background", ["#ffffff", "#171614"])
def test_stage_colours_stand_out_from_both_themes(background: str) -> None:
    def brightness(code: str) -> float:
        return float(np.array([0.2126, 0.7152, 0.0722]) @ _linear(code)) + 0.05

    for name, code in {**STAGES, **dict(enumerate(OTHERS))}.items():
        ratio = brightness(code) / brightness(background)
        assert max(ratio, 1 / ratio) > 1.9, name


def test_bounds_are_said_as_far_as_they_are_known() -> None:
    assert wording.bounds_help("p99", None) is None
    assert wording.bounds_help("p99", Interval(1.234, 56.78)) == "With 95 % confidence p99 is 1.23 to 56.8 ms."
    lacking = wording.bounds_help("p99.9", Interval(41.4, None, 1585))
    assert lacking == (
        "With 95 % confidence p99.9 is ≥ 41.4 ms. Not enough data for both bounds: 1,585 requests more are needed."
    )
    row = replace(
        a_row("queue"), intervals=(Interval(None, None),) * 3 + (Interval(2.0, 3.0),) + (Interval(None, None),)
    )
    assert list(tables.latencies([row], "stage").data["p99 within (ms)"]) == ["2.00 to 3.00"]  # type: ignore[attr-defined]
