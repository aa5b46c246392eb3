"""What changed from one set of requests to another, and is it mix or slowdown? See docs/analysis/compare.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tailsight_analysis.comparison.calls import Place
from tailsight_analysis.comparison.evidence import Weighted
from tailsight_analysis.comparison.mix import Comparable, Requests, Step, comparable
from tailsight_analysis.comparison.result import Comparison, Difference, Findings, Part, SideCount, SlowdownCause
from tailsight_analysis.comparison.shift import BLOCKS
from tailsight_analysis.comparison.sides import Fetched, Side, fetch_side, same_places
from tailsight_analysis.comparison.slower import LEAST_OF_WHOLE, Change, changes
from tailsight_analysis.quality import data_quality
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.blocks import interval
from tailsight_analysis.statistics.intervals import Cells, Interval, quantile_intervals
from tailsight_analysis.statistics.paired import weighted_quantile
from tailsight_storage import Store

__all__ = [
    "Comparison",
    "Difference",
    "Findings",
    "Part",
    "Requests",
    "Side",
    "SideCount",
    "SlowdownCause",
    "compare",
    "compare_requests",
]

QUANTILES = {"p50": 0.5, "p99": 0.99}
TAIL = 0.99
LEAST_IN_TAIL = 10
LEAST_SHARE = 0.05  # of the slowdown, of a cause
LEAST_TAIL_SHARE = 0.05  # of the baseline's p99: the least relevant change in the tail
LEAST_SLOWER = 0.02  # of the baseline, by which requests must be slower for a place to be suspected
MOST_SUSPECTS = 5
DRAWS = 400
DRAWN_BLOCKS = 2 * BLOCKS
GRID = 1000  # values among which a draw's quantile is looked for …
_AROUND = 0.8  # … from so far of what lies above it, to as far on the other side
_Z95 = 1.959964
_Causes = tuple[SlowdownCause, ...]


def compare(store: Store, baseline: Side, candidate: Side, said: Callable[[str], None] | None = None) -> Comparison:
    """Compare the candidate's requests with the baseline's. `said` is told which step begins.

    Raises NoSpansError where a side has no request, NotEnoughDataError where one has fewer than LEAST_REQUESTS.
    """
    say = said or (lambda _: None)
    say("Reading the baseline's requests")
    here = fetch_side(store, baseline, "baseline")
    say("Reading the candidate's requests")
    there = fetch_side(store, candidate, "candidate")
    say("Reading what was asked")
    first, second, places = same_places(store, here, there)
    say("Comparing")
    return Comparison(
        baseline, candidate, _count(store, here), _count(store, there), compare_requests(first, second, places)
    )


def compare_requests(baseline: Requests, candidate: Requests, places: Sequence[Place]) -> Findings:
    """Compare two sets of requests whose columns are the same `places`. Pure."""
    both = comparable(baseline, candidate, places)
    differences = _differences(both, baseline, candidate)
    causes, suspects, improvements = (
        ((), (), ()) if both.is_only_mix else _causes(both, baseline, candidate, places, differences)
    )
    return Findings(
        differences=differences,
        causes=causes,
        suspects=suspects,
        improvements=improvements,
        covariates=both.covariates,
        not_comparable=both.not_comparable,
        effective=both.effective,
        is_only_mix=both.is_only_mix,
    )


def _count(store: Store, side: Fetched) -> SideCount:
    looked_at, requests = len(side.sample.entry), side.requests
    if side.weighted:
        requests = round(side.sample.tail.weight * side.requests / max(1, side.sample.tail.requests))
    data = data_quality(store, side.bound, stored=side.requests, estimated=requests)
    return SideCount(requests, looked_at, side.requests if side.weighted else None, data)


# --- the request: how much of the difference is mix ------------------------------------------------------------------


def _differences(both: Comparable, baseline: Requests, candidate: Requests) -> dict[str, Difference]:
    drawn = [
        _drawn_steps(steps, side, seed)
        for seed, (side, steps) in enumerate(((baseline, both.baseline), (candidate, both.candidate)))
    ]
    result = {}
    for row, name in enumerate(("mean", *QUANTILES)):
        here = [each[:, row] / NS_PER_MS for each in drawn[0]]
        there = [each[:, row] / NS_PER_MS for each in drawn[1]]
        # the first row of each is the figure itself, the others are its draws; what is left out counts to the mix
        delta, slowdown = _part(there[0] - here[0]), _part(there[2] - here[2])
        if name in QUANTILES:
            ends = [_quantile_ends(both, baseline, candidate, QUANTILES[name], step) for step in (0, 2)]
            delta, slowdown = (_apart(*each) for each in ends)
        nothing = Part(0.0, 0.0, 0.0)
        result[name] = Difference(
            baseline_ms=float(here[0][0]),
            candidate_ms=float(there[0][0]),
            delta=delta,
            workload=delta if both.is_only_mix else _part(there[0] - there[1] + here[1] - here[0]),
            hardware=_part(there[1] - there[2] + here[2] - here[1]),
            slowdown=nothing if both.is_only_mix else slowdown,
        )
    return result


def _part(values: Floats) -> Part:
    """Take the figure (first) with the interval of its draws."""
    low, high = interval(float(values[0]), values[1:])
    return Part(float(values[0]), low, high)


def _quantile_ends(
    both: Comparable, baseline: Requests, candidate: Requests, level: float, step: int
) -> tuple[tuple[float, Interval], tuple[float, Interval]]:
    """Give a quantile of both sides in a step, in nanoseconds, with its own interval: docs/analysis/confidence.md."""
    here, there = (
        _quantile_of(taken, _blocks(side)[taken.chosen], level)
        for taken, side in ((both.baseline[step], baseline), (both.candidate[step], candidate))
    )
    return here, there


def _quantile_of(step: Step, block: Ints, level: float) -> tuple[float, Interval]:
    counted = step.weight > 0
    cells = Cells.of_values(step.duration_ns[counted], block[counted], step.weight[counted])
    value = weighted_quantile(cells.value, cells.weight / cells.weight.min(), [level])[0]
    return float(value), quantile_intervals(cells, (level,), (float(value),))[0]


def _apart(here: tuple[float, Interval], there: tuple[float, Interval]) -> Part:
    """Take the difference of two figures, with an interval from those of both (MOVER: Zou and Donner 2008)."""
    (before, bounds), (after, others) = here, there
    low = high = None
    if others.low is not None and bounds.high is not None:
        low = (after - before - math.hypot(after - others.low, bounds.high - before)) / NS_PER_MS
    if others.high is not None and bounds.low is not None:
        high = (after - before + math.hypot(others.high - after, before - bounds.low)) / NS_PER_MS
    return Part((after - before) / NS_PER_MS, low, high)


def _drawn_steps(steps: Sequence[Step], side: Requests, seed: int) -> list[Floats]:
    """Draw each step of a side; a step that changed nothing is not drawn again."""
    drawn: list[Floats] = []
    for number, step in enumerate(steps):
        same = number > 0 and np.array_equal(step.weight, steps[number - 1].weight)
        same = same and np.array_equal(step.duration_ns, steps[number - 1].duration_ns)
        drawn.append(drawn[-1] if same else _drawn(step, side, seed))
    return drawn


def _drawn(step: Step, side: Requests, seed: int) -> Floats:
    """Mean and quantiles of a step's durations (first row), and of DRAWS resamples of blocks of time (the others).

    Blocks are drawn with replacement (Künsch 1989), the same ones for all steps of a side, so that what steps have in
    common is no part of their difference.
    """
    block = _blocks(side)[step.chosen]
    drawn = np.random.default_rng(seed).multinomial(DRAWN_BLOCKS, np.full(DRAWN_BLOCKS, 1 / DRAWN_BLOCKS), DRAWS)
    times: Floats = drawn.astype(np.float64)
    order = np.argsort(step.duration_ns, kind="stable")
    value, weight, block = step.duration_ns[order], step.weight[order], block[order]
    masses = times @ np.bincount(block, weights=weight, minlength=DRAWN_BLOCKS)
    masses = np.maximum(masses, 1e-300)
    result = np.empty((DRAWS + 1, 1 + len(QUANTILES)))
    result[0, 0] = weight @ value / weight.sum()
    result[1:, 0] = times @ np.bincount(block, weights=weight * value, minlength=DRAWN_BLOCKS) / masses
    least = float(weight[weight > 0].min())
    for at, level in enumerate(QUANTILES.values(), 1):
        result[0, at] = weighted_quantile(value, weight / least, [level])[0]
        result[1:, at] = _drawn_quantile(value, weight, block, times, level, masses)
    return result


def _blocks(side: Requests) -> Ints:
    """Block of time of each request, with about as many in each."""
    edges = np.quantile(side.start_ns, np.linspace(0, 1, DRAWN_BLOCKS + 1)[1:-1])
    return np.searchsorted(edges, side.start_ns, side="right").astype(np.int64)


def _drawn_quantile(value: Floats, weight: Floats, block: Ints, times: Floats, level: float, masses: Floats) -> Floats:
    """Find the quantile of each draw, among at most GRID of the values around it; values ascend."""
    reached = np.cumsum(weight) / weight.sum()
    first, last = np.searchsorted(reached, (level - _AROUND * (1 - level), level + _AROUND * (1 - level)))
    first, last = max(0, int(first) - 1), min(len(value), int(last) + 1)
    below = times @ np.bincount(block[:first], weights=weight[:first], minlength=DRAWN_BLOCKS)
    steps = max(1, -(-(last - first) // GRID))
    rung = np.arange(last - first) // steps
    rungs = int(rung[-1]) + 1
    cells = np.bincount(
        block[first:last] * rungs + rung, weights=weight[first:last], minlength=DRAWN_BLOCKS * rungs
    ).reshape(DRAWN_BLOCKS, rungs)
    mass = below[:, None] + np.cumsum(times @ cells, axis=1)
    place = np.minimum((mass < (level * masses)[:, None]).sum(axis=1), rungs - 1)
    found: Floats = value[np.minimum(first + place * steps + steps // 2, last - 1)]
    return found


# --- the causes ------------------------------------------------------------------------------------------------------


def _causes(
    both: Comparable,
    baseline: Requests,
    candidate: Requests,
    places: Sequence[Place],
    differences: dict[str, Difference],
) -> tuple[_Causes, _Causes, _Causes]:
    """Find causes, suspects and improvements."""
    first, last = both.baseline[2], both.candidate[2]
    contribution = both.contribution_ns[last.chosen]
    here = Weighted(
        baseline.start_ns[first.chosen],
        first.weight,
        baseline.contribution_ns[first.chosen],
        baseline.visits[first.chosen],
        _tail(first),
        both.baseline_asked[first.chosen],
    )
    there = Weighted(
        candidate.start_ns[last.chosen],
        last.weight,
        contribution,
        both.visits[last.chosen],
        _tail(last),
        both.candidate_asked[last.chosen],
    )
    before = candidate.weight @ candidate.contribution_ns / candidate.weight.sum()
    mix_ns = last.weight @ contribution / last.weight.sum() - before
    tail_least_ns = LEAST_TAIL_SHARE * differences["p99"].baseline_ms * NS_PER_MS
    found = changes(here, there, places, mix_ns, tail_least_ns)
    slowdown_ms = differences["mean"].slowdown.ms
    tail_ms = (_tail_mean(last) - _tail_mean(first)) / NS_PER_MS
    causes = _shared(found.slower, slowdown_ms, tail_ms)
    suspects = tuple(_cause(each, *shares) for each, *shares in _suspected(found.unproven, differences))
    return causes, suspects, _shared(found.faster, -slowdown_ms, -tail_ms)


def _suspected(unproven: Sequence[Change], differences: Mapping[str, Difference]) -> list[tuple[Change, float, float]]:
    """Choose the places that hold most of what requests became slower by, in mean or tail, with both shares."""
    is_slower, is_slower_in_tail = (
        differences[name].slowdown.ms >= max(LEAST_SLOWER * differences[name].baseline_ms, 1e-12)
        for name in ("mean", "p99")
    )

    def greatest(change: Change) -> float:
        return max(is_slower * change.grown_share, is_slower_in_tail * change.tail_grown_share)

    chosen = sorted((each for each in unproven if greatest(each) >= LEAST_OF_WHOLE), key=lambda each: each.place)
    chosen.sort(key=greatest, reverse=True)
    return [(each, each.grown_share, each.tail_grown_share) for each in chosen[:MOST_SUSPECTS]]


def _tail(step: Step) -> Bools:
    """Find requests at or above the step's p99; above a lower quantile where these would be too few."""
    level = min(TAIL, max(0.5, 1 - LEAST_IN_TAIL / max(1, len(step.duration_ns))))
    weight = step.weight / step.weight[step.weight > 0].min()
    tail: Bools = step.duration_ns >= weighted_quantile(step.duration_ns, weight, [level])[0]
    return tail


def _tail_mean(step: Step) -> float:
    weight = step.weight * _tail(step)
    return float(weight @ step.duration_ns / weight.sum())


def _shared(found: Sequence[Change], whole_ms: float, tail_whole_ms: float) -> tuple[SlowdownCause, ...]:
    """Say which share of the slowdown each change is: of the net one, or of all that was found where that is more."""
    whole = max(abs(sum(change.delta_ns for change in found)) / NS_PER_MS, whole_ms, 1e-300)
    tail_found = sum(max(0.0, _sign(change) * change.tail_delta_ns) for change in found) / NS_PER_MS
    tail_whole = max(tail_found, tail_whole_ms, 1e-300)
    causes = [
        _cause(
            change,
            abs(change.delta_ns) / NS_PER_MS / whole,
            _sign(change) * change.tail_delta_ns / NS_PER_MS / tail_whole,
        )
        for change in found
    ]
    return tuple(cause for cause in causes if max(cause.share, cause.tail_share) >= LEAST_SHARE)


def _sign(change: Change) -> int:
    return 1 if change.delta_ns >= 0 else -1


def _cause(change: Change, share: float, tail_share: float) -> SlowdownCause:
    place, delta_ms, error_ms = change.place, change.delta_ns / NS_PER_MS, change.error_ns / NS_PER_MS
    return SlowdownCause(
        service=place.service,
        name=place.name,
        stage=place.stage,
        hardware=place.hardware,
        hardware_types=change.hardware,
        baseline_ms=change.baseline_ns / NS_PER_MS,
        candidate_ms=change.candidate_ns / NS_PER_MS,
        delta=Part(delta_ms, delta_ms - _Z95 * error_ms, delta_ms + _Z95 * error_ms),
        share=share,
        tail_baseline_ms=change.tail_baseline_ns / NS_PER_MS,
        tail_candidate_ms=change.tail_candidate_ns / NS_PER_MS,
        tail_share=tail_share,
        baseline_calls=change.baseline_calls,
        candidate_calls=change.candidate_calls,
        p_value=change.p_value,
        where="tail" if change.is_tail_only else "all",
        time_share=change.time_share,
    )
