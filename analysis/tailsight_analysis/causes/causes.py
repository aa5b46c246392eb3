"""What makes slow requests slow: a stage, under which conditions, and how much of the tail's excess that explains.

Per stage of a service: the tail's requests in which it takes clearly longer than in typical ones are the cases,
requests of all durations the controls. The condition that sets them apart best is a cause if it passes every test of
docs/analysis/tail.md; then the rest of the cases is asked again, without those who meet it. So the causes of a stage do
not overlap, and what they leave is the stage's rest, a cause without conditions: where the time goes, but not why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.causes.conditions import LEAST_HOLDERS, Condition, Facts, Place, is_symptom
from tailsight_analysis.causes.counterfactual import quantile_without
from tailsight_analysis.causes.redraw import Redraw
from tailsight_analysis.causes.rules import (
    TIERS,
    Candidate,
    Question,
    Ranges,
    best_of,
    candidates,
    odds_ratio,
    ranges_of,
)
from tailsight_analysis.scope import NS_PER_MS
from tailsight_analysis.statistics.blocks import interval, time_blocks
from tailsight_analysis.statistics.significance import benjamini_hochberg, fisher_over_represented

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIGNIFICANCE = 0.01  # in all of a tail's tests together
LEAST_SHARE = 0.05  # of the tail's excess
LEAST_ODDS = 1.5
CLEARLY = 0.25  # of the way from a typical request to the tail, that a stage alone must take to make a case
MOST_STAGES = 8
MOST_OF_A_STAGE = 3  # causes with conditions
_LEAST_CASES = 5
_BOTH_ODDS = 2.0  # of a second condition, among the requests that meet the first
_BOTH_COVER = 0.8  # of the first condition's cases
_LEAST_ELEVATED = 30
_UNSELECTED_CHANCE = 0.01  # of both levels together
_BULK = 0.8  # of what a stage's cases take longer: where fewer than half of them do, they alone are its cases
_FEW = 0.5
_LEAST_BULK = 10
EXAMPLES = 3
_LOOKED_AT = 500  # requests, to see whether a number restates the time
REST_COUNTS = 0.5  # of its share when causes are ordered: it says where, but not why


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests, an entry each, and what each stage of each service (`places`) contributed to it, in nanoseconds.

    `everyone` is a uniform sample of all requests; `in_tail` may have more of the tail than that, which is `tail_part`
    of all. `weight` is for how many of their own class they stand.
    """

    places: tuple[Place, ...]
    contribution_ns: Floats
    start_ns: Ints
    duration_ns: Ints
    weight: Floats
    everyone: Bools
    in_tail: Bools
    in_typical: Bools
    trace_ids: tuple[str, ...]
    tail_part: float

    def among(self, chosen: Bools) -> Requests:
        """Keep some of the requests, chosen by something that has nothing to do with them."""
        if chosen.all():
            return self
        rows = np.flatnonzero(chosen)
        return Requests(
            self.places, self.contribution_ns[rows], self.start_ns[rows], self.duration_ns[rows], self.weight[rows],
            self.everyone[rows], self.in_tail[rows], self.in_typical[rows],
            tuple(self.trace_ids[row] for row in rows.tolist()), self.tail_part,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cause:
    """A stage of a service, under the conditions together: none, one or two. No condition: the stage as a whole.

    `excess_ms` is what it adds to a request of the tail on average, `excess_share` its share of the tail's whole excess
    with a 95 % interval; causes of one stage do not overlap. `tail_share` and `typical_share` of requests meet the
    conditions; `lift` is their ratio, a lower bound where no typical request does. `p_value` is corrected for all
    tests, None without conditions, as `without_ms`: the tail's quantile, if the stage took for requests that meet the
    conditions what it takes for others (an estimate, not a replay).
    """

    stage: str
    service: str
    conditions: tuple[Condition, ...]
    tail_share: float
    typical_share: float
    lift: float
    excess_ms: float
    excess_share: float
    excess_share_interval: tuple[float, float]
    p_value: float | None
    without_ms: float | None
    examples: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "stage": self.stage,
            "service": self.service,
            "conditions": [condition.to_json() for condition in self.conditions],
            "tail_share": self.tail_share,
            "typical_share": self.typical_share,
            "lift": self.lift,
            "excess_ms": self.excess_ms,
            "excess_share": self.excess_share,
            "excess_share_interval": list(self.excess_share_interval),
            "p_value": self.p_value,
            "without_ms": self.without_ms,
            "examples": list(self.examples),
        }


@dataclass(frozen=True, slots=True)
class _Rule:
    """Conditions that hold together, who meets them, and how sure it is."""

    conditions: tuple[Condition, ...]
    holds: Bools
    p_value: float


def find_causes(requests: Requests, facts: Facts, threshold_ns: float, quantile: float) -> tuple[Cause, ...]:
    """Name the causes of a tail, what explains most first. `facts` are of the same requests."""
    return _Search(requests, facts, threshold_ns, quantile).causes()


class _Search:
    """One tail's search: what its steps share."""

    def __init__(self, requests: Requests, facts: Facts, threshold_ns: float, quantile: float) -> None:
        self.requests, self.facts, self.quantile = requests, facts, quantile
        self.redraw = Redraw.of(
            requests.start_ns, requests.duration_ns, requests.weight, requests.in_tail, requests.in_typical
        )
        self.block = time_blocks(requests.start_ns)
        tail, typical = self.redraw.tail, self.redraw.typical
        self.tail, self.typical = tail, typical
        self.reference = typical @ requests.contribution_ns
        typical_ns = float(typical @ requests.duration_ns)
        self.whole_ns = float(tail @ requests.duration_ns) - typical_ns
        self.clearly_ns = CLEARLY * (threshold_ns - typical_ns)
        self.usable_pairs = self._usable_pairs()
        self.ranges: Ranges = ranges_of(facts, requests.everyone, requests.in_tail)

    def causes(self) -> tuple[Cause, ...]:
        if self.whole_ns <= 0 or not len(self.requests.places):
            return ()
        shares = (self.tail @ self.requests.contribution_ns - self.reference) / self.whole_ns
        units = [int(at) for at in np.argsort(-shares, kind="stable")[:MOST_STAGES] if shares[at] >= LEAST_SHARE]
        asked = {unit: self._question(unit) for unit in units}
        first = {unit: candidates(self.facts, self.ranges, question) for unit, question in asked.items()}
        self.tests = sum((question.tests(self.facts) for question in asked.values()), np.zeros(TIERS, dtype=np.int64))
        chances = self._corrected([one for found in first.values() for one in found])
        found: list[Cause] = []
        for unit in units:
            significant = [next(chances) for _ in first[unit]]
            found += self._of_unit(unit, asked[unit], [one for one in significant if one.p_value <= SIGNIFICANCE])
        found.sort(key=lambda cause: -cause.excess_share * (1 if cause.conditions else REST_COUNTS))
        return tuple(found)

    def _corrected(self, found: list[Candidate]) -> Iterator[Candidate]:
        """Correct the p-values of all stages together; each tier of conditions has its part of the level."""
        corrected = np.ones(len(found))
        for tier, tests in enumerate(self.tests.tolist()):
            members = [at for at, one in enumerate(found) if one.tier == tier]
            chances = np.array([found[at].p_value for at in members])
            corrected[members] = np.minimum(1.0, TIERS * benjamini_hochberg(chances, tests))
        return (replace(one, p_value=p_value) for one, p_value in zip(found, corrected.tolist(), strict=True))

    def _significant(self, found: list[Candidate]) -> list[Candidate]:
        """Of candidates that are looked at later on, those that remain significant, corrected after Bonferroni."""
        later = [replace(one, p_value=min(1.0, TIERS * one.p_value * int(self.tests[one.tier]))) for one in found]
        return [one for one in later if one.p_value <= SIGNIFICANCE]

    def _question(self, unit: int) -> Question:
        requests = self.requests
        case, control, elevated = self._cases(unit, np.ones(len(requests.weight), dtype=np.bool_))
        place = requests.places[unit]
        return Question(
            case=case,
            control=control,
            elevated=elevated,
            time_ns=requests.contribution_ns[:, unit],
            weight=requests.weight,
            block=self.block,
            service=place.service,
            stage=place.stage,
            usable_pairs=self.usable_pairs,
            usable_numbers=self._usable_numbers(unit),
        )

    def _cases(self, unit: int, among: Bools) -> tuple[Bools, Bools, Bools]:
        """Find a stage's cases among some requests, their controls, and where it took as long as in the cases."""
        requests = self.requests
        excess = requests.contribution_ns[:, unit] - self.reference[unit]
        level = max(self.clearly_ns, _upper(excess[requests.in_typical], requests.weight[requests.in_typical]))
        case = requests.in_tail & among & (excess >= level)
        level = max(level, _bulk_from(excess[case], requests.weight[case]))
        case &= excess >= level
        return case, requests.everyone & among & ~case, excess >= level

    def _usable_pairs(self) -> Bools:
        """Which pairs may be named: not those of a few requests only, nor those that say how it went."""
        facts = self.facts
        told = [
            any(not is_symptom(key.name) for key, _ in (pair, *aliases))
            for pair, aliases in zip(facts.pairs, facts.aliases, strict=True)
        ]
        looked_at = self.requests.everyone | self.requests.in_tail
        return np.array(told, dtype=np.bool_) & (facts.sums(looked_at.astype(np.float64)) >= LEAST_HOLDERS)

    def _usable_numbers(self, unit: int) -> Bools:
        """Which numbers may be named: not those that say how long it took, by their name or by their value."""
        requests = self.requests
        everyone = np.flatnonzero(requests.everyone)[:_LOOKED_AT]
        times = (requests.contribution_ns[everyone, unit], requests.duration_ns[everyone].astype(np.float64))
        usable = [
            not is_symptom(key.name) and not any(_restates(values[everyone], time) for time in times)
            for key, values in zip(self.facts.number_keys, self.facts.numbers, strict=True)
        ]
        return np.array(usable, dtype=np.bool_)

    def _of_unit(self, unit: int, asked: Question, found: list[Candidate]) -> list[Cause]:
        """Name the causes of one stage, and its rest."""
        causes: list[Cause] = []
        left = np.ones(len(asked.case), dtype=np.bool_)
        excess = self.requests.contribution_ns[:, unit] - self.reference[unit]
        rest = excess.copy()
        now = asked
        while len(causes) < MOST_OF_A_STAGE and int(now.case.sum()) >= _LEAST_CASES:
            rule = self._rule(unit, now, found)
            if rule is None:
                break
            odds = odds_ratio(now.case, now.control, rule.holds, now.weight)
            explained = np.where(rule.holds & left, excess, 0.0) * (1 - 1 / odds)
            cause = self._cause(unit, rule, explained, now.case)
            if cause.excess_share < LEAST_SHARE:
                break
            causes.append(cause)
            rest -= explained
            left &= ~rule.holds
            case, control, elevated = self._cases(unit, left)
            now = replace(asked, case=case, control=control, elevated=elevated)
            found = self._significant(candidates(self.facts, self.ranges, now))
        nothing = _Rule((), np.ones(len(excess), dtype=np.bool_), 1.0)
        whole = self._cause(unit, nothing, rest, now.case)
        return [*causes, whole] if whole.excess_share >= LEAST_SHARE else causes

    def _rule(self, unit: int, asked: Question, found: list[Candidate]) -> _Rule | None:
        """Find the best condition that is a cause, and a second one if it holds only together with it."""
        able = [candidate for candidate in found if self._raises(unit, asked, candidate.holds)]
        best = best_of(able, asked)
        if best is None:
            return None
        inside = asked.among(best.holds)
        second = best_of(self._significant(candidates(self.facts, self.ranges, inside)), inside)
        if second is not None:
            cases = _sum(asked.weight, inside.case)
            covers = _sum(asked.weight, inside.case & second.holds) / cases if cases else 0.0
            odds = odds_ratio(inside.case, inside.control, second.holds, asked.weight)
            if covers >= _BOTH_COVER and odds >= _BOTH_ODDS:
                return _Rule(
                    (best.condition, second.condition), best.holds & second.holds, max(best.p_value, second.p_value)
                )
        return _Rule((best.condition,), best.holds, best.p_value)

    def _raises(self, unit: int, asked: Question, holds: Bools) -> bool:
        """Whether the stage takes longer where a condition holds, also among requests not chosen for being slow.

        What brings a request into the tail by another stage makes it more common beside every stage's bad luck. Longer:
        clearly so, or half as much longer as in its cases; a rare cause is lost among what is a little slow.
        """
        if odds_ratio(asked.case, asked.control, holds, asked.weight) < LEAST_ODDS:
            return False
        requests = self.requests
        among = requests.everyone & (asked.case | asked.control)
        excess = requests.contribution_ns[:, unit] - self.reference[unit]
        clearly, much = max(self.clearly_ns, 1.0), float(np.median(excess[asked.case & holds])) / 2
        if int((among & (excess >= clearly)).sum()) < _LEAST_ELEVATED:
            return True
        return any(self._is_common(asked, among, excess >= level, holds) for level in {clearly, max(clearly, much)})

    def _is_common(self, asked: Question, among: Bools, elevated: Bools, holds: Bools) -> bool:
        """Whether a condition is more common where a stage is elevated."""
        elevated, others = among & elevated, among & ~elevated
        if odds_ratio(elevated, others, holds, asked.weight) < LEAST_ODDS:
            return False
        counts = [int((side & holds).sum()) for side in (elevated, others)]
        chance = fisher_over_represented(
            np.array(counts[:1]), np.array(counts[1:]), int(elevated.sum()), int(others.sum())
        )
        return bool(chance[0] <= _UNSELECTED_CHANCE / 2)

    def _cause(self, unit: int, rule: _Rule, explained: Floats, case: Bools) -> Cause:
        """Measure what a rule explains of a stage's excess, an entry a request."""
        requests, place = self.requests, self.requests.places[unit]
        excess_ns = float(self.tail @ explained)
        tail_share, typical_share = float(self.tail @ rule.holds), float(self.typical @ rule.holds)
        least = float(self.typical.max(initial=0.0)) or 1.0
        share = excess_ns / self.whole_ns
        without = None
        if rule.conditions:
            without = quantile_without(requests, unit, rule.holds, self.quantile) / NS_PER_MS
        return Cause(
            stage=place.stage,
            service=place.service,
            conditions=rule.conditions,
            tail_share=tail_share,
            typical_share=typical_share,
            lift=tail_share / (typical_share or least),
            excess_ms=excess_ns / NS_PER_MS,
            excess_share=share,
            excess_share_interval=interval(share, self._replicates(explained)),
            p_value=rule.p_value if rule.conditions else None,
            without_ms=without,
            examples=examples(requests.trace_ids, requests.contribution_ns[:, unit], case & rule.holds),
        )

    def _replicates(self, explained: Floats) -> Floats:
        """Draw the share that something explains anew."""
        whole = self.redraw.excesses(self.requests.duration_ns.astype(np.float64))
        shares: Floats = self.redraw.tail_means(explained) / np.where(whole > 0, whole, np.nan)
        return shares


def _upper(values: Floats, weight: Floats) -> float:
    """Return the weighted p90 of some values; none: 0."""
    if len(values) == 0:
        return 0.0
    order = np.argsort(values)
    reached = np.cumsum(weight[order]) / weight.sum()
    return float(values[order][min(int(np.searchsorted(reached, 0.9)), len(values) - 1)])


def _bulk_from(excess: Floats, weight: Floats) -> float:
    """Return the excess from which on a few of these requests hold most of it; 0 where it takes many of them."""
    order = np.argsort(-excess, kind="stable")
    held, count = np.cumsum((excess * weight)[order]), np.cumsum(weight[order])
    last = int(np.searchsorted(held, _BULK * held[-1])) if len(held) else 0
    return float(excess[order][last]) if last + 1 >= _LEAST_BULK and count[last] < _FEW * count[-1] else 0.0


def _restates(values: Floats, time_ns: Floats) -> bool:
    """Whether numbers are a time in s, ms, µs or ns, give or take a tenth for most requests."""
    known = (values > 0) & (time_ns > 0)
    if int(known.sum()) < _LEAST_CASES:
        return False
    ratio = np.log(time_ns[known] / values[known])
    low, middle, high = np.quantile(ratio, [0.25, 0.5, 0.75])
    varies = np.subtract(*np.quantile(np.log(time_ns[known]), [0.75, 0.25])) > 0.05
    return bool(varies and high - low < 0.05 and min(abs(middle - np.log(unit)) for unit in (1, 1e3, 1e6, 1e9)) < 0.1)


def examples(trace_ids: Sequence[str], time_ns: Ints | Floats, chosen: Bools) -> tuple[str, ...]:
    """Trace ids of the requests in the middle of some, by a time that each has."""
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return ()
    middle = np.median(time_ns[rows])
    order = rows[np.argsort(np.abs(time_ns[rows] - middle), kind="stable")]
    return tuple(dict.fromkeys(trace_ids[row] for row in order[: 4 * EXAMPLES].tolist()))[:EXAMPLES]


def _sum(weight: Floats, chosen: Bools) -> float:
    return float(weight[chosen].sum())
