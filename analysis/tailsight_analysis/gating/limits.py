"""Absolute limits: a metric of the candidate is below so many ms, above, or that is not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tailsight_analysis.gating.estimates import Key
from tailsight_analysis.gating.fitting import Fit
from tailsight_analysis.gating.result import MetricVerdict
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.variation import Variation


@dataclass(frozen=True, slots=True)
class Limited:
    """Where the candidate's metric lies, in ms, beside its limit."""

    limit_ms: float
    low_ms: float
    high_ms: float
    verdict: MetricVerdict


def within_limits(
    keys: Sequence[Key],
    runs: int,
    fitted: Fit,
    varied: Variation,
    settings: GateSettings,
) -> dict[Key, Limited]:
    """Judge each compared metric that has a limit, given the candidate's `runs`.

    With several limits, each end is as much surer (Bonferroni).
    """
    limits = {key: limit for key in keys if (limit := settings.limit_ms_of(*key)) is not None}
    limits = {
        key: limit for key, limit in limits.items() if key[1] in settings.metrics and not settings.is_ignored(key[0])
    }
    wrong = (1 - settings.confidence) / 2 / max(1, len(limits))
    result = {}
    for number, key in enumerate(keys):
        level = float(fitted.levels[1][number])
        if key not in limits or not np.isfinite(level):
            continue
        known = fitted.freedom[number] > 0
        variance = float(fitted.between[number]) if known else float(fitted.within[number, number]) + _between(varied)
        freedom = float(fitted.freedom[number]) if known else float(np.median(varied.freedom))
        reach = float(student.isf(wrong, freedom)) * np.sqrt(variance / runs)
        low, high = float(np.exp(level - reach)), float(np.exp(min(level + reach, 50.0)))
        limit = limits[key]
        verdict: MetricVerdict = "regression" if low > limit else "pass" if high < limit else "inconclusive"
        result[key] = Limited(limit, low, high, verdict)
    return result


def _between(varied: Variation) -> float:
    """Variance between runs where no run says: of the calibration, or by caution."""
    return float(np.median(varied.variance - varied.from_within))
