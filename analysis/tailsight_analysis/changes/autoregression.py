"""Would autocorrelated noise alone look like a split? A likelihood ratio: AR(1) around one level, against two.

The coefficient is fitted anew for each, up to nearly a random walk. Estimated around two levels only, it is far too
small for a drifting machine, because the split takes the drift away; around one level, it is too large where there is
a step. The ratio of both fits needs neither: a step is a single large innovation, drift is many small ones (Perron 2006
on telling them apart; Shi, Gallagher, Lund, Killick 2022 on what autocorrelation does to tests of change points).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

Floats = npt.NDArray[np.float64]

_PHI = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.94, 0.97, 0.99])
_FITTED = 3  # two levels and the coefficient
_NOTHING = 1e-12


def autoregression_p_value(values: Floats, at: int, white: float = 0.0) -> float:
    """Chance of as good a fit of two levels, `values[:at]` and `values[at:]`, where there is one level and AR(1) noise.

    For this split by itself, not for having chosen it: the ratio R of both sums of squares as F = (n − 3)·(R − 1).
    `white` is the share of the noise's variance known to be independent: no coefficient leaves less than that.
    """
    count = len(values)
    largest = float(np.abs(values - values[0]).max())
    if count <= _FITTED or largest == 0:
        return 1.0
    most = max(1 - white, 0.0)
    phi = _PHI[most >= _PHI][:, None]
    level = _whitened(np.ones(count), phi)
    step = _without(_whitened((np.arange(count) >= at).astype(float), phi), level)
    around_one = _without(_whitened((values - values[0]) / largest, phi), level)
    around_two = _without(around_one, step)
    one, two = _misfit(around_one, phi), _misfit(around_two, phi)
    f = (count - _FITTED) * math.expm1(max(one - two, 0.0) / count)
    return 2 * float(stdtr(count - _FITTED, -math.sqrt(f)))


def _whitened(values: Floats, phi: Floats) -> Floats:
    """Return what AR(1) noise with each coefficient leaves unexplained, a row each. The first value follows none."""
    result: Floats = np.concatenate((np.sqrt(1 - phi**2) * values[0], values[1:] - phi * values[:-1]), axis=1)
    return result


def _without(rows: Floats, explained: Floats) -> Floats:
    """Take out of each row what the same row of `explained` says."""
    share = np.sum(rows * explained, axis=1) / np.sum(explained**2, axis=1)
    result: Floats = rows - share[:, None] * explained
    return result


def _misfit(rows: Floats, phi: Floats) -> float:
    """Minus two times the log-likelihood of the best coefficient."""
    squares = np.maximum(np.sum(rows**2, axis=1), _NOTHING)
    return float(np.min(rows.shape[1] * np.log(squares) - np.log(1 - phi[:, 0] ** 2)))
