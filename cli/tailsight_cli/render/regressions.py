"""What became slower or faster over versions, runs or time, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis.changes.history import FASTER, SLOWER, HistoryChange
from tailsight_analysis.changes.mix import INPUT_LENGTH, MixShift
from tailsight_analysis.changes.units import Line
from tailsight_analysis.regressions import LEAST_UNITS, NEWEST_UNJUDGED, Regressions
from tailsight_cli.render.changes import p_text, ratio_text
from tailsight_cli.render.fitting import FittingRow, FittingTable
from tailsight_cli.render.sparkline import sparkline
from tailsight_cli.render.text import note_lines, percent, printable, significant, title_line

MOST_CHARTS = 8
CHART_WIDTH = 60
_UNITS = {"version": "versions", "run": "runs", "time": "stretches of time"}


def render_regressions(result: Regressions) -> RenderableType:
    """Verdict in a sentence, what became slower and faster, the series that did, and what was not looked at."""
    parts: list[RenderableType] = [
        title_line("Regressions", result.window, printable(result.filters.label)),
        Text(verdict(result), style="bold"),
    ]
    for direction in (SLOWER, FASTER):
        found = [change for change in result.changes if change.direction == direction]
        if found:
            parts += [Text(""), _table(direction, found, result)]
    changed = [line for line in result.lines if result.changes_of(line)]
    for line in changed[:MOST_CHARTS]:
        parts += [Text(""), *_chart(line, result)]
    notes = _notes(result, len(changed))
    return Group(*parts, *([Text("")] if notes else []), *note_lines(notes))


def verdict(result: Regressions) -> str:
    """Say in one sentence what is slower since when, the largest of the latest first."""
    looked = f"{len(result.units):,} {_UNITS[result.by]}, {len(result.lines):,} series"
    if result.short_lines == len(result.lines):
        return f"Nothing can be said yet, in {looked}: each has fewer than {LEAST_UNITS} points."
    if not result.changes:
        return f"Nothing changed, in {looked}."
    slower = result.slower
    if not slower:
        return f"Nothing became slower, in {looked}; {len(result.changes)} became faster."
    first = slower[0]
    since = printable(result.units[first.first_after].name)
    more = f", and {len(slower) - 1} more" if len(slower) > 1 else ""
    mix = " The workload changed there, too." if first.mix else ""
    rose = f"rose ×{significant(first.ratio)}" if first.ratio >= 2 else f"rose by {percent(first.ratio - 1)}"
    return f"{_name(first.stage, first.hardware)} {first.metric} {rose} with {since}{more}, in {looked}.{mix}"


def _table(direction: str, changes: Sequence[HistoryChange], result: Regressions) -> RenderableType:
    rows = [
        FittingRow(
            _name(change.stage, change.hardware),
            {
                "metric": change.metric,
                "last before": printable(result.units[change.last_before].name),
                "since": printable(result.units[change.first_after].name),
                "before ms": significant(change.before_ms),
                "after ms": significant(change.after_ms),
                "change": ratio_text(change.ratio),
                "95 %": " to ".join(ratio_text(end) for end in change.ratio_interval),
                "p": p_text(change.adjusted_p_value),
                "mix": "moved" if change.mix else "same",
            },
        )
        for change in changes
    ]
    dropped = ("p", "last before", "95 %", "before ms", "after ms")
    return FittingTable(direction, rows, dropped, left=("metric", "since", "last before", "mix"), least_name=16)


def _chart(line: Line, result: Regressions) -> list[RenderableType]:
    starts = {change.first_after for change in result.changes_of(line)}
    marks = [place for place, point in enumerate(line.points) if point.unit in starts]
    values = [point.value_ms for point in line.points]
    least, most = significant(min(values)), significant(max(values))
    title = Text.assemble((f"{_name(line.stage, line.hardware)} {line.metric}", "bold"), f"  {least} to {most} ms")
    first, last = (printable(result.units[line.points[place].unit].name) for place in (0, -1))
    return [title, sparkline(values, marks, CHART_WIDTH), Text(f"{first} … {last}", style="dim")]


def _notes(result: Regressions, charts: int) -> list[str]:
    notes = []
    said = set()
    for change in result.changes:
        since = printable(result.units[change.first_after].name)
        for shift in change.mix:
            if (since, shift.kind, shift.value) not in said:
                said.add((since, shift.kind, shift.value))
                notes.append(f"Workload at {since}: {_shift(shift)}. What changed there may be no slowdown.")
    newest = _UNITS[result.by]
    notes.append(
        f"The newest {NEWEST_UNJUDGED} {newest} cannot be judged yet: what began with them may be outliers, so far."
    )
    if result.short_lines:
        notes.append(
            f"{result.short_lines} of {len(result.lines)} series have fewer than {LEAST_UNITS} points: no change shows."
        )
    if charts > MOST_CHARTS:
        notes.append(f"{charts - MOST_CHARTS} more series with changes are not drawn; --json has all.")
    return notes


def _shift(shift: MixShift) -> str:
    if shift.kind == INPUT_LENGTH:
        return f"{INPUT_LENGTH} {significant(shift.before)} → {significant(shift.after)}"
    return f"{shift.kind} {printable(shift.value)} {percent(shift.before)} → {percent(shift.after)}"


def _name(stage: str, hardware: str) -> str:
    """Name a series: `request`, `compute on L4`."""
    name = printable(stage) or "request"
    return f"{name} on {printable(hardware)}" if hardware else name
