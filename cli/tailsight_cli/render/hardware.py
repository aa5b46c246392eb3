"""Hardware types compared at the same work, in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Hardware, HardwareComparison, HardwareType, HardwareUse, Ratio
from tailsight_cli.render.fitting import FittingRow, FittingTable
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
    within,
)

SIGNIFICANCE = 0.05
WAITING = ("queue", "network")
MOST_SENTENCES = 3
LEAST_COMPARABLE = 0.5
_RATIO = "like with like"
_WITHIN = "p99 within"
_DROPPED = ("count", _WITHIN, "p50 ms", "at p99", "p99 ms", "comparable")
_SAME = 0.005  # from 1: a ratio that reads 1.00
_DIFFERENT = 0.05  # between raw and standardised ratio, relative, from which on both are said


def render_hardware(result: Hardware, priced: Sequence[str] = ()) -> RenderableType:
    """Verdict in sentences, types stage by stage, and what requests take of each; `priced` have a price."""
    parts: list[RenderableType] = [title_line("Hardware, like with like", result.window, result.filters.label)]
    parts += [Text(sentence, style="bold") for sentence in verdict(result)]
    if result.comparisons:
        parts += [Text(_sorted_by(result) + "\n"), _types(result)]
    parts += note_lines(_notes(result))
    if any(use.busy_ms for use in result.uses):
        parts += [Text(""), _uses(result.uses), *note_lines(_use_notes(result, priced))]
    return Group(*parts)


def verdict(result: Hardware) -> list[str]:
    """Say in a few sentences which types are slower at what, those with the most time lost first."""
    found = []
    for comparison in result.comparisons:
        for each in comparison.types:
            ours = each.standardised
            waits = comparison.stage in WAITING  # no device works in them
            if ours is None or waits or ours.p_value is None or abs(ours.mean_ratio.value - 1) < _SAME:
                continue
            if ours.p_value <= SIGNIFICANCE:
                lost = abs(ours.mean_ms - ours.reference_mean_ms) * each.count
                found.append((comparison.stage is None, -lost, _sentence(comparison, each)))
    if found:
        return [sentence for _, _, sentence in sorted(found)[:MOST_SENTENCES]]
    if any(each.standardised for comparison in result.comparisons for each in comparison.types):
        return ["No hardware type is faster or slower than another at the same work, beyond chance and half a percent."]
    several = any(len(comparison.types) > 1 for comparison in result.comparisons)
    reason = "types did too little of the same work" if several else "no stage ran on more than one known type"
    return [f"Nothing to compare: {reason}."]


def _sentence(comparison: HardwareComparison, each: HardwareType) -> str:
    ours = each.standardised
    if ours is None:
        return ""
    ratio = ours.mean_ratio
    slower = ratio.value >= 1
    what = "for whole requests" if comparison.stage is None else f"at {printable(comparison.stage)}"
    value, low, high = (ratio.value, ratio.low, ratio.high) if slower else _inverted(ratio)
    interval = f" [{_times(low)}–{_times(high)}]" if low is not None and high is not None else ""
    text = (
        f"{printable(each.hardware)} is {_times(value)}× {'slower' if slower else 'faster'} than "
        f"{printable(comparison.reference)} {what}, like with like{interval}"
    )
    if each.raw_ratio and abs(each.raw_ratio / ratio.value - 1) >= _DIFFERENT:
        raw = each.raw_ratio if slower else 1 / each.raw_ratio
        # a ratio below 1 would say the opposite of its word
        shown = f"{_times(raw)}×" if raw >= 1 else f"{_times(1 / raw)}× {'faster' if slower else 'slower'}"
        text += f"; raw {shown}"
        if ours.because:
            text += f": it gets {_reason(each)}"
    return f"{text}."


def _reason(each: HardwareType) -> str:
    ours = each.standardised
    if ours is None or ours.because is None:
        return ""
    words = {
        ("batch_size", True): "larger batches", ("batch_size", False): "smaller batches",
        ("input_length", True): "longer inputs", ("input_length", False): "shorter inputs",
        ("model", None): "another mix of models", ("operation", None): "another mix of operations",
    }  # fmt: skip
    return words.get((ours.because.name, ours.more), f"another mix of {ours.because.label}")


def _types(result: Hardware) -> RenderableType:
    rows = []
    for comparison in result.comparisons:
        title = "whole requests" if comparison.stage is None else printable(comparison.stage)
        rows.append(FittingRow(title, None))
        rows += [FittingRow(f"  {printable(each.hardware)}", _figures(comparison, each)) for each in comparison.types]
    return FittingTable("", rows, _DROPPED, left=(_RATIO,))


def _figures(comparison: HardwareComparison, each: HardwareType) -> dict[str, str]:
    figures = {
        "count": f"{each.count:,}",
        "p50 ms": significant(each.raw_p50_ms),
        "p99 ms": significant(each.raw_p99_ms),
        _WITHIN: within(each.raw_p99_interval),
        "raw": NO_VALUE if each.raw_ratio is None else f"{_times(each.raw_ratio)}×",
        _RATIO: NO_VALUE,
        "at p99": NO_VALUE,
        "comparable": percent(each.comparable_share),
    }
    ours = each.standardised
    if each.hardware == comparison.reference:
        figures |= {_RATIO: "(reference)", "comparable": ""}
    elif ours is not None:
        mean = ours.mean_ratio
        interval = (
            f" [{_times(mean.low)}–{_times(mean.high)}]" if mean.low is not None and mean.high is not None else ""
        )
        figures[_RATIO] = f"{_times(mean.value)}×{interval}"
        if ours.p99_ratio is not None:
            figures["at p99"] = f"{_times(ours.p99_ratio.value)}×"
    return figures


def _uses(uses: Sequence[HardwareUse]) -> RenderableType:
    table = new_table()
    table.add_column("per request", overflow="fold", min_width=12)
    for heading in ("devices", "busy ms", "utilised"):
        table.add_column(heading, justify="right", no_wrap=True)
    with_price = any(use.price_per_hour is not None for use in uses)
    with_power = any(use.power_w is not None for use in uses)
    headings = (["cost busy", "cost paid"] if with_price else []) + (["J busy", "J in all"] if with_power else [])
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for use in uses:
        cells = [f"{use.devices:,}", significant(use.busy_ms), NO_VALUE]
        if use.utilisation is not None:
            cells[2] = percent(use.utilisation)
        if with_price:
            cells += [_per_thousand(use.cost_busy), _per_thousand(use.cost_paid)]
        if with_power:
            cells += [_joules(use.energy_busy_j), _joules(use.energy_j)]
        table.add_row(Text(printable(use.hardware)), *cells)
    return table


def _notes(result: Hardware) -> list[str]:
    notes = []
    if result.comparisons:
        notes.append(
            "Ratios are of mean times: 2× takes twice as long as the reference; “raw” is as it came, of all work."
        )
    shares = [
        each.comparable_share
        for comparison in result.comparisons
        for each in comparison.types
        if each.hardware != comparison.reference
    ]
    if shares and min(shares) < LEAST_COMPARABLE:
        notes.append(
            "Where little is comparable, the types did different work, and nobody can say how they would compare."
        )
    compared = [comparison.types for comparison in result.comparisons if len(comparison.types) > 1]
    several = {each.hardware for types in compared for each in types if each.hosts > 1}
    lonely = {each.hardware for types in compared for each in types} - several
    if lonely:
        names = ", ".join(sorted(printable(name) for name in lonely))
        notes.append(f"One host only: {names}. What is the host's own looks like its type's.")
    if result.unknown_share >= 0.01:
        notes.append(f"{percent(result.unknown_share)} of the stages' time was spent on no known hardware.")
    if result.weighted:
        notes.append(f"Estimates: {requests_text(result.stored)} that were kept stand for {result.requests:,}.")
    if result.sampled < result.stored:
        notes.append(f"Figures come from {result.sampled:,} of {requests_text(result.stored)}.")
    return [*notes, *data_notes(result.data)]


def _use_notes(result: Hardware, priced: Sequence[str]) -> list[str]:
    notes = ["“busy” is stages' own time but for queue and network, divided among the requests of a batch."]
    if any(use.price_per_hour is not None for use in result.uses):
        notes.append("Costs are of 1,000 requests: busy time at the price, and all time of all devices.")
    seen = {use.hardware.casefold() for use in result.uses}
    missing = [printable(name) for name in priced if name.casefold() not in seen]
    if missing:
        notes.append(f"Priced, but not seen: {', '.join(missing)}.")
    if any(use.power_w is not None for use in result.uses):
        notes.append("Energy (J) is of one request: busy time at the mean power, and all energy of all devices.")
    return notes


def _sorted_by(result: Hardware) -> str:
    if not result.covariates:
        return "Spans carry nothing to sort work by: no model, batch size or input length; raw numbers are compared."
    names = [f"{each.label} ({printable(each.key)})" if each.key else each.label for each in result.covariates]
    return f"Sorted by {', '.join(names)}."


def _inverted(ratio: Ratio) -> tuple[float, float | None, float | None]:
    low = 1 / ratio.high if ratio.high else None
    high = 1 / ratio.low if ratio.low else None
    return 1 / ratio.value, low, high


def _times(ratio: float | None) -> str:
    if ratio is None:
        return NO_VALUE
    # close to 1, the second decimal says which side it is on
    return f"{ratio:.2f}" if ratio < 1.995 else f"{ratio:.1f}" if ratio < 99.5 else f"{ratio:,.0f}"


def _per_thousand(cost: float | None) -> str:
    return NO_VALUE if cost is None else significant(cost * 1000)


def _joules(energy: float | None) -> str:
    return NO_VALUE if energy is None else significant(energy)
