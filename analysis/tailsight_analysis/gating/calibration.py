"""How often would gates on this machine be wrong, and what can they find? Unchanged code, compared with itself.

Runs that follow each other make a pair, and one of each pair goes to either side, at random: every way to do so is a
gate in which nothing changed. Its alarms are false.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta, norm

from tailsight_analysis.errors import NotEnoughDataError
from tailsight_analysis.gating.estimates import RunEstimate, estimate
from tailsight_analysis.gating.judge import Tests, columns_of, examine_estimates, is_regression
from tailsight_analysis.gating.result import Calibration
from tailsight_analysis.gating.samples import RunSample
from tailsight_analysis.gating.settings import GateSettings
from tailsight_analysis.gating.variation import name_of

LEAST_RUNS = 4
MOST_GATES = 100
POWER = 0.95


def calibrate(runs: Sequence[RunSample], settings: GateSettings) -> Calibration:
    """Compare runs of unchanged code with each other. Raises NotEnoughDataError below LEAST_RUNS."""
    if len(runs) < LEAST_RUNS:
        raise NotEnoughDataError(
            f"{len(runs)} runs cannot show how much runs differ: a calibration needs {LEAST_RUNS}, better 10",
            LEAST_RUNS - len(runs),
        )
    ordered = sorted(runs, key=lambda run: (run.start_ns, run.label))
    keys, compared = columns_of(ordered, ordered, settings)
    estimates = [estimate(run, keys) for run in ordered]
    gates = [examine_estimates(keys, compared, *_sides(estimates, swaps), settings) for swaps in _swaps(len(runs) // 2)]
    alarms = sum(is_regression(gate) for gate in gates)
    smallest = _smallest_changes(gates, settings)
    return Calibration(
        runs=len(runs),
        gates=len(gates),
        false_alarm_rate=alarms / len(gates),
        false_alarm_interval=_interval(alarms / len(gates), min(len(gates), len(runs))),
        smallest_change=min(smallest.values(), default=None),
        between_runs=_between_runs(gates),
        smallest_changes=smallest,
    )


def _swaps(pairs: int) -> list[np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Which pairs change sides, a gate each: all ways if they are few, else MOST_GATES of them.

    A gate and its mirror image are both there: an alarm is a side that is slower, so they are two.
    """
    if 2**pairs <= MOST_GATES:
        return [np.array([bool(number >> pair & 1) for pair in range(pairs)]) for number in range(2**pairs)]
    random = np.random.default_rng(4)
    return [random.random(pairs) < 0.5 for _ in range(MOST_GATES)]


def _sides(
    estimates: Sequence[RunEstimate], swaps: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> tuple[list[RunEstimate], list[RunEstimate]]:
    first = [estimates[2 * pair + int(swap)] for pair, swap in enumerate(swaps)]
    second = [estimates[2 * pair + int(not swap)] for pair, swap in enumerate(swaps)]
    return first, second


def _interval(rate: float, independent: int) -> tuple[float, float]:
    """95 % bounds of a share (Clopper and Pearson 1934); gates share their runs, so there are no more than runs."""
    found = rate * independent
    low = float(beta.ppf(0.025, found, independent - found + 1)) if found > 0 else 0.0
    high = float(beta.ppf(0.975, found + 1, independent - found)) if found < independent else 1.0
    return low, high


def _smallest_changes(gates: Sequence[Tests], settings: GateSettings) -> dict[str, float]:
    """Of each metric of the requests, the change that gates of this size find with POWER (their median)."""
    wrong = (1 - settings.confidence) / 2
    found: dict[str, list[float]] = {}
    for gate in gates:
        critical = gate.chance.critical(wrong, gate.variation.freedom)
        reach = gate.tolerance + (critical + norm.ppf(POWER)) * gate.bounds.error
        for number, (key, kind) in enumerate(zip(gate.contrasts.subject, gate.contrasts.kind, strict=True)):
            if key[0].is_request and kind == "itself":
                found.setdefault(key[1], []).append(float(np.expm1(min(reach[number], 50.0))))
    return {metric: float(np.median(each)) for metric, each in found.items()}


def _between_runs(gates: Sequence[Tests]) -> dict[str, float]:
    """Find the standard deviation between runs of each test, beside what requests explain; and of each metric."""
    found: dict[str, list[float]] = {}
    for gate in gates:
        between = np.maximum(gate.variation.variance - gate.variation.from_within, 0.0)
        for number, (key, kind) in enumerate(zip(gate.contrasts.subject, gate.contrasts.kind, strict=True)):
            found.setdefault(name_of(key, kind), []).append(float(between[number]))
            if kind == "itself":
                found.setdefault(key[1], []).append(float(between[number]))
    return {name: float(np.sqrt(np.mean(each))) for name, each in sorted(found.items())}
