"""Why are the slow requests slow? Their stages and the causes of their excess. See docs/analysis/tail.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.breakdown import request_summary
from tailsight_analysis.causes.attributes import OverRepresented, fetch_said, over_represented
from tailsight_analysis.causes.causes import Cause, Requests, examples, find_causes
from tailsight_analysis.causes.conditions import Place, facts_of
from tailsight_analysis.causes.device_state import device_numbers, fetch_samples
from tailsight_analysis.causes.load import fetch_load
from tailsight_analysis.causes.redraw import Redraw
from tailsight_analysis.confidence import Scale, request_intervals
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.latency import LEAST_BEYOND
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.requests.accounting import Floats
from tailsight_analysis.requests.ledger import Ledger, fetch_ledger
from tailsight_analysis.requests.sample import Cuts, Picked
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_analysis.statistics.blocks import interval
from tailsight_analysis.statistics.intervals import Interval
from tailsight_storage import Store

LEAST_QUANTILE = 0.6  # typical requests lie between p40 and p60: a tail begins above them
LEAST_REQUESTS = 5  # of four requests none need lie between p40 and p60
DEFAULT_LIMIT = 20
_LONGEST_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Excess:
    """Mean milliseconds per request in the tail and in typical requests, their difference, and its share of the whole.

    The whole is the difference between the mean durations of tail and of typical requests; shares are 0 where it is 0.
    `excess_interval_ms` bounds the difference with 95 % confidence. `tail_path_share` and `typical_path_share` are what
    part of the critical paths of all requests of the class it makes up.
    """

    tail_ms: float
    typical_ms: float
    excess_ms: float
    excess_share: float
    excess_interval_ms: tuple[float, float] | None = None
    tail_path_share: float = 0.0
    typical_path_share: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "tail_ms": self.tail_ms,
            "typical_ms": self.typical_ms,
            "excess_ms": self.excess_ms,
            "excess_interval_ms": list(self.excess_interval_ms) if self.excess_interval_ms else None,
            "excess_share": self.excess_share,
            "tail_path_share": self.tail_path_share,
            "typical_path_share": self.typical_path_share,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StageExcess(Excess):
    """What one stage contributes to the tail beyond what it contributes to typical requests."""

    stage: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        # not super(): dataclasses with slots are made anew, and lose the reference that it needs
        return {"stage": self.stage, **Excess.to_json(self)}


@dataclass(frozen=True, slots=True)
class Examples:
    """Trace ids of requests near the median duration of their class, for `tailsight trace`."""

    tail: tuple[str, ...] = ()
    typical: tuple[str, ...] = ()

    def to_json(self) -> dict[str, list[str]]:
        """Plain data."""
        return {"tail": list(self.tail), "typical": list(self.typical)}


@dataclass(frozen=True, slots=True)
class StoredRequests:
    """How many requests the store holds: in all, of the tail, typical ones."""

    requests: int
    tail: int
    typical: int

    def to_json(self) -> dict[str, int]:
        """Plain data."""
        return {
            "stored_requests": self.requests,
            "stored_tail_requests": self.tail,
            "stored_typical_requests": self.typical,
        }


@dataclass(frozen=True, slots=True)
class Tail:
    """The answer: causes, stages and attributes; all stages and `unaccounted` add up to `total`.

    Causes stand in the order in which one should look at them: what explains most first, where nothing but a stage is
    named a little later. Counts are of all requests; means and shares are over `tail_sampled` and `typical_sampled` of
    them. Where the SDK kept only some requests, counts are estimates, and `stored` has how many of each the store
    holds; else it is None. `threshold_interval` bounds the threshold with 95 % confidence, in ms.
    """

    window: Window
    filters: Filters
    quantile: float
    threshold_ms: float
    requests: int
    tail_requests: int
    typical_requests: int
    total: Excess
    stages: tuple[StageExcess, ...]
    unaccounted: Excess
    attributes: tuple[OverRepresented, ...]
    attributes_tested: int
    tail_sampled: int
    typical_sampled: int
    stored: StoredRequests | None = None
    causes: tuple[Cause, ...] = ()
    examples: Examples = Examples()
    threshold_interval: Interval | None = None
    data: DataQuality | None = None

    @property
    def held(self) -> StoredRequests:
        """How many requests the store holds."""
        return self.stored or StoredRequests(self.requests, self.tail_requests, self.typical_requests)

    @property
    def is_sampled(self) -> bool:
        """Whether means and shares come from a part of the stored requests only."""
        return self.tail_sampled < self.held.tail or self.typical_sampled < self.held.typical

    @property
    def is_rough(self) -> bool:
        """Whether the tail is so few requests that another window could give quite another one."""
        return self.held.tail < LEAST_BEYOND

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/tail.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "quantile": self.quantile,
            "threshold_ms": self.threshold_ms,
            "threshold_interval_ms": self.threshold_interval
            and [self.threshold_interval.low, self.threshold_interval.high],
            "requests": self.requests,
            "tail_requests": self.tail_requests,
            "typical_requests": self.typical_requests,
            "weighted": self.stored is not None,
            **(self.stored.to_json() if self.stored else {}),
            "causes": [cause.to_json() for cause in self.causes],
            "total": self.total.to_json(),
            "stages": [stage.to_json() for stage in self.stages],
            "unaccounted": self.unaccounted.to_json(),
            "attributes": [attribute.to_json() for attribute in self.attributes],
            "attributes_tested": self.attributes_tested,
            "sampled": self.is_sampled,
            "tail_sampled": self.tail_sampled,
            "typical_sampled": self.typical_sampled,
            "examples": self.examples.to_json(),
            "data": self.data.to_json() if self.data else None,
        }


def tail(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    quantile: float = 0.99,
    limit: int = DEFAULT_LIMIT,
) -> Tail:
    """Compare requests at or above the quantile with those from p40 to p60, by stage and attribute; name causes.

    `limit` is the most attributes to list. Raises NoSpansError or NotEnoughDataError where the window has too few
    requests for the quantile: fewer than 1 / (1 − quantile), or than 5.
    """
    if not LEAST_QUANTILE < quantile < 1:
        raise QuestionError(
            f"quantile {quantile:g} is no tail: use one above {LEAST_QUANTILE:g} and below 1, like 0.99"
        )
    parameters = request_parameters(store, window, filters)
    summary = request_summary(store, parameters, quantile)
    if summary is None:
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    stored = None
    if parameters["weighted"]:
        stored = StoredRequests(int(summary["stored"]), int(summary["stored_tail"]), int(summary["stored_typical"]))
    requests, needed = round(summary["estimated"] if stored else summary["requests"]), requests_needed(quantile)
    if requests < needed:
        raise NotEnoughDataError(
            f"{requests:,} requests in {describe(window, filters)} are too few for a tail above p{quantile * 100:g}: "
            f"{needed - requests:,} more are needed",
            needed - requests,
            quantile,
        )
    if stored and (stored.requests < LEAST_REQUESTS or not stored.typical):
        missing = max(1, LEAST_REQUESTS - stored.requests)
        raise NotEnoughDataError(
            f"{stored.requests:,} stored requests in {describe(window, filters)} are too few to compare, though they "
            f"stand for {requests:,}: {missing:,} more are needed",
            missing,
        )
    threshold_ns, typical_from_ns, typical_to_ns = (int(cut) for cut in summary["cuts_ns"])
    # beside the tail not typical requests, but a uniform sample: conditions are compared with all requests, and among
    # them are the typical ones
    cuts = Cuts(
        tail_requests=stored.tail if stored else int(summary["tail_requests"]),
        tail_from_ns=threshold_ns,
        typical_requests=stored.requests if stored else requests,
        typical_to_ns=_LONGEST_NS,
        typical_from_ns=0,
    )
    ledger = fetch_ledger(store, parameters, ("stage", "service"), cuts)
    everyone = ledger.in_typical
    typical = everyone & (ledger.duration_ns >= typical_from_ns) & (ledger.duration_ns <= typical_to_ns)
    ledger = replace(ledger, in_typical=typical)
    if not typical.any() or not ledger.in_tail.any():
        raise NotEnoughDataError(
            f"the sample of {len(ledger)} requests in {describe(window, filters)} has none of the tail or none that is "
            "typical: ask for a shorter window"
        )
    total, stages, unaccounted = account(ledger)
    said = fetch_said(store, parameters, cuts, replace(ledger, in_typical=everyone))
    requests_known = Requests(
        places=tuple(Place(service, stage) for stage, service in ledger.groups),
        contribution_ns=ledger.contribution_ns,
        start_ns=ledger.start_ns,
        duration_ns=ledger.duration_ns,
        weight=ledger.weight,
        everyone=everyone,
        in_tail=ledger.in_tail,
        in_typical=typical,
        trace_ids=ledger.trace_ids,
        tail_part=float(summary["tail_requests"]) / float(summary["estimated"] if stored else requests),
    ).among(said.known)
    in_tail, in_typical, weight = requests_known.in_tail, requests_known.in_typical, requests_known.weight
    attributes, tested = over_represented(
        said.rows,
        in_tail,
        in_typical,
        weight,
        requests_known.start_ns,
        _picked(weight[in_tail]),
        _picked(weight[in_typical]),
    )
    facts = facts_of(said.rows, len(weight))
    typical_ns = round(total.typical_ms * NS_PER_MS)
    count = stored.requests if stored else requests
    facts = facts.with_numbers(*fetch_load(store, parameters, count, requests_known.start_ns, typical_ns))
    middle_ns = requests_known.start_ns + requests_known.duration_ns // 2
    facts = facts.with_numbers(*device_numbers(said.rows, middle_ns, fetch_samples(store, window)))
    data = data_quality(store, parameters, stored=count, estimated=requests)
    return Tail(
        window=window,
        filters=filters,
        quantile=quantile,
        threshold_ms=threshold_ns / NS_PER_MS,
        requests=requests,
        tail_requests=round(summary["tail_requests"]),
        typical_requests=round(summary["typical_requests"]),
        total=total,
        threshold_interval=_threshold_interval(store, parameters, ledger, threshold_ns, quantile, data),
        data=data,
        stages=stages,
        unaccounted=unaccounted,
        attributes=attributes[:limit],
        attributes_tested=tested,
        tail_sampled=int(ledger.in_tail.sum()),
        typical_sampled=int(typical.sum()),
        stored=stored,
        causes=find_causes(requests_known, facts, threshold_ns, quantile),
        examples=Examples(
            examples(ledger.trace_ids, ledger.duration_ns, ledger.in_tail),
            examples(ledger.trace_ids, ledger.duration_ns, typical),
        ),
    )


def _threshold_interval(
    store: Store, parameters: dict[str, Any], ledger: Ledger, threshold_ns: int, quantile: float, data: DataQuality
) -> Interval:
    """Bound the quantile where the tail begins: docs/analysis/confidence.md."""
    # by the spans, for they are what has to be read
    scale = Scale.of(data.spans or data.stored, 1, int(ledger.start_ns.min()), int(ledger.start_ns.max()))
    (found,) = request_intervals(store, parameters, scale, [threshold_ns], data.stored, [quantile])
    return found


def requests_needed(quantile: float) -> int:
    """How many requests it takes until one of them lies above the quantile, and one between p40 and p60 for certain."""
    return max(LEAST_REQUESTS, math.ceil(round(1 / (1 - quantile), 6)))


def account(ledger: Ledger) -> tuple[Excess, tuple[StageExcess, ...], Excess]:
    """Split the difference between tail and typical durations: in all, per stage by descending excess, unaccounted.

    The first name of the ledger's groups is the stage.
    """
    redraw = Redraw.of(ledger.start_ns, ledger.duration_ns, ledger.weight, ledger.in_tail, ledger.in_typical)
    durations = ledger.duration_ns.astype(np.float64)
    tail_total, typical_total = float(redraw.tail @ durations), float(redraw.typical @ durations)
    whole = tail_total - typical_total

    def excess(time_ns: Floats) -> dict[str, Any]:
        in_tail, in_typical = float(redraw.tail @ time_ns), float(redraw.typical @ time_ns)
        more = in_tail - in_typical
        low, high = interval(more, redraw.excesses(time_ns))
        return {
            "tail_ms": in_tail / NS_PER_MS,
            "typical_ms": in_typical / NS_PER_MS,
            "excess_ms": more / NS_PER_MS,
            "excess_share": more / whole if whole else 0.0,
            "excess_interval_ms": (low / NS_PER_MS, high / NS_PER_MS),
            "tail_path_share": in_tail / tail_total if tail_total else 0.0,
            "typical_path_share": in_typical / typical_total if typical_total else 0.0,
        }

    time_of: dict[str, Floats] = {}
    for code, (name, *_) in enumerate(ledger.groups):
        time_of[name] = time_of.get(name, 0.0) + ledger.contribution_ns[:, code]
    compared = ledger.in_tail | ledger.in_typical
    stages = [
        StageExcess(stage=name, **excess(time_ns))
        for name, time_ns in time_of.items()
        if name and time_ns[compared].any()  # the rest of a trace may have more
    ]
    stages.sort(key=lambda stage: (-stage.excess_ms, stage.stage))
    rest = durations - sum((time_ns for name, time_ns in time_of.items() if name), np.zeros(len(durations)))
    return Excess(**excess(durations)), tuple(stages), Excess(**excess(rest))


def _picked(weights: Floats) -> Picked:
    return Picked(len(weights), float(weights.sum()), float(weights.max(initial=1.0)))
