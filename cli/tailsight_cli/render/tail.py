"""Why slow requests are slow, in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Excess, OverRepresented, Tail
from tailsight_cli.render.causes import cause_words, causes_table
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    bar,
    new_table,
    note_lines,
    percent,
    percent_range,
    printable,
    quantile_name,
    requests_text,
    significant,
    title_line,
)

LEAST_SHARE = 0.005


def render_tail(result: Tail) -> RenderableType:
    """Verdict in a sentence, causes, stages with their excess, attributes that are over-represented."""
    stages = new_table()
    stages.add_column("stage", overflow="fold", min_width=10)
    for heading in ("tail ms", "typical ms", "excess ms"):
        stages.add_column(heading, justify="right", no_wrap=True)
    stages.add_column("share of excess", no_wrap=True)
    for stage in result.stages:
        stages.add_row(Text(printable(stage.stage)), *_excess(stage))
    stages.add_row("unaccounted", *_excess(result.unaccounted), style="italic", end_section=True)
    stages.add_row("whole request", *_excess(result.total), style="bold")
    counts = (
        f"{requests_text(result.tail_requests)} at or above {quantile_name(result.quantile)}, compared with "
        f"{result.typical_requests:,} typical ones (p40 to p60), of {result.requests:,}.\n"
    )
    notes = []
    if result.stored:
        notes.append(
            f"Estimates: {result.stored.tail:,} of the tail and {result.stored.typical:,} typical ones are stored, of "
            f"{requests_text(result.stored.requests)} that were kept, each counted by its sampling weight."
        )
    if result.is_sampled:
        notes.append(
            f"Means come from {result.tail_sampled:,} of the tail and {result.typical_sampled:,} typical ones."
        )
    return Group(
        title_line("Why slow requests are slow", result.window, result.filters.label),
        Text(verdict(result), style="bold"),
        Text(counts),
        *_causes(result),
        stages,
        *note_lines([*notes, *data_notes(result.data)]),
        Text(""),
        _attributes(result),
        *note_lines(_examples(result)),
    )


def _within(result: Tail) -> str:
    """Say within which bounds the threshold lies: ` [38.0–44.9]`; nothing where both are not known."""
    found = result.threshold_interval
    if found is None or found.low is None or found.high is None:
        return ""
    return f" [{significant(found.low)}–{significant(found.high)}]"


def verdict(result: Tail) -> str:
    """Say in one sentence what the tail's excess is."""
    threshold = f"{quantile_name(result.quantile)} is {significant(result.threshold_ms)} ms{_within(result)}"
    if result.is_rough:
        threshold += f" (roughly: the tail is {requests_text(result.held.tail)})"
    extra_ms = result.total.excess_ms
    if extra_ms <= 0:
        return f"{threshold}, and the tail takes no longer than a typical request: there is nothing to explain."
    of_extra = f"of the tail's extra {significant(extra_ms)} ms"
    if result.causes and result.causes[0].conditions:
        cause = result.causes[0]
        text = f"{threshold}; {percent(cause.excess_share)} {of_extra} is {cause_words(cause)}"
        text += f" [{percent_range(*cause.excess_share_interval)}]"
        if cause.excess_share_interval[0] <= 0:
            text += ", which could be chance"
        if cause.without_ms is not None and cause.without_ms < result.threshold_ms:
            text += f"; without it {quantile_name(result.quantile)} would be about {significant(cause.without_ms)} ms"
        return f"{text}."
    parts = [(printable(stage.stage), stage.excess_share) for stage in result.stages]
    parts.append(("time that no stage accounts for", result.unaccounted.excess_share))
    parts = sorted((part for part in parts if part[1] >= LEAST_SHARE), key=lambda part: -part[1])
    if not parts:
        return f"{threshold}; no stage explains the tail's extra {significant(extra_ms)} ms."
    first, *others = parts
    text = f"{threshold}; {percent(first[1])} {of_extra} is {first[0]}"
    if first[1] < 0.8 and others and others[0][1] >= 0.1:
        text += f", {percent(others[0][1])} is {others[0][0]}"
    return f"{text}."


def _causes(result: Tail) -> list[RenderableType]:
    """Table of causes, or plain words where none has a condition."""
    if any(cause.conditions for cause in result.causes):
        return [causes_table(result), Text("")]
    if not result.causes:
        return []
    return [Text("No condition explains it: nothing that the spans say sets the slow requests apart.\n")]


def _examples(result: Tail) -> list[str]:
    """Name a slow request to look at, and a typical one."""
    slow = next((cause.examples for cause in result.causes if cause.examples), result.examples.tail)
    if not slow or not result.examples.typical:
        return []
    typical = result.examples.typical[0]
    return ["", f"Look at a slow one: tailsight trace {slow[0]}", f"and a typical one:  tailsight trace {typical}"]


def _attributes(result: Tail) -> RenderableType:
    if not result.attributes:
        if not result.attributes_tested:
            return Text("The requests carry no attribute values that could be compared.")
        more = " The causes above rest on ranges and on what holds within a stage." if result.causes else ""
        return Text(
            f"No single attribute value is more frequent in the tail than chance and bursts explain "
            f"({result.attributes_tested:,} tested).{more}"
        )
    table = new_table()
    table.add_column("over-represented in the tail", overflow="fold", ratio=1)
    for heading in ("tail", "typical", "lift", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in result.attributes:
        table.add_row(
            Text(printable(f"{pair.key} = {pair.value}")),
            percent(pair.tail_share),
            percent(pair.typical_share),
            _lift(pair),
            _p(pair),
        )
    return table


def _excess(excess: Excess) -> list[str]:
    share = percent(excess.excess_share)
    return [
        significant(excess.tail_ms),
        significant(excess.typical_ms),
        significant(excess.excess_ms),
        f"{share:>6} {bar(excess.excess_share)}",
    ]


def _lift(pair: OverRepresented) -> str:
    at_least = "" if pair.typical_share else "≥ "
    return f"{at_least}{significant(pair.lift)}×"


def _p(pair: OverRepresented) -> str:
    return f"{pair.p_value:.1e}" if pair.p_value < 0.001 else f"{pair.p_value:.3f}"
