"""Does tailsight name the true cause? Simulated pipelines with one injected cause, two, or none, and Nezha's recorded faults.

Every case goes as OTLP into a real store; the public functions are asked, and the answers are compared with what was injected:
the true stage named first, the true condition among the first three causes, no cause where there is none. Definitions, and why
each answer is accepted: docs/analysis/diagnosis_benchmark.md.

Run: python tests/benchmarks/bench_diagnosis.py [--cases N] [--kind KIND] [--seeds-from N] [--effect F] [--jobs 2] [--json FILE]
     python tests/benchmarks/bench_diagnosis.py --case cache_misses-03        one case, everything shown
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from diagnosis_answers import Answer, ask_compare, ask_periods, ask_tail
from diagnosis_scoring import COLUMNS, Score, described, names_service, score
from scipy.stats import binomtest
from testkit import nezha, simulator
from testkit.simulator import KINDS, Case

from tailsight_analysis import Filters, Window, whole_time
from tailsight_storage import Store, open_store

TARGETS = {"stage": 0.95, "condition": 0.90, "false": 0.02}
NEZHA_BASELINE = "baseline_A"
NEZHA_WORDS = {None: "not asked, compare is absent", True: "right", False: "WRONG"}
CANDIDATE, BASELINE = Filters(run=("candidate",)), Filters(run=("baseline",))
_store: Store | None = None  # of this process: the embedded engine allows one


# --- asking -----------------------------------------------------------------------------------------------------------


def insert(store: Store, case: Case) -> Window:
    """Put a case into an empty store; returns the candidate's window."""
    for table in ("spans", "stage_latency_1m", "hardware_samples"):
        store.run(f"TRUNCATE TABLE {table}")
    for run in (case.baseline, case.candidate):
        token = f"{case.name}-{run.name}-{time.time_ns()}"
        store.insert_otlp_traces(simulator.traces(run), token)
        store.insert_otlp_metrics(simulator.metrics(run), f"{token}-metrics")
    window = whole_time(store, "candidate")
    assert window is not None
    return window


def run_case(kind: str, number: int, effect: float) -> tuple[Case, Score, Answer, Answer, Answer, dict[str, float]]:
    """Make, insert and ask one case."""
    took_s, began_s = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal began_s
        took_s[name], began_s = time.perf_counter() - began_s, time.perf_counter()

    case = simulator.make_case(kind, number, effect)
    lap("make")
    assert _store is not None
    window = insert(_store, case)
    lap("insert")
    tail = ask_tail(_store, window, CANDIDATE, case.quantile) if case.asks_tail else Answer(is_asked=False)
    lap("tail")
    whole = whole_time(_store, ("baseline", "candidate"))
    assert whole is not None
    compared = ask_compare(_store, whole, BASELINE, CANDIDATE) if case.asks_compare else Answer(is_asked=False)
    lap("compare")
    wants_period = any(truth.period_ms for truth in case.truths) or not case.truths
    periods = ask_periods(_store, window, CANDIDATE) if wants_period else Answer(is_asked=False)
    lap("jitter")
    return case, score(case, tail, compared, periods), tail, compared, periods, took_s


def start_worker(folder: str) -> None:
    """Open a store of this process's own."""
    global _store
    _store = open_store(f"chdb://{tempfile.mkdtemp(dir=folder)}", create=True)
    _store.run("SYSTEM STOP MERGES")  # the tables are emptied before a merge could pay


def work(task: tuple[str, int], effect: float) -> tuple[Score, dict[str, float]]:
    """Score one case; what goes wrong in it is its own result, not the end of the benchmark."""
    kind, number = task
    try:
        _, scored, *_, took_s = run_case(kind, number, effect)
    except Exception as error:  # whatever an answer raises is that case's failure
        seed = 1000 * KINDS.index(kind) + number
        return Score(f"{kind}-{number:02}", kind, "", seed, errors=(f"{type(error).__name__}: {error}"[:300],)), {}
    return scored, took_s


def run_nezha(folder: str) -> list[tuple[str, str, bool | None, str]]:
    """Compare each recorded fault with the baseline: (file, injected service, whether it is named first, what was)."""
    if not (nezha.TRUTH.is_file() and nezha.FOLDER.is_dir()):
        print(f"  Nezha: skipped, {nezha.FOLDER} or {nezha.TRUTH} is absent")
        return []
    told = json.loads(nezha.TRUTH.read_text())["files"]
    faults, results = {name: file["truth"]["service"] for name, file in told.items() if "truth" in file}, []
    with open_store(f"chdb://{tempfile.mkdtemp(dir=folder)}", create=True) as store:
        for name in (NEZHA_BASELINE, *faults):
            nezha.insert(store, name, name)
        whole = whole_time(store)
        assert whole is not None
        for name, service in faults.items():
            answer = ask_compare(store, whole, Filters(run=(NEZHA_BASELINE,)), Filters(run=(name,)))
            first = answer.causes[0] if answer.causes else None
            right = None if not answer.is_asked else first is not None and names_service(first, service)
            said = f"{first.service} {first.name}" if first else answer.error or "nothing"
            print(f"  Nezha {name}: {NEZHA_WORDS[right]}: truth {service}; said {said}")
            results.append((name, service, right, said))
    return results


# --- printing ---------------------------------------------------------------------------------------------------------


def rate(values: Iterable[bool | None]) -> tuple[int, int]:
    """How many of those that were asked are true."""
    asked = [value for value in values if value is not None]
    return sum(asked), len(asked)


def shown(true: int, asked: int, *, interval: bool = True) -> str:
    """A rate with its 95 % interval (Wilson 1927)."""
    if not asked:
        return "not asked"
    low, high = binomtest(true, asked).proportion_ci(method="wilson")
    return f"{true / asked:6.1%} ({true}/{asked})" + (f"  95 % interval {low:.1%} to {high:.1%}" if interval else "")


def print_confusion(scores: Sequence[Score]) -> None:
    """Rows: what was injected. Columns: right answers, then what the tail's first condition was about."""
    width = 9
    print("\nTail: what was injected, and what the first named condition was about")
    print(
        f"{'':20}{'cases':>6}{'stage':>8}{'cond.':>8} │" + "".join(f"{name[:width]:>{width + 1}}" for name in COLUMNS)
    )
    for kind in KINDS:
        members = [each for each in scores if each.kind == kind and not each.errors and kind != "mix_shift"]
        if members:
            counts = Counter(each.family for each in members)
            right = "".join(
                f"{_ratio(each):>8}" for each in (rate(m.stage for m in members), rate(m.condition for m in members))
            )
            cells = "".join(f"{counts[name] or '·':>{width + 1}}" for name in COLUMNS)
            print(f"{kind:20}{len(members):>6}{right} │{cells}")
    print("\nCompare: what was injected, and what was named first")
    print(
        f"{'':20}{'asked':>6}{'stage':>8}{'place':>8} │{'right stage':>13}{'proven':>8}{'other stage':>13}{'nothing':>10}"
    )
    for kind in KINDS:
        members = [
            each for each in scores if each.kind == kind and (each.compared_stage, each.false_compare) != (None, None)
        ]
        if members:
            nothing = sum(
                not each.compared or (each.compared_stage is None and not each.false_compare) for each in members
            )
            proven = sum(bool(each.proven_stage) for each in members)
            right = sum(bool(each.compared_stage) for each in members)
            rates = "".join(
                f"{_ratio(rate(getattr(m, n) for m in members)):>8}" for n in ("compared_stage", "compared_place")
            )
            print(
                f"{kind:20}{len(members):>6}{rates} │{right:>13}{proven:>8}{len(members) - right - nothing:>13}{nothing:>10}"
            )


def _ratio(counted: tuple[int, int]) -> str:
    true, asked = counted
    return f"{true / asked:.0%}" if asked else "–"


def print_rates(scores: Sequence[Score]) -> dict[str, tuple[int, int]]:
    """Print the rates that the targets are about, and the parts they are made of."""
    tail_stage, compared_stage = rate(s.stage for s in scores), rate(s.compared_stage for s in scores)
    false_tail, false_compare = rate(s.false_tail for s in scores), rate(s.false_compare for s in scores)
    false_period = rate(s.false_period for s in scores)
    rates = {
        "stage": _sum(tail_stage, compared_stage), "condition": rate(s.condition for s in scores),
        "false": _sum(false_tail, false_compare, false_period),
        "stage, tail": tail_stage, "stage, compare": compared_stage,
        "place, compare": rate(s.compared_place for s in scores),
        "stage, compare, proven": rate(s.proven_stage for s in scores),
        # the same, counted more strictly: each case once, and a suspect held to be a claim
        "false, of cases": rate(s.is_false for s in scores),
        "suspect or cause of nothing": rate(s.named_nothing for s in scores),
        "false, tail": false_tail, "false, compare": false_compare, "false, period": false_period,
    }  # fmt: skip
    print("\nRates")
    for name, counted in rates.items():
        target = (
            f"   (target: {'at most' if name == 'false' else 'at least'} {TARGETS[name]:.0%})"
            if name in TARGETS
            else ""
        )
        print(f"  {name:27} {shown(*counted)}{target}")
    return rates


def _sum(*counted: tuple[int, int]) -> tuple[int, int]:
    return sum(true for true, _ in counted), sum(asked for _, asked in counted)


def print_failures(scores: Sequence[Score]) -> None:
    """List what failed, each with what was true and what was said."""
    failed = [each for each in scores if each.failed]
    print(f"\nFailed: {len(failed)} of {len(scores)} cases (--case NAME or SEED shows one)")
    for each in failed:
        said = f"stage {each.named_stage or 'none'}; {each.named_condition or 'no condition'}; compare {each.compared or 'nothing'}"
        print(
            f"  {each.name} (seed {each.seed}) {', '.join(each.failed)}\n      truth: {each.truth or 'nothing'}\n      said:  {said[:200]}"
        )


def show_case(name: str, effect: float) -> None:
    """Run one case and show everything of it."""
    kind, number = simulator.find(name)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        start_worker(folder)
        case, scored, tail, compared, periods, took_s = run_case(kind, number, effect)
        print(f"{case.name} (seed {case.seed}, attempt {case.attempts}): {case.variant}, p{case.quantile * 100:g}")
        print("\n".join(simulator.described(case.candidate.pipeline)))
        for truth in case.truths:
            print("truth:", described(truth), f"; between runs {truth.shift:+.1f} standard errors")
        print("genuine keys:", ", ".join(sorted(case.genuine)) or "none")
        for title, answer in (("tail", tail), ("compare", compared), ("jitter", periods)):
            print(f"\n{title}: {'not asked' if not answer.is_asked else answer.error or ''}")
            print("  stages:", ", ".join(answer.stages[:6]))
            for cause in answer.causes[:8]:
                place = "/".join(filter(None, (cause.service, cause.name, cause.stage, cause.hardware)))
                print(f"  cause: {place or '–'} [{'; '.join(map(str, cause.conditions))}] p={cause.p_value:.2g}")
        print("\n" + json.dumps({"tail": tail.plain, "compare": compared.plain}, indent=1, default=str)[:20_000])
        print("\n" + json.dumps(scored.to_json(), indent=1, ensure_ascii=False))
        print({name: round(value, 2) for name, value in took_s.items()})
        assert _store is not None
        _store.close()


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, help="so many cases, all kinds in turn (default: all of the plan)")
    parser.add_argument("--kind", choices=KINDS, help="only this kind")
    parser.add_argument(
        "--seeds-from", type=int, default=0, metavar="N", choices=range(900),
        help="begin each kind with its case N (0 to 899) instead of 0: cases that nothing was tuned on",
    )  # fmt: skip
    parser.add_argument(
        "--effect", type=float, default=1.0, metavar="F",
        help="multiply what a cause adds to a request by this (default: 1): how soon does the diagnosis fail?",
    )  # fmt: skip
    parser.add_argument("--jobs", type=int, default=1, help="processes, each with a store of its own (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all scores and rates to a file")
    parser.add_argument("--case", metavar="NAME", help="run one case, by name or seed, and show everything of it")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; the exit status is 1 where a target is missed."""
    options = parse()
    if options.case:
        try:
            show_case(options.case, options.effect)
        except (ValueError, simulator.NoCaseError) as error:
            print(error, file=sys.stderr)
            return 2
        return 0
    tasks, began_s = simulator.plan(options.cases, options.kind, options.seeds_from), time.perf_counter()
    results: list[tuple[Score, dict[str, float]]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # spawned: the engine must not be inherited
        with multiprocessing.get_context("spawn").Pool(options.jobs, start_worker, (folder,)) as pool:
            for done, result in enumerate(pool.imap_unordered(partial(work, effect=options.effect), tasks), 1):
                results.append(result)
                print(
                    f"\r{done}/{len(tasks)} cases, {time.perf_counter() - began_s:.0f} s",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        print(file=sys.stderr)
    order = {task: place for place, task in enumerate(tasks)}
    scores = sorted((scored for scored, _ in results), key=lambda each: order[each.kind, each.seed % 1000])
    print_failures(scores)
    print_confusion(scores)
    rates = print_rates(scores)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        recorded = run_nezha(folder) if not options.kind else []
    spent = {
        lap: sum(took.get(lap, 0.0) for _, took in results) for lap in ("make", "insert", "tail", "compare", "jitter")
    }
    print(
        f"\n{time.perf_counter() - began_s:.0f} s with {options.jobs} processes; seconds: "
        + ", ".join(f"{k} {v:.0f}" for k, v in spent.items())
    )
    if options.json:
        told = {
            "rates": {name: {"true": true, "asked": asked} for name, (true, asked) in rates.items()},
            "nezha": [{"file": n, "service": s, "right": r, "said": w} for n, s, r, w in recorded],
            "cases": [each.to_json() for each in scores],
        }
        options.json.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return int(
        any(_misses(name, rates[name]) for name in TARGETS) or any(right is False for _, _, right, _ in recorded)
    )


def _misses(name: str, counted: tuple[int, int]) -> bool:
    true, asked = counted
    reached = true / asked if asked else TARGETS[name]
    return reached > TARGETS[name] if name == "false" else reached < TARGETS[name]


if __name__ == "__main__":
    sys.exit(main())
