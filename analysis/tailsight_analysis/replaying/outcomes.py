"""What would each scenario bring? Requests replayed under it, and the quantiles that they have then."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.latency import LEAST_BEYOND
from tailsight_analysis.replaying.replay import replay, schedule
from tailsight_analysis.replaying.replayable import Replayable
from tailsight_analysis.replaying.scenarios import Scenario
from tailsight_analysis.replaying.stage_work import LEAST_UNITS, capped, moved, scaled
from tailsight_analysis.requests.accounting import Floats
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.blocks import interval
from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_analysis.statistics.paired import Population, draw, weighted_quantile

LEAST_MATCHED = 0.9  # of the work that would move to other hardware
_AT_ONCE = 20_000_000  # entries of a table (spans, changes): about 0.6 GB while they are replayed
_MAPPED_AT_MOST = 100_000_000  # entries in all, to learn how sure the times on other hardware are
_MAPPINGS = (10, 30)
_Z = 1.959964


@dataclass(frozen=True, slots=True)
class Shift:
    """A quantile of the requests in milliseconds: as recorded, as replayed, and the difference, each with 95 % bounds.

    Bounds are None where there are too few requests for them.
    """

    recorded_ms: float
    replayed_ms: float
    bounds_ms: tuple[float, float] | None
    delta_ms: float
    delta_bounds_ms: tuple[float, float] | None

    @property
    def is_significant(self) -> bool:
        """Whether the difference is more than chance."""
        return self.delta_bounds_ms is not None and (self.delta_bounds_ms[0] > 0 or self.delta_bounds_ms[1] < 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data; bounds are pairs, or null."""
        return {
            "recorded_ms": self.recorded_ms,
            "replayed_ms": self.replayed_ms,
            "bounds_ms": list(self.bounds_ms) if self.bounds_ms else None,
            "delta_ms": self.delta_ms,
            "delta_bounds_ms": list(self.delta_bounds_ms) if self.delta_bounds_ms else None,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario would do to the requests' median and to the quantile asked for.

    `matched_share` is of what share of the work that would move to other hardware is known what it takes there; None
    where none would.
    """

    scenario: Scenario
    typical: Shift
    tail: Shift
    matched_share: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            **self.scenario.to_json(),
            "p50": self.typical.to_json(),
            "tail": self.tail.to_json(),
            "matched_share": self.matched_share,
        }


def outcomes(
    found: Replayable,
    scenarios: Sequence[Scenario],
    quantile: float,
    recorded_ms: tuple[float, float],
    *,
    has_bounds: bool,
) -> list[Outcome]:
    """Replay all scenarios, each as it is and, to learn how sure its times are, in a few variants.

    `recorded_ms` are the median and the quantile of all requests, of which those found are a sample. Raises
    NotEnoughDataError where too little of the work has comparable cases on a scenario's hardware.
    """
    levels = (0.5, quantile)
    weight, recorded = found.population.weight, found.recorded_ns
    matched = [_matched_share(found, scenario) for scenario in scenarios]
    variants = [_variants(found, scenario) if has_bounds else 0 for scenario in scenarios]
    replayed = _replayed(
        found,
        (
            _pace(found, scenario, variant)
            for scenario, more in zip(scenarios, variants, strict=True)
            for variant in range(1 + more)
        ),
    )
    draws = draw(found.population) if has_bounds else None
    before = weighted_quantile(recorded, weight, levels)
    drawn_before = [draws.quantile(recorded, level) / NS_PER_MS for level in levels] if draws else []
    result = []
    for scenario, more, share in zip(scenarios, variants, matched, strict=True):
        durations = [next(replayed) for _ in range(1 + more)]
        enough = draws is not None and _cases_there(found, scenario) * (1 - quantile) >= LEAST_BEYOND
        after = np.stack([weighted_quantile(column, weight, levels) for column in durations])
        # of a quantile: half of what lies between one standard error below and above it; of other hardware: resampled
        spread = np.zeros(2) if not more else after[1:].std(axis=0, ddof=0 if scenario.on is None else 1)
        shifts = [
            _shift(
                recorded_ms[place],
                float(before[place]) / NS_PER_MS,
                float(after[0, place]) / NS_PER_MS,
                (drawn_before[place], draws.quantile(durations[0], level) / NS_PER_MS) if draws and enough else None,
                quantile_interval(found.population, durations[0], level, float(after[0, place])),
                float(spread[place]) / NS_PER_MS,
            )
            for place, level in enumerate(levels)
        ]
        result.append(Outcome(scenario, shifts[0], shifts[1], share))
    return result


def _variants(found: Replayable, scenario: Scenario) -> int:
    """How many variants of a scenario it takes to learn how sure its times are: those of a factor are given."""
    if scenario.times is not None:
        return 0
    if scenario.at is not None:
        return 2
    affordable = _MAPPED_AT_MOST // max(1, len(found.sample.spans))
    return min(max(affordable, _MAPPINGS[0]), _MAPPINGS[1])


def _pace(found: Replayable, scenario: Scenario, variant: int) -> Floats:
    """Pace of every span under a scenario (variant 0) or one of its variants."""
    codes = found.codes(scenario.stages)
    if scenario.times is not None:
        return scaled(found.work, codes, scenario.times)
    if scenario.at is not None:
        return capped(found.work, codes, scenario.at, (0.0, -1.0, 1.0)[variant])
    kinds, hardware = found.kinds_on(scenario.on)
    times = None
    if variant:
        spans = found.sample.spans
        random = np.random.default_rng(variant)
        times = random.poisson(1.0, int(spans.trace.max()) + 1).astype(np.float64)[spans.trace]
    return moved(found.work, codes, kinds, hardware, times)[0]


def _matched_share(found: Replayable, scenario: Scenario) -> float | None:
    """Of what share of the work that would move we know what it takes there. NotEnoughDataError where of too little."""
    if scenario.on is None:
        return None
    codes = found.codes(scenario.stages)
    kinds, hardware = found.kinds_on(scenario.on)
    _, alone = moved(found.work, codes, kinds, hardware)
    moving = np.isin(found.work.stage, codes) & (kinds.hardware != hardware)
    amount = found.work.work_ns * found.work.weight
    total = float(amount[moving].sum())
    share = 1 - float(amount[alone].sum()) / total if total else 1.0
    if share < LEAST_MATCHED:
        raise NotEnoughDataError(
            f"not enough data for {scenario.label}: for {share * 100:.0f} % of its work elsewhere there are "
            f"{LEAST_UNITS} or more comparable cases on {scenario.on} (same model and batch size); for "
            f"{LEAST_MATCHED * 100:.0f} % there should be"
        )
    return share


def _cases_there(found: Replayable, scenario: Scenario) -> float:
    """How many cases say what a scenario's work takes on its hardware; without any, there is no end of them."""
    if scenario.on is None:
        return math.inf
    kinds, hardware = found.kinds_on(scenario.on)
    units = np.concatenate([found.work.units(code) for code in found.codes(scenario.stages)])
    return float((kinds.hardware[units] == hardware).sum())


def _replayed(found: Replayable, paces: Iterator[Floats]) -> Iterator[Floats]:
    """Yield the requests' durations for each of the paces, in nanoseconds; several are replayed at once."""
    plan = schedule(found.sample.spans, found.parent)
    at_once = max(1, _AT_ONCE // max(1, len(found.sample.spans)))
    while batch := list(itertools.islice(paces, at_once)):
        yield from replay(plan, np.stack(batch, axis=1))[found.sample.entry].T


def quantile_interval(population: Population, durations_ns: Floats, level: float, quantile_ns: float) -> Interval:
    """Bound a quantile of durations: docs/analysis/confidence.md. In nanoseconds."""
    cells = Cells.of_values(durations_ns, population.cluster, population.weight)
    return quantile_intervals(cells, (level,), (quantile_ns,))[0]


def _shift(
    recorded_ms: float,
    before_ms: float,
    after_ms: float,
    drawn_ms: tuple[Floats, Floats] | None,
    after: Interval,
    spread_ms: float,
) -> Shift:
    """Put a quantile's shift together, from what it is in the sample before and after the change.

    `drawn_ms` are draws of both, `after` bounds the quantile after the change, in nanoseconds, `spread_ms` is the
    standard error that comes from the times of the scenario.
    """
    # The quantile of all requests is known: where that of the sample lies beside it, so does the replayed one, as far
    # as the two go together (a regression estimate: Cochran 1977, chapter 7).
    beside_ms = recorded_ms - before_ms
    if drawn_ms is None:
        replayed_ms = after_ms + beside_ms
        return Shift(recorded_ms, replayed_ms, None, replayed_ms - recorded_ms, None)
    drawn_before, drawn_after = drawn_ms
    slope = float(np.cov(drawn_before, drawn_after)[0, 1] / max(drawn_before.var(ddof=1), 1e-300))
    correction_ms = min(max(slope, 0.0), 1.0) * beside_ms
    replayed_ms = after_ms + correction_ms

    def around(value: float, low: float, high: float) -> tuple[float, float]:
        # what the times of the scenario rest on is taken to be independent of the rest: their variances add up
        return (
            value - math.hypot(max(value - low, 0.0), _Z * spread_ms),
            value + math.hypot(max(high - value, 0.0), _Z * spread_ms),
        )

    bounds_ms = None
    if after.low is not None and after.high is not None:
        ends = (end / NS_PER_MS + correction_ms for end in (after.low, after.high))
        bounds_ms = around(replayed_ms, *ends)
    delta_ms = replayed_ms - recorded_ms
    shifted = drawn_after - drawn_before + (delta_ms - (after_ms - before_ms))
    return Shift(recorded_ms, replayed_ms, bounds_ms, delta_ms, around(delta_ms, *interval(delta_ms, shifted)))
