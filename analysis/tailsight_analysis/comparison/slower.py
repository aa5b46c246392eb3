"""Which operations became slower, and is it chance? Places of two sets of comparable requests against each other.

Pure functions. See docs/analysis/compare.md for the definitions and the measured rate of false causes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from tailsight_analysis.comparison.calls import Place
from tailsight_analysis.comparison.evidence import Evidence, Weighted, evidence
from tailsight_analysis.comparison.shift import BLOCKS, block_means
from tailsight_analysis.requests.accounting import Bools, Floats
from tailsight_analysis.statistics.significance import benjamini_hochberg

SIGNIFICANCE = 0.01
LEAST_CHANGE = 0.005  # of a request's mean duration
LEAST_OF_MIX = 0.1  # of what the mix did to the same place: balancing is not exact
LEAST_OF_WHOLE = 0.1  # of the request's growth, of a place that is tested below the request, or suspected
UNLIKE = 1e-3  # p-value below which hardware types changed unlike each other
MOST_OF_GROWTH = 0.8


@dataclass(frozen=True, slots=True)
class Change:
    """What a place took per request on both sides, in nanoseconds, where mixes are the same.

    `error_ns` is the standard error of the difference. `calls` are visits per request. The p-value is corrected.
    `is_tail_only`: only its long times changed. `hardware` has the types that it ran on. `grown_share` and
    `tail_grown_share` are of all that grew, in mean and in the tail; `time_share` is the share of the candidate's
    time in which most of the change came.
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
    grown_share: float
    tail_grown_share: float
    time_share: float

    @property
    def delta_ns(self) -> float:
        """How much more it took."""
        return self.candidate_ns - self.baseline_ns

    @property
    def tail_delta_ns(self) -> float:
        """How much more it took in the tail."""
        return self.tail_candidate_ns - self.tail_baseline_ns


@dataclass(frozen=True, slots=True)
class Changes:
    """What became slower and what faster beyond chance, the greatest change first; and where other growth is.

    `unproven` are places with a relevant part of the growth that chance may explain, whatever hardware they ran on.
    """

    slower: list[Change]
    faster: list[Change]
    unproven: list[Change]


@dataclass(frozen=True, slots=True)
class _Tested:
    """Places against each other: means, tails and tests, an entry a column; the last one is the whole request."""

    table: list[Place]
    columns: list[tuple[int, ...]]
    hardware: list[tuple[str, ...]]
    slot: list[int]  # number of the place without its hardware
    here: Weighted
    there: Weighted
    mean: tuple[Floats, Floats]
    tail: tuple[Floats, Floats]
    calls: tuple[Floats, Floats]
    tested: Bools
    proof: Evidence


def changes(
    baseline: Weighted, candidate: Weighted, places: Sequence[Place], mix_ns: Floats, tail_least_ns: float
) -> Changes:
    """Compare the places; listed is what changed by a relevant amount.

    `mix_ns` is what reweighting changed in the mean of each place; `tail_least_ns` the least relevant change in the
    tail of a place whose long times alone changed.
    """
    if len(places) == 0:
        return Changes([], [], [])
    all_of = _compared(baseline.by_time(), candidate.by_time(), places)
    by_mix = np.array([abs(mix_ns[list(codes)].sum()) for codes in all_of.columns])
    slower, unproven = _listed(all_of, by_mix, tail_least_ns, 1)
    return Changes(slower, _listed(all_of, by_mix, tail_least_ns, -1)[0], unproven)


def _compared(here: Weighted, there: Weighted, places: Sequence[Place]) -> _Tested:
    table, columns = _with_merged(places)
    here, there = _columns(here, columns), _columns(there, columns)
    mean = _means(here, here.weight), _means(there, there.weight)
    whole = float(mean[0][-1])
    tested = np.maximum(*mean) >= LEAST_CHANGE * whole
    for codes in columns[:-1]:  # types of a tested slot are compared with each other
        tested[list(codes)] |= len(codes) > 1 and bool(tested[list(codes)].any())
    at = np.flatnonzero(tested)
    found = evidence(here, there, here.contribution_ns[:, at], there.contribution_ns[:, at])
    proof = Evidence(np.ones(len(table)), np.ones(len(table)), np.full(len(table), np.inf), np.zeros_like(tested))
    for into, values in (
        (proof.slower, found.slower),
        (proof.faster, found.faster),
        (proof.error_ns, found.error_ns),
    ):
        into[at] = values
    proof.tail_only[at] = found.tail_only
    numbers: dict[Place, int] = {}
    return _Tested(
        table,
        columns,
        [tuple(sorted(places[code].hardware for code in codes)) for codes in columns],
        [numbers.setdefault(replace(place, hardware=""), len(numbers)) for place in table],
        here,
        there,
        mean,
        (_means(here, here.weight * here.in_tail), _means(there, there.weight * there.in_tail)),
        (here.weight @ here.visits / here.weight.sum(), there.weight @ there.visits / there.weight.sum()),
        tested,
        proof,
    )


def _listed(every: _Tested, by_mix: Floats, tail_least_ns: float, sign: int) -> tuple[list[Change], list[Change]]:
    """Return the proven changes of one sign, and what else holds a relevant part of what changed in this direction."""
    delta, tail_delta = (sign * (after - before) for before, after in (every.mean, every.tail))
    floor = LEAST_OF_MIX * by_mix
    matters = delta >= np.maximum(LEAST_CHANGE * every.mean[0][-1], floor)
    matters |= every.proof.tail_only & (delta > floor) & (tail_delta >= tail_least_ns)
    is_slot = _are_slots(every)
    grown, tail_grown = (_of_growth(values, is_slot) for values in (delta, tail_delta))
    held = np.maximum(grown, tail_grown)
    relevant = every.tested & (delta > floor) & (held >= LEAST_OF_WHOLE)
    relevant[-1] = False
    p_value = _corrected(every, every.proof.slower if sign > 0 else every.proof.faster, relevant, held)
    kept = every.tested & (p_value <= SIGNIFICANCE) & matters
    kept[-1] = False
    chosen = _apart_or_together(every.columns[:-1], kept, every.mean[0], every.mean[1] - every.mean[0], every.proof)
    taken = {every.slot[code] for code in chosen}
    rest = [code for code in np.flatnonzero(relevant & is_slot).tolist() if every.slot[code] not in taken]

    def change(code: int) -> Change:
        return Change(
            place=every.table[code],
            baseline_ns=float(every.mean[0][code]),
            candidate_ns=float(every.mean[1][code]),
            error_ns=float(every.proof.error_ns[code]),
            baseline_calls=float(every.calls[0][code]),
            candidate_calls=float(every.calls[1][code]),
            tail_baseline_ns=float(every.tail[0][code]),
            tail_candidate_ns=float(every.tail[1][code]),
            p_value=float(p_value[code]),
            is_tail_only=bool(every.proof.tail_only[code]),
            hardware=every.hardware[code],
            grown_share=float(grown[code]),
            tail_grown_share=float(tail_grown[code]),
            time_share=_time_share(every.there, code, float(every.mean[0][code]), sign),
        )

    found = sorted(map(change, chosen), key=lambda each: (-abs(each.delta_ns), each.place))
    return found, [change(code) for code in rest]


def _corrected(every: _Tested, p_values: Floats, relevant: Bools, held: Floats) -> Floats:
    """Correct p-values for the number of places, in the way that is least strict for each.

    Over all tested places (Benjamini and Hochberg 1995); or below the whole request (Meinshausen, Biometrika 2008):
    where that is slower, only places that hold a relevant part of it are asked, all (Bonferroni) or one by one, the
    largest part `held` first, as long as chance explains none (Maurer, Hothorn, Lehmacher 1995).
    """
    among = every.tested.copy()
    among[-1] = False
    corrected = np.ones(len(p_values))
    corrected[among] = benjamini_hochberg(p_values[among])
    members: dict[int, list[int]] = {}
    for code in sorted(np.flatnonzero(relevant).tolist(), key=lambda code: (-held[code], -len(every.columns[code]))):
        members.setdefault(every.slot[code], []).append(code)  # its first is all of the place
    reached = float(p_values[-1])
    for codes in members.values():
        reached = max(reached, float(p_values[codes[0]]))
        for code in codes:
            all_asked = max(float(p_values[-1]), len(members) * float(p_values[code]))
            corrected[code] = min(corrected[code], all_asked, max(reached, float(p_values[code])))
    return corrected


def _of_growth(delta: Floats, is_slot: Bools) -> Floats:
    """Share of each in the whole's growth, or in all that grew where that is more; 0 where the whole did not grow."""
    if delta[-1] <= 0:
        return np.zeros_like(delta)
    return np.maximum(delta, 0) / max(float(delta[-1]), float(np.maximum(delta, 0)[is_slot].sum()))


def _are_slots(every: _Tested) -> Bools:
    """Columns that are all of a place, whatever hardware it ran on: they add up to the request."""
    result = np.zeros(len(every.columns), dtype=np.bool_)
    result[list({every.slot[code]: code for code in range(len(every.columns) - 1)}.values())] = True
    return result


def _time_share(side: Weighted, code: int, before_ns: float, sign: int) -> float:
    """Least share of a side's time in which MOST_OF_GROWTH of its change against `before_ns` came."""
    growth = (sign * (side.contribution_ns[:, code] - before_ns) * side.weight)[:, None]
    blocks = min(BLOCKS, len(growth))
    descending = np.sort(block_means(growth, blocks)[:, 0])[::-1]
    reached = np.cumsum(descending)
    if reached[-1] <= 0:
        return 1.0
    return float((np.argmax(reached >= MOST_OF_GROWTH * reached[-1]) + 1) / blocks)


def _with_merged(places: Sequence[Place]) -> tuple[list[Place], list[tuple[int, ...]]]:
    """Return the places, those that differ by hardware only as one, and all as the last one; with their columns."""
    together: dict[Place, list[int]] = {}
    for code, place in enumerate(places):
        together.setdefault(replace(place, hardware=""), []).append(code)
    merged = {slot: tuple(codes) for slot, codes in together.items() if len(codes) > 1}
    whole = tuple(range(len(places)))
    return (
        [*places, *merged, Place("", "", "", "(request)")],
        [*((code,) for code in whole), *merged.values(), whole],
    )


def _columns(side: Weighted, columns: Sequence[tuple[int, ...]]) -> Weighted:
    def added(values: Floats) -> Floats:
        several = columns[values.shape[1] :]
        return np.concatenate(
            (values, np.stack([values[:, list(codes)].sum(axis=1) for codes in several], axis=1)), axis=1
        )

    return replace(side, contribution_ns=added(side.contribution_ns), visits=added(side.visits))


def _means(side: Weighted, weight: Floats) -> Floats:
    means: Floats = weight @ side.contribution_ns / max(float(weight.sum()), 1e-300)
    return means


def _apart_or_together(
    columns: Sequence[tuple[int, ...]], kept: Bools, base: Floats, delta: Floats, proof: Evidence
) -> list[int]:
    """Of a slot with several hardware types: the types where they changed unlike each other, else all as one."""
    in_slot = {code for codes in columns if len(codes) > 1 for code in codes}
    chosen = [code for code in np.flatnonzero(kept).tolist() if len(columns[code]) == 1 and code not in in_slot]
    for code, codes in enumerate(columns):
        if len(codes) == 1:
            continue
        single = [each for each in codes if kept[each]]
        if single and (not kept[code] or _unlike(codes, base, delta, proof.error_ns)):
            chosen += single
        elif kept[code]:
            chosen.append(code)
    return chosen


def _unlike(codes: Sequence[int], base: Floats, delta: Floats, error: Floats) -> bool:
    """Cochran's Q over the relative changes of a slot's hardware types; and they must differ by half or more."""
    known = [code for code in codes if base[code] > 0 and 0 < error[code] < np.inf]
    if len(known) < 2:
        return False
    relative = delta[known] / base[known]
    precision = (base[known] / error[known]) ** 2
    middle = float(precision @ relative / precision.sum())
    q = float(precision @ (relative - middle) ** 2)
    widest = float(relative.max() - relative.min())
    return float(chi2.sf(q, len(known) - 1)) < UNLIKE and widest > 0.5 * float(np.abs(relative).max())
