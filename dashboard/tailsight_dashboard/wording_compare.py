"""The sentences on two sides, in Markdown: what changed, and is it mix or slowdown."""

from __future__ import annotations

from tailsight_analysis import Comparison, Difference, Filters, SlowdownCause
from tailsight_analysis.compare import SideCount
from tailsight_dashboard.format import count, duration, p_value, plain, share, signed_duration
from tailsight_dashboard.wording_basis import missing

EXPLANATION = (
    "Splits what changed from the baseline to the candidate into workload mix (something else was asked), hardware mix "
    "(it ran elsewhere) and slowdown (the same takes longer), and names the operations that take longer. Takes some "
    "seconds."
)
MORE = "Take more time, or two others."


def too_few(nouns: str) -> str:
    """Say that there are no two to compare."""
    return f"Nothing to compare: fewer than two {nouns} here. Take more time."


def headline(result: Comparison) -> str:
    """Say in one sentence how p99 changed, how much of it is mix, and what is slower."""
    found = result.findings
    p99 = found.differences["p99"]
    text = f"p99 went from {duration(p99.baseline_ms)} to **{duration(p99.candidate_ms)}**"
    if found.is_only_mix:
        return f"{text}; the sides were asked too different things to tell mix from slowdown."
    if found.causes:
        first = found.causes[0]
        where = ", in its long times only" if first.where == "tail" else ""
        more = f"**{signed_duration(first.delta.ms)}** a request{where}, {share(first.share)} of the slowdown"
        return f"{text}. Slower first of all: **{plain(place(first))}**, {more}."
    if found.suspects:
        first = found.suspects[0]
        return (
            f"{text}. Nothing is proven. Most of the growth, {share(max(first.share, first.tail_share))}, is "
            f"**{plain(place(first))}**: it could be chance (p {_p(first.p_value)})."
        )
    return f"{text}; no operation is slower for the same work on the same hardware, beyond chance."


def went(name: str, difference: Difference) -> str:
    """Head a chart: `**p50** 8.10 ms → 9.98 ms`."""
    return f"**{name}** {duration(difference.baseline_ms)} → {duration(difference.candidate_ms)}"


def sides(result: Comparison) -> str:
    """Say what is compared with what, and how many requests both are."""
    pair = ((result.baseline, result.baseline_count), (result.candidate, result.candidate_count))
    is_same = result.baseline.window == result.candidate.window
    names = [
        f"**{plain(_name(side.filters))}** ({count(number.requests)} requests"
        + ("" if is_same else f", {plain(side.window.label)}")
        + ")"
        for side, number in pair
    ]
    return " against ".join(names) + (f" · {plain(result.baseline.window.label)}" if is_same else "")


def place(cause: SlowdownCause) -> str:
    """Name an operation: `ranker forward (compute) on L4`."""
    name = " ".join(part for part in (cause.service, cause.name) if part)
    if cause.stage and cause.stage != cause.name:
        name += f" ({cause.stage})"
    return f"{name} on {cause.hardware}" if cause.hardware else name


def notes(result: Comparison) -> str:
    """Say what could not be compared, and what the figures rest on."""
    found = result.findings
    sentences = []
    for each in found.not_comparable:
        what = plain(each.covariate)
        lacking = f"{share(each.candidate_share)} of the candidate's and {share(each.baseline_share)} of the baseline's"
        if not each.adjusted and found.is_only_mix:
            sentences.append(f"The sides have nothing in common of {what}: all of the change counts as mix.")
        elif each.adjusted:
            sentences.append(f"Not comparable by {what}: {lacking} requests have no counterpart; they count as mix.")
        else:
            sentences.append(
                f"Not adjusted for {what}, of which the sides have nothing in common: what it makes slower is not told "
                "apart from a slowdown."
            )
    if unsure := [name for name, each in found.differences.items() if None in (each.delta.low_ms, each.delta.high_ms)]:
        sentences.append(f"Too few requests for an interval of {' and '.join(unsure)}.")
    for name, number in (("baseline", result.baseline_count), ("candidate", result.candidate_count)):
        sentences += _basis(name, number)
    return " ".join(sentences)


def _basis(name: str, number: SideCount) -> list[str]:
    sentences = []
    if number.stored is not None:
        sentences.append(
            f"Estimates: {count(number.stored)} of the {name} stand for {count(number.requests)} requests."
        )
    if number.looked_at < (number.stored or number.requests):
        sentences.append(f"Figures come from {count(number.looked_at)} of the {name}'s requests.")
    return [*sentences, *(f"{name.capitalize()}: {note}" for note in missing(number.data))]


def _name(filters: Filters) -> str:
    return filters.label or "all requests"


def _p(value: float) -> str:
    text = p_value(value)
    return text.replace("<", "< ") if text.startswith("<") else f"= {text}"
