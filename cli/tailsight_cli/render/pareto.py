"""Quality against latency, in a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Certainty, Estimate, Interval, Pareto, Variant
from tailsight_cli.render.fitting import FittingRow, FittingTable
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    NO_VALUE,
    note_lines,
    percent,
    printable,
    requests_text,
    significant,
    title_line,
    within,
)

EMPTY = "(none)"


def render_pareto(result: Pareto) -> RenderableType:
    """Verdict in a sentence, then the variants, best quality first."""
    with_cost = any(variant.cost is not None for variant in result.variants)
    rows = [FittingRow(_name(variant.group), _figures(variant, with_cost=with_cost)) for variant in result.variants]
    unweighed = "p50 ms" if result.latency == "p99_ms" else "p99 ms"
    table = FittingTable(
        " / ".join(result.by), rows, ("requests", "cost", unweighed), ("quality", "p50 ms", "p99 ms", "front"), 20
    )
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
    front = ", ".join(_name(variant.group) for variant in rated if variant.on_front)
    return f"On the front of quality and {latency}: {front or 'none'}; {_how_many(beaten)}."


def _how_many(beaten: list[Variant]) -> str:
    """Count who is beaten, those for certain apart from those that probably are."""
    certain = sum(variant.dominated_by[0].certainty == Certainty.CERTAIN for variant in beaten)
    counted = certain or len(beaten)
    number = "one variant is" if counted == 1 else f"{counted} variants are"
    if not certain:
        return f"{number} probably beaten at both"
    return f"{number} beaten at both" + (f", {len(beaten) - certain} probably" if certain < len(beaten) else "")


def _counts(result: Pareto) -> str:
    rated = sum(variant.rated for variant in result.variants)
    direction = "lower is better" if result.lower_is_better else "higher is better"
    return (
        f"Quality is {printable(result.quality_key)} ({direction}); {rated:,} of {result.sampled:,} requests carry it."
    )


def _notes(result: Pareto, *, with_cost: bool) -> list[str]:
    notes = [_beaten(variant) for variant in result.variants if variant.dominated_by]
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


def _figures(variant: Variant, *, with_cost: bool) -> dict[str, str]:
    cost = {"cost": NO_VALUE if variant.cost is None else significant(variant.cost * 1000)} if with_cost else {}
    return {
        "requests": f"{variant.requests:,}",
        "quality": _estimate(variant.quality) if variant.quality else NO_VALUE,
        "p50 ms": _estimate(variant.p50_ms),
        "p99 ms": _estimate(variant.p99_ms),
        **cost,
        "front": _front(variant),
    }


def _front(variant: Variant) -> str:
    if variant.quality is None:
        return NO_VALUE
    if variant.dominated_by:
        return "no" if variant.dominated_by[0].certainty == Certainty.CERTAIN else "probably not"
    return "yes" if variant.on_front_by_estimate else "open"


def _beaten(variant: Variant) -> str:
    """Name all that are better at both, the certain ones first."""
    certain = [_name(each.by) for each in variant.dominated_by if each.certainty == Certainty.CERTAIN]
    probable = [_name(each.by) for each in variant.dominated_by if each.certainty != Certainty.CERTAIN]
    parts = [f"by {', '.join(certain)}"] if certain else []
    if probable:
        parts.append(f"probably by {', '.join(probable)}")
    return f"{_name(variant.group)} is beaten at both {'; '.join(parts)}."


def _name(group: dict[str, str]) -> str:
    return " / ".join(printable(value) or EMPTY for value in group.values())


def _estimate(estimate: Estimate) -> str:
    value = significant(estimate.value)
    if estimate.low is None and estimate.high is None:
        return value
    return f"{value} [{within(Interval(estimate.low, estimate.high))}]"
