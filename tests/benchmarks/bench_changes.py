"""How often does change point search alarm where nothing changed, and find what did? Beside ruptures' PELT and Otava, same series.

Series are simulated, with known truth and fixed seeds. Told for each method: series of one level in which anything is found;
steps found within two points, and at the very point; other points found; and, reading each series point by point, how often a
point that had been found moved away or vanished. Definitions: docs/analysis/regressions.md.

Run: python tests/benchmarks/bench_changes.py [--series 400] [--jobs 2] [--otava PYTHON, see changes_by_otava.py]
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ruptures

from tailsight_analysis.changes.history import history_changes
from tailsight_analysis.changes.search import change_points
from tailsight_analysis.changes.settings import ChangeSettings
from tailsight_analysis.changes.units import Line, Point

NEAR = 2
LEVEL = 100.0
ANY_SIZE = ChangeSettings(least_change=0.0)  # rivals have no floor: on the same footing
Random = np.random.Generator


def ours(values: np.ndarray) -> list[int]:
    return [change.index for change in change_points(values, settings=ANY_SIZE)]


def pelt_bic(values: np.ndarray) -> list[int]:
    """PELT, least squares, in units of the noise (from differences), the penalty of BIC."""
    noise = 1.4826 * np.median(np.abs(np.diff(values) - np.median(np.diff(values)))) / np.sqrt(2)
    scaled = values / (noise or values.std() or 1.0)
    found = ruptures.Pelt(model="l2", min_size=3, jump=1).fit(scaled[:, None]).predict(pen=2 * np.log(len(values)))
    return found[:-1]


def pelt_rbf(values: np.ndarray) -> list[int]:
    """As in ruptures' own first example: model rbf, penalty 10, all else by default."""
    if len(values) < 5:
        return []
    return ruptures.Pelt(model="rbf").fit(values[:, None]).predict(pen=10)[:-1]


METHODS: dict[str, Callable[[np.ndarray], list[int]]] = {
    "tailsight": ours, "PELT l2 BIC": pelt_bic, "PELT rbf 10": pelt_rbf,
}  # fmt: skip
OTAVA = "Otava"


def autocorrelated(random: Random, count: int, phi: float) -> np.ndarray:
    noise = random.standard_normal(count)
    for at in range(1, count):
        noise[at] = phi * noise[at - 1] + np.sqrt(1 - phi**2) * noise[at]
    return noise


NOISES: dict[str, Callable[[Random, int], np.ndarray]] = {
    "normal": lambda random, count: random.standard_normal(count),
    "AR(1) 0.5": lambda random, count: autocorrelated(random, count, 0.5),
    "AR(1) 0.8": lambda random, count: autocorrelated(random, count, 0.8),
    "Student t3": lambda random, count: random.standard_t(3, count),
    "Pareto 1.5": lambda random, count: random.pareto(1.5, count),
    "log-normal": lambda random, count: np.exp(random.standard_normal(count)),
    "two hills": lambda random, count: random.choice([0.0, 5.0], count, p=[0.8, 0.2]) + 0.3 * random.standard_normal(count),
    "whole numbers": lambda random, count: np.round(0.6 * random.standard_normal(count)),
    "lone outliers": lambda random, count: random.standard_normal(count) + 20 * (random.random(count) < 0.05),
    "AR(1) 0.95": lambda random, count: autocorrelated(random, count, 0.95),
    "random walk": lambda random, count: np.cumsum(random.standard_normal(count)),
    "ten times louder": lambda random, count: random.standard_normal(count) * np.where(np.arange(count) < count // 2, 0.3, 3),
}  # fmt: skip
LENGTHS = (10, 30, 100)
STEPS = (  # noise, points before, after, in standard deviations of the noise
    ("normal", 6, 4, 8.0), ("normal", 20, 5, 4.0), ("normal", 15, 15, 3.0), ("normal", 30, 30, 2.0), ("normal", 100, 50, 1.0),
    ("AR(1) 0.5", 30, 30, 3.0), ("AR(1) 0.8", 50, 50, 4.0), ("Student t3", 30, 30, 4.0), ("lone outliers", 30, 30, 4.0),
)  # fmt: skip
HISTORIES = ((0.03, 0.0), (0.03, 0.06), (0.03, 0.1), (0.03, 0.2), (0.1, 0.2), (0.1, 0.5))  # sd of a series, change


@dataclass(frozen=True)
class Case:
    """A kind of series; a step of 0 is none."""

    noise: str
    before: int
    after: int
    step: float
    series: int

    def draw(self, number: int) -> np.ndarray:
        random = np.random.default_rng(
            [number, self.before, self.after, round(10 * self.step), list(NOISES).index(self.noise)]
        )
        values = LEVEL + NOISES[self.noise](random, self.before + self.after)
        values[self.before :] += self.step
        return values


def by_otava(python: str, series: Sequence[np.ndarray]) -> list[list[int]]:
    asked = json.dumps([values.tolist() for values in series])
    script = Path(__file__).with_name("changes_by_otava.py")
    done = subprocess.run([python, str(script)], input=asked, stdout=subprocess.PIPE, text=True, check=True)
    answer: list[list[int]] = json.loads(done.stdout)
    return answer


def score(case: Case, otava: str | None) -> tuple[Case, dict[str, tuple[float, ...]]]:
    """Shares by method: false series; or found near, found exactly, with other points beside."""
    series = [case.draw(number) for number in range(case.series)]
    answers = {name: [method(values) for values in series] for name, method in METHODS.items()}
    if otava is not None:
        answers[OTAVA] = by_otava(otava, series)
    result = {}
    for name, of_series in answers.items():
        sums = np.zeros(3)
        for found in of_series:
            if case.step:
                away = [abs(index - case.before) for index in found]
                sums += (min(away, default=99) <= NEAR, 0 in away, sum(each > NEAR for each in away) > 0)
            else:
                sums[0] += bool(found)
        result[name] = tuple(sums / case.series)
    return case, result


def moved(number: int) -> dict[str, bool]:
    """Whether any point that was found in a beginning of a series is not found in a longer one."""
    values = Case("normal", 20, 20, 3.0, 1).draw(number)
    result = {}
    for name, method in METHODS.items():
        seen: set[int] = set()
        result[name] = False
        for length in range(6, len(values) + 1):
            found = set(method(values[:length]))
            result[name] |= not seen <= found
            seen |= found
    return result


def of_history(asked: tuple[float, float, int]) -> tuple[bool, bool]:
    """Of 40 series over 30 versions one becomes slower with the 19th: is it found there, and is anything else?"""
    noise, change, number = asked
    random = np.random.default_rng([number, round(1000 * noise), round(1000 * change)])
    values = 10 * np.exp(noise * random.standard_normal((40, 30)))
    values[7, 18:] *= 1 + change
    lines = [
        Line(
            f"stage{row}",
            "",
            "p50",
            tuple(Point(unit, float(value), noise / 3, 1000) for unit, value in enumerate(of_row)),
        )
        for row, of_row in enumerate(values)
    ]
    found = {(each.stage, each.first_after) for each in history_changes(lines)}
    true = {("stage7", unit) for unit in range(18 - NEAR, 19 + NEAR)} if change else set()
    return bool(found & true), bool(found - true)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(heading)} |\n|{'---|' * len(heading)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--otava", metavar="PYTHON", help="a Python that has apache-otava, to compare with it")
    asked = parser.parse_args()
    methods = [*METHODS, *([OTAVA] if asked.otava else [])]
    nulls = [Case(noise, length, 0, 0.0, asked.series) for noise in NOISES for length in LENGTHS]
    steps = [Case(*each, asked.series) for each in STEPS]
    with ProcessPoolExecutor(asked.jobs) as pool:
        scores = dict(pool.map(functools.partial(score, otava=asked.otava), [*nulls, *steps]))
        moves = list(pool.map(moved, range(asked.series // 4), chunksize=10))
    print(f"{asked.series} series a row. Nothing changed: series in which anything was found\n")
    table(
        ["noise", "points", *methods],
        [[case.noise, str(case.before), *(percent(scores[case][name][0]) for name in methods)] for case in nulls],
    )
    print("One step: found within 2 points / at the very point / other points found beside\n")
    table(
        ["noise", "before + after", "step (sd)", *methods],
        [
            [case.noise, f"{case.before} + {case.after}", f"{case.step:g}",
             *(" / ".join(percent(share) for share in scores[case][name]) for name in methods)]
            for case in steps
        ],
    )  # fmt: skip
    rows = []
    with ProcessPoolExecutor(asked.jobs) as pool:
        for noise, change in HISTORIES:
            results = list(pool.map(of_history, [(noise, change, n) for n in range(asked.series // 4)], chunksize=5))
            near, other = np.mean(results, axis=0)
            rows.append(
                [
                    percent(noise),
                    f"+{percent(change)}" if change else "none",
                    percent(near) if change else "",
                    percent(other),
                ]
            )
    print(f"{asked.series // 4} histories a row, of 40 series over 30 versions, of which one changes with the 19th\n")
    table(["noise", "change", "found within 2", "anything else found"], rows)
    print(
        f"Read point by point (a step of 3 after 20 of 40, {len(moves)} series): series in which a found point moved or vanished\n"
    )
    table(list(METHODS), [[percent(np.mean([each[name] for each in moves])) for name in METHODS]])


if __name__ == "__main__":
    main()
