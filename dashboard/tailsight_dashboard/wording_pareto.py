"""The sentences on quality against latency, in Markdown."""

from __future__ import annotations

from tailsight_analysis import Certainty, Pareto, Variant
from tailsight_dashboard.format import count, plain, share
from tailsight_dashboard.wording_basis import basis, missing

PARETO_HELP = (
    "Up and left is better. A variant is on the front where no other is better at both quality and p99, certainly or "
    "probably. Crosses are 95 % intervals."
)


def no_quality(by: str) -> str:
    """Say what it takes to weigh quality against latency."""
    return (
        f"No request here both carries a quality and names a {by}, so accuracy cannot be weighed against speed. Set a "
        'number on any span of a request, like `stage.set("tailsight.quality", 0.87)`; keys that speak of accuracy, '
        "score, F1, WER and the like are found too."
    )


def headline(result: Pareto) -> str:
    """Say what is on the front."""
    rated = [variant for variant in result.variants if variant.quality]
    if not rated:
        return f"No {result.by[0]} has a quality: requests that carry {_key(result)} are of none."
    if len(rated) == 1:
        return f"Only **{name(rated[0])}** has a quality: there is nothing to weigh it against."
    beaten = [variant for variant in rated if variant.dominated_by]
    latency = result.latency.removesuffix("_ms")
    if not beaten:
        return f"None of {len(rated)} is beaten at both quality and {latency}, as far as these data say."
    front = ", ".join(f"**{name(variant)}**" for variant in rated if variant.on_front)
    return f"On the front of quality and {latency}: {front or 'none'}; {_how_many(beaten)}."


def _how_many(beaten: list[Variant]) -> str:
    """Count who is beaten, those for certain apart from those that probably are."""
    certain = sum(variant.dominated_by[0].certainty == Certainty.CERTAIN for variant in beaten)
    counted = certain or len(beaten)
    number = "one is" if counted == 1 else f"{counted} are"
    if not certain:
        return f"{number} probably beaten at both"
    return f"{number} beaten at both" + (f", {len(beaten) - certain} probably" if certain < len(beaten) else "")


def notes(result: Pareto) -> str:
    """Say who beats whom, and what the figures rest on."""
    rated = sum(variant.rated for variant in result.variants)
    direction = "lower" if result.lower_is_better else "higher"
    carry = f"{count(rated)} of {count(result.sampled)} requests carry it"
    found = [f"Quality is {_key(result)} ({direction} is better); {carry}."]
    found += [_beaten(variant) for variant in result.variants if variant.dominated_by]
    if result.candidates:
        found.append(f"Other keys that may mean quality: {', '.join(plain(key) for key in result.candidates)}.")
    if result.unnamed_share >= 0.001:
        found.append(f"{share(result.unnamed_share)} of the requests name no {result.by[0]}.")
    if any(variant.quality and variant.on_front and not variant.on_front_by_estimate for variant in result.variants):
        found.append("“Open”: another looks better at both, but within chance. More requests would tell.")
    found += basis(result.requests, result.stored, result.sampled, weighted=result.weighted)
    return " ".join([*found, *missing(result.data)])


def label(variant: Variant) -> str:
    """Name a variant as it is."""
    return " / ".join(value or "(none)" for value in variant.group.values())


def name(variant: Variant) -> str:
    """Name a variant in Markdown."""
    return plain(label(variant))


def front(variant: Variant) -> str:
    """Say whether a variant is on the front: `yes`, `open`, `probably not`, `no`; a dash without a quality."""
    if variant.quality is None:
        return "—"
    if variant.dominated_by:
        return "no" if variant.dominated_by[0].certainty == Certainty.CERTAIN else "probably not"
    return "yes" if variant.on_front_by_estimate else "open"


def _beaten(variant: Variant) -> str:
    certain = [plain(" / ".join(each.by.values())) for each in variant.dominated_by if each.certainty == "certain"]
    probable = [plain(" / ".join(each.by.values())) for each in variant.dominated_by if each.certainty != "certain"]
    parts = [f"by {', '.join(certain)}"] if certain else []
    if probable:
        parts.append(f"probably by {', '.join(probable)}")
    return f"{name(variant)} is beaten at both {'; '.join(parts)}."


def _key(result: Pareto) -> str:
    return f"**{plain(result.quality_key)}**"
