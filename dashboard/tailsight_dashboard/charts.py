"""Charts: pure functions from what analysis returns to Plotly figures. All durations are in milliseconds.

Titles, fonts and backgrounds come from the page, so that figures fit light and dark. Texts that others chose go through
`chart_text`, because Plotly reads a kind of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from tailsight_analysis import BreakdownRow, Interval, Tail, Timeline, TimelinePoint
from tailsight_dashboard.colours import NEUTRAL, TYPICAL, colour, in_order, symbol
from tailsight_dashboard.format import (
    UNACCOUNTED,
    chart_text,
    count,
    duration,
    group_name,
    share,
    signed_duration,
    within,
)

MOST_GROUPS = 15
MOST_LINES = 10
MOST_STEPS = 12
ROW_PX = 34
_LEGEND_ABOVE = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title_text": ""}
_BEHIND = "rgba(128, 128, 128, 0.4)"
CONFIG = {"displayModeBar": False, "displaylogo": False, "responsive": True}
POINTS = (
    ("p50", "p50_ms", "circle", 11),
    ("p90", "p90_ms", "line-ns-open", 12),
    ("p99", "p99_ms", "diamond", 12),
    ("p99.9", "p999_ms", "triangle-right", 12),
)


def latency_over_time(timeline: Timeline, *, log: bool) -> go.Figure:
    """Draw p99 above p50, a line for the requests and for each stage; a bucket without spans interrupts the line."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    lines = {"requests": timeline.requests}
    for stage in in_order({point.stage for point in timeline})[:MOST_LINES]:
        lines[stage] = tuple(point for point in timeline if point.stage == stage)
    for name, points in lines.items():
        is_requests = points is timeline.requests
        # behind the others and broad: often a stage takes as long as its requests
        style = {"color": _BEHIND, "width": 9} if is_requests else {"color": colour(name), "width": 2}
        marker = {"size": 6, "symbol": "circle" if is_requests else symbol(name)}

        for row, label in enumerate(("p99", "p50"), start=1):
            times, values, texts = _with_gaps(points, timeline.bucket_ns, label, chart_text(name))
            figure.add_scatter(
                x=times,
                y=values,
                hovertext=texts,
                hoverinfo="text",
                mode="lines+markers",
                line=style,
                marker=marker,
                name=chart_text(name),
                legendgroup=name,
                showlegend=row == 1,
                row=row,
                col=1,
            )
    figure.update_yaxes(**_latency_axis("", log=log))
    for row, label in ((1, "p99"), (2, "p50")):
        figure.update_yaxes(title_text=f"{label} (ms)", row=row, col=1)
    figure.update_layout(hovermode="closest", legend=_LEGEND_ABOVE)
    return _sized(figure, 450, top=34)


def quantiles(rows: Sequence[BreakdownRow], dimension: str, *, log: bool) -> go.Figure:
    """Draw a line from p50 to p99.9 for each group, with marks at p50, p90, p99 and p99.9; the longest p99 on top."""
    shown = sorted(rows[:MOST_GROUPS], key=lambda row: row.p99_ms)
    names = [chart_text(group_name(dimension, row.group[dimension])) for row in shown]
    colours = [colour(row.group[dimension]) for row in shown]
    figure = go.Figure()
    for name, row, paint in zip(names, shown, colours, strict=True):
        figure.add_scatter(
            x=[row.p50_ms, row.p999_ms],
            y=[name, name],
            mode="lines",
            line={"color": paint, "width": 3},
            hoverinfo="skip",
            showlegend=False,
        )
    for label, field, mark, size in POINTS:
        values = [getattr(row, field) for row in shown]
        figure.add_scatter(
            x=values,
            y=names,
            mode="markers",
            marker={"symbol": mark, "size": size, "color": colours, "line": {"color": colours, "width": 3}}
            if mark.startswith("line")
            else {"symbol": mark, "size": size, "color": colours},
            hovertext=[f"{name} {label}: {duration(value)}" for name, value in zip(names, values, strict=True)],
            hoverinfo="text",
            showlegend=False,
        )
        # the legend explains the shapes: in grey, because colours stand for the groups
        key = {"symbol": mark, "size": size, "color": NEUTRAL, "line": {"color": NEUTRAL, "width": 1}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=key, name=label)
    figure.update_xaxes(**_latency_axis("latency (ms)", log=log))
    figure.update_yaxes(automargin=True, type="category", showgrid=False)
    figure.update_layout(legend={**_LEGEND_ABOVE, "itemclick": False, "itemdoubleclick": False})
    return _sized(figure, 110 + ROW_PX * _lines(names), top=34)


def path_shares(rows: Sequence[BreakdownRow], dimension: str) -> go.Figure:
    """Draw a bar for each group: its share of the requests' critical paths, the greatest on top."""
    shown = list(reversed(rows[:MOST_GROUPS]))
    names = [chart_text(group_name(dimension, row.group[dimension])) for row in shown]
    values = [(row.path_share or 0.0) * 100 for row in shown]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            marker={"color": [colour(row.group[dimension]) for row in shown]},
            text=[share(row.path_share) for row in shown],
            textposition="outside",
            cliponaxis=False,
            hovertext=[
                f"{name}: {share(row.path_share)} of the requests' critical paths"
                for name, row in zip(names, shown, strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.update_xaxes(title_text="share of the requests' time (%)", range=[0, max([1.0, *values]) * 1.18])
    figure.update_yaxes(automargin=True, type="category", showgrid=False)
    figure.update_layout(bargap=0.35)
    return _sized(figure, 110 + ROW_PX * _lines(names), top=34)


def from_typical_to_tail(tail: Tail) -> go.Figure:
    """Draw the steps from a typical request's mean time to the tail's: each stage adds its excess; all is shown."""
    steps = [(step.stage, step.excess_ms, step.excess_share) for step in tail.stages]
    steps.append(("", tail.unaccounted.excess_ms, tail.unaccounted.excess_share))
    steps.sort(key=lambda step: -step[1])
    labels = [(chart_text(name or UNACCOUNTED), colour(name), more, part) for name, more, part in steps]
    if len(labels) > MOST_STEPS:
        rest = sorted(labels, key=lambda step: abs(step[2]))[: len(labels) - MOST_STEPS + 1]
        labels = [step for step in labels if step not in rest]
        summed = (sum(step[2] for step in rest), sum(step[3] for step in rest))
        labels.append((f"{len(rest)} other stages", NEUTRAL, *summed))
    names, bases, widths, colours, texts = ["Typical requests"], [0.0], [tail.total.typical_ms], [TYPICAL], [""]
    texts[0] = duration(tail.total.typical_ms)
    reached = tail.total.typical_ms
    for name, paint, more, part in labels:
        names.append(name)
        bases.append(reached)
        widths.append(more)
        colours.append(paint)
        texts.append(f"{signed_duration(more)} · {share(part)}")
        reached += more
    names.append("Tail requests")
    bases.append(0.0)
    widths.append(tail.total.tail_ms)
    colours.append(NEUTRAL)
    texts.append(duration(tail.total.tail_ms))
    return _waterfall(names, bases, widths, colours, texts)


def _waterfall(
    names: list[str], bases: list[float], widths: list[float], colours: list[str], texts: list[str]
) -> go.Figure:
    ends = [base + width for base, width in zip(bases, widths, strict=True)]
    figure = go.Figure(
        go.Bar(
            x=widths,
            base=bases,
            y=names,
            orientation="h",
            marker={"color": colours, "line": {"color": colours, "width": 1}},  # a sliver stays visible
            hovertext=[f"{name}: {text}" for name, text in zip(names, texts, strict=True)],
            hoverinfo="text",
            showlegend=False,
        )
    )
    for above, (first, second) in enumerate(pairwise(names)):
        figure.add_scatter(
            x=[ends[above], ends[above]],
            y=[first, second],
            mode="lines",
            line={"color": NEUTRAL, "width": 1, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    # texts of their own, right of whatever the step covers: a bar's "outside" is left of it where it goes down
    figure.add_scatter(
        x=[max(base, end) for base, end in zip(bases, ends, strict=True)],
        y=names,
        mode="text",
        text=[f"  {text}" for text in texts],
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    most, least = max([*ends, *bases]), min([0.0, *ends])
    figure.update_xaxes(title_text="mean time a request (ms)", range=[least, least + (most - least or 1.0) * 1.42])
    figure.update_yaxes(automargin=True, type="category", autorange="reversed", showgrid=False)
    figure.update_layout(bargap=0.3)
    return _sized(figure, 80 + ROW_PX * _lines(names))


def _with_gaps(
    points: Sequence[TimelinePoint], bucket_ns: int, quantile: str, title: str
) -> tuple[list[datetime], list[float | None], list[str]]:
    """Points in order of time, with an empty one wherever buckets are missing. Texts say the quantile's bounds."""
    times: list[datetime] = []
    values: list[float | None] = []
    texts: list[str] = []
    before_ns: int | None = None
    for point in points:
        if before_ns is not None and point.time_ns - before_ns > bucket_ns * 1.5:
            times.append(_moment(before_ns + bucket_ns))
            values.append(None)
            texts.append("")
        before_ns = point.time_ns
        value: float = getattr(point, f"{quantile}_ms")
        interval: Interval = getattr(point, f"{quantile}_interval")
        bounds = f" [{within(interval.low, interval.high)} ms]" if interval.low is not None else ""
        times.append(_moment(point.time_ns))
        values.append(value)
        texts.append(
            f"{title} {quantile}: {duration(value)}{bounds}<br>"
            f"{_moment(point.time_ns):%H:%M:%S} UTC, {count(point.count)} spans"
        )
    return times, values, texts


def _moment(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC).replace(tzinfo=None)


def _latency_axis(title: str, *, log: bool) -> dict[str, Any]:
    axis: dict[str, Any] = {"title_text": title, "tickformat": ",.6~g", "automargin": True}
    return {**axis, "type": "log", "dtick": 1} if log else {**axis, "type": "linear", "rangemode": "tozero"}


def _lines(names: Sequence[str]) -> int:
    """Rows of text that category labels need: a broken label takes two or more."""
    return sum(max(1, 0.6 * (name.count("<br>") + 1)) for name in names).__ceil__()


def _sized(figure: go.Figure, height: int, *, top: int = 8, bottom: int = 44) -> go.Figure:
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": top, "b": bottom}, dragmode=False)
    return figure
