"""The causes of a tail, in a terminal: a table, and the first of them in words."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from tailsight_analysis import Cause, Condition, Tail
from tailsight_cli.render.text import new_table, percent, percent_range, printable, quantile_name, significant

NO_STAGE = "time without a stage"
MOST_CAUSES = 8
_MOST_NAMES = 2  # of conditions that say the same


def causes_table(result: Tail) -> RenderableType:
    """Stages with the conditions that make them slow, what explains most first."""
    quantile = quantile_name(result.quantile)
    table = new_table()
    table.add_column("cause", overflow="fold", min_width=20)
    for heading in ("of excess", "95 %", "tail", "typical", f"new {quantile}"):
        table.add_column(heading, justify="right", no_wrap=True)
    for cause in result.causes[:MOST_CAUSES]:
        table.add_row(
            _named(cause),
            percent(cause.excess_share),
            percent_range(*cause.excess_share_interval),
            *((percent(cause.tail_share), percent(cause.typical_share)) if cause.conditions else ("", "")),
            f"{significant(cause.without_ms)} ms" if cause.without_ms is not None else "",
        )
    return table


def cause_words(cause: Cause) -> str:
    """Name a cause: `queue where hardware = L4 and batch ≥ 24`."""
    words = place_words(cause)
    if not cause.conditions:
        return words
    return f"{words} where {' and '.join(condition_words(condition, cause) for condition in cause.conditions)}"


def place_words(cause: Cause) -> str:
    """Name the stage of a cause, and its service: stages of several services may have one name."""
    return printable(" of ".join(part for part in (cause.stage or NO_STAGE, cause.service) if part))


def condition_words(condition: Condition, cause: Cause) -> str:
    """Name a condition, and where it was seen if that is not the cause's own stage."""
    own = (condition.on.service, condition.on.stage) == (cause.service, cause.stage)
    return printable(condition.text if own else condition.label)


def _named(cause: Cause) -> Text:
    text = Text(place_words(cause))
    for condition in cause.conditions:
        text.append(f"\n  {condition_words(condition, cause)}", style="bold")
        others = [condition_words(other, cause) for other in _other_names(condition)]
        if others:
            text.append(f"\n    also {', '.join(others)}", style="dim")
    if not cause.conditions:
        text.append(", nothing sets it apart", style="dim")
    return text


def _other_names(condition: Condition) -> Iterator[Condition]:
    """Find conditions that the same requests meet, and that are not the same words about another stage."""
    seen = {condition.text}
    for other in condition.same_as:
        if other.text not in seen and len(seen) <= _MOST_NAMES:
            seen.add(other.text)
            yield other
