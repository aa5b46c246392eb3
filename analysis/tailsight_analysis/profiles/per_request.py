"""Time per request in two classes, function by function: how far it differs, and how often that is chance.

Each request is one number, for its samples hang together. The difference of the means is studentised: by the variance
between the requests of each class (Welch's), or by that between all requests where this is larger. So what each tail
request has exactly once, and no typical one, is a large difference and not a division by zero; and a class that happens
to have none of a rare function is not taken for one that certainly has none. How large that gets by chance is found by
dealing the requests to the classes anew (Janssen 1997; Chung and Romano 2013), and the largest of all functions in each
deal corrects for their number (Westfall and Young 1993).

Intervals: of each mean the exact interval of a Poisson count (Garwood 1936) of as many samples as have its variance
(Fay and Feuer 1997), which is at least Poisson's, for the profiler looks at random moments; widened as Student's t is,
the more the fewer requests the variance comes from. Of a share Clopper and Pearson's with as many samples (Korn and
Graubard 1998). Of a difference both together (MOVER: Zou and Donner 2008). They hold for few samples, and for none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.stats import beta, gamma
from scipy.stats import t as student

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

DEALS = 999
_DEALS_AT_ONCE = 37
_LEVEL = 0.95
_NORMAL = 1.959963984540054  # of _LEVEL
_TIE = 1e-9
_LEAST = 1e-300


@dataclass(frozen=True, slots=True)
class Compared:
    """Of each column: the means of a and b, the interval of a − b; the same of shares; the studentised difference."""

    mean_a: Floats
    mean_b: Floats
    low: Floats
    high: Floats
    share_a: Floats
    share_b: Floats
    share_low: Floats
    share_high: Floats
    t: Floats


def compare(times: csr_matrix, one: Floats, whole: Floats, is_a: Bools) -> Compared:
    """Compare the requests (rows) of class a with the others, in each column of `times`.

    `one` is what one sample adds to each column, `whole` the time of each request in all, whatever its function.
    """
    requests = _Requests(times)
    is_one = is_a[None, :].astype(float)
    a, b = requests.sides(is_one)
    jump_a, jump_b = _jumps(a, b, one)
    jump_a, jump_b = jump_a * _widened(_freedom(times[is_a])), jump_b * _widened(_freedom(times[~is_a]))
    share_a, share_b = _shares(times, one, whole, is_a), _shares(times, one, whole, ~is_a)
    worst = np.fmax(share_a.design, share_b.design)
    t = requests.studentised(is_one)[0]
    low, high = _apart(a.mean[0], _count_interval(a, jump_a), b.mean[0], _count_interval(b, jump_b))
    bounds = _apart(share_a.share, share_a.interval(worst), share_b.share, share_b.interval(worst))
    return Compared(a.mean[0], b.mean[0], low, high, share_a.share, share_b.share, *bounds, t)


def chances(times: csr_matrix, is_a: Bools, t: Floats) -> Floats:
    """Return how often the largest |t| of a deal by chance is as large: the p-values, corrected for all columns."""
    requests = _Requests(times)
    # the same question has the same answer, and another one deals of its own
    random = np.random.default_rng([len(is_a), times.nnz, int(times.sum())])
    as_large = np.zeros(len(t))
    done = 0
    while done < DEALS:
        now = min(_DEALS_AT_ONCE, DEALS - done)
        deals = random.permuted(np.tile(is_a.astype(float), (now, 1)), axis=1)
        largest = np.abs(requests.studentised(deals)).max(axis=1)
        as_large += (largest[:, None] >= np.abs(t)[None, :] - _TIE).sum(axis=0)
        done += now
    found: Floats = (1 + as_large) / (DEALS + 1)
    return found


@dataclass(frozen=True, slots=True)
class _Side:
    """A class's means and their variances between requests, a row a deal; and how many requests it has."""

    mean: Floats
    variance: Floats
    size: int


class _Requests:
    """The requests' times, which can be dealt to two classes."""

    def __init__(self, times: csr_matrix) -> None:
        self._times, self._squares = times, times.power(2)
        self._sum, self._square = (np.asarray(each.sum(axis=0)).ravel() for each in (times, self._squares))
        size = times.shape[0]
        self._overall = np.maximum(self._square / size - (self._sum / size) ** 2, 0.0) * size / max(1, size - 1)

    def sides(self, is_a: Floats) -> tuple[_Side, _Side]:
        """Return the class where `is_a` is 1, and the other; a row a deal, all of the same sizes."""
        sums, squares = (np.asarray((each.T @ is_a.T).T) for each in (self._times, self._squares))
        size_a = int(is_a[0].sum())
        size_b = is_a.shape[1] - size_a
        return self._side(sums, squares, size_a), self._side(self._sum - sums, self._square - squares, size_b)

    def studentised(self, is_a: Floats) -> Floats:
        """Return t, a row a deal."""
        a, b = self.sides(is_a)
        error = np.sqrt(sum(np.maximum(each.variance, self._overall / each.size) for each in (a, b)))
        t: Floats = np.divide(a.mean - b.mean, error, out=np.zeros_like(error), where=error > 0)
        return t

    def _side(self, sums: Floats, squares: Floats, size: int) -> _Side:
        mean = np.maximum(sums / size, 0.0)
        between = np.maximum(squares / size - mean**2, 0.0) / max(1, size - 1)
        return _Side(mean, between, size)


def _freedom(times: csr_matrix) -> Floats:
    """Return of each column how many degrees of freedom its variance has: fewer where few requests have most of it.

    The variance of a variance depends on the kurtosis (Satterthwaite 1946 with it).
    """
    size = times.shape[0]
    mean, second, third, fourth = (np.asarray(times.power(power).sum(axis=0)).ravel() / size for power in (1, 2, 3, 4))
    variance = second - mean**2
    central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    excess = np.divide(central, variance**2, out=np.zeros_like(mean), where=variance > _TIE * second) - 3
    freedom: Floats = np.clip(2 / (np.maximum(excess, 0) / size + 2 / max(1, size - 1)), 1, max(1, size - 1))
    return freedom


def _widened(freedom: Floats) -> Floats:
    """How much wider an interval is where the variance is known so badly, squared."""
    wider: Floats = (student.ppf((1 + _LEVEL) / 2, freedom) / _NORMAL) ** 2
    return wider


def _jumps(a: _Side, b: _Side, one: Floats) -> tuple[Floats, Floats]:
    """Return what one more of the independent events that the samples are made of adds to each mean.

    A class without a sample has events like those of the other.
    """
    events = [
        np.divide(side.variance[0] * side.size, side.mean[0], out=np.zeros_like(one), where=side.mean[0] > 0)
        for side in (a, b)
    ]
    own = [
        np.maximum(np.where(side.mean[0] > 0, mine, other), one)
        for side, mine, other in zip((a, b), events, reversed(events), strict=True)
    ]
    return own[0] / a.size, own[1] / b.size


def _count_interval(side: _Side, jump: Floats) -> tuple[Floats, Floats]:
    outside = (1 - _LEVEL) / 2
    count = side.mean[0] / jump
    low = np.where(count > 0, gamma.ppf(outside, np.maximum(count, _LEAST)), 0.0)
    return low * jump, gamma.ppf(1 - outside, count + 1) * jump


def _apart(a: Floats, of_a: tuple[Floats, Floats], b: Floats, of_b: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    """Return the interval of a − b from those of both."""
    low = a - b - np.hypot(a - of_a[0], of_b[1] - b)
    high = a - b + np.hypot(of_a[1] - a, b - of_b[0])
    return low, high


@dataclass(frozen=True, slots=True)
class _Shares:
    """Of each column its share of a class's time.

    `samples` is how many the class has, and `design` how many times fewer independent ones they are worth (0 where
    nothing tells).
    """

    share: Floats
    samples: float
    design: Floats
    size: int

    def interval(self, worst: Floats) -> tuple[Floats, Floats]:
        """Return the shares' intervals; `worst` is taken for the design where nothing tells it."""
        design = np.maximum(np.where(self.design > 0, self.design, worst), 1.0) * float(
            _widened(np.array([max(1.0, self.size - 1.0)]))[0]
        )
        samples = self.samples / design
        count = self.share * samples
        outside = (1 - _LEVEL) / 2
        low = beta.ppf(outside, np.maximum(count, _LEAST), samples - count + 1)
        high = beta.ppf(1 - outside, count + 1, np.maximum(samples - count, _LEAST))
        return np.where(self.share > 0, low, 0.0), np.where(self.share < 1, high, 1.0)


def _shares(times: csr_matrix, one: Floats, whole: Floats, members: Bools) -> _Shares:
    """Ratios of sums over requests, linearised (Cochran 1977, 6.3)."""
    all_time, size = float(whole[members].sum()), int(members.sum())
    own, weights = csr_matrix(times[members]), whole[members]
    share = np.asarray(own.sum(axis=0)).ravel() / all_time
    squares = np.asarray(own.power(2).sum(axis=0)).ravel()
    crossed = np.asarray(own.T @ weights).ravel()
    rest = np.maximum(squares - 2 * share * crossed + share**2 * float((weights**2).sum()), 0.0)
    variance = rest / all_time**2 * size / max(1, size - 1)
    samples = all_time / float(one.max())
    by_chance = share * (1 - share) / samples
    design = np.divide(variance, by_chance, out=np.zeros_like(share), where=by_chance > _LEAST)
    return _Shares(share, samples, design, size)
