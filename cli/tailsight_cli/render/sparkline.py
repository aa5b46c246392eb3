"""A series in one line of the terminal, with marks where its level changes."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Sequence

from rich.text import Text

_LEVELS = "▁▂▃▄▅▆▇█"
_MARK = "▲"


def sparkline(values: Sequence[float], marks: Collection[int], width: int) -> Text:
    """Draw values from the least (▁) to the greatest (█), a character each, and below it ▲ at the indices `marks`.

    More values than `width`: a character stands for the median of some in a row.
    """
    if not values:
        return Text("")
    each = -(-len(values) // max(width, 1))
    drawn = [statistics.median(values[start : start + each]) for start in range(0, len(values), each)]
    least, span = min(drawn), max(drawn) - min(drawn)
    line = "".join(_LEVELS[round((value - least) / span * (len(_LEVELS) - 1)) if span else 0] for value in drawn)
    text = Text(line)
    if marks:
        marked = {mark // each for mark in marks}
        text.append("\n" + "".join(_MARK if place in marked else " " for place in range(len(drawn))).rstrip(), "bold")
    return text
