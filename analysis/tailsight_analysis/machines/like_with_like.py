"""Hardware types compared at the same work: sorted into strata, standardised, and what their raw numbers hide.

Pure functions over columns: an entry a span of one stage, or a whole request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tailsight_analysis.machines.result import Covariate, HardwareComparison, HardwareType, Standardised
from tailsight_analysis.requests.accounting import Bools, Floats, Ints
from tailsight_analysis.requests.covariates import binned
from tailsight_analysis.statistics.intervals import Cells, quantile_intervals
from tailsight_analysis.statistics.paired import weighted_quantile
from tailsight_analysis.statistics.significance import benjamini_hochberg
from tailsight_analysis.statistics.standardise import (
    LikeWithLike,
    compare_kinds,
    standardised_ratio,
)

OPERATION, MODEL, BATCH_SIZE, INPUT_LENGTH = "operation", "model", "batch_size", "input_length"
LEAST_COUNT = 30  # pieces of work of a type, for it to be compared
MOST_NAMES = 12  # operations or models of a stage; the rarer ones are one
MOST_BATCH_BINS = 8
MOST_LENGTH_BINS = 16
_SPANS_A_CELL = 25
_LEAST_GAP = 0.05  # between raw and standardised ratio, relative, for a reason to be looked for
_LEAST_PART = 0.4  # of that gap that the reason must close
_LEVELS = (0.5, 0.99)


@dataclass(frozen=True, slots=True)
class Work:
    """Pieces of work, an entry each: how long, on which hardware, where, in which block of time, of which weight.

    `hardware` and `host` are codes, `names` and `numbers` the covariates, as codes and as numbers (nan: unknown).
    """

    value_ms: Floats
    hardware: Ints
    host: Ints
    weight: Floats
    block: Ints
    names: dict[Covariate, Ints]
    numbers: dict[Covariate, Floats]

    def only(self, chosen: Bools) -> Work:
        """Keep some of it."""
        return Work(
            self.value_ms[chosen],
            self.hardware[chosen],
            self.host[chosen],
            self.weight[chosen],
            self.block[chosen],
            {covariate: codes[chosen] for covariate, codes in self.names.items()},
            {covariate: values[chosen] for covariate, values in self.numbers.items()},
        )


def compare_hardware(
    work: Work, hardware: list[str], stage: str | None, scale: float, reference: str | None = None
) -> HardwareComparison | None:
    """Compare the types that do this work with the most frequent one, or with `reference` where that does some of it.

    `hardware` names its codes; `scale` is for how many pieces one of weight 1 stands. None where there is none.
    """
    if not len(work.value_ms):
        return None
    weights = np.bincount(work.hardware, work.weight, minlength=len(hardware))
    base = int(weights.argmax())
    if reference in hardware and weights[hardware.index(reference)] > 0:
        base = hardware.index(reference)
    strata = {covariate: _bins(work, covariate) for covariate in (*work.names, *work.numbers)}
    whole = combined(list(strata.values()), len(work.value_ms))
    types = []
    for code in np.flatnonzero(weights > 0).tolist():
        chosen = work.hardware == code
        share, standardised = 1.0, None
        if code != base:
            share, standardised = _against(work, code, base, whole, strata)
        types.append(
            _type(work, chosen, work.hardware == base, hardware[code], scale, share, standardised, code == base)
        )
    types.sort(key=lambda each: _order(each, hardware[base]))
    return HardwareComparison(stage, hardware[base], tuple(types))


def with_corrected_p(comparisons: list[HardwareComparison]) -> tuple[HardwareComparison, ...]:
    """Correct the p-values for all comparisons that were made (Benjamini and Hochberg 1995)."""
    chances = [
        each.standardised.p_value
        for comparison in comparisons
        for each in comparison.types
        if each.standardised and each.standardised.p_value is not None
    ]
    corrected = iter(benjamini_hochberg(np.array(chances, dtype=np.float64)).tolist())
    found = []
    for comparison in comparisons:
        types = []
        for each in comparison.types:
            result = each.standardised
            if result and result.p_value is not None:
                result = replace(result, p_value=next(corrected))
            types.append(replace(each, standardised=result))
        found.append(replace(comparison, types=tuple(types)))
    return tuple(found)


def combined(codes: list[Ints], count: int) -> Ints:
    """Give numbers to the combinations of several codes that occur."""
    result = np.zeros(count, dtype=np.int64)
    for each in codes:
        result = np.unique(result * (int(each.max(initial=0)) + 1) + each, return_inverse=True)[1].astype(np.int64)
    return result


# --- inside -----------------------------------------------------------------------------------------------------------


def _bins(work: Work, covariate: Covariate) -> Ints:
    """Sort the work by one covariate, no finer than that the types have something in most strata."""
    if covariate in work.names:
        codes = work.names[covariate]
        count = np.bincount(codes)
        rare = np.argsort(-count, kind="stable")[MOST_NAMES:]
        return np.where(np.isin(codes, rare), len(count), codes)
    if covariate.name == BATCH_SIZE:
        return binned(work.numbers[covariate], MOST_BATCH_BINS)[0]
    others = [_bins(work, other) for other in (*work.names, *work.numbers) if other != covariate]
    cells = int(combined(others, len(work.value_ms)).max()) + 1
    types = len(np.unique(work.hardware))
    most = len(work.value_ms) / (_SPANS_A_CELL * types * cells)
    return binned(work.numbers[covariate], int(min(max(most, 3), MOST_LENGTH_BINS)))[0]


def _against(
    work: Work, code: int, base: int, whole: Ints, strata: dict[Covariate, Ints]
) -> tuple[float, Standardised | None]:
    """Compare one type with the reference: share that can be compared, and the comparison where it is enough."""
    pair = (work.hardware == code) | (work.hardware == base)
    is_kind = work.hardware[pair] == code
    if min(int(is_kind.sum()), int((~is_kind).sum())) < LEAST_COUNT:
        return 0.0, None
    values, weight = work.value_ms[pair], work.weight[pair]
    population: Any = np.bincount(whole, work.weight)
    numbers = [number[pair] for number in work.numbers.values()]
    result = compare_kinds(values, is_kind, whole[pair], weight, work.block[pair], population, numbers)
    if not isinstance(result, LikeWithLike):
        return result, None
    raw = _mean(values[is_kind], weight[is_kind]) / max(_mean(values[~is_kind], weight[~is_kind]), 1e-300)
    mixes: dict[Covariate, Any] = {covariate: np.bincount(codes, work.weight) for covariate, codes in strata.items()}
    singles = {
        covariate: standardised_ratio(values, is_kind, codes[pair], weight, mixes[covariate])
        for covariate, codes in strata.items()
    }
    because = _reason(raw, result.mean_ratio.value, singles)
    more = None
    if because in work.numbers:
        number = work.numbers[because][pair]
        known = np.isfinite(number)
        kind, other = known & is_kind, known & ~is_kind
        more = bool(_mean(number[kind], weight[kind]) > _mean(number[other], weight[other]))
    return result.comparable_share, Standardised(
        mean_ms=result.mean,
        p50_ms=result.quantiles[0],
        p99_ms=result.quantiles[1],
        reference_mean_ms=result.reference_mean,
        reference_p50_ms=result.reference_quantiles[0],
        reference_p99_ms=result.reference_quantiles[1],
        mean_ratio=result.mean_ratio,
        p50_ratio=result.quantile_ratios[0],
        p99_ratio=result.quantile_ratios[1],
        p_value=result.p_value,
        because=because,
        more=more,
    )


def _reason(raw: float, standardised: float, singles: dict[Covariate, float | None]) -> Covariate | None:
    """Find the covariate that by itself moves the raw ratio furthest towards the standardised one."""
    gap = math.log(standardised / raw) if raw > 0 else 0.0
    if abs(gap) < math.log1p(_LEAST_GAP):
        return None
    closed = {covariate: math.log(ratio / raw) / gap for covariate, ratio in singles.items() if ratio}
    best = max(closed, key=lambda covariate: closed[covariate], default=None)
    return best if best is not None and closed[best] >= _LEAST_PART else None


def _type(
    work: Work,
    chosen: Bools,
    of_base: Bools,
    name: str,
    scale: float,
    share: float,
    standardised: Standardised | None,
    is_base: bool,
) -> HardwareType:
    values, weight = work.value_ms[chosen], work.weight[chosen]
    base_mean = _mean(work.value_ms[of_base], work.weight[of_base])
    mean = _mean(values, weight)
    p50, p99 = weighted_quantile(values, weight, _LEVELS).tolist()
    p50_interval, p99_interval = quantile_intervals(
        Cells.of_values(values, work.block[chosen], weight), _LEVELS, (p50, p99)
    )
    return HardwareType(
        hardware=name,
        hosts=len(np.unique(work.host[chosen])),
        count=round(float(weight.sum()) * scale),
        sampled=len(values),
        raw_mean_ms=mean,
        raw_p50_ms=p50,
        raw_p99_ms=p99,
        raw_p50_interval=p50_interval,
        raw_p99_interval=p99_interval,
        raw_ratio=mean / base_mean if base_mean > 0 and not is_base else None,
        comparable_share=share,
        standardised=standardised,
    )


def _order(each: HardwareType, reference: str) -> tuple[bool, bool, float, str]:
    ratio = each.standardised.mean_ratio.value if each.standardised else 0.0
    return each.hardware != reference, each.standardised is None, -ratio, each.hardware


def _mean(values: Floats, weight: Floats) -> float:
    total = float(weight.sum())
    return float(weight @ values) / total if total else 0.0
