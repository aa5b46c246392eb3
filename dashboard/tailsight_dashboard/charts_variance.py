"""Charts of why requests differ: pure functions from what analysis returns to Plotly figures."""

from __future__ import annotations

import plotly.graph_objects as go

from tailsight_analysis import Variance, VarianceLedger
from tailsight_dashboard.colours import NEUTRAL, colour, in_order
from tailsight_dashboard.format import UNACCOUNTED, chart_text, share
from tailsight_dashboard.wording_variance import NO_HARDWARE

MOST_STAGES = 8  # that have a colour of their own in a bar, and a line in the map
MOST_TYPES = 8
LEAST_SHARE = 0.005  # of the variance, for a line in the map
ALL_REQUESTS = "all requests"
_ROW_PX = 42
_CELL_PX = 40
_SCALE = ((0.0, "#1668e0"), (0.5, "rgba(128, 128, 128, 0.08)"), (1.0, "#de2b12"))  # negative, none, positive


def shares(result: Variance) -> go.Figure:
    """Draw the shares of the variance as a bar a hardware type, and one of all requests; negative ones left of 0."""
    ledgers = {ALL_REQUESTS: result.total}
    if len(result.hardware) > 1:
        known = [part for part in result.hardware if part.ledger and part.ledger.sd_ms][:MOST_TYPES]
        ledgers |= {chart_text(part.hardware or NO_HARDWARE, 22): part.ledger for part in known if part.ledger}
    names = list(ledgers)
    stages = [stage.stage for stage in result.total.stages[:MOST_STAGES]]
    figure = go.Figure()
    for stage in in_order(stages):
        parts = [_share(ledger, stage) for ledger in ledgers.values()]
        figure.add_bar(
            x=[part * 100 for part in parts],
            y=names,
            orientation="h",
            name=chart_text(stage or UNACCOUNTED),
            marker={"color": colour(stage), "line": {"width": 0}},
            text=[share(part) if part >= 0.06 else "" for part in parts],
            textposition="inside",
            insidetextanchor="middle",
            constraintext="none",
            textangle=0,
            hovertext=[
                f"{chart_text(stage or UNACCOUNTED)}: {share(part)} of the variance of {name}"
                for name, part in zip(names, parts, strict=True)
            ],
            hoverinfo="text",
        )
    rest = [sum(each.share for each in ledger.stages if each.stage not in stages) for ledger in ledgers.values()]
    if any(abs(part) > 0 for part in rest):
        figure.add_bar(
            x=[part * 100 for part in rest], y=names, orientation="h", name="others",
            marker={"color": NEUTRAL, "line": {"width": 0}}, hoverinfo="x+name",
        )  # fmt: skip
    figure.update_xaxes(title_text="share of the variance (%)", tickformat=",.6~g", zeroline=True)
    figure.update_yaxes(automargin=True, type="category", autorange="reversed", showgrid=False)
    figure.update_layout(
        barmode="relative",
        bargap=0.35,
        height=150 + _ROW_PX * len(names),
        margin={"l": 8, "r": 8, "t": 58, "b": 44},
        dragmode=False,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title_text": "", "traceorder": "normal"},
    )
    return figure


def together(ledger: VarianceLedger) -> go.Figure:
    """Draw a map of the sum: variances on the diagonal, beside it what two stages have in common, half on each side."""
    stages = [each.stage for each in ledger.stages[:MOST_STAGES] if max(each.own_share, abs(each.share)) >= LEAST_SHARE]
    names = [chart_text(stage or UNACCOUNTED, 14) for stage in stages]
    place = {stage: number for number, stage in enumerate(stages)}
    cells = [[0.0] * len(stages) for _ in stages]
    hover = [["" for _ in stages] for _ in stages]
    for term in ledger.terms:
        if not set(term.stages) <= set(stages):
            continue
        one, other = place[term.stages[0]], place[term.stages[-1]]
        part = term.share if one == other else term.share / 2
        text = f"{names[one]} by itself: {share(part)}"
        if one != other:
            known = "" if term.correlation is None else f", correlation {term.correlation:.2f}".replace("-", "−")
            text = f"{names[one]} with {names[other]}: twice {share(part)}{known}"
        for row, column in ((one, other), (other, one)):
            cells[row][column], hover[row][column] = part * 100, text
    most = max((abs(cell) for row in cells for cell in row), default=0.0) or 1.0
    figure = go.Figure(
        go.Heatmap(
            z=cells,
            x=names,
            y=names,
            zmin=-most,
            zmax=most,
            colorscale=_SCALE,
            showscale=False,
            hovertext=hover,
            hoverinfo="text",
            xgap=2,
            ygap=2,
        )
    )
    # texts of their own, in the page's colour: a heat map chooses black or white by the cells' opaque colours
    for row, name in enumerate(names):
        for column, other_name in enumerate(names):
            if abs(cells[row][column]) >= 0.05:
                strong = {"font": {"color": "white"}} if abs(cells[row][column]) > most / 2 else {}
                text = share(cells[row][column] / 100)
                figure.add_annotation(x=other_name, y=name, text=text, showarrow=False, **strong)
    figure.update_xaxes(type="category", side="top", showgrid=False, automargin=True, tickangle=-30)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, automargin=True)
    figure.update_layout(height=110 + _CELL_PX * len(names), margin={"l": 8, "r": 8, "t": 8, "b": 8}, dragmode=False)
    return figure


def _share(ledger: VarianceLedger, stage: str) -> float:
    return sum(each.share for each in ledger.stages if each.stage == stage)
