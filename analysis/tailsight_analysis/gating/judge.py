"""The verdict: each metric's interval against its tolerance, all of them held together. See docs/analysis/gate.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student

from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.gating.contrasts import Contrasts, contrasts
from tailsight_analysis.gating.differences import differences
from tailsight_analysis.gating.estimates import Key, RunEstimate, estimate
from tailsight_analysis.gating.fitting import Fit, fit, may_repeat
from tailsight_analysis.gating.limits import Limited, within_limits
from tailsight_analysis.gating.needed import Tested, needed
from tailsight_analysis.gating.reasons import reasons
from tailsight_analysis.gating.result import Calibration, Compared, GateVerdict, Judgement, MetricVerdict, Needed
from tailsight_analysis.gating.samples import Floats, RunSample
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.together import Chance, chance_of, prospects
from tailsight_analysis.gating.variation import (
    Variation,
    between_of_kind,
    expected_variance,
    least_of_variance,
    variation,
)

_LEAST_ERROR = 1e-9
_MUCH = 1e3  # the standard error of a test that does not count


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of every test: its difference, its standard error, and where the true one lies; logarithms.

    `low` holds for all tests together, since any may stop a candidate. `high` holds for each by itself, since all must
    be below to pass (intersection-union: Berger 1982). `high_together` holds for all, and is for improvements.
    """

    difference: Floats
    error: Floats
    low: Floats
    high: Floats
    high_together: Floats


@dataclass(frozen=True, slots=True)
class Tests:
    """Everything that the verdicts follow from."""

    keys: tuple[Key, ...]
    fitted: Fit
    contrasts: Contrasts
    variation: Variation
    chance: Chance
    bounds: Bounds
    tolerance: Floats  # logarithms, an entry a test
    margin: Floats


def judge(
    baseline: Sequence[RunSample],
    candidate: Sequence[RunSample],
    settings: GateSettings,
    calibration: Calibration | None = None,
    already_different: Sequence[str] = (),
) -> Judgement:
    """Judge the candidate's runs against the baseline's.

    `already_different` is what is known of how the sides differ (see `strata`): it is said before what is found here.
    Raises NotEnoughDataError where a side has no run, or nothing that both have.
    """
    tests = examine(baseline, candidate, settings, calibration)
    limited = within_limits(tests.keys, len(candidate), tests.fitted, tests.variation, settings)
    compared = _compared(tests, limited, settings)
    verdict = _verdict(compared)
    wanted: Needed | None = None
    if verdict == "inconclusive":
        wanted, compared = _with_needed(tests, compared, baseline, candidate, settings)
    return Judgement(
        verdict=verdict,
        calibration=calibration,
        comparisons=tuple(compared),
        reasons=reasons(verdict, compared, tests.fitted, tests.variation, calibration, wanted),
        differences=(*differences(baseline, candidate, settings), *already_different),
        baseline_runs=len(baseline),
        candidate_runs=len(candidate),
        needed=wanted,
    )


def examine(
    baseline: Sequence[RunSample],
    candidate: Sequence[RunSample],
    settings: GateSettings,
    calibration: Calibration | None = None,
) -> Tests:
    """Test every metric of every series that both sides have."""
    for name, side in (("baseline", baseline), ("candidate", candidate)):
        if not side:
            raise NotEnoughDataError(f"the {name} has no run")
    keys, compared = columns_of(baseline, candidate, settings)
    sides = [estimate(run, keys) for run in baseline], [estimate(run, keys) for run in candidate]
    return examine_estimates(keys, compared, *sides, settings, calibration)


def examine_estimates(
    keys: tuple[Key, ...],
    compared: Sequence[Key],
    baseline: Sequence[RunEstimate],
    candidate: Sequence[RunEstimate],
    settings: GateSettings,
    calibration: Calibration | None = None,
) -> Tests:
    """Test what is `compared` of the columns `keys` of each run."""
    fitted = fit(baseline, candidate)
    if not any(np.isfinite(each) and key in compared for key, each in zip(keys, fitted.difference, strict=True)):
        raise NotEnoughDataError("baseline and candidate have no requests or stages in common")
    chosen = contrasts(keys, compared, fitted)
    varied = variation(chosen, fitted, calibration)
    tolerance = np.log1p([settings.tolerance_of(*key) for key in chosen.subject])
    margin = np.log1p([settings.margin_of(*key) for key in chosen.subject])
    freedom = float(np.median(varied.freedom))
    weight = prospects(np.sqrt(expected_variance(chosen, varied) * leverage_of(chosen, fitted)))
    chance = chance_of(
        varied.alike_between,
        varied.alike_within,
        freedom,
        weight,
        least_of_variance(chosen, varied),
        one_spread=fitted.most_freedom == 0,
    )
    bounds = _bounds(chosen, fitted, varied, chance, tolerance, settings)
    return Tests(keys, fitted, chosen, varied, chance, bounds, tolerance, margin)


def columns_of(
    baseline: Sequence[RunSample], candidate: Sequence[RunSample], settings: GateSettings
) -> tuple[tuple[Key, ...], list[Key]]:
    """All columns that are needed, and those of them that are compared."""
    series = sorted(
        {each for run in baseline for each in run.series} & {each for run in candidate for each in run.series}
    )
    metrics = dict.fromkeys((*settings.metrics, "p50"))
    keys = tuple((each, metric) for each in series for metric in metrics)
    return keys, [key for key in keys if key[1] in settings.metrics and not settings.is_ignored(key[0])]


def _bounds(
    chosen: Contrasts, fitted: Fit, varied: Variation, chance: Chance, tolerance: Floats, settings: GateSettings
) -> Bounds:
    wrong = (1 - settings.confidence) / 2
    leverage = leverage_of(chosen, fitted)
    error = np.maximum(np.sqrt(varied.variance * leverage), _LEAST_ERROR)
    difference = chosen.differences(fitted.difference)
    error[np.abs(chosen.taken_off(fitted.difference)) > tolerance] = _MUCH
    together = chance.critical(wrong, varied.freedom)
    one = student.isf(wrong, varied.freedom)
    return Bounds(
        difference, error, difference - together * error, difference + one * error, difference + together * error
    )


def leverage_of(chosen: Contrasts, fitted: Fit) -> Floats:
    """Of each test: the worst of its metrics'."""
    return np.array([np.nanmax(fitted.leverage[np.flatnonzero(column)]) for column in chosen.weights.T])


# --- from tests to what is reported -----------------------------------------------------------------------------------


def _compared(tests: Tests, limited: Mapping[Key, Limited], settings: GateSettings) -> list[Compared]:
    """One row a metric: its own interval, whose low end may come from a test that is less blunt."""
    rows: dict[Key, list[int]] = {}
    for number, key in enumerate(tests.contrasts.subject):
        rows.setdefault(key, []).append(number)
    found = [_row(tests, key, numbers, limited.get(key), settings) for key, numbers in rows.items()]
    # where nothing is compared that must pass (requests are ignored, say), all of it must
    return found if any(row.decides for row in found) else [replace(row, decides=True) for row in found]


def _row(tests: Tests, key: Key, numbers: Sequence[int], limit: Limited | None, settings: GateSettings) -> Compared:
    bounds, own = tests.bounds, numbers[0]
    best = max(numbers, key=lambda number: bounds.low[number] - tests.tolerance[number])
    is_sharper = bounds.low[best] > bounds.low[own]
    tolerance, margin = float(tests.tolerance[own]), float(tests.margin[own])
    low = float(bounds.low[best])
    high = max(float(bounds.high[own]), float(bounds.high[best]) if is_sharper and low > tolerance else -np.inf)
    # where the sharper test decides, it is its difference that is reported; else what was measured
    difference = float(bounds.difference[best if is_sharper and low > tolerance else own])
    beyond = (bounds.difference - tests.tolerance) / bounds.error
    alone = student.sf(beyond, tests.variation.freedom)
    verdict = _of_interval(low, high, float(bounds.high_together[own]), tolerance, margin)
    weights = tests.contrasts.weights[:, own]
    before, after = (float(np.exp(np.where(np.isfinite(level), level, 0.0) @ weights)) for level in tests.fitted.levels)
    return Compared(
        stage=key[0].stage,
        hardware=key[0].hardware,
        metric=key[1],
        baseline_ms=before,
        candidate_ms=after,
        ratio=float(np.exp(difference)),
        ci_low=float(np.exp(max(low, -50.0))),
        ci_high=float(np.exp(min(high, 50.0))),
        p_value=min(tests.chance.p_value(each, float(alone[each])) for each in numbers),
        verdict=verdict if limit is None else _worse(verdict, limit.verdict),
        needed=None,
        tolerance=float(np.expm1(tolerance)),
        margin=float(np.expm1(margin)),
        decides=settings.must_pass(*key),
        limit_ms=None if limit is None else limit.limit_ms,
        candidate_interval_ms=None if limit is None else (limit.low_ms, limit.high_ms),
    )


def is_regression(tests: Tests) -> bool:
    """Whether any test found one."""
    return bool((tests.bounds.low > tests.tolerance).any())


def _of_interval(low: float, high: float, high_together: float, tolerance: float, margin: float) -> MetricVerdict:
    if low > tolerance:
        return "regression"
    if high_together < 0:
        return "improvement"
    return "pass" if high < margin else "inconclusive"


def _worse(one: MetricVerdict, other: MetricVerdict) -> MetricVerdict:
    order: list[MetricVerdict] = ["improvement", "pass", "inconclusive", "regression"]
    return max(one, other, key=order.index)


def _verdict(compared: Sequence[Compared]) -> GateVerdict:
    if any(each.verdict == "regression" for each in compared):
        return "regression"
    return "inconclusive" if any(each.verdict == "inconclusive" and each.decides for each in compared) else "pass"


def _with_needed(
    tests: Tests,
    compared: Sequence[Compared],
    baseline: Sequence[RunSample],
    candidate: Sequence[RunSample],
    settings: GateSettings,
) -> tuple[Needed | None, list[Compared]]:
    """Say what would decide, of the gate and of each row that is open."""
    wrong = (1 - settings.confidence) / 2
    varied, size = tests.variation, (len(baseline), len(candidate))
    first: dict[Key, int] = {}  # of a row's tests: its own
    for number, key in enumerate(tests.contrasts.subject):
        first.setdefault(key, number)
    must_pass = np.zeros(len(tests.contrasts.subject), dtype=bool)
    must_pass[[number for number, row in zip(first.values(), compared, strict=True) if row.decides]] = True
    extra = np.maximum(varied.freedom - tests.fitted.most_freedom, 0.0)
    requests = max(1, min(sum(run.requests for run in side) for side in (baseline, candidate)))
    whole, alone = needed(
        Tested(
            difference=tests.bounds.difference,
            tolerance=tests.tolerance,
            margin=tests.margin,
            variance=varied.variance,
            from_within=varied.from_within,
            between=between_of_kind(tests.contrasts, varied),
            freedom=varied.freedom,
            extra_freedom=extra,
            leverage=leverage_of(tests.contrasts, tests.fitted),
            each=tests.chance.each(wrong),
            may_repeat=may_repeat(tests.fitted),
            must_pass=must_pass,
        ),
        size,
        requests,
        wrong,
    )
    return whole, [
        replace(row, needed=alone[number]) if row.verdict == "inconclusive" else row
        for number, row in zip(first.values(), compared, strict=True)
    ]
