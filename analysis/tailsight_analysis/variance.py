"""Which stages make requests differ from each other? Their variance as a ledger. See docs/analysis/variance.md."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tailsight_analysis.errors import NoSpansError, NotEnoughDataError
from tailsight_analysis.quality import data_quality
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.requests.ledger import Ledger, fetch_ledger
from tailsight_analysis.requests.sample import Cuts
from tailsight_analysis.requests.traits import contributions_by, traits_of_requests
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_analysis.statistics.linearised import block_sums, blocks_in_time, reach
from tailsight_analysis.statistics.variance_parts import (
    VarianceParts,
    share_of_slowest,
    variance_parts,
)
from tailsight_analysis.variance_result import (
    HardwareVariance,
    Interval,
    StageVariance,
    Variance,
    VarianceLedger,
    VarianceTerm,
)
from tailsight_storage import Store

LEAST_REQUESTS = 10
MAX_STAGES = 40  # pairs of stages grow with the square
OTHER_STAGES = "(other stages)"
UNACCOUNTED = ""
SLOWEST_SHARE = 0.01


def variance(store: Store, window: Window, filters: Filters = NO_FILTERS) -> Variance:
    """Account for the variance of the requests' durations, by stage and by hardware.

    Raises NoSpansError without requests, NotEnoughDataError with fewer than LEAST_REQUESTS stored ones.
    """
    parameters = request_parameters(store, window, filters)
    stored = int(store.ask(query("request_count"), **parameters)[0]["requests"])
    if not stored:
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    if stored < LEAST_REQUESTS:
        missing = LEAST_REQUESTS - stored
        raise NotEnoughDataError(
            f"{stored} requests in {describe(window, filters)} are too few for a variance: {missing} more are needed",
            missing,
        )
    ledger = fetch_ledger(store, parameters, ("stage", "hardware"), Cuts(stored))
    if not len(ledger):  # spans may have gone since they were counted
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    total, hardware, between, interval = account_variance(ledger)
    sampled = len(ledger)
    estimated = round(float(ledger.weight.sum()) * stored / max(sampled, 1))
    weighted = bool(parameters["weighted"])
    requests = estimated if weighted else stored
    data = data_quality(store, parameters, stored=stored, estimated=requests)
    return Variance(window, filters, requests, stored, sampled, weighted, total, hardware, between, interval, data)


def account_variance(
    ledger: Ledger,
) -> tuple[VarianceLedger, tuple[HardwareVariance, ...], float, Interval | None]:
    """Split the variance of a ledger by ("stage", "hardware"): in all, per type, and the share between types."""
    stages, stage_ns = contributions_by(ledger, 0)
    names, hardware_ns = contributions_by(ledger, 1)
    trait = traits_of_requests(names, hardware_ns)
    values, stages = _few_enough(stage_ns / NS_PER_MS, stages, ledger.weight)
    everyone = np.ones(len(ledger), dtype=np.bool_)
    total = _ledger_of(ledger, values, stages, everyone)
    whole_weight, mean_ms = float(ledger.weight.sum()), total.mean_ms
    parts = []
    for code in np.unique(trait).tolist():
        chosen = trait == code
        weight, own_ms = ledger.weight[chosen], ledger.duration_ns[chosen] / NS_PER_MS
        share = float(weight.sum()) / whole_weight
        own_mean = float(weight @ own_ms) / float(weight.sum())
        own_variance = float(weight @ (own_ms - own_mean) ** 2) / float(weight.sum())
        parts.append(
            HardwareVariance(
                hardware=names[code] if code >= 0 else "",
                requests=int(chosen.sum()),
                request_share=share,
                mean_ms=own_mean,
                sd_ms=math.sqrt(own_variance),
                within_share=share * own_variance / total.variance_ms2 if total.variance_ms2 else 0.0,
                between_share=share * (own_mean - mean_ms) ** 2 / total.variance_ms2 if total.variance_ms2 else 0.0,
                ledger=_ledger_of(ledger, values, stages, chosen) if chosen.sum() >= LEAST_REQUESTS else None,
            )
        )
    parts.sort(key=lambda part: (-part.within_share - part.between_share, part.hardware))
    between = sum(part.between_share for part in parts)
    return total, tuple(parts), between, _between_interval(ledger, trait, between) if total.sd_ms else None


def _few_enough(values: Floats, stages: list[str], weight: Floats) -> tuple[Floats, list[str]]:
    """Put the stages with the least covariance with the request into one, where there are more than MAX_STAGES."""
    if len(stages) <= MAX_STAGES:
        return values, stages
    deviation = values.sum(axis=1) - float(weight @ values.sum(axis=1)) / float(weight.sum())
    covariance = np.abs((weight * deviation) @ (values - values.mean(axis=0)))
    covariance[[stage == UNACCOUNTED for stage in stages]] = np.inf
    kept = np.sort(np.argsort(-covariance, kind="stable")[: MAX_STAGES - 1])
    rest = np.setdiff1d(np.arange(len(stages)), kept)
    merged = np.column_stack((values[:, kept], values[:, rest].sum(axis=1)))
    return merged, [*(stages[column] for column in kept), OTHER_STAGES]


def _ledger_of(ledger: Ledger, values: Floats, stages: list[str], chosen: Bools) -> VarianceLedger:
    """Account for the chosen requests. `values` are the contributions of the stages to all, in ms."""
    values, weight = values[chosen], ledger.weight[chosen]
    there = np.flatnonzero(np.any(values != 0, axis=0))
    values, stages = values[:, there], [stages[column] for column in there]
    if not stages:
        return VarianceLedger(len(values), 0.0, 0.0, (), (), 0.0)
    parts = variance_parts(values, weight, blocks_in_time(ledger.start_ns[chosen]))
    slowest_share, slowest = share_of_slowest(values.sum(axis=1), weight, SLOWEST_SHARE)
    usual = variance_parts(values[~slowest], weight[~slowest], np.zeros(int((~slowest).sum()), dtype=np.int64))
    return VarianceLedger(
        requests=len(values),
        mean_ms=float(parts.mean.sum()),
        sd_ms=math.sqrt(parts.variance),
        stages=_stages(parts, usual, stages),
        terms=_terms(parts, stages),
        slowest_share=slowest_share if parts.variance else 0.0,
    )


def _stages(parts: VarianceParts, usual: VarianceParts, stages: list[str]) -> tuple[StageVariance, ...]:
    found = []
    for place, stage in enumerate(stages):
        own = float(parts.covariance[place, place])
        own_share = own / parts.variance if parts.variance else 0.0
        share = float(parts.share[place])
        found.append(
            StageVariance(
                stage=stage,
                mean_ms=float(parts.mean[place]),
                sd_ms=math.sqrt(max(own, 0.0)),
                share=share,
                share_interval=_at(parts.share_interval, place),
                own_share=own_share,
                joint_share=share - own_share,
                usual_share=float(usual.share[place]),
            )
        )
    return tuple(sorted(found, key=lambda stage: (-stage.share, stage.stage)))


def _terms(parts: VarianceParts, stages: list[str]) -> tuple[VarianceTerm, ...]:
    if not parts.variance:
        return ()
    deviation = np.sqrt(np.maximum(np.diag(parts.covariance), 0.0))
    found = []
    for one in range(len(stages)):
        for other in range(one, len(stages)):
            times = 1 if one == other else 2
            ms2 = times * float(parts.covariance[one, other])
            interval = _at(parts.cell_interval, (one, other))
            scale = float(deviation[one] * deviation[other])
            found.append(
                VarianceTerm(
                    stages=(stages[one],) if one == other else (stages[one], stages[other]),
                    ms2=ms2,
                    share=ms2 / parts.variance,
                    share_interval=(times * interval[0], times * interval[1]) if interval else None,
                    correlation=None if one == other else ms2 / 2 / scale if scale > 1e-12 * parts.variance else 0.0,
                )
            )
    return tuple(sorted(found, key=lambda term: (-abs(term.share), term.stages)))


def _between_interval(ledger: Ledger, trait: Ints, between: float) -> Interval | None:
    """Interval of the share of the variance that lies between the requests' hardware types."""
    total = float(ledger.weight.sum())
    duration_ms = ledger.duration_ns / NS_PER_MS
    centred = duration_ms - float(ledger.weight @ duration_ms) / total
    _, code = np.unique(trait, return_inverse=True)
    mean = (np.bincount(code, ledger.weight * centred) / np.bincount(code, ledger.weight))[code]
    moved = 2 * mean * centred - mean**2 - between * centred**2
    scale = ledger.weight / float(ledger.weight @ centred**2)
    width = reach(block_sums(blocks_in_time(ledger.start_ns), (moved * scale)[:, None]))
    return None if width is None else (max(between - float(width[0]), 0.0), between + float(width[0]))


def _at(interval: tuple[Floats, Floats] | None, place: Any) -> Interval | None:
    return (float(interval[0][place]), float(interval[1][place])) if interval else None
