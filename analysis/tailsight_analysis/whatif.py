"""How would requests fare if a stage were faster, or elsewhere? See docs/analysis/whatif.md."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.breakdown import request_summary
from tailsight_analysis.errors import NoSpansError, NotEnoughDataError, QuestionError
from tailsight_analysis.latency import LEAST_BEYOND
from tailsight_analysis.quality import DataQuality, data_quality
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.replaying.outcomes import Outcome, outcomes, quantile_interval
from tailsight_analysis.replaying.replayable import Replayable, fetch_replayable, strata
from tailsight_analysis.replaying.scenarios import Scenario, default_scenarios
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, Filters, Window, describe
from tailsight_analysis.tail import LEAST_QUANTILE, requests_needed
from tailsight_storage import Store

MAX_STAGES = 20  # of the ranking: those that do the most work


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The answer: scenarios, what lowers the quantile most first.

    `requests` counts all (an estimate where the SDK kept only some; `stored` is then how many the store holds, else
    None), `sampled` those that were replayed. `missing` is how many more it takes until the quantile has bounds.
    """

    window: Window
    filters: Filters
    quantile: float
    p50_ms: float
    quantile_ms: float
    requests: int
    sampled: int
    outcomes: tuple[Outcome, ...]
    missing: int = 0
    stored: int | None = None
    data: DataQuality | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/whatif.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "quantile": self.quantile,
            "p50_ms": self.p50_ms,
            "quantile_ms": self.quantile_ms,
            "requests": self.requests,
            "weighted": self.stored is not None,
            **({} if self.stored is None else {"stored_requests": self.stored}),
            "sampled_requests": self.sampled,
            "missing_requests": self.missing,
            "outcomes": [outcome.to_json() for outcome in self.outcomes],
            "data": self.data.to_json() if self.data else None,
        }


def whatif(
    store: Store,
    window: Window,
    filters: Filters = NO_FILTERS,
    quantile: float = 0.99,
    scenarios: Sequence[Scenario] | None = None,
) -> WhatIf:
    """Replay the requests under each scenario; without any, with every stage 20 % faster and at its median.

    Raises NoSpansError or NotEnoughDataError where the window has too few requests for the quantile, no such stage, or
    too little on the hardware.
    """
    if not LEAST_QUANTILE < quantile < 1:
        raise QuestionError(
            f"quantile {quantile:g} is no tail: use one above {LEAST_QUANTILE:g} and below 1, like 0.99"
        )
    parameters = request_parameters(store, window, filters)
    summary = request_summary(store, parameters, quantile)
    if summary is None:
        raise NoSpansError(f"no requests in {describe(window, filters)}")
    weighted = bool(parameters["weighted"])
    requests = round(summary["estimated"] if weighted else summary["requests"])
    stored = int(summary["stored"]) if weighted else requests
    if requests < requests_needed(quantile):
        missing = requests_needed(quantile) - requests
        raise NotEnoughDataError(
            f"{requests:,} requests in {describe(window, filters)} are too few for p{quantile * 100:g}: "
            f"{missing:,} more are needed",
            missing,
            quantile,
        )
    cuts, weights, sizes = strata(store, parameters, summary, quantile, stored)
    found = fetch_replayable(
        store, parameters, cuts, weights, sizes, with_kinds=any(s.on is not None for s in scenarios or ())
    )
    if scenarios is None:
        scenarios = default_scenarios(found.busiest(MAX_STAGES))
    _check(found, scenarios, describe(window, filters))
    recorded_ms = (float(summary["quantiles_ns"][0]) / NS_PER_MS, int(summary["cuts_ns"][0]) / NS_PER_MS)
    beyond = found.population.weight[found.recorded_ns >= int(summary["cuts_ns"][0])]
    several = float(beyond.sum()) ** 2 / max(float(beyond @ beyond), 1e-300)  # Kish's effective number
    missing = math.ceil(round((LEAST_BEYOND - several) / (1 - quantile), 6)) if several < LEAST_BEYOND else 0
    has_bounds = not missing
    # where slow requests come together, bounds of the quantile itself, if not of its change, take more
    sure = quantile_interval(found.population, found.recorded_ns, quantile, float(summary["cuts_ns"][0]))
    missing = max(missing, sure.missing)
    found_outcomes = outcomes(found, scenarios, quantile, recorded_ms, has_bounds=has_bounds)
    return WhatIf(
        window=window,
        filters=filters,
        quantile=quantile,
        p50_ms=recorded_ms[0],
        quantile_ms=recorded_ms[1],
        requests=requests,
        sampled=len(found.sample.entry),
        outcomes=tuple(sorted(found_outcomes, key=lambda outcome: (outcome.tail.delta_ms, outcome.scenario.label))),
        missing=missing,
        stored=stored if weighted else None,
        data=data_quality(store, parameters, stored=stored, estimated=requests),
    )


def _check(found: Replayable, scenarios: Sequence[Scenario], where: str) -> None:
    """Raise NotEnoughDataError where a scenario names what the requests have not."""
    there = found.busiest(len(found.stages))
    if not there:
        raise NotEnoughDataError(f"no request in {where} has a stage: there is nothing to change")
    for scenario in scenarios:
        missing = [name for name in scenario.stages if name not in there]
        if missing:
            named = ", ".join(there[:MAX_STAGES])
            raise NotEnoughDataError(f"no request in {where} spends time in stage {missing[0]!r}; there are: {named}")
        if scenario.on is not None and found.kinds is not None:
            units = np.concatenate([found.work.units(code) for code in found.codes(scenario.stages)])
            known = {found.hardware[code] for code in np.unique(found.kinds.hardware[units]).tolist()} - {""}
            if scenario.on not in known:
                raise NotEnoughDataError(
                    f"no {' or '.join(scenario.stages)} ran on {scenario.on!r} in {where}; it ran on: "
                    f"{', '.join(sorted(known)) or 'hardware that no span names'}"
                )
