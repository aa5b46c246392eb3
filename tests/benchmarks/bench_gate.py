"""How often is the gate wrong, and how much does it find? Simulated gates whose truth is known, and real ones.

The same cases go to the gate, to Welch's t on per-run metrics (Holm, same tolerance and error), to a plain threshold of 5 % and to
Mann-Whitney on pooled requests. Definitions, and what was measured: docs/analysis/gate.md.

Run: python tests/benchmarks/bench_gate.py [--gates N] [--seed N] [--jobs 2] [--needed N] [--skip-real] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from gate_rivals import mann_whitney, plain_threshold, welch
from gate_worlds import DISTRIBUTIONS, NOISES, RUNS, World, sides, true_ratios, worlds
from scipy.stats import binomtest

from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.settings import GateSettings

SETTINGS = GateSettings()
ERROR = (1 - SETTINGS.confidence) / 2
LARGE = 1.0999  # a true change of 10 % or more
MOST_MORE_RUNS, MOST_REQUESTS = 40, 30_000  # up to which `needed` is tried


@dataclass(frozen=True, slots=True)
class Case:
    """A world, what is true of it, and who found what."""

    world: World
    greatest: float
    verdict: str
    welch: bool
    welch_pass: bool
    threshold: bool
    mann_whitney: bool
    needed_runs: int | None
    needed_requests: int | None
    with_runs: str | None = None
    with_requests: str | None = None
    took_s: float = 0.0


def try_world(world: World) -> Case:
    """Let all of them judge it."""
    baseline, candidate = sides(world)
    began_s = time.perf_counter()
    found = judge(baseline, candidate, SETTINGS)
    took_s = time.perf_counter() - began_s
    slower, not_slower = welch(baseline, candidate, ERROR, SETTINGS.tolerance)
    truth = true_ratios(world.distribution, world.noise, world.change, world.where)
    needed = found.needed
    return Case(
        world, max(truth.values()), found.verdict, slower, not_slower,
        plain_threshold(baseline, candidate), mann_whitney(baseline, candidate, ERROR, SETTINGS.tolerance),
        needed.runs if needed else None, needed.requests if needed else None, took_s=took_s,
    )  # fmt: skip


def try_needed(case: Case) -> Case:
    """Give an inconclusive gate what it says it needs."""
    world, with_runs, with_requests = case.world, None, None
    if case.needed_runs is not None and case.needed_runs <= MOST_MORE_RUNS:
        with_runs = judge(*sides(world, case.needed_runs), SETTINGS).verdict
    if case.needed_requests is not None:
        requests = -(-case.needed_requests // world.runs) + world.requests
        if requests * world.runs <= MOST_REQUESTS:
            with_requests = judge(*sides(replace(world, requests=requests)), SETTINGS).verdict
    return replace(case, with_runs=with_runs, with_requests=with_requests)


# --- tables -----------------------------------------------------------------------------------------------------------


def _share(cases: Sequence[Case], of: Callable[[Case], bool]) -> str:
    if not cases:
        return "–"
    return f"{sum(map(of, cases)) / len(cases):6.1%}"


def _bounded(cases: Sequence[Case], of: Callable[[Case], bool]) -> str:
    count, whole = sum(map(of, cases)), len(cases)
    if not whole:
        return "–"
    interval = binomtest(count, whole).proportion_ci(0.95, "exact")
    return f"{count} of {whole} = {count / whole:.2%} (95 %: {interval.low:.2%} to {interval.high:.2%})"


def _found(case: Case) -> bool:
    return case.verdict == "regression"


RIVALS: dict[str, Callable[[Case], bool]] = {
    "tailsight": _found,
    "Welch": lambda case: case.welch,
    "threshold": lambda case: case.threshold,
    "Mann-Whitney": lambda case: case.mann_whitney,
}


def report(cases: Sequence[Case]) -> None:
    """Print the tables."""
    same = [case for case in cases if case.world.change == 0]
    large = [case for case in cases if case.greatest >= LARGE]
    print(f"\n{len(cases)} gates, tolerance {SETTINGS.tolerance:.0%}, each end wrong in at most {ERROR:.1%}")
    print("\nfalse alarms in A/A gates")
    for name, of in RIVALS.items():
        print(f"  {name:14} {_bounded(same, of)}")
    print(f"pass, true change 10 % or more: {_bounded(large, lambda case: case.verdict == 'pass')}")
    small = [case for case in cases if 1 < case.greatest <= 1 + SETTINGS.tolerance + 0.001]
    print(f"regression, true change within the tolerance: {_bounded(small, _found)}")
    print(
        f"pass, A/A: tailsight {_share(same, lambda c: c.verdict == 'pass')}, Welch {_share(same, lambda c: c.welch_pass)}"
    )
    print(
        f"pass, A/A of 20 runs and more: {_share([c for c in same if c.world.runs >= 20], lambda c: c.verdict == 'pass')}"
    )
    rows: list[tuple[str, Callable[[Case], bool]]] = [("all", lambda _: True)]
    rows += [(each, lambda case, each=each: case.world.distribution == each) for each in DISTRIBUTIONS]
    rows += [(each, lambda case, each=each: case.world.noise == each) for each in NOISES]
    rows += [("in turn", lambda case: case.world.interleaved), ("in blocks", lambda case: not case.world.interleaved)]
    rows += [(f"{runs} runs", lambda case, runs=runs: case.world.runs == runs) for runs in RUNS]
    rows += [
        (
            f"{change:.0%} {where}",
            lambda case, change=change, where=where: (case.world.change, case.world.where) == (change, where),
        )
        for change, where in ((0.1, "body"), (0.2, "body"), (0.1, "tail"), (0.2, "tail"))
    ]
    print("\nfound, of true changes of 10 % or more; and false alarms, A/A")
    print(
        f"  {'':14} {'gates':>6} "
        + " ".join(f"{name:>12}" for name in RIVALS)
        + f" {'× Welch':>8} | A/A "
        + " ".join(f"{name:>12}" for name in RIVALS)
    )
    for name, belongs in rows:
        some, none = [case for case in large if belongs(case)], [case for case in same if belongs(case)]
        ours, welchs = sum(map(_found, some)), sum(case.welch for case in some)
        times = f"{ours / welchs:8.2f}" if welchs else "       –"
        print(
            f"  {name:14} {len(some):6} "
            + " ".join(f"{_share(some, of):>12}" for of in RIVALS.values())
            + f" {times} | {len(none):3} "
            + " ".join(f"{_share(none, of):>12}" for of in RIVALS.values())
        )
    with_runs = [case for case in cases if case.with_runs]
    with_requests = [case for case in cases if case.with_requests]
    print("with what an inconclusive gate needs, decided")
    print(f"  runs           {_bounded(with_runs, lambda case: case.with_runs != 'inconclusive')}")
    print(f"  requests       {_bounded(with_requests, lambda case: case.with_requests != 'inconclusive')}")
    took = sorted(case.took_s for case in cases)
    if took:
        print(f"a judgement took {took[len(took) // 2]:.2f} s in the middle, {took[-1]:.2f} s at most")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--needed", type=int, default=100, help="of how many inconclusive gates `needed` is tried")
    parser.add_argument("--skip-real", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began_s = time.perf_counter()
    cases = []
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for number, case in enumerate(pool.imap(try_world, worlds(asked.gates, asked.seed), chunksize=4), 1):
            cases.append(case)
            if number % 100 == 0:
                print(f"{number} gates, {time.perf_counter() - began_s:.0f} s", file=sys.stderr, flush=True)
        open_ = [number for number, case in enumerate(cases) if _tried(case)][: asked.needed]
        for number, case in zip(open_, pool.imap(try_needed, [cases[each] for each in open_]), strict=True):
            cases[number] = case
    report(cases)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(case) for case in cases]))
    if not asked.skip_real:
        from gate_real import report_real  # needs a store

        report_real()


def _tried(case: Case) -> bool:
    return (case.needed_runs is not None and case.needed_runs <= MOST_MORE_RUNS) or (
        case.needed_requests is not None
        and case.needed_requests + case.world.requests * case.world.runs <= MOST_REQUESTS
    )


if __name__ == "__main__":
    main()
