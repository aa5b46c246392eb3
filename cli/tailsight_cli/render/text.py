"""How figures, names and tables look in a terminal, everywhere the same."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tailsight_cli._errors import without_controls

if TYPE_CHECKING:
    from tailsight_analysis import Interval, Window

NO_VALUE = "–"
MINUS = "−"
PIPED_WIDTH = 160  # of output that goes to a file or another program
GAP = 2
_BAR_WIDTH = 12
_LONGEST_VALUE = 120
# rules above and below, and nothing between columns but their padding
_LINES = box.Box("    \n    \n────\n    \n    \n────\n    \n    \n")
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def console() -> Console:
    """Open standard output for rich: the terminal's width, or a fixed one where there is no terminal."""
    # COLUMNS is how people ask for a width; rich reads it by itself
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(width=width, highlight=False)


def significant(value: float) -> str:
    """Write a number with three significant digits, whole above 100, at most four decimals, never in powers of ten."""
    rounded = float(f"{value:.2e}")
    if rounded == 0:
        return "0"
    if abs(rounded) < 0.00005:
        return "<0.0001" if value > 0 else "0"
    decimals = min(4, max(0, 2 - math.floor(math.log10(abs(rounded)))))
    return f"{value:,.{decimals}f}".replace("-", MINUS)


def within(interval: Interval | None) -> str:
    """Write an interval: `38.0–44.9`, `≥ 38.0` where it has no upper bound, a dash where it has none at all."""
    if interval is None or (interval.low is None and interval.high is None):
        return NO_VALUE
    if interval.high is None:
        return f"≥ {significant(interval.low or 0.0)}"
    if interval.low is None:
        return f"≤ {significant(interval.high)}"
    return f"{significant(interval.low)}–{significant(interval.high)}"


def percent(share: float) -> str:
    """Write a share in percent: whole ones, one decimal below ten."""
    value = share * 100
    if value == 0:
        return "0 %"
    if abs(value) < 0.1:
        return "<0.1 %" if value > 0 else "0 %"
    return (f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %").replace("-", MINUS)


def percent_range(low: float, high: float) -> str:
    """Write an interval of shares: `17–64 %`, `−6.3 to 36 %`."""
    return f"{percent(low).removesuffix(' %')}{' to ' if low < 0 else '–'}{percent(high)}"


def printable(text: str) -> str:
    """Make a name or value of foreign origin safe for a terminal: no control characters, no endless prompts."""
    shown = without_controls(text[:_LONGEST_VALUE])
    return shown + "…" if len(text) > _LONGEST_VALUE else shown


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """Draw a share of 0 to 1 in eighths of a character; nothing below 0, full above 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def new_table() -> Table:
    """Make a table: rules above and below, nothing between columns but their padding."""
    return Table(box=_LINES, pad_edge=False, padding=(0, GAP - 1, 0, 0), show_edge=False, header_style="bold cyan")


def title_line(title: str, window: Window, filters: str) -> RenderableType:
    """Say what is shown, of which time, under which filters."""
    text = Text.assemble((title, "bold"), "  ", (window.label, "dim"))
    if filters:
        text.append(f"\n{without_controls(filters)}", style="dim")
    text.append("\n")
    return text


def note_lines(notes: list[str]) -> list[RenderableType]:
    """Set remarks below a table apart from it."""
    return [Text(note, style="dim") for note in notes]


def requests_text(count: int) -> str:
    """Count requests in words."""
    return f"{count:,} request" if count == 1 else f"{count:,} requests"


def quantile_name(quantile: float) -> str:
    """Name a quantile: 0.99 is `p99`."""
    return f"p{quantile * 100:g}"
