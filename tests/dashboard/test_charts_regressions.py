"""Charts and sentences on histories from answers made by hand: nothing lost, nothing executed, no hills of noise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tailsight_analysis import Filters, HistoryChange, MixShift, Regressions, Window
from tailsight_analysis.changes.units import Line, Point, Unit
from tailsight_analysis.compare import Difference, Part
from tailsight_dashboard import charts_compare, charts_regressions, wording_regressions

WINDOW = Window(0, 10**12)


def a_line(stage: str = "compute", metric: str = "p50", units: tuple[int, ...] = tuple(range(10))) -> Line:
    points = tuple(Point(unit, 10.0 if unit < 5 else 13.0, 0.02, 100) for unit in units)
    return Line(stage, "L4" if stage else "", metric, points)


def a_change(ratio: float = 1.3, stage: str = "compute", metric: str = "p50", at: int = 5) -> HistoryChange:
    hardware = "L4" if stage else ""
    return HistoryChange(
        stage, hardware, metric, 10.0, 10.0 * ratio, (ratio * 0.95, ratio * 1.05), 0.01, 0.0004, 0, at - 1, at, 9, 8
    )


def an_answer(
    *changes: HistoryChange, lines: tuple[Line, ...] | None = None, by: str = "version", names: str = "v{}"
) -> Regressions:
    units = tuple(Unit(names.format(place), place, place, 100) for place in range(10))
    given = lines if lines is not None else (a_line(),)
    return Regressions(WINDOW, Filters(), by, ("p50",), 0.05, None, units, given, changes)


def test_points_keep_their_values_and_missing_units_interrupt_the_line() -> None:
    line = a_line(units=(0, 1, 4, 5, 9))
    figure = charts_regressions.history(line, an_answer(lines=(line,)), log=True)
    points = figure.data[-1]
    assert list(points.x) == [0, 1, 2, 4, 5, 6, 9]
    assert list(points.y) == [10.0, 10.0, None, 10.0, 13.0, None, 13.0]
    assert points.error_y.array[0] == pytest.approx(10 * (math.exp(1.959964 * 0.02) - 1))
    assert points.error_y.arrayminus[0] == pytest.approx(10 * (1 - math.exp(-1.959964 * 0.02)))
    assert "v0: p50 10.0 ms [9.62 to 10.4 ms]<br>100 spans" in points.hovertext[0]


def test_a_change_is_marked_between_its_levels() -> None:
    figure = charts_regressions.history(a_line(), an_answer(a_change()), log=True)
    before, after = figure.data[:2]
    assert (list(before.x), list(before.y)) == ([0, 4], [10.0, 10.0])
    assert (list(after.x), list(after.y)) == ([5, 9], [13.0, 13.0])
    assert [shape.x0 for shape in figure.layout.shapes] == [4.5]
    assert figure.layout.annotations[0].text == "<b>+30 %</b> v5"


def test_noise_is_not_drawn_as_hills() -> None:
    line = Line("compute", "L4", "p50", tuple(Point(unit, 10 + 0.01 * unit, 0.0001, 100) for unit in range(10)))
    low, high = charts_regressions.history(line, an_answer(lines=(line,)), log=True).layout.yaxis.range
    assert 10 ** (high - low) == pytest.approx(1.6, rel=0.02)
    assert charts_regressions.history(line, an_answer(lines=(line,)), log=False).layout.yaxis.range[0] == 0


def test_names_cannot_be_markup_and_long_ones_keep_both_ends() -> None:
    answer = an_answer(a_change(), names="<b>nightly-of-the-branch</b>-{}")
    texts = [note.text for note in charts_regressions.history(a_line(), answer, log=True).layout.annotations]
    assert not any("<b>nightly" in text for text in texts)
    assert any(text.startswith("&lt;b&gt;") and "…" in text and text.endswith("-9") for text in texts)
    assert "<b>" not in wording_regressions.headline(answer)[0].replace("\\<b\\>", "")


def test_auto_takes_what_changed_of_each_series_else_the_highest_quantile() -> None:
    lines = tuple(a_line(stage, metric) for stage in ("", "compute", "queue") for metric in ("p50", "p99", "mean"))
    answer = an_answer(a_change(stage="queue", metric="mean"), a_change(stage="queue"), lines=lines)
    shown = charts_regressions.shown(answer, "auto")
    assert [(line.stage, line.metric) for line in shown] == [("queue", "mean"), ("", "p99"), ("compute", "p99")]
    shown = charts_regressions.shown(answer, "p50")
    assert [(line.stage, line.metric) for line in shown] == [("queue", "p50"), ("", "p50"), ("compute", "p50")]
    assert "Other metrics changed, too: mean of queue on L4." in wording_regressions.notes(answer, shown, 0)


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.3, "rose **by 30 %** [23 % to 37 %]"),
        (4.2, "rose **to 4.2×** [3.99× to 4.41×]"),
        (0.8, "fell **by 20 %** [16 % to 24 %]"),
    ],
)
def test_a_change_is_said_with_its_size_and_interval(ratio: float, text: str) -> None:
    said = wording_regressions.rose(a_change(ratio), an_answer(a_change(ratio)))
    assert f"p50 of **compute on L4** {text} with version **v5**" in said.replace("\\", "")


def test_a_slowdown_that_ended_says_until_when() -> None:
    slower = replace(a_change(at=3), last_after=6)
    faster = replace(a_change(0.8, at=7), first_before=3)
    answer = an_answer(faster, slower)
    first = wording_regressions.headline(answer)[0].replace("\\", "")
    assert "rose **by 30 %**" in first
    assert first.endswith("with version **v3**, until v6.")
    assert "2 changes in 10 versions, 1 for the better." in wording_regressions.headline(answer)[1]


def test_a_change_of_the_workload_is_said_beside_it() -> None:
    moved = replace(a_change(), mix=(MixShift("model", "big", 0.2, 0.61), MixShift("input length", "", 120.0, 480.0)))
    said = "\n".join(wording_regressions.headline(an_answer(moved))).replace("\\", "")
    assert "The workload changed there, too: model big 20 % → 61 %, input length 120 → 480." in said


def test_only_better_and_nothing_at_all() -> None:
    unjudged = "The newest 3 versions cannot be judged yet: what began with them may be outliers."
    first, second, last = wording_regressions.headline(an_answer(a_change(0.8)))
    assert first == "Nothing became slower in 10 versions."
    assert second.startswith("p50 of **compute on L4** fell")
    assert last == unjudged
    assert wording_regressions.headline(an_answer()) == ["Nothing changed in 10 versions.", unjudged]


def test_parts_without_an_interval_keep_their_dots() -> None:
    known, unknown = Part(2.0, 1.0, 3.0), Part(-0.5, None, None)
    figure = charts_compare.parts(Difference(10.0, 12.0, known, unknown, unknown, known))
    dots = figure.data[-1]
    assert list(dots.x) == [2.0, -0.5, -0.5, 2.0]
    assert len(figure.data) == 3
    assert [note.text for note in figure.layout.annotations] == ["+2.00 ms", "−0.500 ms", "−0.500 ms", "+2.00 ms"]
