"""Which conditions set some requests apart from others? The search, and how much it proves.

Cases are compared with controls. A condition's score is the likelihood ratio G² of the table cases/controls × met/not
met: conditions that are too wide take in controls, those too narrow leave out cases, and both have a lower one. Of a
number all ranges between its quantiles are tried, and pay for it: in their score and in their p-value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tailsight_analysis.causes.conditions import (
    ARRIVALS,
    COLUMNS,
    DEVICE,
    EVERYWHERE,
    IN_FLIGHT,
    Condition,
    Facts,
    Key,
    is_symptom,
    rank,
)
from tailsight_analysis.statistics.blocks import chance_in_time, chance_of_rising
from tailsight_analysis.statistics.significance import effective_counts, fisher_over_represented

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

QUANTILES = 16  # of all requests and of the tail, each: between these a number's ranges begin and end
ALIKE = 0.9  # of the requests that meet one of two conditions, that meet both
TIERS = 3
_BINS = 2 * QUANTILES + 2
_LEAST_SCORE = 8.0  # G² of a p-value of 0.005: what is below is not looked at further
_MOST_JUDGED = 40
_NEARLY_AS_GOOD = 0.85
# Many in flight go with whatever makes requests slow: they are named only where they explain more
_LOAD_COUNTS = 0.7
_CROWD, _CROWD_CHANCE = 0.75, 0.01  # the quantile of arrivals that is many, and the p-value that shows it
_LOADS = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99)  # only high load is asked for
_MOST_ALIASES = 8
_LEAST_CHANCE = 1e-300  # what is smaller is lost in rounding, and nothing is certain
_PLAIN = 1 + 1e-9  # a weight of requests that stand for themselves


@dataclass(frozen=True, slots=True)
class Ranges:
    """Where the ranges of each number may begin and end: the bin of each request, `cuts` ascending, a row a number.

    Requests without the number are in the last bin.
    """

    bins: Ints
    cuts: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A condition that sets cases apart: who meets it, its score, and its p-value, corrected for its ranges only."""

    condition: Condition
    holds: Bools
    score: float
    p_value: float
    rank: tuple[int, int]
    tier: int
    load: Floats | None = None  # the numbers themselves, where they say how busy it was


@dataclass(frozen=True, slots=True)
class Question:
    """Cases and controls among the requests, for how many each stands, in which block of time it started, and whose.

    `elevated` are requests in which the stage took clearly longer, in the tail or not, `time_ns` how long it took.
    `usable_pairs` and `usable_numbers` say which of the facts may be named.
    """

    case: Bools
    control: Bools
    elevated: Bools
    time_ns: Floats
    weight: Floats
    block: Ints
    service: str
    stage: str
    usable_pairs: Bools
    usable_numbers: Bools

    def among(self, chosen: Bools) -> Question:
        """Ask only of some requests."""
        return replace(self, case=self.case & chosen, control=self.control & chosen)

    def tier(self, key: Key) -> int:
        """Say how near a key is; of a tier that has fewer, each needs less proof.

        0: the machine and version of the stage's own spans, and the load. 1: what else they say. 2: what others say.
        """
        if key.place == EVERYWHERE or (DEVICE.match(key.name) and key.place.service == self.service):
            return 0
        if key.place != (self.service, self.stage):
            return 2
        return 0 if key.name in COLUMNS else 1

    def tests(self, facts: Facts) -> Ints:
        """How many conditions are tried, in each tier; a number's ranges count as one, for they have paid already."""
        usable = [key for (key, _), use in zip(facts.pairs, self.usable_pairs, strict=True) if use]
        usable += [key for key, use in zip(facts.number_keys, self.usable_numbers, strict=True) if use]
        counts: Ints = np.bincount([self.tier(key) for key in usable], minlength=TIERS)
        return counts


def ranges_of(facts: Facts, everyone: Bools, tail: Bools) -> Ranges:
    """Choose where ranges may begin and end: at each value of a number that has few, else at quantiles."""
    levels = np.arange(1, QUANTILES) / QUANTILES
    of_load = {row for row, key in enumerate(facts.number_keys) if key.place == EVERYWHERE}
    bins = np.full((len(facts.number_keys), facts.requests), _BINS - 1, dtype=np.int64)
    cuts = []
    for row, values in enumerate(facts.numbers):
        known = ~np.isnan(values)
        distinct = np.unique(values[known])
        if row in of_load:
            distinct = np.unique(np.quantile(values[known & everyone], _LOADS, method="higher"))
        elif len(distinct) > _BINS - 2:
            groups = [values[known & members] for members in (everyone, tail)]
            at = [np.quantile(group, levels, method="higher") for group in groups if len(group)]
            distinct = np.unique(np.concatenate((distinct[:1], *at)))[: _BINS - 2]
        bins[row, known] = np.searchsorted(distinct, values[known], side="right")
        cuts.append(distinct)
    return Ranges(bins, tuple(cuts))


def candidates(facts: Facts, ranges: Ranges, asked: Question) -> list[Candidate]:
    """Find conditions that cases meet more often than controls, the best score first, each with its p-value."""
    cases, controls = int(asked.case.sum()), int(asked.control.sum())
    if cases < 2 or controls < 2:
        return []
    sides = _Sides.of(asked)
    found: list[Candidate] = []
    with_pair = [facts.sums(weights) for weights in sides.distinct]
    with_pair *= 4 // len(with_pair)
    scores = np.where(asked.usable_pairs, sides.score(*with_pair), 0.0)
    promising = [int(at) for at in np.argsort(-scores)[: 2 * _MOST_JUDGED] if scores[at] > _LEAST_SCORE]
    for at in promising:
        named = sorted(((*facts.aliases[at], facts.pairs[at])), key=lambda p: rank(p[0], asked.service, asked.stage))
        named = [pair for pair in named if not is_symptom(pair[0].name)] or named
        conditions = [Condition(key.place, key.name, value) for key, value in named]
        condition = replace(conditions[0], same_as=tuple(conditions[1 : _MOST_ALIASES + 1]))
        tier = min(asked.tier(key) for key, _ in named)
        best_rank = rank(named[0][0], asked.service, asked.stage)
        found.append(Candidate(condition, facts.holders(at), float(scores[at]), 1.0, best_rank, tier))
    tried: dict[int, int] = {}
    for row in np.flatnonzero(asked.usable_numbers).tolist():
        key = facts.number_keys[row]
        best = _best_range(ranges, row, sides, upwards=key.place == EVERYWHERE)
        if best is None:
            continue
        low, high, score, tries = best
        score *= _LOAD_COUNTS if key.place == EVERYWHERE else 1.0
        values = facts.numbers[row]
        holds = (values >= (-np.inf if low is None else low)) & (values < (np.inf if high is None else high))
        tried[len(found)] = tries
        name = _range_condition(facts, row, low, high)
        load = values if key.place == EVERYWHERE else None
        name_rank = rank(key, asked.service, asked.stage)
        found.append(Candidate(name, holds, score, 1.0, name_rank, asked.tier(key), load))
    order = sorted(range(len(found)), key=lambda at: -found[at].score)[:_MOST_JUDGED]
    judged = [_judged(found[at], asked, sides, tried.get(at, 1)) for at in order]
    judged = [candidate for candidate in judged if candidate.p_value < 1]
    if any(one.condition.key == IN_FLIGHT for one in judged) and not _is_crowded(facts, asked):
        judged = [one for one in judged if one.condition.key != IN_FLIGHT]
    return judged


def _is_crowded(facts: Facts, asked: Question) -> bool:
    """Whether more requests than usual arrive before elevated ones.

    Slow requests pile up, whatever makes them slow: only where many arrived is it the load.
    """
    looked_at = asked.case | asked.control
    chances = [
        chance_in_time(
            asked.elevated[looked_at], (values >= np.quantile(values, _CROWD))[looked_at], asked.block[looked_at]
        )
        for key, values in zip(facts.number_keys, facts.numbers, strict=True)
        if key.name.startswith(ARRIVALS)
    ]
    return bool(chances) and min(chances) * len(chances) <= _CROWD_CHANCE


def best_of(found: list[Candidate], asked: Question) -> Candidate | None:
    """Choose the best of candidates that prove something, with those that say the same as its `same_as`.

    Of those that (almost) the same requests meet, and that score nearly as high, the best name is shown.
    """
    if not found:
        return None
    best = max(found, key=lambda candidate: candidate.score)
    looked_at = asked.case | asked.control
    alike = [candidate for candidate in found if _overlap(candidate, best, looked_at) >= ALIKE]
    as_good = [candidate for candidate in alike if candidate.score >= _NEARLY_AS_GOOD * best.score]
    shown = min(as_good, key=lambda candidate: (candidate.rank, -candidate.score))
    others = [other for other in alike if other is not shown]
    same = (*shown.condition.same_as, *(one for other in others for one in (other.condition, *other.condition.same_as)))
    aliases = tuple(replace(one, same_as=()) for one in same[:_MOST_ALIASES])
    return replace(shown, condition=replace(shown.condition, same_as=aliases))


def odds_ratio(case: Bools, control: Bools, holds: Bools, weight: Floats) -> float:
    """How much greater the odds of being a case are where a condition holds; half a request is added to each cell."""
    # Haldane 1956: so that it is finite where a cell is empty
    cells = [float(weight[side & met].sum()) + 0.5 for side in (case, control) for met in (holds, ~holds)]
    return cells[0] * cells[3] / (cells[1] * cells[2])


def _overlap(one: Candidate, other: Candidate, among: Bools) -> float:
    either = int(((one.holds | other.holds) & among).sum())
    return int((one.holds & other.holds & among).sum()) / either if either else 0.0


@dataclass(frozen=True, slots=True)
class _Sides:
    """Weights of cases and of controls, 0 for others, and their squares, with what they are in all."""

    weights: tuple[Floats, Floats, Floats, Floats]
    counts: tuple[int, int]
    totals: tuple[float, float]
    heaviest: float
    plain: bool

    @classmethod
    def of(cls, asked: Question) -> _Sides:
        case, control = np.where(asked.case, asked.weight, 0.0), np.where(asked.control, asked.weight, 0.0)
        return cls(
            (case, control, case**2, control**2),
            (int(asked.case.sum()), int(asked.control.sum())),
            (float(case.sum()), float(control.sum())),
            float(control.max()),
            bool(asked.weight[asked.case | asked.control].max(initial=1.0) <= _PLAIN),
        )

    @property
    def distinct(self) -> tuple[Floats, ...]:
        """The weights, without their squares where these are the same."""
        return self.weights[:2] if self.plain else self.weights

    def table(self, case: Floats, control: Floats, case2: Floats, control2: Floats) -> tuple[Floats, ...]:
        """How many cases of how many meet a condition, and controls: effective ones, where they have weights."""
        if self.plain:
            return case, np.full_like(case, self.counts[0]), control, np.full_like(case, self.counts[1])
        cases, all_cases = effective_counts(case, case2, self.counts[0], self.totals[0], unseen=0.0)
        met, all_controls = effective_counts(control, control2, self.counts[1], self.totals[1], unseen=self.heaviest)
        return cases, np.maximum(all_cases, 1.0), met, np.maximum(all_controls, 1.0)

    def score(self, case: Floats, control: Floats, case2: Floats, control2: Floats) -> Floats:
        """G², 0 where cases do not meet the condition more often."""
        met, cases, met_controls, controls = self.table(case, control, case2, control2)
        share = (met + met_controls) / (cases + controls)
        deviance = (
            _part(met, cases * share)
            + _part(cases - met, cases * (1 - share))
            + _part(met_controls, controls * share)
            + _part(controls - met_controls, controls * (1 - share))
        )
        more: Floats = np.where(met * controls > met_controls * cases, 2 * deviance, 0.0)
        return more

    def chance(self, holds: Bools) -> float:
        """Fisher's exact p-value, one-sided; effective counts are rounded so that it is larger."""
        sums = [np.array([float(weights[holds].sum())]) for weights in self.weights]
        met, cases, met_controls, controls = (float(figure[0]) for figure in self.table(*sums))
        in_controls = max(1, int(controls + 1e-6))
        with_controls = np.array([min(in_controls, int(np.ceil(met_controls - 1e-6)))])
        in_cases = max(1, int(cases + 1e-6))
        with_cases = np.array([min(in_cases, int(met + 1e-6))])
        return float(fisher_over_represented(with_cases, with_controls, in_cases, in_controls)[0])


def _part(seen: Floats, expected: Floats) -> Floats:
    """Compute seen · ln(seen / expected), 0 where nothing was seen."""
    positive = (seen > 0) & (expected > 0)
    ratio = np.divide(seen, expected, out=np.ones_like(seen), where=positive)
    result: Floats = np.where(positive, seen * np.log(ratio), 0.0)
    return result


def _judged(candidate: Candidate, asked: Question, sides: _Sides, tries: int) -> Candidate:
    """Give a candidate its p-value: the worst of what requests and blocks of time say, times the ranges tried.

    Of time two things are asked, whether cases or all elevated requests meet the condition more often; one will do, for
    twice the p-value.
    """
    if candidate.score <= _LEAST_SCORE:
        return candidate
    by_request = sides.chance(candidate.holds)
    looked_at = asked.case | asked.control
    by_time = min(
        chance_in_time(marked[looked_at], candidate.holds[looked_at], asked.block[looked_at])
        for marked in (asked.case, asked.elevated)
    )
    by_time = min(1.0, 2 * by_time)
    if candidate.load is not None:  # waiting rises with load long before the tail, and often: so it shows
        rising = chance_of_rising(candidate.load[looked_at], asked.time_ns[looked_at], asked.block[looked_at])
        # one test for all ranges
        by_time = min(1.0, 2 * min(by_time, rising / tries))
    return replace(candidate, p_value=min(1.0, max(by_request, by_time, _LEAST_CHANCE) * tries))


def _best_range(
    ranges: Ranges, row: int, sides: _Sides, *, upwards: bool
) -> tuple[float | None, float | None, float, int] | None:
    """Find the range of a number with the highest score: from, to, score less the price of the search, and tries."""
    cuts, bins = ranges.cuts[row], ranges.bins[row]
    if len(cuts) < 2:
        return None
    # bins 1 … len(cuts) have the values from each cut on; sums[i] is over the bins up to i
    sums: list[Floats] = [np.cumsum(np.bincount(bins, weights, _BINS)[: len(cuts) + 1]) for weights in sides.distinct]
    sums *= 4 // len(sums)
    begin, end = np.triu_indices(len(cuts) + 1, 1)  # bins begin + 1 … end
    if upwards:
        upper = (end == len(cuts)) & (begin > 0)
        begin, end = begin[upper], end[upper]
    open_ended = (begin == 0) ^ (end == len(cuts))
    inside: list[Floats] = [total[end] - total[begin] for total in sums]
    score = sides.score(*inside)
    halves, inner = int(open_ended.sum()), int((~open_ended).sum())
    tries = np.where(open_ended, (1 + (inner > 0)) * halves, 2 * max(1, inner))
    score -= 2 * np.log(tries)
    best = int(np.argmax(score))
    if score[best] <= _LEAST_SCORE:
        return None
    low = float(cuts[begin[best]]) if begin[best] > 0 else None
    high = float(cuts[end[best]]) if end[best] < len(cuts) else None
    return low, high, float(score[best]), int(tries[best])


def _range_condition(facts: Facts, row: int, low: float | None, high: float | None) -> Condition:
    """Name a range; one value alone by its value."""
    key, values = facts.number_keys[row], facts.numbers[row]
    inside = values[(values >= (-np.inf if low is None else low)) & (values < (np.inf if high is None else high))]
    whole = (low is None) or (high is None)
    if len(inside) and inside.min() == inside.max() and not (whole and len(np.unique(values[~np.isnan(values)])) > 2):
        return Condition(key.place, key.name, f"{inside[0]:g}")
    return Condition(key.place, key.name, None, low, high)
