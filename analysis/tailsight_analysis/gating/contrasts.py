"""Which differences are tested? Each metric by itself; against other stages; and a stage on all its hardware.

**Against the others.** A machine in a bad mood makes every stage of a run slow, a change in one stage does not. So the
difference of a stage is also taken less that of the other stages' medians in the same runs, as far as the runs of one
side show that they vary together (analysis of covariance: Fisher 1932). That other stages changed as well must not
become a regression of this one: where more than the tolerance would be taken off, the test does not count. So a stage
that is no slower is not taken for slower, whatever the others do. Only lower bounds use it.

**On all hardware.** If a mean of differences exceeds the tolerance, one of them does. It has less noise than each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tailsight_analysis.gating.estimates import Key
from tailsight_analysis.gating.fitting import Fit
from tailsight_analysis.gating.samples import Floats, Series
from tailsight_analysis.gating.settings import OF_TAIL

Kind = Literal["itself", "others", "together"]
ALL_HARDWARE = "*"
_LEAST_FREEDOM = 2
_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, slots=True)
class Contrasts:
    """Tests, an entry each. `weights` (metrics, tests): what of which metric's difference is tested.

    `subject` is the key of which a test speaks; `common` (metrics, tests) the part of `weights` that is taken off, for
    what all stages have in common, without its sign.
    """

    subject: tuple[Key, ...]
    kind: tuple[Kind, ...]
    weights: Floats
    common: Floats

    def differences(self, difference: Floats) -> Floats:
        """Each test's difference."""
        result: Floats = np.where(np.isfinite(difference), difference, 0.0) @ self.weights
        return result

    def taken_off(self, difference: Floats) -> Floats:
        """Return what of each test's difference was taken off."""
        result: Floats = np.where(np.isfinite(difference), difference, 0.0) @ self.common
        return result


def contrasts(keys: Sequence[Key], compared: Sequence[Key], fitted: Fit) -> Contrasts:
    """Choose the tests of the keys in `compared`, among columns `keys`."""
    place = {key: number for number, key in enumerate(keys)}
    usable = [key for key in compared if np.isfinite(fitted.difference[place[key]])]
    subject: list[Key] = list(usable)
    kind: list[Kind] = ["itself"] * len(usable)
    weights: list[Floats] = []
    common: list[Floats] = []
    nothing = np.zeros(len(keys))
    for key in usable:
        weights.append(_unit(place[key], len(keys)))
        common.append(nothing)
    against = _against_others(keys, usable, place, fitted)
    for key, taken_off in against:
        subject.append(key)
        kind.append("others")
        weights.append(_unit(place[key], len(keys)) - taken_off)
        common.append(taken_off)
    off = dict(against)
    for key, parts in _together(usable).items():
        share = 1 / np.maximum(np.diag(fitted.within)[[place[each] for each in parts]], _LEAST_VARIANCE)
        share = share / share.sum()
        mixed = sum((part * _unit(place[each], len(keys)) for each, part in zip(parts, share, strict=True)), nothing)
        subject.append(key)
        kind.append("together")
        weights.append(mixed)
        common.append(nothing)
        if parts[0] in off:
            subject.append(key)
            kind.append("others")
            weights.append(mixed - off[parts[0]])
            common.append(off[parts[0]])
    return Contrasts(tuple(subject), tuple(kind), np.stack(weights, axis=1), np.stack(common, axis=1))


def _unit(place: int, size: int) -> Floats:
    result = np.zeros(size)
    result[place] = 1.0
    return result


def _together(keys: Sequence[Key]) -> dict[Key, list[Key]]:
    """Metrics of stages that ran on several types of hardware."""
    found: dict[Key, list[Key]] = {}
    for series, metric in keys:
        if not series.is_request:
            found.setdefault((Series(series.stage, ALL_HARDWARE), metric), []).append((series, metric))
    return {key: parts for key, parts in found.items() if len(parts) > 1}


def _against_others(
    keys: Sequence[Key], usable: Sequence[Key], place: dict[Key, int], fitted: Fit
) -> list[tuple[Key, Floats]]:
    """For each key that can be held against others, what is taken off it: their mean times a common slope.

    For p50 and mean of a stage, the others are the medians of the other stages; for what lies in the tail, the medians
    of all stages, its own as well; for the tail of requests, their median.
    """
    if fitted.most_freedom < _LEAST_FREEDOM:
        return []
    whole = (fitted.freedom == fitted.most_freedom) & np.isfinite(fitted.difference)
    medians = [key for key in keys if key[1] == "p50" and whole[place[key]]]
    found: list[tuple[Key, Floats]] = []
    slopes: list[tuple[Key, Floats]] = []
    for is_tail in (False, True):
        found = []
        for key in usable:
            if (key[1] in OF_TAIL) != is_tail or not whole[place[key]]:
                continue
            if (mean := _mean_of(_others(key, medians), place, len(keys))) is not None:
                found.append((key, mean))
        slope = _slope(found, place, fitted)
        slopes += [(key, slope * mean) for key, mean in found] if slope > 0 else []
    return slopes


def _others(key: Key, medians: Sequence[Key]) -> dict[str, list[Key]]:
    """Medians against which a key is held, by stage."""
    series, metric = key
    result: dict[str, list[Key]] = {}
    for other in medians:
        same = other[0].stage == series.stage
        if other[0].is_request != series.is_request:
            continue
        if metric in OF_TAIL or not same:
            result.setdefault(other[0].stage, []).append(other)
    return result


def _mean_of(by_stage: dict[str, list[Key]], place: dict[Key, int], size: int) -> Floats | None:
    """Weights of a mean over stages, of each stage's mean over its hardware."""
    if not by_stage:
        return None
    mean = np.zeros(size)
    for of_stage in by_stage.values():
        for other in of_stage:
            mean[place[other]] = 1 / len(by_stage) / len(of_stage)
    return mean


def _slope(found: Sequence[tuple[Key, Floats]], place: dict[Key, int], fitted: Fit) -> float:
    """How far, between 0 and 1, the runs of one side vary together with the others' mean."""
    if not found:
        return 0.0
    rest = fitted.residuals[:, [place[key] for key, _ in found]]
    others_rest = fitted.residuals @ np.stack([mean for _, mean in found], axis=1)
    precision = 1 / np.maximum((rest**2).sum(axis=0), _LEAST_VARIANCE)
    down = float((others_rest**2).sum(axis=0) @ precision)
    return float(np.clip((rest * others_rest).sum(axis=0) @ precision / down, 0.0, 1.0)) if down > 0 else 0.0
