"""Find the changes of a series, point by point: what was found stays where it was found.

The series is read as it came. After each point, the level since the last change is split in two where that separates it
best (least squares; ruptures' kernel search does it: Truong et al. 2020). If the place is the same as after the point
before, and neither noise nor outliers explain the split, there is a change, and a new level begins at it. So the answer
for any beginning of a series is the beginning of the answer for all of it: new points add changes, and never move or
take back one. The price is that each point is another look at the data: the level of significance falls with the
number of points since the last change, so that all looks together stay rarely wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.changes.permutations import EVERY_ORDER_UP_TO, permutation_p_value
from tailsight_analysis.changes.settings import DEFAULT_SETTINGS, MIN_SEGMENT, ChangeSettings
from tailsight_analysis.changes.split import Split, level, split_and_drift, split_at
from tailsight_analysis.errors import QuestionError

Floats = npt.NDArray[np.float64]

LOOKED_AT = 150  # points at the end of a level: what changed before these was found, or is too small to be
SPLIT_LEVEL = 0.012  # of a split's p-value, times the looks
PERMUTATION_LEVEL, OF_FEW_POINTS = 0.02, 0.03  # four points after four have no order that is rarer than 0.029
_LOOKS_POWER, _LOOKS = 3.5, 316  # n points since the last change are n^3.5 / 316 looks: ten at ten points
_SEEN = 4.0  # F of the best split, below which no correction could make it one
_OUTLIERS = 2
_LEFT = 0.5  # of a change, that two outliers less must leave
_FENCES = 3.0  # times the distance between quartiles
_FLOAT_ERROR = 1e-12
_LARGEST = 1e100  # of what has finite sums of squares


@dataclass(frozen=True, slots=True)
class Change:
    """A new level begins at the point `index` (from 0), and was found when the point `found_at` had come.

    `before` and `after` are the levels from the change before to this one, and from this one to the next: winsorised
    means. `low` and `high` bound the difference (95 %). `p_value` is the greater of the permutation test's and of
    `split_p_value`, which is corrected for the looks at the series; both are of the moment at which it was found.
    """

    index: int
    found_at: int
    before: float
    after: float
    low: float
    high: float
    p_value: float
    split_p_value: float

    @property
    def difference(self) -> float:
        """By how much the level rose."""
        return self.after - self.before

    @property
    def ratio(self) -> float | None:
        """How many times the level before the new one is; None where they are not both above or both below 0."""
        return self.after / self.before if self.before * self.after > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "index": self.index,
            "found_at": self.found_at,
            "before": self.before,
            "after": self.after,
            "ratio": self.ratio,
            "difference_interval": [self.low, self.high],
            "p_value": self.p_value,
        }


def change_points(
    values: npt.ArrayLike, errors: npt.ArrayLike | None = None, settings: ChangeSettings = DEFAULT_SETTINGS
) -> tuple[Change, ...]:
    """Find the changes of a series in order of time, with the standard errors of its values, where they are known.

    For every n, those with `found_at` < n are what the first n values alone give: the same `index`, `found_at`,
    `p_value`. Raises QuestionError where a value is not finite or above 1e100, or errors are not one a
    value.
    """
    series = np.asarray(values, dtype=np.float64)
    own = None if errors is None else np.asarray(errors, dtype=np.float64)
    _check(series, own)
    found = _found(series, own, settings)
    starts = [0, *(each.index for each in found), len(series)]
    changes = []
    for number, each in enumerate(found):
        first, at, end = starts[number : number + 3]
        whole = split_at(series[first:end], at - first, None if own is None else own[first:end])
        low, high = whole.interval()
        before, after = level(series[first:at]), level(series[at:end])
        moved = (after - before) - whole.difference
        changes.append(
            Change(at, each.found_at, before, after, low + moved, high + moved, each.p_value, each.split_p_value)
        )
    return tuple(changes)


def growing_evidence(
    values: Floats, errors: Floats | None, first: int, index: int, found_at: int, end: int
) -> list[tuple[int, float]]:
    """For each point from `found_at` to before `end` at which a found change became surer: the point, and the p-value.

    `first` is where the level before begins. The place of the change is kept; each p-value is corrected for the looks,
    as the search's is.
    """
    result: list[tuple[int, float]] = []
    for newest in range(found_at, end):
        begin = max(first, newest + 1 - LOOKED_AT)
        if index - begin < MIN_SEGMENT:
            break
        points = slice(begin, newest + 1)
        split, by_drift = split_and_drift(values[points], index - begin, None if errors is None else errors[points])
        # that drift explains it hardly depends on what drift it is: this counts by the places there are for a split
        p_value = min(1.0, max(split.p_value * _looks(newest + 1 - first), by_drift * (newest + 1 - begin)))
        if not result or p_value < result[-1][1]:
            result.append((newest, p_value))
    return result


@dataclass(frozen=True, slots=True)
class _Found:
    index: int
    found_at: int
    p_value: float
    split_p_value: float


def _check(series: Floats, errors: Floats | None) -> None:
    if series.ndim != 1:
        raise QuestionError(f"a series is a row of numbers, not of {series.ndim} dimensions")
    for name, numbers in (("value", series), ("standard error", errors)):
        if numbers is not None and not (np.abs(numbers) <= _LARGEST).all():
            at = int(np.flatnonzero(~(np.abs(numbers) <= _LARGEST))[0])
            what = "leave points without a number out" if np.isnan(numbers[at]) else "use numbers of a size below 1e100"
            raise QuestionError(f"{name} {at} of the series is {numbers[at]}: {what}")
    if errors is not None and errors.shape != series.shape:
        raise QuestionError(f"{len(series)} values have {errors.size} standard errors: give one each, or none")


def _found(series: Floats, errors: Floats | None, settings: ChangeSettings) -> list[_Found]:
    """Read the series point by point."""
    found: list[_Found] = []
    begin, place = 0, None
    for newest in range(len(series)):
        first = max(begin, newest + 1 - LOOKED_AT)
        points = series[first : newest + 1]
        before, place = place, None
        even = _evened(points) if len(points) >= 2 * settings.min_segment else None
        if even is None:
            continue
        at = _best_split(even, settings.min_segment)
        place = first + at
        # the only place there is, is as good as one that was the same twice
        if place != before and len(points) > 2 * settings.min_segment:
            continue
        own = None if errors is None else errors[first : newest + 1]
        tested = _tested(points, own, even, at, newest + 1 - begin, settings)
        if tested is not None:
            found.append(_Found(place, newest, *tested))
            begin, place = place, None
    return found


def _tested(
    points: Floats, errors: Floats | None, even: Floats, at: int, since: int, settings: ChangeSettings
) -> tuple[float, float] | None:
    """P-values of a change, both tests' and the split's; None where it is none. Cheap checks come first."""
    if not _separates(even, at):
        return None
    split, by_drift = split_and_drift(points, at, errors)
    split_p_value = min(1.0, max(split.p_value, by_drift) * _looks(since))
    if split_p_value > SPLIT_LEVEL or not _is_large(split, settings) or not _lasts(points, at, split.difference):
        return None
    by_order = permutation_p_value(even, settings.min_segment)
    if by_order > (OF_FEW_POINTS if len(points) <= EVERY_ORDER_UP_TO else PERMUTATION_LEVEL):
        return None
    return max(split_p_value, by_order), split_p_value


def _looks(points: int) -> float:
    """How many looks at a level count, when so many points have come since it began."""
    return max(1.0, math.pow(points, _LOOKS_POWER) / _LOOKS)


def _evened(points: Floats) -> Floats | None:
    """Points with mean 0 and variance 1, far outliers drawn in; None where all are equal. No order changes this."""
    low, middle, high = np.quantile(points, [0.25, 0.5, 0.75])
    reach = _FENCES * (high - low)
    drawn = np.clip(points, low - reach, high + reach) if reach > 0 else points
    centred = drawn - middle
    largest = float(np.abs(centred).max())
    if largest == 0:
        return None
    centred = centred / largest
    centred = centred - centred.mean()
    even: Floats = centred / centred.std()
    return even


def _best_split(even: Floats, min_segment: int) -> int:
    """Say where two levels fit best."""
    import ruptures  # here, because it brings much, and most questions need none of it

    search = ruptures.KernelCPD(kernel="linear", min_size=min_segment, jump=1).fit(even[:, None])
    return int(search.predict(n_bkps=1)[0])


def _separates(even: Floats, at: int) -> bool:
    """Whether the split explains anything worth a test."""
    count = len(even)
    explained = float(even[:at].sum()) ** 2 / (at * (count - at))  # of the variance, which is 1
    return (count - 2) * explained > _SEEN * max(1 - explained, _FLOAT_ERROR)


def _is_large(split: Split, settings: ChangeSettings) -> bool:
    """Whether the effect-size floor is passed."""
    least = max(settings.least_change * abs(split.before), settings.least_difference)
    return abs(split.difference) >= least


def _lasts(points: Floats, at: int, difference: float) -> bool:
    """Whether the change is more than outliers: on each side, the two points that speak most for it are left out."""
    sign = math.copysign(1.0, difference)
    before, after = np.sort(sign * points[:at])[_OUTLIERS:], np.sort(sign * points[at:])[:-_OUTLIERS]
    return float(after.mean() - before.mean()) >= _LEFT * abs(difference)
