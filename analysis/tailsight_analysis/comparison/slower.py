"""Which operations became slower, and is it chance? Places of two sets of comparable requests against each other.

Pure functions. See docs/analysis/compare.md for the definitions and the measured rate of false causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import chi2

from tailsight_analysis.accounting import Bools, Floats, Ints
from tailsight_analysis.comparison.calls import Place
from tailsight_analysis.comparison.shift import Shift, block_counts, block_means, shift
from tailsight_analysis.significance import benjamini_hochberg

SIGNIFICANCE = 0.01
LEAST_CHANGE = 0.005  # of a request's mean duration
LEAST_OF_MIX = 0.1  # of what the mix did to the same place: balancing is not exact
UNLIKE = 1e-3  # p-value below which hardware types changed unlike each other
WINSOR = 0.995
LEVELS = (0.95, 0.99)
LEAST_BEYOND = 10
LEAST_VISITS = 12
PER_COLUMN = 10  # requests of the smaller side for each column of what was asked
_TESTS = 2 + len(LEVELS)


@dataclass(frozen=True, slots=True)
class Weighted:
    """Requests, an entry each, with the weights under which they are compared.

    Contributions and visits have a column a place; `asked` has columns that say what the requests were asked, of which
    the weights make the means equal.
    """

    start_ns: Ints
    weight: Floats
    contribution_ns: Floats
    visits: Floats
    in_tail: Bools
    asked: Floats


@dataclass(frozen=True, slots=True)
class Change:
    """What a place took per request on both sides, in nanoseconds, where mixes are the same.

    `error_ns` is the standard error of the difference. `calls` are visits per request. The p-value is corrected.
    `is_tail_only`: only its long times changed. `hardware` has the types that it ran on.
    """

    place: Place
    baseline_ns: float
    candidate_ns: float
    error_ns: float
    baseline_calls: float
    candidate_calls: float
    tail_baseline_ns: float
    tail_candidate_ns: float
    p_value: float
    is_tail_only: bool
    hardware: tuple[str, ...]

    @property
    def delta_ns(self) -> float:
        """How much more it took."""
        return self.candidate_ns - self.baseline_ns

    @property
    def tail_delta_ns(self) -> float:
        """How much more it took in the tail."""
        return self.tail_candidate_ns - self.tail_baseline_ns


def changes(
    baseline: Weighted, candidate: Weighted, places: Sequence[Place], mix_ns: Floats, tail_least_ns: float
) -> tuple[list[Change], list[Change]]:
    """Return what became slower and what faster, beyond chance and by a relevant amount, the greatest change first.

    `mix_ns` is what reweighting changed in the mean of each place; `tail_least_ns` the least relevant change in the
    tail of a place whose long times alone changed.
    """
    table, columns = _with_merged(places)
    here, there = _columns(baseline, columns), _columns(candidate, columns)
    mean_here, mean_there = _means(here, here.weight), _means(there, there.weight)
    whole = float(_means(baseline, baseline.weight).sum())
    tested = np.maximum(mean_here, mean_there) >= LEAST_CHANGE * whole
    raw, p_slower, p_faster, tail_only = _tests(here, there, tested)
    tail_here, tail_there = _means(here, here.weight * here.in_tail), _means(there, there.weight * there.in_tail)
    calls_here = here.weight @ here.visits / here.weight.sum()
    calls_there = there.weight @ there.visits / there.weight.sum()
    by_mix = np.array([abs(mix_ns[list(codes)].sum()) for codes in columns])

    def listed(p_values: Floats, sign: int) -> list[Change]:
        corrected = np.ones(len(p_values))
        corrected[tested] = benjamini_hochberg(p_values[tested])
        delta = sign * (mean_there - mean_here)
        matters = delta >= np.maximum(LEAST_CHANGE * whole, LEAST_OF_MIX * by_mix)
        matters |= tail_only & (delta > LEAST_OF_MIX * by_mix) & (sign * (tail_there - tail_here) >= tail_least_ns)
        chosen = _apart_or_together(columns, tested & (corrected <= SIGNIFICANCE) & matters, mean_here, raw)
        found = [
            Change(
                place=table[code],
                baseline_ns=float(mean_here[code]),
                candidate_ns=float(mean_there[code]),
                error_ns=float(raw.error[code]),
                baseline_calls=float(calls_here[code]),
                candidate_calls=float(calls_there[code]),
                tail_baseline_ns=float(tail_here[code]),
                tail_candidate_ns=float(tail_there[code]),
                p_value=float(corrected[code]),
                is_tail_only=bool(tail_only[code]),
                hardware=tuple(sorted(places[column].hardware for column in columns[code])),
            )
            for code in chosen
        ]
        return sorted(found, key=lambda change: (-abs(change.delta_ns), change.place))

    return listed(p_slower, 1), listed(p_faster, -1)


def _with_merged(places: Sequence[Place]) -> tuple[list[Place], list[tuple[int, ...]]]:
    """Return the places, and for those that differ by hardware only, all of them as one; with their columns."""
    together: dict[Place, list[int]] = {}
    for code, place in enumerate(places):
        together.setdefault(replace(place, hardware=""), []).append(code)
    merged = {slot: tuple(codes) for slot, codes in together.items() if len(codes) > 1}
    return [*places, *merged], [*((code,) for code in range(len(places))), *merged.values()]


def _columns(side: Weighted, columns: Sequence[tuple[int, ...]]) -> Weighted:
    def added(values: Floats) -> Floats:
        return np.stack([values[:, list(codes)].sum(axis=1) for codes in columns], axis=1)

    return replace(side, contribution_ns=added(side.contribution_ns), visits=added(side.visits))


def _means(side: Weighted, weight: Floats) -> Floats:
    means: Floats = weight @ side.contribution_ns / max(float(weight.sum()), 1e-300)
    return means


def _tests(here: Weighted, there: Weighted, tested: Bools) -> tuple[Shift, Floats, Floats, Bools]:
    """Compare means; of the tested columns find p-values for slower and faster, and whether only long times changed.

    Four tests see different things: the mean, of times cut at a high quantile; the rank of a visit among those of
    both sides, which sees what is typical; and how often a request has a time beyond the p95 and the p99 of both sides.
    The least of the p-values counts, times their number, times two for both directions.
    """
    blocks = block_counts(len(here.weight), len(there.weight))
    explained = _Explained(here, there)

    def compared(x: Floats, y: Floats, of_x: Bools, of_y: Bools) -> Shift:
        u, v = explained(*_influence(here.weight, there.weight, x, y, of_x, of_y))
        u, v = here.weight[:, None] / here.weight.mean() * u, there.weight[:, None] / there.weight.mean() * v
        return shift(block_means(u, here.start_ns, blocks[0]), block_means(v, there.start_ns, blocks[1]))

    every_here, every_there = here.visits >= 0, there.visits >= 0
    raw = compared(here.contribution_ns, there.contribution_ns, every_here, every_there)
    slower, faster = np.ones(len(tested)), np.ones(len(tested))
    tail_only = np.zeros(len(tested), dtype=np.bool_)
    at = np.flatnonzero(tested)
    if len(at) == 0:
        return raw, slower, faster, tail_only
    x, y = here.contribution_ns[:, at], there.contribution_ns[:, at]
    everyone = (every_here[:, at], every_there[:, at])
    visited = (x > 0, y > 0)
    cuts = _quantiles(here, there, at, (*LEVELS, WINSOR))
    ranked = compared(*_ranks(x, y, visited), *visited)
    _without_few(ranked, np.minimum(visited[0].sum(axis=0), visited[1].sum(axis=0)) < LEAST_VISITS)
    results = [compared(np.minimum(x, cuts[-1]), np.minimum(y, cuts[-1]), *everyone), ranked]
    for cut in cuts[:-1]:
        beyond = ((x > cut).astype(np.float64), (y > cut).astype(np.float64))
        long = compared(*beyond, *everyone)
        _without_few(long, beyond[0].sum(axis=0) + beyond[1].sum(axis=0) < LEAST_BEYOND)
        results.append(long)
    slower[at] = np.minimum(1.0, 2 * _TESTS * np.min([result.p_more for result in results], axis=0))
    faster[at] = np.minimum(1.0, 2 * _TESTS * np.min([result.p_less for result in results], axis=0))
    tail_only[at] = np.minimum(ranked.p_more, ranked.p_less) > SIGNIFICANCE
    return raw, slower, faster, tail_only


def _without_few(result: Shift, few: Bools) -> None:
    result.p_more[few], result.p_less[few] = 1.0, 1.0


def _influence(w: Floats, v: Floats, x: Floats, y: Floats, of_x: Bools, of_y: Bools) -> tuple[Floats, Floats]:
    """Find what each request adds to the difference of the weighted means of `of_x` and `of_y`, but for its weight."""
    weight_x, weight_y = w[:, None] * of_x / w.mean(), v[:, None] * of_y / v.mean()
    share_x, share_y = np.maximum(weight_x.mean(axis=0), 1e-12), np.maximum(weight_y.mean(axis=0), 1e-12)
    mean_x = (weight_x * x).mean(axis=0) / share_x
    mean_y = (weight_y * y).mean(axis=0) / share_y
    middle = (len(w) * mean_x + len(v) * mean_y) / (len(w) + len(v))
    return of_x / share_x * (x - middle), of_y / share_y * (y - middle)


class _Explained:
    """Take out of values what a linear model of what was asked explains: less noise, and what is left of imbalance.

    The model is fitted within the sides, so that it cannot explain their difference (Quade 1967, of ranks; with the
    weights it is doubly robust: Zhao and Percival 2017).
    """

    def __init__(self, here: Weighted, there: Weighted) -> None:
        self._split = len(here.weight)
        most = min(self._split, len(there.weight)) // PER_COLUMN
        asked = np.concatenate((here.asked, there.asked))[:, :most]
        weight = np.concatenate((here.weight / here.weight.mean(), there.weight / there.weight.mean()))
        self._columns = asked - weight @ asked / weight.sum()
        self._within = self._centred(self._columns, weight)
        self._weight = weight
        self._columns, self._within = (
            self._columns[:, self._within.any(axis=0)],
            self._within[:, self._within.any(axis=0)],
        )
        if self._within.shape[1]:
            rooted = self._within * np.sqrt(weight)[:, None]
            gram = rooted.T @ rooted
            self._factor = cho_factor(gram + np.diag(1e-3 * np.diag(gram)))

    def __call__(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self._columns.shape[1] == 0:
            return x, y
        values = np.concatenate((x, y))
        slopes = cho_solve(self._factor, (self._within * self._weight[:, None]).T @ values)
        rest = values - self._columns @ slopes
        return rest[: self._split], rest[self._split :]

    def _centred(self, columns: Floats, weight: Floats) -> Floats:
        sides = (slice(None, self._split), slice(self._split, None))
        return np.concatenate([columns[at] - weight[at] @ columns[at] / weight[at].sum() for at in sides])


def _quantiles(here: Weighted, there: Weighted, at: Ints, levels: Sequence[float]) -> Floats:
    """Quantiles (levels, columns) over the visits of both sides together, each side weighing as many as it has."""
    weight = np.concatenate((here.weight / here.weight.mean(), there.weight / there.weight.mean()))
    found = np.zeros((len(levels), len(at)))
    for number, column in enumerate(at.tolist()):
        values = np.concatenate((here.contribution_ns[:, column], there.contribution_ns[:, column]))
        order = np.argsort(values, kind="stable")
        reached = np.cumsum(weight[order] * (values[order] > 0))
        place = np.searchsorted(reached, np.array(levels) * reached[-1])
        found[:, number] = values[order][np.minimum(place, len(values) - 1)]
    return found


def _ranks(x: Floats, y: Floats, visited: tuple[Bools, Bools]) -> tuple[Floats, Floats]:
    """Rank the visits among those of both sides, from 0 to 1; equal values share theirs."""
    of_x, of_y = np.zeros_like(x), np.zeros_like(y)
    for at in range(x.shape[1]):
        first, second = visited[0][:, at], visited[1][:, at]
        together = np.concatenate((x[first, at], y[second, at]))
        _, inverse, counts = np.unique(together, return_inverse=True, return_counts=True)
        ranks = ((np.cumsum(counts) - counts / 2) / len(together))[np.ravel(inverse)]
        of_x[first, at], of_y[second, at] = ranks[: first.sum()], ranks[first.sum() :]
    return of_x, of_y


def _apart_or_together(columns: Sequence[tuple[int, ...]], kept: Bools, base: Floats, raw: Shift) -> list[int]:
    """Of a slot with several hardware types: the types where they changed unlike each other, else all as one."""
    in_slot = {code for codes in columns if len(codes) > 1 for code in codes}
    chosen = [code for code in np.flatnonzero(kept).tolist() if len(columns[code]) == 1 and code not in in_slot]
    for code, codes in enumerate(columns):
        if len(codes) == 1:
            continue
        single = [each for each in codes if kept[each]]
        if single and (not kept[code] or _unlike(codes, base, raw)):
            chosen += single
        elif kept[code]:
            chosen.append(code)
    return chosen


def _unlike(codes: Sequence[int], base: Floats, raw: Shift) -> bool:
    """Cochran's Q over the relative changes of a slot's hardware types; and they must differ by half or more."""
    known = [code for code in codes if base[code] > 0 and 0 < raw.error[code] < np.inf]
    if len(known) < 2:
        return False
    relative = raw.difference[known] / base[known]
    precision = (base[known] / raw.error[known]) ** 2
    middle = float(precision @ relative / precision.sum())
    q = float(precision @ (relative - middle) ** 2)
    widest = float(relative.max() - relative.min())
    return float(chi2.sf(q, len(known) - 1)) < UNLIKE and widest > 0.5 * float(np.abs(relative).max())
