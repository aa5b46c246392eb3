"""The chart of two sides: a pure function from what analysis returns to a Plotly figure. Times are in ms."""

from __future__ import annotations

import plotly.graph_objects as go

from tailsight_analysis import Difference
from tailsight_dashboard.charts_jitter import figures_at_right, sized_rows
from tailsight_dashboard.colours import NEUTRAL, TYPICAL, colour
from tailsight_dashboard.format import signed_duration

DRAWN = ("p50", "p99")


def parts(difference: Difference) -> go.Figure:
    """Draw the change of a figure and its three parts, which add up to it, as dots on their 95 % intervals."""
    rows = (
        ("change", difference.delta, NEUTRAL),
        ("workload mix", difference.workload, TYPICAL),
        ("hardware mix", difference.hardware, TYPICAL),
        ("slowdown", difference.slowdown, colour("queue")),
    )
    names = [name for name, _, _ in rows]
    figure = go.Figure()
    for name, part, paint in rows:
        if part.low_ms is not None and part.high_ms is not None:
            figure.add_scatter(
                x=[part.low_ms, part.high_ms], y=[name, name], mode="lines", opacity=0.4,
                line={"color": paint, "width": 7}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    texts = [signed_duration(part.ms) for _, part, _ in rows]
    figure.add_scatter(
        x=[part.ms for _, part, _ in rows],
        y=names,
        mode="markers",
        marker={"size": 11, "color": [paint for _, _, paint in rows]},
        hovertext=[f"{name}: {text}" for name, text in zip(names, texts, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    right = figures_at_right(figure, names, texts)
    ends = [0.0, *(end for _, part, _ in rows for end in (part.ms, part.low_ms, part.high_ms) if end is not None)]
    room = 0.05 * (max(ends) - min(ends) or 1.0)
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(
        title_text="candidate − baseline (ms)", tickformat=",.3~g", nticks=6, range=[min(ends) - room, max(ends) + room]
    )
    return sized_rows(figure, names, right)
