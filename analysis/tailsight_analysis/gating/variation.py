"""How much does a test's number vary from run to run? From the runs, a calibration, or, failing both, by caution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2
from scipy.stats import f as fisher

from tailsight_analysis.gating.contrasts import ALL_HARDWARE, Contrasts, Kind
from tailsight_analysis.gating.estimates import Key
from tailsight_analysis.gating.fitting import Fit, repeats
from tailsight_analysis.gating.result import Calibration
from tailsight_analysis.gating.samples import Floats
from tailsight_analysis.gating.settings import OF_TAIL

# One run a side, and no calibration: runs of one machine differ by some per cent, on shared ones by ten. That is
# taken, known as badly as from four runs.
CAREFUL_BETWEEN = 0.10
CAREFUL_FREEDOM = 3
MOST_CALIBRATED_FREEDOM = 20
AGAINST_OTHERS = "others"
_MOST_UNLIKE = 0.1  # of the tests: beyond, the calibration is used for none
_UNLUCKY = 0.2
LEAST_OF_WITHIN = 0.5  # of what requests leave open, which is itself an estimate
_UNLIKE = 0.001  # chance below which runs vary more than calibrated: the calibration is of another machine or mood


@dataclass(frozen=True, slots=True)
class Variation:
    """`variance` of one run's number, an entry a test, and its degrees of freedom.

    `from_within` of it is from the run's own requests. `alike_between` is the tests' covariance among runs.
    `is_careful`: nothing is known of it; `is_calibrated`: a calibration counts.
    """

    variance: Floats
    from_within: Floats
    freedom: Floats
    alike_between: Floats
    alike_within: Floats
    is_careful: bool
    is_calibrated: bool


def variation(tests: Contrasts, fitted: Fit, calibration: Calibration | None) -> Variation:
    """Find it out."""
    residuals = fitted.residuals @ tests.weights
    within = tests.weights.T @ fitted.within @ tests.weights
    from_within = np.diag(within).copy()
    freedom = np.array(
        [min(fitted.freedom[np.flatnonzero(column)], default=0.0) for column in tests.weights.T], dtype=np.float64
    )
    squares = (residuals**2).sum(axis=0)
    observed = np.divide(squares, freedom, out=np.zeros_like(squares), where=freedom > 0)
    for kind in set(
        tests.kind
    ):  # against the others, the machine's mood is taken off, and with it what made them alike
        some = np.array([each == kind for each in tests.kind])
        observed[some] *= repeats(residuals[:, some], observed[some], from_within[some], fitted.neighbours)
    # a few runs may be alike by luck, but not more than their own requests leave open
    observed = np.maximum(observed, LEAST_OF_WITHIN * from_within)
    if calibration is None or calibration.runs < 2:
        careful = freedom == 0
        variance = np.where(careful, from_within + CAREFUL_BETWEEN**2, observed)
        freedom = np.where(careful, CAREFUL_FREEDOM, freedom)
        between = residuals.T @ residuals if not careful.all() else within + CAREFUL_BETWEEN**2 / 2
        return Variation(
            variance, np.minimum(from_within, variance), freedom, between, within, bool(careful.all()), False
        )
    known = np.array([calibrated(calibration, key, kind) for key, kind in zip(tests.subject, tests.kind, strict=True)])
    expected = from_within + known**2
    weight = np.full(len(expected), float(min(calibration.runs - 1, MOST_CALIBRATED_FREEDOM)))
    unlike = (freedom > 0) & (observed > expected * fisher.isf(_UNLIKE, np.maximum(freedom, 1), weight))
    weight[freedom > 0 if unlike.mean() > _MOST_UNLIKE else unlike] = 0.0
    total = freedom + weight
    variance = (observed * freedom + expected * weight) / total
    between = residuals.T @ residuals / max(1.0, float(freedom.max())) + within + np.outer(known, known) / 2
    return Variation(
        variance, np.minimum(from_within, variance), total, between, within, False, bool((weight > 0).any())
    )


def expected_variance(tests: Contrasts, varied: Variation) -> Floats:
    """Variance of one run that is expected of each test, whatever it shows itself.

    What its requests explain, and as much between runs as tests of its kind have on average.
    """
    return varied.from_within + between_of_kind(tests, varied)


def least_of_variance(tests: Contrasts, varied: Variation) -> Floats:
    """Which share of its true variance is taken for each test's at least, even if its runs are alike by luck.

    What tests of a kind show between runs may itself be low by luck: it is taken as high as it is in one case of five.
    """
    freedom = np.maximum(varied.freedom, 1.0)
    unlucky = freedom / chi2.ppf(_UNLUCKY, freedom)
    true = varied.from_within + unlucky * between_of_kind(tests, varied)
    result: Floats = LEAST_OF_WITHIN * varied.from_within / np.maximum(true, 1e-18)
    return result


def between_of_kind(tests: Contrasts, varied: Variation) -> Floats:
    """Variance between runs that tests of a kind have on average, beside what their requests explain."""
    result = np.empty_like(varied.variance)
    groups = np.array([f"{kind} {key[1] in OF_TAIL}" for key, kind in zip(tests.subject, tests.kind, strict=True)])
    for group in np.unique(groups):
        some = groups == group
        variance, within = varied.variance[some], varied.from_within[some]
        weight = 1 / np.maximum(within + np.median(variance), 1e-18) ** 2
        result[some] = max(0.0, float(weight @ (variance - within) / weight.sum()))
    return result


def calibrated(calibration: Calibration, key: Key, kind: Kind) -> float:
    """Look up the standard deviation between runs, beside what requests explain: the most specific that is known."""
    series, metric = key
    names = [name_of(key, kind), name_of(key, "itself")]
    if series.hardware == ALL_HARDWARE:
        names = [f"{series.stage}|*|{metric}"]
    for name in (*names, metric):
        if name in calibration.between_runs:
            return calibration.between_runs[name]
    return max(calibration.between_runs.values(), default=CAREFUL_BETWEEN)


def name_of(key: Key, kind: Kind = "itself") -> str:
    """Name a test in a calibration: `compute|NVIDIA L4|p99`, and the same with `|others` against the others."""
    name = f"{key[0].stage}|{key[0].hardware}|{key[1]}"
    return f"{name}|{AGAINST_OTHERS}" if kind == "others" else name
