"""By how much two sides of runs differ, and how much runs of one side differ from each other.

Logarithms of metrics are fitted by least squares: a level, the side, and, where runs of both sides were taken in turn,
a smooth course over time (Legendre polynomials), so that a drift of the machine is neither a change nor noise. The
residuals of both sides together say how runs vary. Blocked runs have no such course: it could not be told from a
change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre

from tailsight_analysis.gating.estimates import RunEstimate
from tailsight_analysis.gating.samples import Floats, Ints

IN_TURN_BELOW = 0.5  # correlation of side and time up to which runs were taken in turn
MOST_BENDS = 8
_RUNS_A_BEND = 4
LEAST_NEIGHBOURS = 8
_MOST_ALIKE = 0.8
_PERHAPS = 4.0  # of neighbours whose correlation is 0.6


@dataclass(frozen=True, slots=True)
class Fit:
    """Differences of both sides, an entry a metric (nan where a side has none), in logarithms: 0.1 is about 10 %.

    `residuals` are (runs, metrics), 0 where a run lacks the metric. `freedom` is their number of degrees of freedom, 0
    where there is one run a side. `leverage` × the variance of one run is the difference's. `between` is the variance
    of one run (nan without freedom), `within` the covariance that a run's own requests leave. `neighbours` (pairs, 2)
    are rows of runs in blocks that followed each other: the mean varies more where such are alike (see `repeats`).
    """

    difference: Floats
    residuals: Floats
    freedom: Floats
    leverage: Floats
    between: Floats
    within: Floats
    levels: tuple[Floats, Floats]
    runs: tuple[int, int]
    in_turn: bool
    neighbours: Ints

    @property
    def most_freedom(self) -> int:
        """Degrees of freedom of what every run has."""
        return int(self.freedom.max(initial=0))


def fit(baseline: Sequence[RunEstimate], candidate: Sequence[RunEstimate]) -> Fit:
    """Fit the runs of both sides; each side has at least one."""
    values = np.stack([each.values for each in (*baseline, *candidate)])
    side = np.repeat([0.0, 1.0], [len(baseline), len(candidate)])
    start_ns = np.array([each.start_ns for each in (*baseline, *candidate)], dtype=np.int64)
    in_turn = taken_in_turn(start_ns, side)
    metrics = values.shape[1]
    difference, leverage = np.full(metrics, np.nan), np.full(metrics, np.nan)
    freedom, between = np.zeros(metrics), np.full(metrics, np.nan)
    residuals = np.zeros_like(values)
    there = np.isfinite(values)
    for pattern in np.unique(there, axis=1).T:
        columns = np.flatnonzero((there == pattern[:, None]).all(axis=0))
        rows = np.flatnonzero(pattern)
        if len(np.unique(side[rows])) < 2:
            continue
        matrix = _matrix(start_ns[rows], side[rows], in_turn)
        inverse = np.linalg.inv(matrix.T @ matrix)
        found = inverse @ matrix.T @ values[np.ix_(rows, columns)]
        rest = values[np.ix_(rows, columns)] - matrix @ found
        free = len(rows) - matrix.shape[1]
        difference[columns], leverage[columns], freedom[columns] = found[0], inverse[0, 0], free
        residuals[np.ix_(rows, columns)] = rest
        if free > 0:
            between[columns] = (rest**2).sum(axis=0) / free
    within = np.mean([each.covariance for each in (*baseline, *candidate)], axis=0)
    before, after = (_mean(values[side == number]) for number in (0.0, 1.0))
    return Fit(
        difference, residuals, freedom, leverage, between, within,
        (before, after), (len(baseline), len(candidate)), in_turn,
        np.zeros((0, 2), dtype=np.int64) if in_turn else _neighbours(start_ns, side),
    )  # fmt: skip


def _neighbours(start_ns: Ints, side: Floats) -> Ints:
    """Return the rows of runs of one side that followed each other, (pairs, 2)."""
    order = np.lexsort((start_ns, side))
    same = np.diff(side[order]) == 0
    pairs: Ints = np.column_stack([order[:-1][same], order[1:][same]])
    return pairs


def repeats(residuals: Floats, between: Floats, within: Floats, neighbours: Ints) -> float:
    """How many fewer independent runs there are, where neighbours are alike: (1 + r) / (1 − r) (Bartlett 1935).

    r is the correlation of `neighbours`, over all columns of `residuals` (runs, numbers) as far as runs make them vary
    (variance `between`, of which requests explain `within`), corrected for the mean that was taken off.
    """
    squares = (residuals**2).sum(axis=0)
    share = np.where(squares > 0, 1 - within / np.where(between > 0, between, np.inf), 0.0)
    share = np.where(np.isfinite(share), np.maximum(share, 0.0), 0.0)
    pairs, runs = len(neighbours), len(residuals)
    if pairs < LEAST_NEIGHBOURS or not share.any():
        return 1.0
    products = (residuals[neighbours[:, 0]] * residuals[neighbours[:, 1]]).sum(axis=0)
    weight = share / share.sum()
    alike = float((products / np.maximum(squares, 1e-300)) @ weight) * runs / pairs + 2 / runs
    if alike < 1 / np.sqrt(pairs):  # no more than chance
        return 1.0
    return (1 + min(alike, _MOST_ALIKE)) / (1 - min(alike, _MOST_ALIKE))


def may_repeat(fitted: Fit) -> float:
    """By how much more the mean of further runs may vary: of few runs in blocks it is not known how alike they are."""
    return _PERHAPS if not fitted.in_turn and len(fitted.neighbours) < LEAST_NEIGHBOURS else 1.0


def taken_in_turn(start_ns: Ints, side: Floats) -> bool:
    """Whether the runs of both sides alternate in time, more or less."""
    rank = np.argsort(np.argsort(start_ns, kind="stable"), kind="stable")
    if len(rank) < 4 or not np.ptp(side) or not np.ptp(start_ns):
        return False
    return bool(abs(np.corrcoef(rank, side)[0, 1]) < IN_TURN_BELOW)


def _matrix(start_ns: Ints, side: Floats, in_turn: bool) -> Floats:
    """Columns: the side, the level, and the course over time."""
    runs = len(side)
    bends = min(MOST_BENDS, max(0, (runs - 4) // _RUNS_A_BEND)) if in_turn else 0
    rank = np.argsort(np.argsort(start_ns, kind="stable"), kind="stable")
    when = 2 * rank / max(1, runs - 1) - 1
    course = legendre.legvander(when, bends)  # its first column is the level
    return np.column_stack([side, course])


def _mean(values: Floats) -> Floats:
    """Mean of each column's numbers; nan where there are none."""
    count = np.isfinite(values).sum(axis=0)
    total = np.where(np.isfinite(values), values, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)
    return mean
