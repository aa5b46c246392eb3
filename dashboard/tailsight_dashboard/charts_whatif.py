"""The chart of what changes would bring: a pure function from what analysis returns to a Plotly figure. Times in ms."""

from __future__ import annotations

import plotly.graph_objects as go

from tailsight_analysis import WhatIf
from tailsight_dashboard.colours import NEUTRAL, colour
from tailsight_dashboard.format import chart_text, duration, quantile, signed_duration

MOST_CHANGES = 10
_ROW_PX = 34


def outcomes(result: WhatIf) -> go.Figure:
    """Draw where the quantile goes with each change, with its interval, from where it is; what lowers it most on top.

    Changes whose effect could be chance are grey.
    """
    shown = list(result.outcomes[:MOST_CHANGES])
    names = [chart_text(outcome.scenario.label) for outcome in shown]
    colours = [colour(outcome.scenario.stages[0]) if outcome.tail.is_significant else NEUTRAL for outcome in shown]
    figure = go.Figure()
    for name, outcome, paint in zip(names, shown, colours, strict=True):
        line = {"y": [name, name], "mode": "lines", "hoverinfo": "skip", "showlegend": False}
        values = [outcome.tail.recorded_ms, outcome.tail.replayed_ms]
        figure.add_scatter(**line, x=values, line={"color": paint, "width": 1, "dash": "dot"})
        if outcome.tail.bounds_ms:
            figure.add_scatter(**line, x=list(outcome.tail.bounds_ms), line={"color": paint, "width": 5}, opacity=0.45)
    texts = [f"{duration(each.tail.replayed_ms)} ({signed_duration(each.tail.delta_ms)})" for each in shown]
    figure.add_scatter(
        x=[outcome.tail.replayed_ms for outcome in shown],
        y=names,
        mode="markers",
        marker={"size": 11, "color": colours},
        hovertext=[f"{name}: {text}" for name, text in zip(names, texts, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    name = quantile(result.quantile)
    ends = [bound for each in shown for bound in (each.tail.replayed_ms, *(each.tail.bounds_ms or ()))]
    most, least = max([result.quantile_ms, *ends]), min([result.quantile_ms, *ends, 0.0])
    figure.add_scatter(
        x=[most] * len(shown),
        y=names,
        mode="text",
        text=[f"   {text}" for text in texts],
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_vline(x=result.quantile_ms, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(title_text=f"{name} (ms); line: as recorded", tickformat=",.6~g")
    figure.update_xaxes(range=[least, least + (most - least or 1.0) * 1.4], zeroline=False)
    figure.update_yaxes(automargin=True, type="category", autorange="reversed", showgrid=False)
    height = 80 + sum(max(_ROW_PX, 20 * (name.count("<br>") + 1)) for name in names)
    figure.update_layout(height=height, margin={"l": 8, "r": 8, "t": 8, "b": 44}, dragmode=False)
    return figure
