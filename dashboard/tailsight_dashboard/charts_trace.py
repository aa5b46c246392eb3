"""The waterfall of one trace: a pure function from what analysis returns to a Plotly figure. Times are in ms."""

from __future__ import annotations

import html
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from tailsight_analysis import Trace, TraceInterval, TraceSpan
from tailsight_dashboard.colours import NEUTRAL, STAGES, colour
from tailsight_dashboard.format import UNACCOUNTED, chart_text, duration

NO_NAME = "(no name)"
FAILED, ORPHAN, CYCLE, REPEATED = "✕", "?", "@", "="
EARLIER, LATER = "‹", "›"
_BAR_PX, _LINE_PX, _GAP_PX = 15, 15, 9
_LABEL_CHARACTERS = 28  # of a line, its place in the tree included
_CHARACTER_PX = 6.6
_DEEPEST = 8  # levels that are indented; deeper ones stand below each other, with their number
_FAR = 3  # what lies further away than so many times the requests' length is not drawn
_PIECES = 1000  # of the whole width, the finest that is drawn
_SLIVER = 10  # times that
_FAINTEST = 0.35
_LIGHT = 0.28
_KEYS = (
    f'<span style="color:{NEUTRAL}">■</span> critical path    ▨ without a stage    '
    '<span style="color:rgba(128,128,128,0.35)">■</span> not on it'
)
_LEGEND_PX, _AXIS_PX = 40, 44


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the waterfall: from where to where it reaches, and which of that is on the critical path."""

    label: str
    stage: str
    start_ms: float
    end_ms: float
    path: Sequence[TraceInterval]
    figure: str
    hover: str


def waterfall(trace: Trace) -> go.Figure:
    """Draw a line a span: light from its start to its end, strong while the request waited for it.

    The times that no stage accounts for are hatched, and stand together in a line of their own on top.
    """
    begin_ms, end_ms = drawn_range(trace)
    rows = [*_unaccounted(trace), *_spans(trace)]
    heights = [max(_BAR_PX, _LINE_PX * (row.label.count("<br>") + 1)) + _GAP_PX for row in rows]
    tops = [sum(heights[:number]) for number in range(len(rows))]
    middles = [top + height / 2 for top, height in zip(tops, heights, strict=True)]
    figure = go.Figure()
    _draw_light(figure, rows, middles)
    _draw_path(figure, rows, middles, (end_ms - begin_ms) / _PIECES)
    left = 12 + round(_CHARACTER_PX * max(_width(line) for row in rows for line in row.label.split("<br>")))
    right = 12 + round(_CHARACTER_PX * max(len(row.figure) for row in rows))
    # not Plotly's legend: on a narrow page it would lie on the first lines
    keys = {"xref": "paper", "yref": "paper", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
    texts: list[dict[str, Any]] = [{**keys, "xshift": -left, "yshift": 10, "showarrow": False, "text": _KEYS}]
    for row, middle in zip(rows, middles, strict=True):
        place = {"yref": "y", "y": middle, "xref": "paper", "showarrow": False, "yanchor": "middle"}
        texts.append({**place, "x": 0, "xanchor": "left", "xshift": -left, "align": "left", "text": row.label})
        texts.append({**place, "x": 1, "xanchor": "right", "xshift": right, "text": row.figure})
        # a clock far away: outside what is drawn
        if row.end_ms < begin_ms:
            texts.append({**place, "x": 0, "xanchor": "left", "text": f"{EARLIER} {duration(row.start_ms)}"})
        elif row.start_ms > end_ms:
            texts.append({**place, "x": 1, "xanchor": "right", "text": f"{duration(row.start_ms)} {LATER}"})
    total = sum(heights)
    figure.update_xaxes(title_text="ms since the request's start", range=_padded(begin_ms, end_ms), tickformat=",.6~g")
    figure.update_xaxes(zeroline=False, nticks=8)
    figure.update_yaxes(range=[total, 0], showticklabels=False, showgrid=False, zeroline=False, fixedrange=True)
    figure.update_layout(annotations=texts)  # at once: one by one, Plotly checks all of them each time
    figure.update_layout(
        barmode="overlay",
        height=total + _LEGEND_PX + _AXIS_PX,
        margin={"l": left, "r": right, "t": _LEGEND_PX, "b": _AXIS_PX, "autoexpand": False},
        showlegend=False,
        dragmode=False,
    )
    return figure


def drawn_range(trace: Trace) -> tuple[float, float]:
    """From when until when: all spans, or the requests only where spans lie so far away that nothing could be seen."""
    begin_ms = min(request.start_ms for request in trace.requests)
    end_ms = max(request.start_ms + request.duration_ms for request in trace.requests)
    length_ms = end_ms - begin_ms
    if length_ms == 0 or trace.end_ms - trace.begin_ms <= _FAR * length_ms:
        begin_ms, end_ms = trace.begin_ms, trace.end_ms
    return begin_ms, max(end_ms, begin_ms + 1e-6)


def shown_levels(spans: Sequence[TraceSpan]) -> list[int]:
    """How deep each span stands among those that are shown."""
    levels: list[int] = []
    for span in spans:  # parents come first
        levels.append(0 if span.parent is None else levels[span.parent] + 1)
    return levels


def span_name(span: TraceSpan, spans: Sequence[TraceSpan]) -> str:
    """Name a span: marks, its service where that is another one than its parent's, its name, and its stage."""
    marks = FAILED * (span.status == "ERROR") + ORPHAN * span.is_orphan + CYCLE * span.in_cycle
    marks += REPEATED * span.is_repeated
    above = spans[span.parent] if span.parent is not None else None
    service = f"{span.service}:" if span.service and (above is None or above.service != span.service) else ""
    stage = f"[{span.stage}]" if span.stage and span.stage != span.name else ""
    left_out = f"+{span.left_out:,}" if span.left_out else ""
    return " ".join(part for part in (marks, service, span.name or NO_NAME, stage, left_out) if part)


def _spans(trace: Trace) -> Iterable[_Row]:
    for span, level in zip(trace.spans, shown_levels(trace.spans), strict=True):
        name = span_name(span, trace.spans)
        said = [
            f"<b>{chart_text(name, 60)}</b>",
            f"{duration(span.duration_ms)}, from {duration(span.start_ms)} on",
            f"self time {duration(span.self_ms)}; {duration(span.path_ms)} on the critical path",
        ]
        where = " · ".join(part for part in (span.service, span.stage, span.hardware, span.host) if part)
        said += [chart_text(where, 60)] if where else []
        yield _Row(
            label=_label(name, level),
            stage=span.stage,
            start_ms=span.start_ms,
            end_ms=span.end_ms,
            path=span.path,
            figure=duration(span.duration_ms),
            hover="<br>".join(said),
        )


def _unaccounted(trace: Trace) -> Iterable[_Row]:
    gaps = trace.unaccounted
    if not gaps:
        return
    length = duration(sum(request.unaccounted_ms for request in trace.requests))
    yield _Row(
        label=f"<i>{UNACCOUNTED}</i>",
        stage="",
        start_ms=gaps[0].start_ms,
        end_ms=gaps[-1].end_ms,
        path=gaps,
        figure=length,
        hover=f"{UNACCOUNTED}: {length} on the critical path without a stage",
    )


def _label(name: str, level: int) -> str:
    """Break a name into lines, each at its place in the tree."""
    indent = "\u00a0" * 3 * min(level, _DEEPEST)
    text = f"{level}: {name}" if level > _DEEPEST else name
    broken = chart_text(text, _LABEL_CHARACTERS - len(indent) // 2)  # spaces are narrow
    return "<br>".join(f"{indent}{line}" for line in broken.split("<br>"))


def _draw_light(figure: go.Figure, rows: Sequence[_Row], middles: Sequence[float]) -> None:
    drawn = [(row, middle) for row, middle in zip(rows, middles, strict=True) if not row.label.startswith("<i>")]
    figure.add_bar(
        base=[row.start_ms for row, _ in drawn],
        x=[row.end_ms - row.start_ms for row, _ in drawn],
        y=[middle for _, middle in drawn],
        width=_BAR_PX * 0.6,
        orientation="h",
        opacity=_LIGHT,
        marker={
            "color": [colour(row.stage) for row, _ in drawn],
            "line": {"color": [colour(row.stage) for row, _ in drawn], "width": 1},  # a sliver stays visible
        },
        hovertext=[row.hover for row, _ in drawn],
        hoverinfo="text",
        showlegend=False,
    )


def _draw_path(figure: go.Figure, rows: Sequence[_Row], middles: Sequence[float], finest_ms: float) -> None:
    pieces: defaultdict[str, list[tuple[float, float, float, float, str]]] = defaultdict(list)
    for row, middle in zip(rows, middles, strict=True):
        for start_ms, end_ms, strength in _joined(row.path, finest_ms):
            pieces[row.stage].append((start_ms, end_ms - start_ms, middle, min(1.0, strength), row.hover))
    for stage, found in pieces.items():
        starts, lengths, places, strengths, hovers = zip(*found, strict=True)
        figure.add_bar(
            base=starts,
            x=lengths,
            y=places,
            width=_BAR_PX,
            orientation="h",
            marker=_strong(stage) | {"opacity": strengths},
            hovertext=hovers,
            hoverinfo="text",
            showlegend=False,
            name=chart_text(stage or UNACCOUNTED),
        )


def _strong(stage: str) -> dict[str, object]:
    paint = colour(stage)
    marker: dict[str, object] = {"color": paint, "line": {"color": paint, "width": 1}}
    if not stage:
        pattern = {"shape": "/", "fgcolor": NEUTRAL, "bgcolor": STAGES[""], "size": 5, "solidity": 0.4}
        marker |= {"pattern": pattern, "line": {"color": NEUTRAL, "width": 1}}
    return marker


def _joined(path: Sequence[TraceInterval], finest_ms: float) -> list[tuple[float, float, float]]:
    """Join pieces between which the eye could see nothing: a span can have a hundred thousand.

    Returns start, end and how strongly to draw it: as much as is on the path, unless it is a mere sliver.
    """
    joined: list[list[float]] = []  # start, end, sum of its pieces
    for piece in path:
        length_ms = piece.end_ms - piece.start_ms
        if joined and piece.start_ms - joined[-1][1] < finest_ms:
            joined[-1][1] = max(joined[-1][1], piece.end_ms)
            joined[-1][2] += length_ms
        else:
            joined.append([piece.start_ms, piece.end_ms, length_ms])
    return [
        (start, end, max(_FAINTEST, length / (end - start)) if end - start > _SLIVER * finest_ms else 1.0)
        for start, end, length in joined
    ]


def _padded(begin_ms: float, end_ms: float) -> list[float]:
    room = (end_ms - begin_ms) * 0.01
    return [begin_ms - room, end_ms + room]


def _width(line: str) -> float:
    """How many usual characters a line of a label takes: wide ones count double."""
    text = html.unescape(line.replace("<i>", "").replace("</i>", ""))
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
