"""The chart of a gate's report: a pure function from what analysis returns to a Plotly figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.kept import KeptReport
from tailsight_analysis.gating.result import Compared
from tailsight_dashboard.charts_jitter import figures_at_right, sized_rows
from tailsight_dashboard.colours import NEUTRAL
from tailsight_dashboard.colours import VERDICTS as PAINTS
from tailsight_dashboard.format import chart_text
from tailsight_dashboard.wording_gates import compared, finding_text
from tailsight_dashboard.wording_regressions import moved

MOST_ROWS = 14
SYMBOLS = {"regression": "x", "inconclusive": "diamond", "pass": "circle", "improvement": "triangle-left"}
_LEAST_REACH = 10.0  # per cent: of less, noise would look like mountains
_BEYOND = 3.0  # times the largest change or tolerance, that an interval is drawn


def shown(report: KeptReport) -> list[Compared]:
    """Return the comparisons that are drawn: those that the verdict rests on, then what is nearest to not passing."""
    rows = by_importance(report.judgement.comparisons)
    if report.judgement.verdict == "inconclusive":
        rows.sort(key=lambda row: not (row.decides and row.verdict == "inconclusive"))  # stable: else as they were
    return rows[:MOST_ROWS]


def changes(rows: Sequence[Compared]) -> go.Figure:
    """Draw each change as a dot on its interval, beside what is allowed (a tick), in per cent."""
    names = [chart_text(f"{compared(row)} {row.metric}", 24) for row in rows]
    least, most = _range(rows)
    figure = go.Figure()
    for name, row in zip(names, rows, strict=True):
        if row.ci_low is None and row.ci_high is None:
            continue
        low = least if row.ci_low is None else max(least, _percent(row.ci_low))
        high = most if row.ci_high is None else min(most, _percent(row.ci_high))
        figure.add_scatter(
            x=[low, high], y=[name, name], mode="lines", opacity=0.45,
            line={"color": PAINTS[row.verdict], "width": 7}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    _ticks(figure, [(name, row.tolerance) for name, row in zip(names, rows, strict=True)], "is allowed", opacity=1.0)
    margins = [
        (name, row.margin) for name, row in zip(names, rows, strict=True) if row.decides and row.margin != row.tolerance
    ]
    _ticks(figure, margins, "is where it must be shown to be below", opacity=0.45)
    figure.add_scatter(
        x=[min(most, max(least, _percent(row.ratio))) for row in rows],
        y=names,
        mode="markers",
        marker={
            "size": 11,
            "color": [PAINTS[row.verdict] for row in rows],
            "symbol": [SYMBOLS[row.verdict] for row in rows],
        },
        hovertext=[chart_text(finding_text(row), 60) for row in rows],
        hoverinfo="text",
        showlegend=False,
    )
    right = figures_at_right(figure, names, [moved(row.ratio) for row in rows])
    figure.add_vline(x=0, line={"color": NEUTRAL, "width": 1})
    figure.update_xaxes(title_text="candidate against baseline (%)", tickformat="+,.3~g", nticks=6, range=[least, most])
    return sized_rows(figure, names, right)


def _ticks(figure: go.Figure, shares: Sequence[tuple[str, float]], meaning: str, *, opacity: float) -> None:
    """Mark a share on each row."""
    figure.add_scatter(
        x=[100 * each for _, each in shares], y=[name for name, _ in shares], mode="markers", opacity=opacity,
        marker={"symbol": "line-ns", "size": 18, "line": {"width": 2, "color": NEUTRAL}},
        hovertext=[f"{name}: {moved(1 + each)} {meaning}" for name, each in shares],
        hoverinfo="text", showlegend=False,
    )  # fmt: skip


def _percent(ratio: float) -> float:
    return 100 * (ratio - 1)


def _range(rows: Sequence[Compared]) -> tuple[float, float]:
    """Choose what is drawn of the axis: all changes and tolerances, and intervals unless they are far wider."""
    points = [0.0, *(_percent(row.ratio) for row in rows), *(100 * row.margin for row in rows)]
    reach = _BEYOND * max(_LEAST_REACH / _BEYOND, *map(abs, points))
    ends = [_percent(end) for row in rows for end in (row.ci_low, row.ci_high) if end is not None]
    inside = [min(reach, max(-reach, end)) for end in (*points, *ends)]
    room = 0.06 * (max(inside) - min(inside) or 1.0)
    return min(inside) - room, max(inside) + room
