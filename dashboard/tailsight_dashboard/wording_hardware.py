"""The sentences of the Hardware view, in Markdown: which type is how much faster at the same work, and at what cost."""

from __future__ import annotations

from tailsight_analysis import Hardware, HardwareComparison, HardwareType, HardwareUse
from tailsight_dashboard.format import duration, plain, share
from tailsight_dashboard.wording_basis import basis, missing

SIGNIFICANCE = 0.05
WAITING = ("queue", "network")  # no device works in them
MOST_SENTENCES = 3
LEAST_COMPARABLE = 0.5
_SAME = 0.005  # from 1: a ratio that reads 1.00
_DIFFERENT = 0.05  # between raw and like with like, relative, from which on both are said
WHOLE_REQUESTS = "whole requests"
LIKE_WITH_LIKE_HELP = (
    "Types get different work: larger batches, longer inputs, other models. Like with like compares them over one mix "
    "of the work that both did. Filled: like with like, with its 95 % interval; hollow: raw, as it came. 2× takes "
    "twice as long as the reference, which is the type with the most spans."
)
USE_HELP = (
    "Busy: the stages' own time but for queue and network, divided among the requests of a batch; of the requests that "
    "used the type at all. Paid: all time of all devices, idle time too."
)
_REASONS = {
    ("batch_size", True): "larger batches",
    ("batch_size", False): "smaller batches",
    ("input_length", True): "longer inputs",
    ("input_length", False): "shorter inputs",
    ("model", None): "another mix of models",
    ("operation", None): "another mix of operations",
}


def headline(result: Hardware) -> list[str]:
    """Say which types are slower at what, those that lose most time first; one sentence at least."""
    found: list[tuple[bool, float, str]] = []
    for comparison in result.comparisons:
        for each in comparison.types:
            ours = each.standardised
            if ours is None or comparison.stage in WAITING or ours.p_value is None:
                continue
            if ours.p_value <= SIGNIFICANCE and abs(ours.mean_ratio.value - 1) >= _SAME:
                lost = abs(ours.mean_ms - ours.reference_mean_ms) * each.count
                found.append((comparison.stage is None, -lost, _sentence(comparison, each)))
    if found:
        return [sentence for _, _, sentence in sorted(found)[:MOST_SENTENCES]]
    if any(each.standardised for comparison in result.comparisons for each in comparison.types):
        return ["No hardware type is faster or slower than another at the same work, beyond chance and half a percent."]
    return [nothing_to_compare(result)]


def nothing_to_compare(result: Hardware) -> str:
    """Say why no types are compared."""
    if any(len(comparison.types) > 1 for comparison in result.comparisons):
        return "Nothing to compare: the hardware types did too little of the same work."
    types = {each.hardware for comparison in result.comparisons for each in comparison.types}
    types |= {use.hardware for use in result.uses if use.hardware}
    if not types:
        return "Nothing to compare: no span says on which hardware it ran."
    if len(types) == 1:
        return f"Nothing to compare: all work was done on **{plain(next(iter(types)))}**."
    return "Nothing to compare: no stage ran on more than one hardware type."


def title(comparison: HardwareComparison) -> str:
    """Name what is compared, as it is."""
    return WHOLE_REQUESTS if comparison.stage is None else comparison.stage


def sorted_by(result: Hardware) -> str:
    """Say by what work was sorted before it was compared."""
    if not result.covariates:
        return "Spans carry nothing to sort work by: no model, batch size or input length. Raw numbers are compared."
    names = [
        f"{plain(each.label)} ({plain(each.key)})" if each.key else plain(each.label) for each in result.covariates
    ]
    return f"Work is sorted by {', '.join(names)}."


def notes(result: Hardware) -> str:
    """Say what the comparison rests on, and what weakens it."""
    compared = [comparison.types for comparison in result.comparisons if len(comparison.types) > 1]
    found = [sorted_by(result)] if compared else []
    others = [
        each.comparable_share
        for comparison in result.comparisons
        for each in comparison.types
        if each.hardware != comparison.reference
    ]
    if others and min(others) < LEAST_COMPARABLE:
        found.append(
            "Where little is comparable, the types did different work, and nobody can say how they would compare."
        )
    several = {each.hardware for types in compared for each in types if each.hosts > 1}
    if lonely := sorted({each.hardware for types in compared for each in types} - several):
        names = ", ".join(plain(name) for name in lonely)
        found.append(f"One host only: {names}. What is the host's own looks like its type's.")
    if result.unknown_share >= 0.01:
        found.append(f"{share(result.unknown_share)} of the stages' time was spent on no known hardware.")
    found += basis(result.requests, result.stored, result.sampled, weighted=result.weighted)
    return " ".join([*found, *missing(result.data)])


def use_notes(result: Hardware, priced: list[str], variable: str) -> str:
    """Say what costs and energy are of, or how to have them."""
    found = []
    if any(use.price_per_hour is not None for use in result.uses):
        found.append("Costs are of 1,000 requests, in the currency of the prices.")
    elif not priced:
        found.append(f"Costs need prices: `{variable}='NVIDIA L4=0.71; NVIDIA H100 80GB HBM3=2.99'`, an hour each.")
    seen = {use.hardware.casefold() for use in result.uses}
    if unseen := [plain(name) for name in priced if name.casefold() not in seen]:
        found.append(f"Priced, but not seen: {', '.join(unseen)}.")
    if any(use.power_w is not None for use in result.uses):
        found.append("Energy (J) is of one request.")
    else:
        found.append("No power of these devices was measured, so energy is not known.")
    if any(use.utilisation is None for use in result.uses):
        found.append("With filters, nobody knows what else the devices did: no utilisation, nor what was paid.")
    return " ".join(found)


def shown_uses(result: Hardware) -> list[HardwareUse]:
    """Return the uses that say something."""
    return [use for use in result.uses if use.busy_ms]


def times(ratio: float | None) -> str:
    """Format how many times as long: `1.85×`, `12×`; close to 1 the second decimal says which side it is on."""
    if ratio is None:
        return "—"
    if ratio > 9_999:
        return ">9,999×"
    return f"{ratio:.2f}×" if ratio < 1.995 else f"{ratio:.1f}×" if ratio < 99.5 else f"{ratio:,.0f}×"


def _sentence(comparison: HardwareComparison, each: HardwareType) -> str:
    ours = each.standardised
    if ours is None:
        return ""
    ratio = ours.mean_ratio
    slower = ratio.value >= 1
    value, low, high = ratio.value, ratio.low, ratio.high
    if not slower:
        value, low, high = 1 / ratio.value, 1 / ratio.high if ratio.high else None, 1 / ratio.low if ratio.low else None
    interval = f" [{times(low).rstrip('×')} to {times(high)}]" if low is not None and high is not None else ""
    what = f"for {WHOLE_REQUESTS}" if comparison.stage is None else f"at **{plain(comparison.stage)}**"
    text = (
        f"**{plain(each.hardware)}** is **{times(value)} {'slower' if slower else 'faster'}**{interval} than "
        f"{plain(comparison.reference)} {what}, like with like"
    )
    if each.raw_ratio and abs(each.raw_ratio / ratio.value - 1) >= _DIFFERENT:
        raw = each.raw_ratio if slower else 1 / each.raw_ratio
        # a ratio below 1 would say the opposite of its word
        text += f"; raw {times(raw) if raw >= 1 else f'{times(1 / raw)} ' + ('faster' if slower else 'slower')}"
        if ours.because:
            reason = _REASONS.get((ours.because.name, ours.more), f"another mix of {plain(ours.because.label)}")
            text += f": it gets {reason}"
    return f"{text}."


def milliseconds_of(each: HardwareType, comparison: HardwareComparison) -> str:
    """Name a type's figures for a hover text."""
    ours = each.standardised
    if ours is None:
        return f"raw mean {duration(each.raw_mean_ms)}"
    return (
        f"{duration(ours.mean_ms)} where {comparison.reference} takes {duration(ours.reference_mean_ms)}, like with "
        f"like; raw mean {duration(each.raw_mean_ms)}"
    )
