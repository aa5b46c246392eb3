"""The chart of a history: a pure function from what analysis returns to a Plotly figure. Times are in ms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from tailsight_analysis import HistoryChange, Regressions
from tailsight_analysis.changes.units import Line, Point
from tailsight_dashboard.colours import NEUTRAL, TYPICAL, colour, in_order
from tailsight_dashboard.format import chart_text, count, duration, within
from tailsight_dashboard.selection import AUTO
from tailsight_dashboard.wording_regressions import moved, unit_name

MOST_CHARTS = 12
HEIGHT_PX = 210
_PREFERRED = ("p99", "p95", "p50", "mean", "jitter")
_Z95 = 1.959964
_LEAST_RANGE = 1.6  # of a logarithmic axis, its top ÷ its bottom: less makes hills of noise
_LONGEST_NAME = 18
_MANY_UNITS = 80  # of more, bars would cover the points


def shown(result: Regressions, metric: str) -> list[Line]:
    """Return the series of a metric: those that changed, as changes stand, then the requests, then stages in order.

    AUTO: of each series the metric of its latest and largest change, else the highest quantile that it has.
    """
    if metric == AUTO:
        metrics = {key: lines[0].metric for key, lines in _by_series(result).items()}
    else:
        metrics = dict.fromkeys(_by_series(result), metric)
    stages = {name: place for place, name in enumerate(in_order({line.stage for line in result.lines if line.stage}))}
    lines = [line for line in result.lines if line.points and line.metric == metrics[line.stage, line.hardware]]
    place = _places(result)
    last = len(result.changes)
    return sorted(lines, key=lambda line: (place.get(_key(line), last), stages.get(line.stage, -1), line.hardware))


def _by_series(result: Regressions) -> dict[tuple[str, str], list[Line]]:
    """Group the lines by their series; those come first whose change comes first, then the higher quantiles."""
    place, last = _places(result), len(result.changes)
    found: dict[tuple[str, str], list[Line]] = {}
    for line in result.lines:
        found.setdefault((line.stage, line.hardware), []).append(line)
    for lines in found.values():
        lines.sort(key=lambda line: (place.get(_key(line), last), _PREFERRED.index(line.metric)))
    return found


def _places(result: Regressions) -> dict[tuple[str, str, str], int]:
    """Return the first place of each line among the changes."""
    found: dict[tuple[str, str, str], int] = {}
    for place, change in enumerate(result.changes):
        found.setdefault((change.stage, change.hardware, change.metric), place)
    return found


def _key(line: Line) -> tuple[str, str, str]:
    return line.stage, line.hardware, line.metric


def history(line: Line, result: Regressions, *, log: bool) -> go.Figure:
    """Draw one series over its units with 95 % bars, the levels between its changes, and each change marked."""
    figure = go.Figure()
    paint = colour(line.stage) if line.stage else TYPICAL
    changes = result.changes_of(line)
    for begin, end, value in _levels(changes):
        figure.add_scatter(
            x=[begin, end], y=[value, value], mode="lines", line={"color": NEUTRAL, "width": 3}, opacity=0.55,
            hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    _points(figure, line, result, paint)
    first, last = line.points[0].unit, line.points[-1].unit
    room = 0.04 * max(last - first, 1)
    for change in changes:
        place = (change.first_after - first + room) / (last - first + 2 * room)
        anchor = "left" if place < 0.3 else "right" if place > 0.7 else "center"
        figure.add_vline(x=change.first_after - 0.5, line={"color": NEUTRAL, "width": 1.5, "dash": "dash"})
        name = _short(unit_name(result.units[change.first_after].name, result.by))
        figure.add_annotation(
            x=change.first_after - 0.5, y=1, yref="paper", yanchor="bottom", xanchor=anchor, showarrow=False,
            text=f"<b>{moved(change.ratio)}</b> {name}",
        )  # fmt: skip
    # names at both ends, inside of the chart: ticks in the middle of the ends would be cut off
    for unit, side, x in ((first, "left", 0), (last, "right", 1)):
        figure.add_annotation(
            x=x, xref="paper", xanchor=side, y=0, yref="paper", yanchor="top", yshift=-4, showarrow=False,
            text=_short(unit_name(result.units[unit].name, result.by)),
        )  # fmt: skip
    figure.update_xaxes(range=[first - room - 0.5, last + room + 0.5], showticklabels=False, showgrid=False)
    figure.update_yaxes(**_axis(line.points, log=log))
    figure.update_layout(height=HEIGHT_PX, margin={"l": 8, "r": 8, "t": 22, "b": 26}, dragmode=False)
    return figure


def _points(figure: go.Figure, line: Line, result: Regressions, paint: str) -> None:
    """Draw the points, with a gap wherever units say nothing."""
    x: list[int] = []
    points: list[Point | None] = []
    for point in line.points:
        if x and point.unit > x[-1] + 1:
            x.append(x[-1] + 1)
            points.append(None)
        x.append(point.unit)
        points.append(point)
    reaches = [_reaches(point) if point else (0.0, 0.0) for point in points]
    values = [point.value_ms if point else None for point in points]
    figure.add_scatter(
        x=x,
        y=values,
        mode="lines+markers",
        line={"color": paint, "width": 1},
        marker={"size": 6 if len(points) <= _MANY_UNITS else 3, "color": paint},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [above for _, above in reaches],
            "arrayminus": [below for below, _ in reaches],
            "color": paint,
            "thickness": 1,
            "width": 0,
            "visible": len(points) <= _MANY_UNITS,
        },
        hovertext=[_hover(point, line, result) if point else "" for point in points],
        hoverinfo="text",
        showlegend=False,
    )


def _reaches(point: Point) -> tuple[float, float]:
    """How far a point's interval reaches below it and above it."""
    low, high = _bounds(point)
    return point.value_ms - low, high - point.value_ms


def _bounds(point: Point) -> tuple[float, float]:
    reach = math.exp(_Z95 * point.error)
    return point.value_ms / reach, point.value_ms * reach


def _hover(point: Point, line: Line, result: Regressions) -> str:
    name = chart_text(unit_name(result.units[point.unit].name, result.by))
    return (
        f"{name}: {line.metric} {duration(point.value_ms)} [{within(*_bounds(point))} ms]<br>"
        f"{count(point.count)} {'spans' if line.stage else 'requests'}"
    )


def _levels(changes: Sequence[HistoryChange]) -> list[tuple[int, int, float]]:
    """Return begin, end and value of each level that a change bounds."""
    levels = [(changes[0].first_before, changes[0].last_before, changes[0].before_ms)] if changes else []
    return levels + [(change.first_after, change.last_after, change.after_ms) for change in changes]


def _axis(points: Sequence[Point], *, log: bool) -> dict[str, object]:
    low = min(_bounds(point)[0] for point in points)
    high = max(_bounds(point)[1] for point in points)
    axis: dict[str, object] = {"title_text": "ms", "tickformat": ",.3~g", "automargin": True, "nticks": 5}
    if not log:
        return {**axis, "type": "linear", "range": [0, high * 1.06]}
    spare = max(0.03, (math.log10(_LEAST_RANGE) - math.log10(high / low)) / 2)
    return {**axis, "type": "log", "range": [math.log10(low) - spare, math.log10(high) + spare]}


def _short(name: str) -> str:
    """Shorten a name in its middle: versions and runs differ at their ends."""
    half = (_LONGEST_NAME - 1) // 2
    text = " ".join(name.split())
    return chart_text(text if len(text) <= _LONGEST_NAME else f"{text[:half]}…{text[-half:]}", _LONGEST_NAME)
