"""A table of names and figures that leaves out columns until it fits, so that no figure is ever cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from tailsight_cli.render.text import GAP, new_table

_NARROWEST = 8


@dataclass(frozen=True, slots=True)
class FittingRow:
    """A name and its figures by their headings; without figures it is the title of the rows that follow."""

    name: str
    figures: dict[str, str] | None


@dataclass(frozen=True, slots=True)
class FittingTable:
    """Rows that all have the same headings. Columns of `dropped` go one by one, in that order, until the rest fits.

    Names are folded to `least_name` characters before any figure goes. `left` are headings whose figures are not set to
    the right.
    """

    heading: str
    rows: Sequence[FittingRow]
    dropped: Sequence[str]
    left: Sequence[str] = ()
    least_name: int = 24

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headings = list(next((row.figures for row in self.rows if row.figures), {}))
        widths = {
            heading: max(cell_len(heading), *(cell_len(row.figures[heading]) for row in self.rows if row.figures))
            for heading in headings
        }
        name = min(max(cell_len(text) for text in (self.heading, *(row.name for row in self.rows))), self.least_name)
        for heading in self.dropped:
            if name + sum(widths[each] for each in headings) + GAP * (len(headings) + 1) <= options.max_width:
                break
            if heading in headings:
                headings.remove(heading)
        # with nothing left to leave out, a name is folded before a figure is cut off
        name = max(_NARROWEST, min(name, options.max_width - sum(widths[each] + GAP for each in headings) - GAP))
        table = new_table()
        table.add_column(self.heading, overflow="fold", min_width=name)
        for heading in headings:
            side: Literal["left", "right"] = "left" if heading in self.left else "right"
            table.add_column(heading, justify=side, no_wrap=True, min_width=widths[heading])
        for row, following in zip(self.rows, (*self.rows[1:], None), strict=True):
            if row.figures is None:
                table.add_row(Text(row.name, style="bold"))
            else:
                ends = following is not None and following.figures is None
                # texts, because names may look like markup
                cells = [Text(row.figures[heading]) for heading in headings]
                table.add_row(Text(row.name), *cells, end_section=ends)
        yield table
