"""What changes would bring, in a terminal."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Outcome, WhatIf
from tailsight_analysis.latency import LEAST_BEYOND
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    MINUS,
    NO_VALUE,
    new_table,
    note_lines,
    percent,
    printable,
    quantile_name,
    requests_text,
    significant,
    title_line,
)


def render_whatif(result: WhatIf) -> RenderableType:
    """Verdict in a sentence, then every change with what it brings, the most first."""
    name, digits = quantile_name(result.quantile), _decimals(result.quantile_ms)
    table = new_table()
    table.add_column("if", overflow="fold", min_width=10)
    table.add_column("p50 ms", justify="right", no_wrap=True)
    for heading in (f"{name} ms", "95 %", "change ms", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    recorded = (significant(result.p50_ms), _fixed(result.quantile_ms, digits))
    table.add_row("as recorded", *recorded, style="italic", end_section=True)
    for outcome in result.outcomes:
        tail = outcome.tail
        table.add_row(
            Text(printable(outcome.scenario.label)),
            significant(outcome.typical.replayed_ms),
            _fixed(tail.replayed_ms, digits),
            _bounds(tail.bounds_ms, digits),
            _fixed(tail.delta_ms, digits + 1, plus="+"),
            _bounds(tail.delta_bounds_ms, digits + 1),
            style="" if tail.is_significant or tail.delta_bounds_ms is None else "dim",
        )
    return Group(
        title_line("What if", result.window, result.filters.label),
        Text(verdict(result), style="bold"),
        Text(""),
        table,
        *note_lines([*_notes(result), *data_notes(result.data)]),
    )


def verdict(result: WhatIf) -> str:
    """Say in one sentence what the best change brings."""
    recorded = f"{quantile_name(result.quantile)} is {significant(result.quantile_ms)} ms"
    if not result.outcomes:
        return f"{recorded}."
    # the first that is more than chance, or that nothing can be said about
    sure = [outcome for outcome in result.outcomes if outcome.tail.is_significant or not outcome.tail.delta_bounds_ms]
    if not sure:
        return f"{recorded}, and no change here moves it by more than chance."
    best = sure[0]
    moves = "fall" if best.tail.delta_ms < 0 else "rise" if best.tail.delta_ms > 0 else "stay"
    bounds = f" [{_bounds(best.tail.bounds_ms, _decimals(result.quantile_ms))}]" if best.tail.bounds_ms else ""
    if best.tail.delta_bounds_ms is None:
        bounds = ", but nobody can say how sure that is"
    return f"{recorded}; if {_in_words(best)}, it would {moves} to {significant(best.tail.replayed_ms)} ms{bounds}."


def _in_words(outcome: Outcome) -> str:
    scenario = outcome.scenario
    stages = printable(" and ".join(scenario.stages))
    if scenario.at is not None:
        whose = "its" if len(scenario.stages) == 1 else "their"
        return f"{stages} never took longer than {whose} {quantile_name(scenario.at)}"
    return f"{stages} {'ran' if scenario.on is not None else 'were'} {printable(scenario.change)}"


def _notes(result: WhatIf) -> list[str]:
    part = f"{result.sampled:,} of " if result.sampled < (result.stored or result.requests) else ""
    notes = [f"{part}{requests_text(result.requests)} replayed; bounds hold with 95 % confidence."]
    if result.stored is not None:
        notes.append(f"Estimates: {requests_text(result.stored)} are stored, each counted by its sampling weight.")
    if result.missing:
        notes.append(f"Not enough data for bounds: {requests_text(result.missing)} more are needed.")
    elif any(outcome.tail.bounds_ms is None for outcome in result.outcomes):
        needed = math.ceil(round(LEAST_BEYOND / (1 - result.quantile), 6))
        notes.append(
            f"Where there are no bounds, too few cases ran on that hardware: for {quantile_name(result.quantile)} it "
            f"takes {needed:,} of them."
        )
    for outcome in result.outcomes:
        if outcome.matched_share is not None and outcome.matched_share < 1:
            share = percent(outcome.matched_share)
            notes.append(f"{printable(outcome.scenario.label)}: {share} of the work has comparable cases there.")
    notes.append("Waits are replayed as recorded: `tailsight queue` says how a queue changes with the load.")
    return notes


def _bounds(bounds_ms: tuple[float, float] | None, decimals: int) -> str:
    return " – ".join(_fixed(bound, decimals) for bound in bounds_ms) if bounds_ms else NO_VALUE


def _decimals(value_ms: float) -> int:
    """Decimals that show three digits of a duration: all of a table have as many, so that one can compare them."""
    return min(4, max(0, 2 - math.floor(math.log10(value_ms)))) if value_ms > 0 else 4


def _fixed(value_ms: float, decimals: int, plus: str = "") -> str:
    text = f"{abs(value_ms):,.{decimals}f}"
    if not float(text.replace(",", "")):
        return "0"
    return f"{MINUS if value_ms < 0 else plus}{text}"
