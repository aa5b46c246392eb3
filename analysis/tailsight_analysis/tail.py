"""Why are the slow requests slow? Their stages and attributes against typical requests. See docs/analysis/tail.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.attributes import OverRepresented, over_represented
from tailsight_analysis.breakdown import request_summary
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.latency import LEAST_BEYOND
from tailsight_analysis.ledger import Ledger, fetch_ledger
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.sample import Cuts
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_storage import Store

LEAST_QUANTILE = 0.6  # typical requests lie between p40 and p60: a tail begins above them
LEAST_REQUESTS = 5  # of four requests none need lie between p40 and p60
DEFAULT_LIMIT = 20


@dataclass(frozen=True, slots=True)
class Excess:
    """Mean milliseconds per request in the tail and in typical requests, their difference, and its share of the whole.

    The whole is the difference between the mean durations of tail and of typical requests; shares are 0 where it is 0.
    """

    tail_ms: float
    typical_ms: float
    excess_ms: float
    excess_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "tail_ms": self.tail_ms,
            "typical_ms": self.typical_ms,
            "excess_ms": self.excess_ms,
            "excess_share": self.excess_share,
        }


@dataclass(frozen=True, slots=True)
class StageExcess(Excess):
    """What one stage contributes to the tail beyond what it contributes to typical requests."""

    stage: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        # not super(): dataclasses with slots are made anew, and lose the reference that it needs
        return {"stage": self.stage, **Excess.to_json(self)}


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
    """The answer: stages and attributes with what explains most first; all stages and `unaccounted` add up to `total`.

    Counts are of all requests; means and shares are over `tail_sampled` and `typical_sampled` of them. Where the SDK
    kept only some requests, counts are estimates, and `stored` has how many of each the store holds; else it is None.
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
            "requests": self.requests,
            "tail_requests": self.tail_requests,
            "typical_requests": self.typical_requests,
            "weighted": self.stored is not None,
            **(self.stored.to_json() if self.stored else {}),
            "total": self.total.to_json(),
            "stages": [stage.to_json() for stage in self.stages],
            "unaccounted": self.unaccounted.to_json(),
            "attributes": [attribute.to_json() for attribute in self.attributes],
            "attributes_tested": self.attributes_tested,
            "sampled": self.is_sampled,
            "tail_sampled": self.tail_sampled,
            "typical_sampled": self.typical_sampled,
        }


def tail(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    quantile: float = 0.99,
    limit: int = DEFAULT_LIMIT,
) -> Tail:
    """Compare requests at or above the quantile with those between p40 and p60, by stage and by attribute.

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
            f"{requests} requests in {describe(window, filters)} are too few for a tail above p{quantile * 100:g}: "
            f"{needed - requests} more are needed",
            needed - requests,
        )
    if stored and (stored.requests < LEAST_REQUESTS or not stored.typical):
        missing = max(1, LEAST_REQUESTS - stored.requests)
        raise NotEnoughDataError(
            f"{stored.requests} stored requests in {describe(window, filters)} are too few to compare, though they "
            f"stand for {requests}: {missing} more are needed",
            missing,
        )
    threshold_ns, typical_from_ns, typical_to_ns = (int(cut) for cut in summary["cuts_ns"])
    cuts = Cuts(
        tail_requests=stored.tail if stored else int(summary["tail_requests"]),
        tail_from_ns=threshold_ns,
        typical_requests=stored.typical if stored else int(summary["typical_requests"]),
        typical_from_ns=typical_from_ns,
        typical_to_ns=typical_to_ns,
    )
    ledger = fetch_ledger(store, parameters, ("stage",), cuts)
    total, stages, unaccounted = account(ledger)
    attributes, tested = over_represented(store, parameters, cuts, ledger.sample.tail, ledger.sample.typical)
    return Tail(
        window=window,
        filters=filters,
        quantile=quantile,
        threshold_ms=threshold_ns / NS_PER_MS,
        requests=requests,
        tail_requests=round(summary["tail_requests"]),
        typical_requests=round(summary["typical_requests"]),
        total=total,
        stages=stages,
        unaccounted=unaccounted,
        attributes=attributes[:limit],
        attributes_tested=tested,
        tail_sampled=int(ledger.in_tail.sum()),
        typical_sampled=int(ledger.in_typical.sum()),
        stored=stored,
    )


def requests_needed(quantile: float) -> int:
    """How many requests it takes until one of them lies above the quantile, and one between p40 and p60 for certain."""
    return max(LEAST_REQUESTS, math.ceil(round(1 / (1 - quantile), 6)))


def account(ledger: Ledger) -> tuple[Excess, tuple[StageExcess, ...], Excess]:
    """Split the difference between tail and typical durations: in all, per stage by descending excess, unaccounted.

    The ledger's groups are stages.
    """
    tail_of, typical_of = ledger.mean_ns(ledger.in_tail) / NS_PER_MS, ledger.mean_ns(ledger.in_typical) / NS_PER_MS
    tail_total = ledger.mean_duration_ns(ledger.in_tail) / NS_PER_MS
    typical_total = ledger.mean_duration_ns(ledger.in_typical) / NS_PER_MS
    whole = tail_total - typical_total

    def excess(in_tail: float, in_typical: float) -> tuple[float, float, float, float]:
        more = in_tail - in_typical
        return in_tail, in_typical, more, more / whole if whole else 0.0

    stages = [
        StageExcess(*excess(float(tail_of[code]), float(typical_of[code])), stage=name)
        for code, (name,) in enumerate(ledger.groups)
        if name and (tail_of[code] or typical_of[code])  # the rest of a trace may have more
    ]
    stages.sort(key=lambda stage: (-stage.excess_ms, stage.stage))
    rest = excess(
        tail_total - sum(stage.tail_ms for stage in stages), typical_total - sum(stage.typical_ms for stage in stages)
    )
    return Excess(*excess(tail_total, typical_total)), tuple(stages), Excess(*rest)
