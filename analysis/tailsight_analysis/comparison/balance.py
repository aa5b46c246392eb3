"""Make one set of requests as if it had been asked the same as another: weights by entropy balancing.

Hainmueller, "Entropy Balancing for Causal Effects", Political Analysis 2012: of all weights under which the candidate's
means of some moments equal the baseline's, those closest to the given ones. They have the form w·exp(λ·x), so this is
also the reweighting of DiNardo, Fortin, Lemieux (Econometrica 1996) with a logistic model, fitted to balance exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tailsight_analysis.requests.accounting import Bools, Floats, Ints

LEAST_RIDGE = 1e-3  # moments may stay apart by this many standard deviations, times λ
RARE_SHARE = 0.005  # of values that stand for less than this, all are one
LEAST_RARE = 8
MOST_BINS = 20
LEAST_IN_BIN = 40
LEAST_OF_A_SIDE = 3
MOST_CELLS = 12
MOST_KINDS = 4  # with which numbers and hardware may go together
MOST_COLUMNS = 120
_STEPS = 60
_HIGHEST_EXPONENT = 12.0


@dataclass(frozen=True, slots=True)
class Moments:
    """Columns to balance, a row a request of both sides; `supported` says which requests have counterparts.

    `foreign` has, by covariate, the share of the baseline's and of the candidate's requests that have none. `apart`
    names the covariates of which the sides share no value: they are not balanced. `used` has those that vary at all.
    """

    columns: Floats
    supported: Bools
    foreign: Mapping[str, tuple[float, float]]
    apart: tuple[str, ...]
    used: tuple[str, ...]


def balancing_weights(target: Floats, target_weight: Floats, columns: Floats, weight: Floats) -> Floats:
    """Weights under which means of `columns` equal those of `target`; they add up to what `weight` does."""
    if columns.shape[1] == 0 or len(columns) == 0:
        return weight.copy()
    wanted = target_weight @ target / target_weight.sum()
    base = weight / weight.sum()
    mean = base @ columns
    scale = np.sqrt(
        np.maximum(base @ (columns - mean) ** 2, target_weight @ (target - wanted) ** 2 / target_weight.sum())
    )
    useful = scale > 1e-9
    if not useful.any():
        return weight.copy()
    x = (columns[:, useful] - wanted[useful]) / scale[useful]
    ridge = max(LEAST_RIDGE, 1 / min(len(target), len(columns)))
    tilt = _minimise(x, base, ridge)
    result: Floats = _tilted(x, base, tilt)[0] * weight.sum()
    return result


def effective_number(weight: Floats) -> float:
    """How many equally weighted requests tell as much: (Σ w)² ÷ Σ w² (Kish 1965)."""
    return float(weight.sum() ** 2 / max(float((weight**2).sum()), 1e-300))


def workload_moments(
    texts: Mapping[str, npt.NDArray[Any]], numbers: Mapping[str, Floats], of_candidate: Bools
) -> Moments:
    """Columns that describe what was asked: values of texts, their combinations, and numbers in fine ranges."""
    count = len(of_candidate)
    supported = np.ones(count, dtype=np.bool_)
    foreign: dict[str, tuple[float, float]] = {}
    apart: list[str] = []
    codes: dict[str, Ints] = {}
    ranges: dict[str, tuple[Ints, Floats, Bools]] = {}
    for name, values in texts.items():
        coded = _pooled(values, of_candidate)
        if coded.max(initial=0) > 0:
            _check_support(name, coded, np.ones(count, dtype=np.bool_), of_candidate, supported, foreign, apart)
            codes[name] = coded
    for name, number in numbers.items():
        present = np.isfinite(number)
        if not (present & of_candidate).any() or not (present & ~of_candidate).any():
            continue
        binned = _bins(number, present, of_candidate)
        if binned[present].max(initial=0) > 0 and not _is_known(binned, ranges):
            _check_support(name, binned, present, of_candidate, supported, foreign, apart)
            ranges[name] = (binned, _standardised(number, present), present)
    columns: list[Floats] = []
    shared = {name: code for name, code in codes.items() if name not in apart}
    for coded in shared.values():
        columns += [(coded == code).astype(np.float64) for code in range(1, int(coded.max()) + 1)]
    cells = _cells(list(shared.values()), of_candidate & supported, ~of_candidate & supported)
    columns += cells
    for name, (binned, z, present) in ranges.items():
        if name not in apart:
            columns += _range_columns(binned, z, present, ~of_candidate & supported)
            columns += [cell * z * present for cell in cells[:MOST_KINDS]]
    stacked = np.stack(columns[:MOST_COLUMNS], axis=1) if columns else np.zeros((count, 0))
    return Moments(stacked, supported, foreign, tuple(apart), (*codes, *ranges))


def hardware_moments(
    used: Mapping[str, npt.NDArray[Any]], of_candidate: Bools, kinds: Floats, weight: Floats
) -> Moments:
    """Columns that say on which hardware the work ran.

    `used` has a table (requests, types) a slot: which types a request's visits to it ran on. A request that does
    not visit a slot says nothing, so that how often it is visited stays as it is. `kinds` are columns of what was
    asked, with which the hardware may go together.
    """
    count = len(of_candidate)
    supported = np.ones(count, dtype=np.bool_)
    foreign: dict[str, tuple[float, float]] = {}
    apart: list[str] = []
    columns: list[Floats] = []
    seen: set[bytes] = set()
    for name, table in used.items():
        visited: Bools = np.asarray(table.any(axis=1))
        here = table[~of_candidate].sum(axis=0)
        there = table[of_candidate].sum(axis=0)
        least = max(LEAST_RARE, RARE_SHARE * visited.sum())
        common = (here >= LEAST_OF_A_SIDE) & (there >= LEAST_OF_A_SIDE)
        lonely = ((here < LEAST_OF_A_SIDE) ^ (there < LEAST_OF_A_SIDE)) & (here + there >= least)
        if lonely.any():
            without: Bools = np.asarray(table[:, lonely].any(axis=1))
            foreign[name] = (float(without[~of_candidate].mean()), float(without[of_candidate].mean()))
            if not common.any():
                apart.append(name)
                continue
            supported &= ~without
        for code in np.flatnonzero(common)[1:]:
            mark = np.packbits(table[:, code]).tobytes()
            if mark in seen:
                continue
            seen.add(mark)
            at = ~of_candidate & supported
            share = float(weight[at] @ table[at, code]) / max(float(weight[at] @ visited[at]), 1e-300)
            column = table[:, code] - share * visited
            columns.append(column)
            columns += [column * kind for kind in kinds.T]
    stacked = np.stack(columns[:MOST_COLUMNS], axis=1) if columns else np.zeros((count, 0))
    return Moments(stacked, supported, foreign, tuple(apart), tuple(used))


def _minimise(x: Floats, base: Floats, ridge: float) -> Floats:
    """Minimise log Σ base·exp(x·λ) + ridge/2 |λ|² by Newton's method with halved steps."""
    tilt = np.zeros(x.shape[1])
    weights, value = _tilted(x, base, tilt)
    coarse = x.astype(np.float32)  # for the curvature, which need not be exact
    for _ in range(_STEPS):
        mean = weights @ x
        gradient = mean + ridge * tilt
        if float(np.abs(gradient).max()) < 1e-6:
            break
        rooted = coarse * np.sqrt(weights * len(x)).astype(np.float32)[:, None]
        second = (rooted.T @ rooted).astype(np.float64) / len(x)
        hessian = second - np.outer(mean, mean) + ridge * np.eye(len(tilt))
        step = np.linalg.solve(hessian, gradient)
        length = 1.0
        for _ in range(20):
            tried = tilt - length * step
            tried_weights, tried_value = _tilted(x, base, tried)
            if tried_value + ridge / 2 * tried @ tried <= value + ridge / 2 * tilt @ tilt:
                break
            length /= 2
        tilt, weights, value = tried, tried_weights, tried_value
    return tilt


def _tilted(x: Floats, base: Floats, tilt: Floats) -> tuple[Floats, float]:
    exponent = x @ tilt
    highest = float(exponent.max())
    raised = base * np.exp(np.maximum(exponent - highest, -_HIGHEST_EXPONENT * 4))
    total = float(raised.sum())
    return raised / total, highest + float(np.log(total))


def _pooled(values: npt.NDArray[Any], of_candidate: Bools) -> Ints:
    """Numbers of distinct values, most frequent first; rare ones are one."""
    _, coded, counts = np.unique(values.astype(str), return_inverse=True, return_counts=True)
    least = max(LEAST_RARE, RARE_SHARE * min(int(of_candidate.sum()), int((~of_candidate).sum())))
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    frequent = int((counts >= least).sum())
    result: Ints = np.minimum(rank, frequent)[np.ravel(coded)]
    return result


def _bins(number: Floats, present: Bools, of_candidate: Bools) -> Ints:
    """Ranges of a number by quantiles of both sides together; each value by itself where there are few."""
    there = number[present]
    distinct = np.unique(there)
    if len(distinct) <= MOST_BINS:
        edges = distinct[1:]
    else:
        fewer = min(int((present & of_candidate).sum()), int((present & ~of_candidate).sum()))
        bins = int(np.clip(fewer // LEAST_IN_BIN, 2, MOST_BINS))
        levels = np.append(np.linspace(0, 1, bins + 1)[1:-1], [0.98, 0.99] if bins == MOST_BINS else [])
        edges = np.unique(np.quantile(there, np.unique(levels)))
    result = np.full(len(number), -1, dtype=np.int64)
    result[present] = np.searchsorted(edges, there, side="right")
    return result


def _standardised(number: Floats, present: Bools) -> Floats:
    there = number[present]
    low, high = np.quantile(there, [0.0, 0.995])
    clipped = np.clip(np.where(present, number, there.mean()), low, high)
    spread = float(clipped[present].std()) or 1.0
    result: Floats = (clipped - clipped[present].mean()) / spread
    return result


def _check_support(
    name: str,
    coded: Ints,
    present: Bools,
    of_candidate: Bools,
    supported: Bools,
    foreign: dict[str, tuple[float, float]],
    apart: list[str],
) -> None:
    """Take out requests whose value only one side has; a covariate of which nothing is common is put `apart`."""
    size = int(coded.max()) + 1
    here = np.bincount(coded[present & ~of_candidate], minlength=size)
    there = np.bincount(coded[present & of_candidate], minlength=size)
    lonely = ((here < LEAST_OF_A_SIDE) ^ (there < LEAST_OF_A_SIDE)) & (here + there >= LEAST_RARE)
    if not lonely.any():
        return
    without = present & lonely[coded]
    shares = (float(without[~of_candidate].mean()), float(without[of_candidate].mean()))
    foreign[name] = shares
    if max(shares) > 0.9:
        apart.append(name)
    else:
        supported &= ~without


def _is_known(binned: Ints, ranges: Mapping[str, tuple[Ints, Floats, Bools]]) -> bool:
    """Whether another number says the same, as where each span of a request repeats the batch's size."""
    return any(np.array_equal(binned, other) for other, _, _ in ranges.values())


def _cells(codes: Sequence[Ints], candidate: Bools, baseline: Bools) -> list[Floats]:
    """Find combinations of texts that both sides have often enough."""
    if len(codes) == 0:
        return []
    joint = np.zeros(len(candidate), dtype=np.int64)
    for coded in codes:
        _, joint = np.unique(joint * (int(coded.max()) + 1) + coded, return_inverse=True)
        joint = np.ravel(joint)
    size = int(joint.max()) + 1
    here, there = np.bincount(joint[baseline], minlength=size), np.bincount(joint[candidate], minlength=size)
    often = np.flatnonzero((here >= LEAST_RARE) & (there >= LEAST_RARE))
    often = often[np.argsort(-(here + there)[often], kind="stable")][:MOST_CELLS]
    return [(joint == cell).astype(np.float64) for cell in often]


def _range_columns(binned: Ints, z: Floats, present: Bools, baseline: Bools) -> list[Floats]:
    """Columns of a number's ranges, and of where in them it lies; requests without it say nothing."""
    among = baseline & present
    if not among.any():
        return []
    columns: list[Floats] = [present * (moment - float(moment[among].mean())) for moment in (z, z * z)]
    last = int(binned.max())
    for code in range(last + 1):
        inside = binned == code
        if not (inside & among).any():
            continue
        share = float((inside & among).sum()) / float(among.sum())
        columns.append(inside - share * present)
        if code in (0, last - 1, last):  # where ranges are wide
            columns.append(inside * (z - float(z[inside & among].mean())))
    return columns
