"""The changes of a series of numbers, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis.changes.search import Change
from tailsight_cli.render.sparkline import sparkline
from tailsight_cli.render.text import NO_VALUE, new_table, percent, printable, significant

CHART_WIDTH = 72


def render_changes(
    name: str, values: Sequence[float], labels: Sequence[str], changes: Sequence[Change], rows: Sequence[int]
) -> RenderableType:
    """Draw the series, and list its changes. `labels` name the points, `rows` say where they are in the file."""
    found = f"{len(changes)} change" + ("" if len(changes) == 1 else "s") if changes else "no change"
    parts: list[RenderableType] = [
        Text.assemble((printable(name), "bold"), f"  {len(values):,} points, {found}"),
        sparkline(values, [change.index for change in changes], CHART_WIDTH),
    ]
    if not changes:
        return Group(*parts)
    table = new_table()
    table.add_column("index", justify="right", no_wrap=True)
    if any(labels):
        table.add_column("first of the new level", overflow="fold", ratio=1)
    for heading in ("before", "after", "change", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for change in changes:
        label = [printable(labels[change.index])] if any(labels) else []
        table.add_row(
            str(rows[change.index]), *label, _figure(change.before), _figure(change.after), _moved(change),
            p_text(change.p_value),
        )  # fmt: skip
    return Group(*parts, Text(""), table)


def ratio_text(ratio: float) -> str:
    """Write a ratio as a change: `+12 %`, `−3.4 %`, `×4.2` from double on."""
    if ratio >= 2:
        return f"×{significant(ratio)}"
    return f"{'+' if ratio > 1 else '−'}{percent(abs(ratio - 1))}"


def p_text(p_value: float) -> str:
    """Write a p-value: two digits."""
    return f"{p_value:.0e}" if p_value < 0.001 else f"{p_value:.3f}"


def _figure(value: float) -> str:
    return f"−{significant(-value)}" if value < 0 else significant(value)


def _moved(change: Change) -> str:
    if change.ratio is None:
        return NO_VALUE
    return ratio_text(change.ratio)
