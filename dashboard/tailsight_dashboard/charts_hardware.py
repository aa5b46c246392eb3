"""Charts of the Hardware view: pure functions from what analysis returns to Plotly figures."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tailsight_analysis import HardwareComparison, HardwareType
from tailsight_dashboard.charts_jitter import figures_at_right, sized_rows
from tailsight_dashboard.colours import NEUTRAL, TYPICAL, colour
from tailsight_dashboard.format import chart_text
from tailsight_dashboard.wording_hardware import WAITING, milliseconds_of, times, title

MOST_ROWS = 16
_WIDEST = 1000.0  # a ratio further off is drawn at the edge: 1 ÷ this, or this
LEGEND_PX = 34


def compared(comparisons: Sequence[HardwareComparison]) -> list[tuple[HardwareComparison, HardwareType]]:
    """Return what is compared with a reference, in the answer's order."""
    return [
        (comparison, each)
        for comparison in comparisons
        for each in comparison.types
        if each.hardware != comparison.reference and (each.raw_ratio or each.standardised)
    ]


def ratios(comparisons: Sequence[HardwareComparison]) -> go.Figure:
    """Draw how many times as long as on the reference: filled like with like, with its interval; hollow raw."""
    shown = compared(comparisons)[:MOST_ROWS]
    labels = [f"{title(comparison)}: {each.hardware}" for comparison, each in shown]
    names = [chart_text(label, 26) for label in labels]
    paints = [_paint(comparison) for comparison, _ in shown]
    figure = go.Figure()
    for name, (_, each), paint in zip(names, shown, paints, strict=True):
        ours = each.standardised
        if ours and ours.mean_ratio.low is not None and ours.mean_ratio.high is not None:
            figure.add_scatter(
                x=[_within(ours.mean_ratio.low), _within(ours.mean_ratio.high)], y=[name, name], mode="lines",
                opacity=0.4, line={"color": paint, "width": 7}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
        if ours and each.raw_ratio:
            figure.add_scatter(
                x=[_within(each.raw_ratio), _within(ours.mean_ratio.value)], y=[name, name], mode="lines",
                line={"color": NEUTRAL, "width": 1, "dash": "dot"}, hoverinfo="skip", showlegend=False,
            )  # fmt: skip
    hover = [
        f"{name}: {chart_text(milliseconds_of(each, comparison), 60)}"
        for name, (comparison, each) in zip(names, shown, strict=True)
    ]
    for label, values, symbol in (
        ("raw", [each.raw_ratio for _, each in shown], "circle-open"),
        ("like with like", [each.standardised and each.standardised.mean_ratio.value for _, each in shown], "circle"),
    ):
        figure.add_scatter(
            x=[_within(value) if value else None for value in values],
            y=names,
            mode="markers",
            marker={"size": 11, "color": paints, "symbol": symbol, "line": {"color": paints, "width": 2}},
            hovertext=hover,
            hoverinfo="text",
            showlegend=False,
        )
        key = {"size": 11, "color": NEUTRAL, "symbol": symbol, "line": {"color": NEUTRAL, "width": 2}}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=key, name=label)
    figures = [
        times(each.standardised.mean_ratio.value) if each.standardised else "not comparable" for _, each in shown
    ]
    right = figures_at_right(figure, names, figures)
    figure.add_vline(x=1, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(
        title_text="times as long as on the reference", type="log", tickformat=",.3~g", dtick=_ticks(figure)
    )
    sized_rows(figure, names, right)
    figure.update_layout(
        height=figure.layout.height + LEGEND_PX,
        margin={"t": LEGEND_PX},
        legend={
            "orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "title_text": "", "itemclick": False,
            "itemdoubleclick": False,
        },
    )  # fmt: skip
    return figure


def _paint(comparison: HardwareComparison) -> str:
    if comparison.stage is None:
        return TYPICAL
    return NEUTRAL if comparison.stage in WAITING else colour(comparison.stage)


def _within(ratio: float) -> float:
    return min(max(ratio, 1 / _WIDEST), _WIDEST)


def _ticks(figure: go.Figure) -> float | str:
    """Ticks at 1, 2 and 5 of each power of ten, where that is not too many."""
    values = [x for trace in figure.data for x in (trace.x or ()) if x]
    return 1 if values and max(values) > 30 * min(values) else "D2"
