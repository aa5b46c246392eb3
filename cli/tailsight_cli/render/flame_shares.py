"""Two runs' shares of samples in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Filters, Window
from tailsight_analysis.flame_shares import RunShares
from tailsight_cli.render.text import new_table, note_lines, percent, printable, significant, title_line

_LONGEST_FILE = 28


def render_shares(found: RunShares, window: Window, filters: Filters, limit: int) -> RenderableType:
    """Table of functions, those whose shares of the samples differ most first."""
    name_a, name_b = printable(found.name_a), printable(found.name_b)
    table = new_table()
    table.add_column("function", overflow="fold", min_width=16)
    table.add_column("file", overflow="fold")
    for heading in (name_a, name_b, "difference"):
        table.add_column(heading, justify="right", overflow="fold")
    for each in found.functions[:limit]:
        file = printable(each.file)
        table.add_row(
            Text(printable(each.function)),
            Text(file if len(file) <= _LONGEST_FILE else f"…{file[1 - _LONGEST_FILE :]}"),
            percent(each.share_a),
            percent(each.share_b),
            f"{each.difference * 100:+.1f}",
        )
    basis = (
        f"Shares of all samples with the function on the stack: {found.samples_a:,} samples of {name_a} "
        f"({significant(found.ms_a)} ms), {found.samples_b:,} of {name_b} ({significant(found.ms_b)} ms); the "
        "difference is in percentage points. Samples of no request: how certain a difference is cannot be told."
    )
    notes = [basis]
    if len(found.functions) > limit:
        notes.append(f"{len(found.functions) - limit:,} more functions: --limit N.")
    return Group(title_line(f"Which code {name_a} and {name_b} run", window, filters.label), table, *note_lines(notes))
