"""The statistics of differences, by simulation: false discoveries, coverage, and whether the slow function comes first.

More of the same, and the figures of docs/analysis/profiles.md: `python tests/analysis/test_profile_per_request.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.sparse import csr_matrix

from tailsight_analysis.profiles.per_request import chances, compare

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]
ONE = 10.0  # ms that a sample stands for


def poisson(mean: float) -> Draw:
    return lambda random, requests, columns: random.poisson(mean, (requests, columns))


def bursts(share: float, mean: float) -> Draw:
    """Few requests have any, and those have many: a request's samples hang together."""
    return lambda random, requests, columns: (
        (random.random((requests, columns)) < share) * random.poisson(mean, (requests, columns))
    )


def skewed(mean: float, sigma: float) -> Draw:
    return lambda random, requests, columns: random.poisson(
        mean * random.lognormal(-(sigma**2) / 2, sigma, (requests, columns))
    )


def exactly(count: int) -> Draw:
    return lambda random, requests, columns: np.full((requests, columns), count)


def drawn(random: np.random.Generator, a: Draw, b: Draw, sizes: tuple[int, int], columns: int) -> Floats:
    times: Floats = np.vstack([a(random, sizes[0], columns), b(random, sizes[1], columns)]) * ONE
    return times


def members(sizes: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return np.arange(sum(sizes)) < sizes[0]


COVERED: dict[str, tuple[Draw, Draw, float]] = {
    "few": (poisson(0.3), poisson(0.3), 0.0),
    "hardly any": (poisson(0.05), poisson(0.05), 0.0),
    "one side": (poisson(3), poisson(0), 3.0),
    "hardly one side": (poisson(2), poisson(0.02), 1.98),
    "many": (poisson(5), poisson(4), 1.0),
    "bursts": (bursts(0.2, 5), bursts(0.05, 5), 0.75),
    "bursts on one side": (bursts(0.5, 6), poisson(0), 3.0),
    "skewed": (skewed(2, 0.8), skewed(1, 0.8), 1.0),
    "exactly one": (exactly(1), exactly(0), 1.0),
}
SIZES = [(10, 10), (10, 40), (30, 200), (100, 1000)]


def coverage(name: str, sizes: tuple[int, int], columns: int) -> tuple[float, int]:
    """Return how often the interval holds the truth, and of how many that have 8 samples."""
    a, b, truth = COVERED[name]
    times = drawn(np.random.default_rng(1), a, b, sizes, columns)
    times = times[:, times.sum(axis=0) >= 8 * ONE]
    if not times.shape[1]:
        return 1.0, 0
    found = compare(csr_matrix(times), np.full(times.shape[1], ONE), np.full(len(times), 1e4), members(sizes))
    holds = (found.low <= truth * ONE + 1e-9) & (truth * ONE <= found.high + 1e-9)
    return float(holds.mean()), times.shape[1]


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{sizes[0]} and {sizes[1]}")
@pytest.mark.parametrize("name", COVERED)
def test_an_interval_of_95_percent_holds_the_truth_also_for_few_samples(name: str, sizes: tuple[int, int]) -> None:
    """Welch's alone held it for 78 % in the worst of these."""
    share, columns = coverage(name, sizes, 600)
    assert share >= 0.93 - 2 * (0.05 * 0.95 / max(columns, 1)) ** 0.5


def test_the_interval_of_a_share_holds_the_truth() -> None:
    """Of two functions that divide each request: also of one that a class never runs."""
    random = np.random.default_rng(4)
    sizes = (12, 60)
    holds, all_of_them = 0, 0
    for share_a, share_b in ((0.3, 0.3), (0.1, 0.0), (0.02, 0.02), (0.9, 0.5)):
        for _ in range(150):
            samples = random.poisson(6, sum(sizes)) + 1
            likely = np.where(members(sizes), share_a, share_b)
            own = random.binomial(samples, likely)
            if own.sum() < 1:
                continue
            found = compare(csr_matrix(own[:, None] * ONE), np.array([ONE]), samples * ONE, members(sizes))
            truth = share_a - share_b
            holds += bool(found.share_low[0] <= truth <= found.share_high[0])
            all_of_them += 1
    assert holds / all_of_them >= 0.93


FALSE: dict[str, tuple[Draw, tuple[int, int]]] = {
    "alike": (poisson(1), (40, 40)),
    "few against many": (poisson(0.2), (12, 400)),
    "bursts": (bursts(0.1, 8), (25, 150)),
    "skewed": (skewed(2, 1.2), (20, 20)),
}


def false_alarms(name: str, tries: int, seed: int = 0) -> int:
    draw, sizes = FALSE[name]
    alarms = 0
    for number in range(tries):
        times = drawn(np.random.default_rng([seed, number]), draw, draw, sizes, 30)
        found = compare(csr_matrix(times), np.full(30, ONE), times.sum(axis=1) + ONE, members(sizes))
        alarms += bool((chances(csr_matrix(times), members(sizes), found.t) <= 0.05).any())
    return alarms


@pytest.mark.parametrize("name", FALSE)
def test_of_two_draws_of_the_same_hardly_any_has_a_certain_difference(name: str) -> None:
    """5 % may; of 40 more than 6 do once in 70 times."""
    assert false_alarms(name, 40) <= 6


@pytest.mark.parametrize("count", [1, 3])
def test_what_each_tail_request_has_as_often_and_no_other_is_certain(count: int) -> None:
    """Nothing varies in either class: Welch's t was 0 by 0 here, and the p-value 1."""
    sizes = (10, 50)
    random = np.random.default_rng(2)
    times = np.hstack([drawn(random, exactly(count), exactly(0), sizes, 1), random.poisson(2, (60, 8)) * ONE])
    found = compare(csr_matrix(times), np.full(9, ONE), np.full(60, 1e3), members(sizes))
    p = chances(csr_matrix(times), members(sizes), found.t)
    assert p[0] <= 0.01
    assert int(np.argmax(found.t)) == 0
    assert 0 < found.low[0] < count * ONE < found.high[0]
    assert (p[1:] > 0.05).all()


def first(seed: int, sizes: tuple[int, int], extra: float) -> bool:
    """Tell whether what only the tail runs comes first, before 19 others that every request runs."""
    random = np.random.default_rng(seed)
    usual = random.poisson(random.gamma(1.0, 1.0, (sum(sizes), 19)))
    own = random.poisson(extra, sum(sizes)) * members(sizes)
    times = np.column_stack([own, usual]).astype(float) * ONE
    found = compare(csr_matrix(times), np.full(20, ONE), times.sum(axis=1) + ONE, members(sizes))
    return int(np.argmax(np.abs(found.t))) == 0


@pytest.mark.parametrize("sizes", [(20, 400), (40, 200)], ids=["20 and 400", "40 and 200"])
def test_the_function_that_only_the_tail_runs_is_first(sizes: tuple[int, int]) -> None:
    assert sum(first(seed, sizes, 3.0) for seed in range(300)) >= 297


def main() -> None:
    for name in COVERED:
        print(
            f"{name:20}", *(f"{share:.3f} ({columns})" for share, columns in (coverage(name, s, 20_000) for s in SIZES))
        )
    for name in FALSE:
        print(f"{name:20} {false_alarms(name, 1000, seed=1)} of 1,000 have a false one")
    for sizes in ((10, 100), (20, 400), (40, 200)):
        for extra in (1.0, 3.0, 5.0):
            print(sizes, extra, sum(first(seed, sizes, extra) for seed in range(1000)), "of 1,000 first")


if __name__ == "__main__":
    sys.exit(main())
