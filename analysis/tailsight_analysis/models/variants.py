"""Variants of what serves requests: how good, how fast, and which others are better at both. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tailsight_analysis.models.result import Dominated, Variant
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.requests.ledger import Ledger
from tailsight_analysis.requests.traits import NO_TRAIT, traits_of_requests
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.dominance import Estimate, Rated, dominates
from tailsight_analysis.statistics.intervals import Cells, quantile_intervals
from tailsight_analysis.statistics.linearised import blocks_in_time, mean_interval
from tailsight_analysis.statistics.paired import weighted_quantile

LEAST_RATED = 10  # stored requests of a variant with a quality, for an interval


@dataclass(frozen=True, slots=True)
class VariantsOfRequests:
    """Which variant each request is of: `of_request` indexes `names`, NO_TRAIT where it is of none."""

    names: list[tuple[str, ...]]
    of_request: Ints


def variants_of_requests(ledger: Ledger, dimensions: int) -> VariantsOfRequests:
    """Find the variant of each request: the one that its critical path spent most time on.

    A variant is what the first so many dimensions of the ledger's groups say, where the first of them says anything.
    Of a request whose path has none, it is the first in its trace.
    """
    names = sorted({group[:dimensions] for group in ledger.groups})
    number = {name: code for code, name in enumerate(names)}
    of_group = np.array([number[group[:dimensions]] for group in ledger.groups], dtype=np.int64)
    contribution_ns = np.zeros((len(ledger), len(names)))
    np.add.at(contribution_ns.T, of_group, ledger.contribution_ns.T)
    variant = traits_of_requests([name[0] for name in names], contribution_ns)
    of_span = of_group[ledger.sample.group]
    named = np.flatnonzero(np.array([bool(name[0]) for name in names], dtype=np.bool_)[of_span])
    spans = ledger.sample.spans
    named = named[np.argsort(spans.start_ns[named], kind="stable")]
    trace, first = np.unique(spans.trace[named], return_index=True)
    fallback = np.full(int(spans.trace.max(initial=0)) + 1, NO_TRAIT, dtype=np.int64)
    fallback[trace] = of_span[named[first]]
    return VariantsOfRequests(names, np.where(variant == NO_TRAIT, fallback[spans.trace[ledger.entry]], variant))


def mean_by_trace(ledger: Ledger, values: Floats) -> Floats:
    """Mean of the known values that the spans of a request's trace carry, nan where none does."""
    trace, known = ledger.sample.spans.trace, np.isfinite(values)
    count = np.bincount(trace[known], minlength=int(trace.max()) + 1)
    sums = np.bincount(trace[known], values[known], minlength=len(count))
    means = np.divide(sums, count, out=np.full(len(count), np.nan), where=count > 0)
    result: Floats = means[trace[ledger.entry]]
    return result


def rate(
    ledger: Ledger,
    dimensions: Sequence[str],
    variants: VariantsOfRequests,
    rating: Floats,
    cost: Floats | None,
    scale: float,
    latency: str,
    *,
    lower_is_better: bool,
) -> tuple[Variant, ...]:
    """Rate each variant, and say which others are better at both quality and latency.

    Of requests: `rating` is nan where none is known, `cost` may be None. `latency` names the field that counts, `scale`
    is for how many requests one of weight 1 stands.
    """
    block, variant_of = blocks_in_time(ledger.start_ns), variants.of_request
    found = []
    for code in np.unique(variant_of[variant_of != NO_TRAIT]).tolist():
        chosen = variant_of == code
        weight = ledger.weight[chosen]
        rated = chosen & np.isfinite(rating)
        p50, p99 = _latencies(ledger, chosen, block)
        found.append(
            Variant(
                group=dict(zip(dimensions, variants.names[code], strict=True)),
                requests=round(float(weight.sum()) * scale),
                sampled=int(chosen.sum()),
                rated=int(rated.sum()),
                quality=_mean(rating[rated], ledger.weight[rated], block[rated]) if rated.any() else None,
                p50_ms=p50,
                p99_ms=p99,
                cost=None if cost is None else float(weight @ cost[chosen]) / float(weight.sum()),
                on_front=False,
                on_front_by_estimate=False,
                dominated_by=(),
            )
        )
    judged = [_judged(each, found, latency, lower_is_better=lower_is_better) for each in found]
    sign = 1 if lower_is_better else -1
    judged.sort(
        key=lambda each: (each.quality is None, sign * each.quality.value if each.quality else 0, -each.sampled)
    )
    return tuple(judged)


# --- inside -----------------------------------------------------------------------------------------------------------


def _judged(variant: Variant, others: list[Variant], latency: str, *, lower_is_better: bool) -> Variant:
    """Say who dominates a variant, and whether it is on the front."""
    mine = _rated(variant, latency)
    if mine is None:
        return variant
    sign = -1 if lower_is_better else 1
    dominated, beaten = [], False
    for other in others:
        theirs = _rated(other, latency)
        if other is variant or theirs is None:
            continue
        gain = (sign * (theirs.quality.value - mine.quality.value), mine.latency.value - theirs.latency.value)
        beaten |= min(gain) >= 0 and max(gain) > 0
        certainty = dominates(theirs, mine, lower_quality_is_better=lower_is_better)
        if certainty:
            dominated.append(Dominated(other.group, certainty))
    dominated.sort(key=lambda each: (str(each.certainty), tuple(each.by.values())))
    return replace(variant, on_front=not dominated, on_front_by_estimate=not beaten, dominated_by=tuple(dominated))


def _rated(variant: Variant, latency: str) -> Rated | None:
    return Rated(variant.quality, getattr(variant, latency)) if variant.quality else None


def _latencies(ledger: Ledger, chosen: Bools, block: Ints) -> tuple[Estimate, Estimate]:
    """p50 and p99 in ms, with their intervals."""
    values, weight = ledger.duration_ns[chosen] / NS_PER_MS, ledger.weight[chosen]
    points = weighted_quantile(values, weight, (0.5, 0.99)).tolist()
    bounds = quantile_intervals(Cells.of_values(values, block[chosen], weight), (0.5, 0.99), points)
    p50, p99 = (Estimate(point, each.low, each.high) for point, each in zip(points, bounds, strict=True))
    return p50, p99


def _mean(values: Floats, weight: Floats, block: Ints) -> Estimate:
    """Weighted mean with its interval."""
    interval = mean_interval(values, weight, block) if len(values) >= LEAST_RATED else None
    mean = float(weight @ values) / float(weight.sum())
    return Estimate(mean, *(interval or (None, None)))
