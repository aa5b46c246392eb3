"""How often is the gate wrong, and how much does it find? Simulated gates whose truth is known, and real ones.

The same cases go to the gate, to Welch's t on per-run metrics (Holm, same tolerance and error), to a plain threshold of 5 % and to
Mann-Whitney on pooled requests. Definitions, and what was measured: docs/analysis/gate.md.

Run: python tests/benchmarks/bench_gate.py [--gates N] [--seed N] [--quiet N] [--small N] [--jobs 2] [--needed N]
[--skip-real] [--json FILE]
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
MOST_MORE_RUNS, MOST_REQUESTS = 100, 400_000  # up to which `needed` is tried
QUIET_MOOD = 0.003
SMALL_STAGE = "postprocess"


@dataclass(frozen=True, slots=True)
class Case:
    """A world, what is true of it, and who found what."""

    world: World
    greatest: float
    greatest_of_request: float
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
    truth = true_ratios(world)
    needed = found.needed
    return Case(
        world, max(truth.values()), max(ratio for (series, _), ratio in truth.items() if series.is_request), found.verdict, slower, not_slower,
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


def _passed(case: Case) -> bool:
    return case.verdict == "pass"


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
    print(f"pass, true change 10 % or more: {_bounded(large, _passed)}")
    small = [case for case in cases if 1 < case.greatest <= 1 + SETTINGS.tolerance + 0.001]
    print(f"regression, true change within the tolerance: {_bounded(small, _found)}")
    print("pass, A/A                 " + " ".join(f"{runs:>7} runs" for runs in RUNS))
    for name, belongs in (
        ("all", lambda _: True),
        ("1,000 requests and more", lambda case: case.world.requests >= 1000),
    ):
        some = [case for case in same if belongs(case)]
        shares = [_share([case for case in some if case.world.runs == runs], _passed) for runs in RUNS]
        print(f"  {name:24}" + " ".join(f"{share:>12}" for share in shares) + f"  together {_share(some, _passed)}")
    print(f"  Welch                   {_share(same, lambda case: case.welch_pass)}")
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
    report_needed(cases)
    took = sorted(case.took_s for case in cases)
    if took:
        print(f"a judgement took {took[len(took) // 2]:.2f} s in the middle, {took[-1]:.2f} s at most")


def report_needed(cases: Sequence[Case]) -> None:
    """Print whether inconclusive gates were decided with what they asked for."""
    open_ = [case for case in cases if case.verdict == "inconclusive"]
    with_runs = [case for case in cases if case.with_runs]
    with_requests = [case for case in cases if case.with_requests]
    at_edge = [case for case in with_runs if abs(case.greatest_of_request - 1 - SETTINGS.tolerance) < 0.012]
    print(
        f"{len(open_)} inconclusive: {sum(case.needed_runs is not None for case in open_)} say how many runs, "
        f"{sum(case.needed_requests is not None for case in open_)} how many requests; decided with that"
    )
    print(f"  runs           {_bounded(with_runs, lambda case: case.with_runs != 'inconclusive')}")
    print(f"  of these, the request's true change about the tolerance: {len(at_edge)}")
    print(f"  requests       {_bounded(with_requests, lambda case: case.with_requests != 'inconclusive')}")


def report_quiet(cases: Sequence[Case]) -> None:
    """Print what a machine is like whose runs hardly differ but by their requests."""
    same, large = [case for case in cases if case.world.change == 0], [case for case in cases if case.greatest >= LARGE]
    print(f"\na quiet machine (moods of {QUIET_MOOD:.1%}), {len(cases)} gates")
    print(f"false alarms, A/A {_bounded(same, _found)}; pass, A/A {_share(same, _passed)}")
    print(
        f"found {_share(large, _found)}, Welch {_share(large, lambda case: case.welch)}; pass {_bounded(large, _passed)}"
    )
    report_needed(cases)


def report_small(cases: Sequence[Case]) -> None:
    """Print what becomes of changes of a stage that is but a small part of the requests."""
    large = [case for case in cases if case.greatest >= LARGE]
    within = [case for case in large if case.greatest_of_request < 1 + SETTINGS.tolerance]
    print(
        f"\nchanges of 10 % and more in {SMALL_STAGE}: {len(large)}; of these the requests' within the tolerance: {len(within)}"
    )
    print(
        f"found {_share(large, _found)}, Welch {_share(large, lambda case: case.welch)}; pass {_bounded(large, _passed)}"
    )
    print(
        f"pass, the requests' change beyond the tolerance: {_bounded([c for c in large if c not in within], _passed)}"
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", type=int, default=300, help="gates on a quiet machine")
    parser.add_argument("--small", type=int, default=300, help="gates with a change in a small stage")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--needed", type=int, default=100, help="of how many inconclusive gates `needed` is tried")
    parser.add_argument("--skip-real", action="store_true")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began_s = time.perf_counter()
    sets = {
        "all": list(worlds(asked.gates, asked.seed)),
        "quiet": list(worlds(asked.quiet, asked.seed + 1, mood=QUIET_MOOD)),
        "small": [each for each in worlds(asked.small, asked.seed + 2, stage=SMALL_STAGE) if each.change],
    }
    found: dict[str, list[Case]] = {}
    with multiprocessing.get_context("spawn").Pool(asked.jobs) as pool:
        for name, some in sets.items():
            cases = found[name] = []
            for number, case in enumerate(pool.imap(try_world, some, chunksize=4), 1):
                cases.append(case)
                if number % 100 == 0:
                    took_s = time.perf_counter() - began_s
                    print(f"{name}: {number} gates, {took_s:.0f} s", file=sys.stderr, flush=True)
            open_ = [number for number, case in enumerate(cases) if _tried(case)][: asked.needed]
            for number, case in zip(open_, pool.imap(try_needed, [cases[each] for each in open_]), strict=True):
                cases[number] = case
    report(found["all"])
    report_quiet(found["quiet"])
    report_small(found["small"])
    if asked.json:
        asked.json.write_text(json.dumps({name: [asdict(case) for case in cases] for name, cases in found.items()}))
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
