"""The chart of quality against latency: a pure function from what analysis returns to a Plotly figure."""

from __future__ import annotations

import plotly.graph_objects as go

from tailsight_analysis import Estimate, Pareto, Variant
from tailsight_dashboard.colours import NEUTRAL, colour
from tailsight_dashboard.format import chart_text, duration
from tailsight_dashboard.wording_pareto import front, label

FRONT, BEATEN = colour("compute"), NEUTRAL
_ROOM = 0.12  # of the range, on each side, for the names


def quality_against_latency(result: Pareto) -> go.Figure:
    """Draw each variant with the intervals of both figures; the front is green, and joined in steps."""
    rated = [variant for variant in result.variants if variant.quality]
    points = [(variant, _latency(variant, result), variant.quality) for variant in rated if variant.quality]
    figure = go.Figure()
    best = sorted((latency.value, quality.value) for variant, latency, quality in points if variant.on_front)
    if len(best) > 1:
        figure.add_scatter(
            x=[latency for latency, _ in best], y=[quality for _, quality in best], mode="lines",
            line={"color": FRONT, "width": 1, "dash": "dot", "shape": "hv"}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    for variant, latency, quality in points:
        paint = FRONT if variant.on_front else BEATEN
        name = chart_text(label(variant), 20)
        figure.add_scatter(
            x=[latency.value],
            y=[quality.value],
            error_x=_reach(latency, paint),
            error_y=_reach(quality, paint),
            mode="markers+text",
            marker={"size": 12, "color": paint, "symbol": "circle" if variant.on_front else "circle-open"},
            text=[name],
            textposition="top right",
            cliponaxis=False,
            hovertext=[
                f"{name}: quality {quality.value:.3g}, {duration(latency.value)}; on the front: {front(variant)}"
            ],
            hoverinfo="text",
            showlegend=False,
        )
    name = result.latency.removesuffix("_ms")
    figure.update_xaxes(
        title_text=f"{name} (ms)", tickformat=",.6~g", zeroline=False, range=_range([each for _, each, _ in points])
    )
    figure.update_yaxes(
        title_text=chart_text(result.quality_key, 30), tickformat=",.4~g", zeroline=False, automargin=True,
        range=_range([each for _, _, each in points]),
    )  # fmt: skip
    if result.lower_is_better:
        figure.update_yaxes(range=list(reversed(_range([each for _, _, each in points]))))
    figure.update_layout(height=340, margin={"l": 8, "r": 8, "t": 8, "b": 44}, dragmode=False)
    return figure


def _latency(variant: Variant, result: Pareto) -> Estimate:
    return variant.p99_ms if result.latency == "p99_ms" else variant.p50_ms


def _reach(estimate: Estimate, paint: str) -> dict[str, object]:
    """Bars to both ends of an interval; none to an end that is open."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if estimate.high is None else estimate.high - estimate.value],
        "arrayminus": [0.0 if estimate.low is None else estimate.value - estimate.low],
        "color": paint,
        "thickness": 1,
        "width": 4,
    }


def _range(estimates: list[Estimate]) -> list[float]:
    ends = [end for each in estimates for end in (each.value, each.low, each.high) if end is not None]
    least, most = min(ends, default=0.0), max(ends, default=1.0)
    room = _ROOM * ((most - least) or abs(most) or 1.0)
    return [least - room, most + 2 * room]
