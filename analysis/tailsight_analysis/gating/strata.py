"""Like with like: both sides are judged on the baseline's mix of what was asked and of where it ran.

Durations of each kind (a stratum: operation, model, hardware, and the input's length where that moved: `lengths`)
count as much as their kind's share in the baseline says (post-stratification: Holt and Smith 1979). A kind that one
side lacks has no counterpart and is left out of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tailsight_analysis.gating.lengths import Divided, Lengths, divide
from tailsight_analysis.gating.samples import RunSample, Series
from tailsight_analysis.statistics.intervals import Cells

LEAST_IN_STRATUM = 20  # of a side; kinds with fewer are one
OTHER_KINDS = "(other kinds)"
LEAST_SHIFT = 0.02  # of the durations, that are of other kinds: below, each counts as it is
_BY_CHANCE = 0.7
_LEAST_IN_RANGE = 5  # of lengths, of a side: with fewer, the other's have no counterpart
_MOST_NAMED = 3

Strata = Mapping[str, Cells]


@dataclass(frozen=True, slots=True)
class StratifiedRun:
    """One run, as `RunSample`, whose durations are told apart by kind. `lengths` are its inputs', where known."""

    label: str
    start_ns: int
    series: Mapping[Series, Strata]
    about: Mapping[str, str] = field(default_factory=dict)
    lengths: Lengths | None = None


@dataclass(frozen=True, slots=True)
class Standardised:
    """Both sides on the baseline's mix. `differences` are sentences on what differs and what was left out."""

    baseline: tuple[RunSample, ...]
    candidate: tuple[RunSample, ...]
    differences: tuple[str, ...]


def standardise(baseline: Sequence[StratifiedRun], candidate: Sequence[StratifiedRun]) -> Standardised:
    """Give every run the baseline's mix, series by series."""
    sides = (baseline, candidate)
    merged: tuple[list[dict[Series, Cells]], list[dict[Series, Cells]]] = (
        [{} for _ in baseline],
        [{} for _ in candidate],
    )
    said: list[str] = []
    said_of_lengths: list[str] = []  # once: what a request's input is like, that of its stages is
    key, unknown = _length_key(sides)
    for series in sorted({each for side in sides for run in side for each in run.series}):
        whole = [_masses([run.series.get(series, {}) for run in side]) for side in sides]
        divided = _divided(sides, series, key)
        masses = [_masses(side) for side in divided.strata]
        names = _kinds(masses, divided.ranges)
        shares = [_shares(mass, names) for mass in masses]
        _without_the_few(masses, shares, divided.ranges)
        common = [kind for kind in shares[0] if shares[0][kind] > 0 and shares[1].get(kind, 0) > 0]
        if whole[0] and whole[1]:
            said_of_lengths = said_of_lengths or _said_of_lengths(series, divided, key)
            said += _lacking(series, shares)
            said += _mix_moved(series, whole)
        total = sum(shares[0][kind] for kind in common)
        target = {kind: shares[0][kind] / total for kind in common}
        moved = divided.means is not None or _moved_by(shares) >= _least_shift(masses, shares)
        for side, result in zip(divided.strata, merged, strict=True):
            for strata, made in zip(side, result, strict=True):
                if common:
                    cells = _mixed(strata, names, target, is_weighted=moved)
                elif whole[0] and whole[1]:
                    continue  # nothing of one is like anything of the other
                else:
                    cells = joined(list(strata.values()))
                if len(cells.value):
                    made[series] = cells
    before, after = (
        tuple(RunSample(run.label, run.start_ns, made, run.about) for run, made in zip(side, result, strict=True))
        for side, result in zip(sides, merged, strict=True)
    )
    return Standardised(before, after, (*unknown, *said_of_lengths, *said))


def joined(parts: Sequence[Cells]) -> Cells:
    """Put cells of one run together."""
    if not parts:
        none = np.zeros(0)
        return Cells(none, none, none.astype(np.int64), none.astype(np.int64), none, none)
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(each, name) for each in parts]) for name in Cells.__slots__
    }
    return Cells(**columns)


def _length_key(sides: Sequence[Sequence[StratifiedRun]]) -> tuple[str, tuple[str, ...]]:
    """Find the attribute that says the input's length in every run; "" where there is none, and a sentence on that."""
    keys = [{run.lengths.key if run.lengths else "" for run in side} for side in sides]
    found = keys[0] | keys[1]
    if len(found) == 1:
        return found.pop(), ()
    known = [" and ".join(sorted(each or "not said" for each in side)) for side in keys]
    return "", (f"length of the input: baseline {known[0]}, candidate {known[1]}; lengths are not compared",)


def _divided(sides: Sequence[Sequence[StratifiedRun]], series: Series, key: str) -> Divided:
    before, after = ([dict(run.series.get(series, {})) for run in side] for side in sides)
    if not key:
        return Divided((before, after), frozenset(), None)
    known = [[run.lengths for run in side if run.lengths] for side in sides]
    width = max(each.width for side in known for each in side)
    steps_before, steps_after = ([each.rounded_to(width).steps.get(series, {}) for each in side] for side in known)
    return divide((before, after), (steps_before, steps_after), key)


def _masses(runs: Sequence[Strata]) -> dict[str, tuple[float, int]]:
    """Of each kind: for how many its durations stand, and how many there are."""
    found: dict[str, tuple[float, int]] = {}
    for strata in runs:
        for kind, cells in strata.items():
            mass, count = found.get(kind, (0.0, 0))
            found[kind] = mass + float(cells.weight.sum()), count + int(cells.count.sum())
    return found


def _kinds(masses: Sequence[Mapping[str, tuple[float, int]]], ranges: frozenset[str] = frozenset()) -> dict[str, str]:
    """Call kinds that are rare on both sides by one name; not `ranges` of lengths, of which the rare are not alike."""
    every = {kind for mass in masses for kind in mass}
    return {
        kind: kind
        if kind in ranges or any(mass.get(kind, (0.0, 0))[1] >= LEAST_IN_STRATUM for mass in masses)
        else OTHER_KINDS
        for kind in every
    }


def _without_the_few(
    masses: Sequence[Mapping[str, tuple[float, int]]], shares: Sequence[dict[str, float]], ranges: frozenset[str]
) -> None:
    """Leave out ranges of which a side has so few that they cannot stand for the other's."""
    for mass, share in zip(masses, shares, strict=True):
        for kind in ranges & mass.keys():
            if mass[kind][1] < _LEAST_IN_RANGE:
                del share[kind]


def _shares(mass: Mapping[str, tuple[float, int]], names: Mapping[str, str]) -> dict[str, float]:
    total = sum(each for each, _ in mass.values())
    result: dict[str, float] = {}
    for kind, (each, _) in mass.items():
        result[names[kind]] = result.get(names[kind], 0.0) + each / total
    return result


def _moved_by(shares: Sequence[Mapping[str, float]]) -> float:
    """Which share of the durations is of other kinds on the other side."""
    kinds = set(shares[0]) | set(shares[1])
    return sum(abs(shares[0].get(kind, 0.0) - shares[1].get(kind, 0.0)) for kind in kinds) / 2


def _least_shift(masses: Sequence[Mapping[str, tuple[float, int]]], shares: Sequence[Mapping[str, float]]) -> float:
    """From which a mix has moved: LEAST_SHIFT more than what chance does to so many durations of so many kinds."""
    counts = [max(1, sum(count for _, count in mass.values())) for mass in masses]
    kinds = len(set(shares[0]) | set(shares[1]))
    return LEAST_SHIFT + _BY_CHANCE * float(np.sqrt((kinds - 1) * sum(1 / count for count in counts)))


def _mixed(strata: Strata, names: Mapping[str, str], target: Mapping[str, float], *, is_weighted: bool) -> Cells:
    by_name: dict[str, list[Cells]] = {}
    for kind, cells in sorted(strata.items()):
        if names[kind] in target:
            by_name.setdefault(names[kind], []).append(cells)
    parts = {name: joined(each) for name, each in by_name.items()}
    if not is_weighted:
        return joined(list(parts.values()))
    total = sum(float(part.weight.sum()) for part in parts.values())
    result = []
    for name, part in parts.items():
        factor = target[name] * total / float(part.weight.sum())
        result.append(replace(part, weight=part.weight * factor, weight2=part.weight2 * factor**2))
    return joined(result)


def _said_of_lengths(series: Series, divided: Divided, key: str) -> list[str]:
    """Say that inputs became longer or shorter."""
    if divided.means is None:
        return []
    before, after = divided.means
    how = "longer" if after > before else "shorter"
    return [
        f"{series.name}: inputs are {how} ({key}, mean {before:.4g} to {after:.4g}); judged at the baseline's lengths"
    ]


def _lacking(series: Series, shares: Sequence[Mapping[str, float]]) -> list[str]:
    """Say what has no counterpart."""
    result = []
    for name, here, there in (("baseline", shares[0], shares[1]), ("candidate", shares[1], shares[0])):
        lacking = {kind: share for kind, share in here.items() if kind not in there}
        if lacking and sum(lacking.values()) >= LEAST_SHIFT / 4:
            result.append(
                f"{series.name}: {sum(lacking.values()):.0%} of the {name}'s have no counterpart and are left out: "
                f"{_named(lacking)}"
            )
    return result


def _mix_moved(series: Series, masses: Sequence[Mapping[str, tuple[float, int]]]) -> list[str]:
    """Say how the mix of what both sides have moved."""
    names = _kinds(masses)
    shares = [_shares(mass, names) for mass in masses]
    common = [kind for kind in shares[0] if shares[0][kind] > 0 and shares[1].get(kind, 0) > 0]
    among = [{kind: each[kind] / sum(each[one] for one in common) for kind in common} for each in shares]
    moved = {kind: among[1][kind] - among[0][kind] for kind in common}
    if not moved or _moved_by(among) < _least_shift(masses, shares):
        return []
    kind = max(moved, key=lambda each: moved[each])
    shift = f"{kind}: {among[0][kind]:.0%} to {among[1][kind]:.0%}"
    return [f"{series.name}: the mix moved ({shift}); judged on the baseline's mix"]


def _named(kinds: Mapping[str, float]) -> str:
    ordered = sorted(kinds, key=lambda kind: -kinds[kind])
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    return ", ".join(ordered[:_MOST_NAMED]) + more
