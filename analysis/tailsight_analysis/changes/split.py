"""One split of a series in two levels: how much they differ, and whether noise could do that.

Levels are winsorised means (Tukey 1962), so that a lone outlier moves them little. The noise is what is left around
both, and is taken for autocorrelated: an AR(1) process, whose means vary more than independent values' would. Its
coefficient is estimated around the two levels, corrected for the bias of short series, drawn towards a common one where
they are short, and raised by half a standard error: taking too little for it makes changes out of noise. Around the
best of all splits it still comes out too small: `split_and_drift` asks `autoregression`, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import fdtrc, stdtr, stdtrit

from tailsight_analysis.changes.autoregression import autoregression_p_value

Floats = npt.NDArray[np.float64]

_FENCE = 3.0  # standard deviations of the noise, beyond which values count as if they lay there
_MAD_TO_SD = 1.4826
_Q90_TO_SD = 1 / 1.645
_COMMON_PHI, _COMMON_POINTS = 0.4, 10  # where nothing is known of autocorrelation, and for how many points this counts
_MOST_PHI = 0.95
_RAISED = 0.5  # standard errors
_UNEQUAL = 0.01  # p-value of a ratio of variances, from which both sides have one of their own
_NOTHING = 1e-18


@dataclass(frozen=True, slots=True)
class Split:
    """Two levels, their difference with its standard error, and the chance of as large a one between equal levels.

    The chance is for this split by itself, not for having chosen it. `phi` is the noise's autocorrelation that was
    reckoned with, `white` the share of its variance that is known to be independent. An error of 0: there is
    no noise at all.
    """

    before: float
    after: float
    error: float
    degrees: float
    p_value: float
    phi: float
    white: float = 0.0

    @property
    def difference(self) -> float:
        """By how much the level rose."""
        return self.after - self.before

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Where the difference lies, with this confidence."""
        reach = float(stdtrit(self.degrees, (1 + confidence) / 2)) * self.error
        return self.difference - reach, self.difference + reach


def split_at(values: Floats, at: int, errors: Floats | None = None, phi: float | None = None) -> Split:
    """Compare `values[:at]` with `values[at:]`, both not empty.

    `errors` are the values' own standard errors, in their unit, where they are known: a value counts by the inverse of
    its variance, that is of its own and of what values differ by beside it. `phi` is the noise's autocorrelation, where
    that is known; else it is estimated.
    """
    count = len(values)
    left, right = slice(None, at), slice(at, None)
    residual = np.concatenate((values[left] - np.median(values[left]), values[right] - np.median(values[right])))
    reach = _reach(residual)
    weight, least_variance, white = _weights(np.clip(residual, -reach, reach), errors)
    before, after = (level(values[side], weight[side], reach) for side in (left, right))
    residual = np.clip(np.concatenate((values[left] - before, values[right] - after)), -reach, reach)
    squares = float(weight @ residual**2)
    difference = after - before
    if squares <= _NOTHING * max(float(np.abs(values).max()) ** 2, difference**2) and least_variance == 0:
        return Split(before, after, 0.0, float(count - 2), 0.0 if difference else 1.0, 0.0)
    if phi is None:
        phi = _autocorrelation(values, residual * np.sqrt(weight), at, white)
    error, degrees = _error_of_difference(
        [(float(weight[side] @ residual[side] ** 2), float(weight[side].sum())) for side in (left, right)],
        (at, count - at),
        (inflation(at, phi), inflation(count - at, phi)),
        least_variance,
    )
    p_value = 2 * float(stdtr(degrees, -abs(difference) / error))
    return Split(before, after, error, degrees, p_value, phi, white)


def split_and_drift(values: Floats, at: int, errors: Floats | None = None) -> tuple[Split, float]:
    """Compare as `split_at` does, and say how likely AR(1) noise around one level looks as much like two."""
    split = split_at(values, at, errors)
    if split.error == 0 or _is_staircase(values):
        return split, 0.0
    residual = np.concatenate((values[:at] - split.before, values[at:] - split.after))
    reach = _reach(residual)
    drawn_in = np.clip(residual, -reach, reach)
    drawn_in[at:] += split.difference
    return split, autoregression_p_value(drawn_in, at, split.white)


def level(values: Floats, weight: Floats | None = None, reach: float | None = None) -> float:
    """Return the weighted mean of values, those farther from the median than `reach` counting as if they lay there.

    Without a reach: three standard deviations of the values themselves, as their median deviation and the quantile
    beside it say.
    """
    middle = float(np.median(values))
    reach = _reach(values - middle) if reach is None else reach
    return middle + float(np.average(np.clip(values - middle, -reach, reach), weights=weight))


def inflation(count: int, phi: float) -> float:
    """How many times the variance of a mean of `count` values in a row is that of independent ones, in AR(1) noise."""
    if phi == 0:
        return 1.0
    return 1 + 2 * phi / (1 - phi) * (1 - (1 - phi**count) / (count * (1 - phi)))


def _error_of_difference(
    sides: Sequence[tuple[float, float]], counts: tuple[int, int], grows: tuple[float, float], least_variance: float
) -> tuple[float, float]:
    """Return the standard error of a difference of two means, and its degrees of freedom.

    `sides` have the weighted sum of squares and the sum of weights. One variance of both, but where they differ surely
    one each (Welch 1947): a loud stretch after a quiet one is not as well known as all of it together.
    """
    degrees = [max(count - grow, 1.0) for count, grow in zip(counts, grows, strict=True)]
    variances = [squares / free for (squares, _), free in zip(sides, degrees, strict=True)]
    pooled_degrees = max(sum(counts) - sum(grows), 1.0)
    pooled = max(sum(squares for squares, _ in sides) / pooled_degrees, least_variance)
    loud = 0 if variances[0] > variances[1] else 1
    quiet = max(variances[1 - loud], least_variance)
    if quiet > 0 and 2 * float(fdtrc(degrees[loud], degrees[1 - loud], variances[loud] / quiet)) < _UNEQUAL:
        of_sides = [
            max(variance, least_variance) * grow / weight
            for variance, grow, (_, weight) in zip(variances, grows, sides, strict=True)
        ]
        known = sum(own**2 / free for own, free in zip(of_sides, degrees, strict=True))
        return math.sqrt(sum(of_sides)), sum(of_sides) ** 2 / known
    return math.sqrt(
        pooled * sum(grow / weight for grow, (_, weight) in zip(grows, sides, strict=True))
    ), pooled_degrees


def _is_staircase(values: Floats) -> bool:
    """Whether most values repeat the one before exactly, and those that do not go one way: no noise does that."""
    steps = np.diff(values)
    return float(np.median(np.abs(steps))) == 0 and bool((steps >= 0).all() or (steps <= 0).all())


def _reach(residual: Floats) -> float:
    """How far from its level a value may lie before it counts as an outlier; no limit where most do not differ."""
    size = np.abs(residual)
    # nine in ten as well: a tenth of values that lie on a hill of their own are no outliers
    deviation = max(_MAD_TO_SD * float(np.median(size)), 2 / _FENCE * _Q90_TO_SD * float(np.quantile(size, 0.9)))
    return _FENCE * deviation if deviation > 0 else math.inf


def _weights(residual: Floats, errors: Floats | None) -> tuple[Floats, float, float]:
    """Return weights with a mean of 1, the least variance that a value of weight 1 can have, and the errors' share.

    This share of the variance is independent from value to value, whatever the rest may be.
    """
    if errors is None:
        return np.ones(len(residual)), 0.0, 0.0
    own = np.maximum(errors, 0.0) ** 2
    total = float(residual @ residual) / max(len(residual) - 2, 1)
    beside = max(total - float(np.median(own)), 0.0)
    variance = own + beside
    if not float(variance.min()) > 0:
        return np.ones(len(residual)), 0.0, 0.0
    weight = 1 / variance
    mean = float(weight.mean())
    return weight / mean, 1 / mean, min(float(np.median(own)) / float(np.median(variance)), 1.0)


def _autocorrelation(values: Floats, residual: Floats, at: int, white: float) -> float:
    """Return the AR(1) coefficient to reckon with. `white` is the share of the variance known to be independent.

    The steps of a staircase are not to be taken for autocorrelation.
    """
    count = len(values)
    if _is_staircase(values):
        return 0.0
    squares = float(residual @ residual)
    if squares == 0:
        return 0.0
    products = float(residual[: at - 1] @ residual[1:at] + residual[at:-1] @ residual[at + 1 :])
    # of two means taken out: Kendall's bias (1954), twice
    found = (products / squares + 2 / count) / (1 - min(4.0, count / 3) / count)
    known = count / (count + _COMMON_POINTS)
    unknown = (1 - known) * _COMMON_PHI + _RAISED / math.sqrt(count)
    return min(max(known * found + (1 - white) * unknown, 0.0), _MOST_PHI)
