"""How much more would decide? Assurance: the chance, given what was seen, of a verdict (O'Hagan 2005).

What is true is drawn from what was seen: mostly nothing changes, sometimes something does by any amount; and how much
runs vary is itself uncertain by its degrees of freedom. For each size of data it is then calculated in how many draws
the intervals would lie above the tolerance, or all below. The least size with ASSURANCE is what is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from tailsight_analysis.gating.result import Needed
from tailsight_analysis.gating.samples import Floats

ASSURANCE = 0.98
MOST_RUNS = 100_000
DRAWS = 400
_STEP = 1.2
# share of gates, and standard deviations of true differences; and by how much metrics of a request change apart
_UNCHANGED, _UNCHANGED_WITHIN, _CHANGED_WITHIN, _APART = 0.5, 0.005, 0.1, 0.03
_USELESS = 10.0  # the standard error of a test that does not count
_GRID = np.concatenate([-np.geomspace(1.0, 1e-4, 150), [0.0], np.geomspace(1e-4, 1.0, 150)])


@dataclass(frozen=True, slots=True)
class Tested:
    """Tests of a gate, an entry each; logarithms.

    `variance` is of one run, of which `from_within` comes from its own requests; `between` is that of all tests of a
    kind. `freedom` is that of now, `extra_freedom` of it comes from a calibration or caution; `each` is the p-value at
    which a test decides. `may_repeat` is by how much more the mean of runs may vary than is known yet. `must_pass` says
    of a test that its upper bound must lie below its `margin`.
    """

    difference: Floats
    tolerance: Floats
    margin: Floats
    variance: Floats
    from_within: Floats
    between: Floats
    freedom: Floats
    extra_freedom: Floats
    leverage: Floats
    each: Floats
    may_repeat: float
    must_pass: np.ndarray[tuple[int], np.dtype[np.bool_]]


def needed(tests: Tested, runs: tuple[int, int], requests: int, error: float) -> tuple[Needed | None, list[Needed]]:
    """Say what the gate needs, and what each test would need alone. `requests` is how many a side there are now."""
    random = np.random.default_rng(1)
    count = len(tests.difference)
    true, unchanged, slower = _true_differences(tests, random)
    # what is true of the gate: nothing changed, or one test's metric did; each draw is one of these
    drawn = random.choice(count + 1, DRAWS, p=np.append(slower, unchanged))
    changed = drawn[:, None] == np.arange(count)
    still = _UNCHANGED_WITHIN * random.standard_normal((DRAWS, count))
    moved_too = changed | ((drawn < count)[:, None] & tests.must_pass)
    of_gate = np.where(changed, true, np.where(moved_too, _together(tests, true, random), still))
    of_each = np.where(random.random((DRAWS, count)) < slower / (slower + unchanged / count), true, still)
    noise = np.sqrt(0.5) * random.standard_normal((DRAWS, 1)) + np.sqrt(0.5) * random.standard_normal((DRAWS, count))
    scale = np.minimum(tests.freedom / random.chisquare(np.maximum(tests.freedom, 1.0), (DRAWS, count)), 100.0)
    mood = np.median(tests.freedom) / random.chisquare(max(1.0, float(np.median(tests.freedom))), (DRAWS, 1))
    between = np.maximum(tests.variance * scale - tests.from_within, tests.between * np.minimum(mood, 100.0))
    between *= tests.may_repeat

    def assured(more_runs: float, times_requests: float) -> tuple[float, Floats]:
        """Chance that the gate is decided, and that each test is."""
        after = (runs[0] + more_runs, runs[1] + more_runs)
        leverage = tests.leverage * (1 / after[0] + 1 / after[1]) / (1 / runs[0] + 1 / runs[1])
        error_now = np.sqrt((between + tests.from_within / times_requests) * leverage)
        freedom = tests.freedom - tests.extra_freedom + 2 * more_runs + tests.extra_freedom
        if more_runs and (sum(runs) == 2):
            freedom = np.maximum(2.0 * more_runs, 1.0)  # caution is no longer needed
        one = student.isf(error, freedom)
        together = student.isf(tests.each, freedom)
        moved = noise * error_now
        below = (of_gate + moved + one * error_now < tests.margin) | ~tests.must_pass
        above = moved_too & (of_gate + moved - together * error_now > tests.tolerance)
        gate = (above.any(axis=1) | below.all(axis=1)).mean()
        found = of_each + moved
        alone = (found - together * error_now > tests.tolerance) | (found + one * error_now < tests.margin)
        return float(gate), alone.mean(axis=0)

    steps = np.unique(np.round(_STEP ** np.arange(1, 65)).astype(int))
    by_runs = [(int(step), *assured(float(step), 1.0)) for step in steps if step <= MOST_RUNS]
    ladder = [float(times) for times in 1.25 ** np.arange(1, 32)]
    # one run a side never knows how much runs vary: no number of requests will do
    by_requests = [(round(requests * (times - 1)), *assured(0.0, times)) for times in ladder] if sum(runs) > 2 else []
    whole = Needed(_first(by_requests, None), _first(by_runs, None))
    alone = [Needed(_first(by_requests, number), _first(by_runs, number)) for number in range(count)]
    return whole, alone


def _first(ladder: list[tuple[int, float, Floats]], test: int | None) -> int | None:
    for size, gate, each in ladder:
        if (gate if test is None else float(each[test])) >= ASSURANCE:
            return size
    return None


def _together(tests: Tested, true: Floats, random: np.random.Generator) -> Floats:
    """Draw what is true of the tests that must pass if something changed, (draws, tests), given what was seen.

    They speak of the same requests: each lies about the one that is known best.
    """
    error = np.sqrt(np.maximum(tests.variance * tests.leverage, 1e-18))
    best = int(np.argmin(np.where(tests.must_pass, error, np.inf)))
    share = _APART**2 / (_APART**2 + error**2)
    middle = true[:, [best]] + share * (tests.difference - true[:, [best]])
    result: Floats = middle + _APART * np.sqrt(1 - share) * random.standard_normal(true.shape)
    result[:, best] = true[:, best]
    return result


def _true_differences(tests: Tested, random: np.random.Generator) -> tuple[Floats, float, Floats]:
    """Draw what may be true of each test, (draws, tests), given what was seen: no change, or any change.

    Also how probable it is that nothing changed, and that each test's metric did and no other: together 1.
    """
    error = np.sqrt(np.maximum(tests.variance * tests.leverage, 1e-18))
    width = np.gradient(_GRID)
    still = width * np.exp(-0.5 * (_GRID / _UNCHANGED_WITHIN) ** 2)
    any_ = width * np.exp(-0.5 * (_GRID / _CHANGED_WITHIN) ** 2)
    still, any_ = still / still.sum(), any_ / any_.sum()
    true, evidence = np.empty((DRAWS, len(error))), np.empty(len(error))
    for number, (seen, apart) in enumerate(zip(tests.difference, error, strict=True)):
        likely = np.exp(-0.5 * np.minimum(((_GRID - seen) / apart) ** 2, 1400.0)) + 1e-300
        evidence[number] = np.log(any_ @ likely) - np.log(still @ likely)
        true[:, number] = random.choice(_GRID, DRAWS, p=(each := any_ * likely) / each.sum())
    counted = np.where(error < _USELESS, evidence, -np.inf)
    weight = np.exp(np.minimum(counted, 300.0)) * (1 - _UNCHANGED) / len(error)
    total = _UNCHANGED + float(weight.sum())
    return true, _UNCHANGED / total, weight / total
