"""Quality against latency, in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Estimate, Pareto, Variant
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    NO_VALUE,
    new_table,
    note_lines,
    percent,
    printable,
    requests_text,
    significant,
    title_line,
)

EMPTY = "(none)"


def render_pareto(result: Pareto) -> RenderableType:
    """Verdict in a sentence, then the variants, best quality first."""
    table = new_table()
    table.add_column(" / ".join(result.by), overflow="fold", min_width=12)
    table.add_column("requests", justify="right", no_wrap=True)
    table.add_column("quality", no_wrap=True)
    for heading in ("p50 ms", "p99 ms"):
        table.add_column(heading, no_wrap=True)
    with_cost = any(variant.cost is not None for variant in result.variants)
    if with_cost:
        table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("front", overflow="fold", min_width=10)
    for variant in result.variants:
        cells = [
            f"{variant.requests:,}",
            _estimate(variant.quality) if variant.quality else NO_VALUE,
            _estimate(variant.p50_ms),
            _estimate(variant.p99_ms),
        ]
        if with_cost:
            cells.append(NO_VALUE if variant.cost is None else significant(variant.cost * 1000))
        table.add_row(Text(_name(variant.group)), *cells, Text(_front(variant)))
    return Group(
        title_line("Quality against latency", result.window, result.filters.label),
        Text(verdict(result), style="bold"),
        Text(_counts(result) + "\n"),
        table,
        *note_lines(_notes(result, with_cost=with_cost)),
    )


def verdict(result: Pareto) -> str:
    """Say in a sentence what is on the front."""
    rated = [variant for variant in result.variants if variant.quality]
    if not rated:
        return f"No variant has a quality: requests that carry {printable(result.quality_key)} are of none."
    if len(rated) == 1:
        return f"Only {_name(rated[0].group)} has a quality: there is nothing to weigh it against."
    beaten = [variant for variant in rated if variant.dominated_by]
    latency = result.latency.removesuffix("_ms")
    if not beaten:
        return f"None of {len(rated)} variants is beaten at both quality and {latency}, as far as these data say."
    sentences = []
    for variant in beaten[:2]:
        best = variant.dominated_by[0]
        sure = "is" if best.certainty == "certain" else "is probably"
        sentences.append(f"{_name(variant.group)} {sure} beaten by {_name(best.by)} at both quality and {latency}")
    front = ", ".join(_name(variant.group) for variant in rated if variant.on_front)
    return f"{'; '.join(sentences)}. On the front: {front or 'none'}."


def _counts(result: Pareto) -> str:
    rated = sum(variant.rated for variant in result.variants)
    direction = "lower is better" if result.lower_is_better else "higher is better"
    return (
        f"Quality is {printable(result.quality_key)} ({direction}); {rated:,} of {result.sampled:,} requests carry it."
    )


def _notes(result: Pareto, *, with_cost: bool) -> list[str]:
    notes = []
    if with_cost:
        notes.append("Cost is of 1,000 requests: busy time at the price.")
    if result.candidates:
        others = ", ".join(printable(key) for key in result.candidates)
        notes.append(f"Requests carry other keys that may mean quality: {others}. Choose with --quality.")
    if result.unnamed_share >= 0.001:
        notes.append(f"{percent(result.unnamed_share)} of the requests name no {result.by[0]}.")
    if any(variant.quality and not variant.on_front_by_estimate and variant.on_front for variant in result.variants):
        notes.append("“open”: another one looks better at both, but within chance. More requests would tell.")
    if result.weighted:
        notes.append(f"Estimates: {requests_text(result.stored)} that were kept stand for {result.requests:,}.")
    if result.sampled < result.stored:
        notes.append(f"Figures come from {result.sampled:,} of {requests_text(result.stored)}.")
    return [*notes, *data_notes(result.data)]


def _front(variant: Variant) -> str:
    if variant.quality is None:
        return NO_VALUE
    if variant.dominated_by:
        best = variant.dominated_by[0]
        word = "beaten" if best.certainty == "certain" else "probably beaten"
        return f"{word} by {_name(best.by)}"
    return "yes" if variant.on_front_by_estimate else "open"


def _name(group: dict[str, str]) -> str:
    return " / ".join(printable(value) or EMPTY for value in group.values())


def _estimate(estimate: Estimate) -> str:
    value = significant(estimate.value)
    if estimate.low is None and estimate.high is None:
        return value
    ends = [NO_VALUE if end is None else significant(end) for end in (estimate.low, estimate.high)]
    return f"{value} [{ends[0]}–{ends[1]}]"
