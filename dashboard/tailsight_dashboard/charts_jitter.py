"""Charts of the Jitter view: pure functions from what analysis returns to Plotly figures. Times are in ms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import plotly.graph_objects as go

from tailsight_analysis import JitterRow, Station
from tailsight_analysis.statistics.queues import Waits
from tailsight_dashboard.colours import NEUTRAL, TYPICAL, colour
from tailsight_dashboard.format import chart_text, duration, length, share
from tailsight_dashboard.wording_jitter import NS_PER_MS, NS_PER_S, label

MOST_GROUPS = 14
_ROW_PX = 34
_LINE_PX = 20
_TICKS = ",.6~g"


def spreads(rows: Sequence[JitterRow]) -> go.Figure:
    """Draw p99 − p50 of each group as a dot, with its 95 % interval as a bar; the largest on top."""
    shown = rows[:MOST_GROUPS]
    names = [chart_text(label(row), 26) for row in shown]
    colours = [colour(row.group.get("stage", "")) if row.group else NEUTRAL for row in shown]
    figure = go.Figure()
    for name, row, paint in zip(names, shown, colours, strict=True):
        found = row.spread.above_median
        if found.low is not None and found.high is not None:
            figure.add_scatter(
                x=[found.low / NS_PER_MS, found.high / NS_PER_MS], y=[name, name], mode="lines", opacity=0.4,
                line={"color": paint, "width": 7}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    values = [row.spread.above_median.value / NS_PER_MS for row in shown]
    texts = [duration(value) for value in values]
    figure.add_scatter(
        x=values,
        y=names,
        mode="markers",
        marker={"size": 11, "color": colours},
        hovertext=[f"{name}: p99 − p50 {text}" for name, text in zip(names, texts, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    right = figures_at_right(figure, names, texts)
    most = max([*values, *((row.spread.above_median.high or 0.0) / NS_PER_MS for row in shown)], default=0.0) or 1.0
    figure.update_xaxes(title_text="p99 − p50 (ms)", tickformat=_TICKS, range=[-0.03 * most, 1.04 * most], nticks=8)
    return sized_rows(figure, names, right)


def distribution(row: JitterRow) -> go.Figure:
    """Draw a group's histogram over a logarithmic axis, with its modes, and the gaps between them dashed."""
    found = row.histogram
    figure = go.Figure()
    if found is None:
        return figure
    edges = [edge / NS_PER_MS for edge in found.edges]
    paint = colour(row.group["stage"]) if row.group else TYPICAL
    # an outline of steps: bars have no width on a logarithmic axis
    x = [edge for edge in edges for _ in range(2)]
    y = [0.0, *(100 * part for part in found.shares for _ in range(2)), 0.0]
    figure.add_scatter(
        x=x, y=y, mode="lines", fill="tozeroy", line={"color": paint, "width": 1}, hoverinfo="skip", showlegend=False
    )
    figure.add_scatter(
        x=[math.sqrt(low * high) for low, high in pairwise(edges)],
        y=[100 * part for part in found.shares],
        mode="markers",
        marker={"opacity": 0},
        hovertext=[
            f"{duration(low)} to {duration(high)}: {share(part)}"
            for (low, high), part in zip(pairwise(edges), found.shares, strict=True)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    top = 100 * max(found.shares)
    is_one = row.modes is None or len(row.modes.modes) == 1
    for gap in row.modes.gaps if row.modes else ():
        at = math.log10(gap / NS_PER_MS)
        figure.add_shape(
            type="line", x0=gap / NS_PER_MS, x1=gap / NS_PER_MS, y0=0, y1=top,
            line={"color": NEUTRAL, "width": 1, "dash": "dash"},
        )  # fmt: skip
        figure.add_annotation(x=at, y=top * 1.02, yanchor="bottom", showarrow=False, text=f"gap {duration(gap / 1e6)}")
    for mode in row.modes.modes if row.modes and not is_one else ():
        figure.add_annotation(
            x=math.log10(mode.at / NS_PER_MS), y=top * 1.16, yanchor="bottom", showarrow=False,
            text=f"<b>{share(mode.share)}</b>",
        )  # fmt: skip
    # ticks at 1, 2 and 5 of each power of ten, where the axis is short
    step = 1 if edges[-1] > 30 * edges[0] else "D2"
    figure.update_xaxes(title_text="duration (ms)", type="log", tickformat=_TICKS, dtick=step, automargin=True)
    figure.update_yaxes(title_text="share (%)", range=[0, top * (1.08 if is_one else 1.36)], tickformat=_TICKS)
    figure.update_layout(height=250, margin={"l": 8, "r": 8, "t": 8, "b": 44}, dragmode=False)
    return figure


def phases(row: JitterRow) -> go.Figure:
    """Draw all periods laid over each other: how many of the events in each part of a period are slow."""
    figure = go.Figure()
    if row.spike is None:
        return figure
    period_ns, parts = row.spike.period.period_ns, row.spike.slow_by_phase
    in_seconds = period_ns >= 10 * NS_PER_S
    unit, name = (NS_PER_S, "s") if in_seconds else (NS_PER_MS, "ms")
    width = period_ns / len(parts)
    begins = [(place - len(parts) / 2) * width for place in range(len(parts))]
    figure.add_bar(
        x=[(begin + width / 2) / unit for begin in begins],
        y=[None if part is None else part * 100 for part in parts],
        width=width / unit,
        marker={"color": colour(row.group["stage"]) if row.group else TYPICAL, "line": {"width": 0}},
        hovertext=[
            f"{length(begin / NS_PER_S)} to {length((begin + width) / NS_PER_S)}: {share(part)} are slow"
            for begin, part in zip(begins, parts, strict=True)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    usual = row.spike.period.slow_share * 100
    figure.add_hline(y=usual, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title_text=f"before and after the middle of the spike ({name})", tickformat=_TICKS, zeroline=False,
        range=[begins[0] / unit, (begins[-1] + width) / unit],
    )  # fmt: skip
    figure.update_yaxes(title_text="slow ones (%)", rangemode="tozero", tickformat=_TICKS)
    figure.update_layout(height=230, bargap=0, margin={"l": 8, "r": 8, "t": 8, "b": 44}, dragmode=False)
    return figure


def waits(station: Station) -> go.Figure:
    """Draw the mean waits of one queue: measured, replayed and by formula, now and with one more worker."""
    more = station.one_more
    lines: list[tuple[str, Waits | None, str]] = [
        ("measured", station.wait, colour("queue")),
        ("replayed", more.replayed, TYPICAL),
        ("by formula", more.formula, TYPICAL),
        ("replayed, one more worker", more.replayed_one_more, colour("compute")),
        ("by formula, one more worker", more.formula_one_more, colour("compute")),
    ]
    shown = [(name, found, paint) for name, found, paint in lines if found is not None]
    names = [chart_text(name, 16) for name, _, _ in shown]
    figure = go.Figure()
    for name, (_, found, paint) in zip(names, shown, strict=True):
        if found.mean_interval:
            figure.add_scatter(
                x=[bound / NS_PER_MS for bound in found.mean_interval], y=[name, name], mode="lines", opacity=0.4,
                line={"color": paint, "width": 7}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    texts = [duration(found.mean / NS_PER_MS) for _, found, _ in shown]
    figure.add_scatter(
        x=[found.mean / NS_PER_MS for _, found, _ in shown],
        y=names,
        mode="markers",
        marker={"size": 11, "color": [paint for _, _, paint in shown]},
        hovertext=[
            f"{name}: mean {text}, p99 {duration(found.p99 / NS_PER_MS)}"
            for name, text, (_, found, _) in zip(names, texts, shown, strict=True)
        ],
        hoverinfo="text",
        showlegend=False,
    )
    right = figures_at_right(figure, names, texts)
    ends = [end / NS_PER_MS for _, found, _ in shown for end in (found.mean, *(found.mean_interval or ()))]
    most = max(ends, default=0.0) or 1.0
    figure.update_xaxes(title_text="mean wait (ms)", tickformat=_TICKS, range=[-0.03 * most, 1.04 * most], nticks=6)
    return sized_rows(figure, names, right)


def figures_at_right(figure: go.Figure, names: Sequence[str], texts: Sequence[str]) -> int:
    """Write a figure at the right end of each row; returns the pixels that this takes."""
    right = 16 + 7 * max(map(len, texts), default=0)
    for name, text in zip(names, texts, strict=True):
        place = {"xref": "paper", "x": 1, "xanchor": "right", "xshift": right, "y": name, "showarrow": False}
        figure.add_annotation(**place, text=text)
    return right


def sized_rows(figure: go.Figure, names: Sequence[str], right: int) -> go.Figure:
    """Make a chart as high as its rows' names need, the first on top."""
    figure.update_xaxes(zeroline=False, automargin=True)
    # in this order, whichever row was drawn first
    order = {"categoryorder": "array", "categoryarray": list(names), "range": [len(names) - 0.4, -0.6]}
    figure.update_yaxes(automargin=True, type="category", showgrid=False, **order)
    height = 64 + sum(max(_ROW_PX, _LINE_PX * (name.count("<br>") + 1)) for name in names)
    figure.update_layout(height=height, margin={"l": 8, "r": right, "t": 8, "b": 44}, dragmode=False)
    return figure
