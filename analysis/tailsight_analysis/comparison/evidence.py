"""Did a quantity of requests change, or is it chance? Four tests of each of many columns, one p-value a direction.

Pure functions. The tests see different things: the mean, of times cut at a high quantile; the rank of a visit among
those of both sides, which sees what is typical; and how often a request has a time beyond the p95 and the p99 of both
sides. Their p-values are combined as half-Cauchy numbers (Liu and Xie, JASA 2020; what is above a half counts as one
half), which needs no independence of them: four times the least where one alone is small, itself where all say the
same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve

from tailsight_analysis.comparison.shift import Shift, block_counts, block_means, halvings, shift
from tailsight_analysis.requests.accounting import Bools, Floats, Ints

Floats32 = npt.NDArray[np.float32]

TYPICAL = 0.01  # p-value of the ranks above which only long times changed
WINSOR = 0.995
LEVELS = (0.95, 0.99)
LEAST_BEYOND = 10
LEAST_VISITS = 12
PER_COLUMN = 10  # requests of the smaller side for each column of what was asked


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

    def by_time(self) -> Weighted:
        """Put the requests in the order of time."""
        order = np.argsort(self.start_ns, kind="stable")
        return replace(
            self,
            start_ns=self.start_ns[order],
            weight=self.weight[order],
            contribution_ns=self.contribution_ns[order],
            visits=self.visits[order],
            in_tail=self.in_tail[order],
            asked=self.asked[order],
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Of each column: p-values for slower and faster, the error of the difference of means, and what kind of change."""

    slower: Floats
    faster: Floats
    error_ns: Floats
    tail_only: Bools


def evidence(here: Weighted, there: Weighted, x: Floats, y: Floats) -> Evidence:
    """Test whether the columns of `x` (of `here`) and `y` (`there`) differ; requests are in order of time."""
    counts = (len(x), len(y))
    halved = halvings(*counts)
    blocks = [count << halved for count in block_counts(*counts)]
    explained = _Explained(here, there)
    scale = here.weight[:, None] / here.weight.mean(), there.weight[:, None] / there.weight.mean()

    def compared(u: Floats, v: Floats, of_u: Bools | None = None, of_v: Bools | None = None) -> Shift:
        u, v = explained(*_influence(scale, u, v, of_u, of_v))
        u *= scale[0]
        v *= scale[1]
        return shift(block_means(u, blocks[0]), block_means(v, blocks[1]), halved)

    visited = (x > 0, y > 0)
    ranks_x, ranks_y, cuts = _ranks_and_quantiles(here, there, x, y, visited)
    raw = compared(x, y)
    ranked = compared(ranks_x, ranks_y, *visited)
    _without_few(ranked, np.minimum(visited[0].sum(axis=0), visited[1].sum(axis=0)) < LEAST_VISITS)
    results = [compared(np.minimum(x, cuts[-1]), np.minimum(y, cuts[-1])), ranked]
    for cut in cuts[:-1]:
        beyond = ((x > cut).astype(np.float64), (y > cut).astype(np.float64))
        few = beyond[0].sum(axis=0) + beyond[1].sum(axis=0) < LEAST_BEYOND
        long = compared(*beyond)
        _without_few(long, few)
        results.append(long)
    return Evidence(
        slower=_combined([result.p_more for result in results]),
        faster=_combined([result.p_less for result in results]),
        error_ns=raw.error,
        tail_only=np.minimum(ranked.p_more, ranked.p_less) > TYPICAL,
    )


def _combined(p_values: Sequence[Floats]) -> Floats:
    """Combine the tests' p-values as half-Cauchy numbers; 1 where none is below a half."""
    bounded = np.clip(np.stack(p_values), 1e-15, 0.5)
    mean = (1 / np.tan(bounded * np.pi)).mean(axis=0)
    combined: Floats = np.arctan2(1.0, mean) / np.pi
    return np.where(mean > 1e-9, combined, 1.0)


def _without_few(result: Shift, few: Bools) -> None:
    result.p_more[few], result.p_less[few] = 1.0, 1.0


def _influence(
    scale: tuple[Floats, Floats], x: Floats, y: Floats, of_x: Bools | None, of_y: Bools | None
) -> tuple[Floats, Floats]:
    """Find what each request adds to the difference of the weighted means of `of_x` and `of_y`, but for its weight."""
    if of_x is None or of_y is None:  # every request
        mean_x, mean_y = (scale[0] * x).mean(axis=0), (scale[1] * y).mean(axis=0)
        middle = (len(x) * mean_x + len(y) * mean_y) / (len(x) + len(y))
        return x - middle, y - middle
    share_x = np.maximum((scale[0] * of_x).mean(axis=0), 1e-12)
    share_y = np.maximum((scale[1] * of_y).mean(axis=0), 1e-12)
    mean_x = (scale[0] * x * of_x).mean(axis=0) / share_x
    mean_y = (scale[1] * y * of_y).mean(axis=0) / share_y
    middle = (len(x) * mean_x + len(y) * mean_y) / (len(x) + len(y))
    return of_x * ((x - middle) / share_x), of_y * ((y - middle) / share_y)


class _Explained:
    """Take out of values what a linear model of what was asked explains: less noise, and what is left of imbalance.

    The model is fitted within the sides, so that it cannot explain their difference (Quade 1967, of ranks; with the
    weights it is doubly robust: Zhao and Percival 2017).
    """

    def __init__(self, here: Weighted, there: Weighted) -> None:
        self._split = len(here.weight)
        most = min(self._split, len(there.weight)) // PER_COLUMN
        asked = np.concatenate((here.asked[:, :most], there.asked[:, :most])).astype(np.float32)
        weight = np.concatenate((here.weight / here.weight.mean(), there.weight / there.weight.mean()))
        weight32 = weight.astype(np.float32)
        within = self._centred(asked, weight)
        varies = within.any(axis=0)
        if not varies.all():
            asked, within = np.ascontiguousarray(asked[:, varies]), np.ascontiguousarray(within[:, varies])
        self._columns = asked - (weight32 @ asked / weight32.sum())
        within *= np.sqrt(weight32)[:, None]
        if within.shape[1]:
            gram = (within.T @ within).astype(np.float64)
            self._factor = cho_factor(gram + np.diag(1e-3 * np.diag(gram)))
        within *= np.sqrt(weight32)[:, None]
        self._weighted = within

    def __call__(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        if self._columns.shape[1] == 0:
            return x, y
        values = np.concatenate((x, y))
        size = np.maximum(np.abs(values).max(axis=0), 1e-300)
        slopes = cho_solve(self._factor, (self._weighted.T @ (values / size).astype(np.float32)).astype(np.float64))
        values -= size * (self._columns @ slopes.astype(np.float32))
        return values[: self._split], values[self._split :]

    def _centred(self, columns: Floats32, weight: Floats) -> Floats32:
        centred = np.empty_like(columns)
        for at in (slice(None, self._split), slice(self._split, None)):
            centred[at] = columns[at] - (weight[at] @ columns[at] / weight[at].sum()).astype(columns.dtype)
        return centred


def _ranks_and_quantiles(
    here: Weighted, there: Weighted, x: Floats, y: Floats, visited: tuple[Bools, Bools]
) -> tuple[Floats, Floats, Floats]:
    """Ranks of visits among those of both sides, from 0 to 1, and quantiles (levels, columns) over these visits.

    Equal values share their rank, 0 is that of no visit. In quantiles each side weighs as many as it has.
    """
    weight = np.concatenate((here.weight / here.weight.mean(), there.weight / there.weight.mean()))
    levels = np.array((*LEVELS, WINSOR))
    of_x, of_y, cuts = np.zeros_like(x), np.zeros_like(y), np.zeros((len(levels), x.shape[1]))
    for at in range(x.shape[1]):
        first, second = np.flatnonzero(visited[0][:, at]), np.flatnonzero(visited[1][:, at])
        values = np.concatenate((x[first, at], y[second, at]))
        if len(values) == 0:
            continue
        order = np.argsort(values)
        ascending = values[order]
        starts = np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))
        counts = np.diff(np.append(starts, len(values)))
        ranks = np.empty(len(values))
        ranks[order] = np.repeat((starts + counts / 2) / len(values), counts)
        of_x[first, at], of_y[second, at] = ranks[: len(first)], ranks[len(first) :]
        reached = np.cumsum(np.concatenate((weight[first], weight[len(x) + second]))[order])
        place = np.searchsorted(reached, levels * reached[-1])
        cuts[:, at] = ascending[np.minimum(place, len(values) - 1)]
    return of_x, of_y, cuts
