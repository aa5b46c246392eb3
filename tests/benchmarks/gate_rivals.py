"""What others do with the same runs: a plain threshold, Welch's t on per-run quantiles, Mann–Whitney on pooled requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gate_worlds import measured
from scipy.stats import mannwhitneyu
from scipy.stats import t as student

from tailsight_analysis.gating.estimates import estimate
from tailsight_analysis.gating.samples import RunSample
from tailsight_analysis.gating.settings import METRICS

THRESHOLD = 0.05


def plain_threshold(baseline: Sequence[RunSample], candidate: Sequence[RunSample]) -> bool:
    """Any metric of the pooled requests is higher by 5 %."""
    return any(
        after[metric] > before[metric] * (1 + THRESHOLD)
        for before, after in _pooled_metrics(baseline, candidate)
        for metric in METRICS
    )


def welch(
    baseline: Sequence[RunSample], candidate: Sequence[RunSample], error: float, tolerance: float
) -> tuple[bool, bool]:
    """Welch's t on the logarithms of each run's metrics: (one is slower by more than the tolerance, all are not).

    Whether one is slower: corrected by Holm, whose first step decides whether any is. That all are not: each by itself,
    as all must be.
    """
    if min(len(baseline), len(candidate)) < 2:
        return False, False
    keys = [(series, metric) for series in sorted(baseline[0].series) for metric in METRICS]
    before, after = (np.stack([estimate(run, keys).values for run in side]) for side in (baseline, candidate))
    spread = [side.var(axis=0, ddof=1) / len(side) for side in (before, after)]
    whole = np.maximum(spread[0] + spread[1], 1e-18)
    freedom = whole**2 / (spread[0] ** 2 / (len(before) - 1) + spread[1] ** 2 / (len(after) - 1) + 1e-300)
    distance = (after.mean(axis=0) - before.mean(axis=0) - np.log1p(tolerance)) / np.sqrt(whole)
    slower, not_slower = student.sf(distance, freedom), student.cdf(distance, freedom)
    return bool(slower.min() * len(keys) <= error), bool((not_slower <= error).all())


def mann_whitney(baseline: Sequence[RunSample], candidate: Sequence[RunSample], error: float, tolerance: float) -> bool:
    """The pooled requests of any series, made faster by the tolerance, are still slower (Holm)."""
    chances = []
    for series in sorted(baseline[0].series):
        before, after = _pooled(baseline, series), _pooled(candidate, series)
        chances.append(float(mannwhitneyu(after / (1 + tolerance), before, alternative="greater").pvalue))
    return min(chances) * len(chances) <= error


def _pooled(side: Sequence[RunSample], series: object) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([run.series[series].value for run in side])


def _pooled_metrics(
    baseline: Sequence[RunSample], candidate: Sequence[RunSample]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    return [
        (measured(_pooled(baseline, series)), measured(_pooled(candidate, series)))
        for series in sorted(baseline[0].series)
    ]
