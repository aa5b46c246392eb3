"""The chart of what changes would bring: a pure function from what analysis returns to a Plotly figure. Times in ms."""

from __future__ import annotations

import plotly.graph_objects as go

from tailsight_analysis import Shift, WhatIf
from tailsight_dashboard.colours import NEUTRAL, colour
from tailsight_dashboard.format import chart_text, duration, quantile, signed_duration

MOST_CHANGES = 10
_ROW_PX = 34


def outcomes(result: WhatIf) -> go.Figure:
    """Draw by how much each change moves the quantile, with its interval; what lowers it most on top.

    Changes whose effect could be chance are grey. At the right is where the quantile would be.
    """
    shown = list(result.outcomes[:MOST_CHANGES])
    names = [chart_text(outcome.scenario.label, 26) for outcome in shown]
    colours = [colour(outcome.scenario.stages[0]) if outcome.tail.is_significant else NEUTRAL for outcome in shown]
    figure = go.Figure()
    for name, outcome, paint in zip(names, shown, colours, strict=True):
        line = {"y": [name, name], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(**line, x=[0.0, outcome.tail.delta_ms], line={"color": paint, "width": 1, "dash": "dot"})
        if outcome.tail.delta_bounds_ms:
            bounds = list(outcome.tail.delta_bounds_ms)
            figure.add_scatter(**line, x=bounds, line={"color": paint, "width": 6}, opacity=0.4)
    quantile_name = quantile(result.quantile)
    figure.add_scatter(
        x=[outcome.tail.delta_ms for outcome in shown],
        y=names,
        mode="markers",
        marker={"size": 11, "color": colours},
        hovertext=[_hover(name, quantile_name, each.tail) for name, each in zip(names, shown, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    results = [duration(outcome.tail.replayed_ms) for outcome in shown]
    right = 16 + 7 * max(map(len, results), default=0)
    for name, text in zip(names, results, strict=True):
        place = {"xref": "paper", "x": 1, "xanchor": "right", "xshift": right, "y": name, "showarrow": False}
        figure.add_annotation(**place, text=text)
    ends = [end for each in shown for end in (0.0, each.tail.delta_ms, *(each.tail.delta_bounds_ms or ()))]
    least, most = min(ends, default=0.0), max(ends, default=0.0)
    room = 0.04 * (most - least or 1.0)
    figure.update_xaxes(range=[least - room, most + room])
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(title_text=f"change of {quantile_name} (ms)", tickformat=",.6~g", zeroline=False, nticks=6)
    figure.update_yaxes(automargin=True, type="category", autorange="reversed", showgrid=False)
    height = 64 + sum(max(_ROW_PX, 20 * (name.count("<br>") + 1)) for name in names)
    figure.update_layout(height=height, margin={"l": 8, "r": right, "t": 8, "b": 44}, dragmode=False)
    return figure


def _hover(name: str, quantile_name: str, tail: Shift) -> str:
    return f"{name}: {quantile_name} {duration(tail.replayed_ms)} ({signed_duration(tail.delta_ms)})"
