"""What does `tailsight gate BASE CAND` cost on run files, part by part, and how much of that is the calculation? A table and a JSON line.

    calculation   the judgement of the same runs, as arrays in memory: the floor, whatever files cost
    start         imports, and an embedded store in a temporary folder
    load          files unpacked, decoded, inserted
    fetch         the store asked for cells, kind by kind
    judge         the same runs' judgement from cells
    command       all of it, as a process of its own: what a user waits for

CPU seconds are of all threads; on a busy machine they alone can be compared. Every round takes each part once, in turn.
Run: python tests/benchmarks/bench_gate_files.py [--requests 1000000] [--runs 1] [--no-lengths] [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from gate_files import STAGES_MS, write_run

from tailsight_analysis import Filters, Side, whole_time
from tailsight_analysis.gate import fetch_runs, judge_stratified
from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.samples import REQUESTS, RunSample, Series, run_of_values
from tailsight_analysis.gating.settings import GateSettings
from tailsight_cli.gating.loading import private_store
from tailsight_cli.gating.sources import FileSource, read_source

GATE = (str(Path(sys.executable).with_name("tailsight")), "gate")
PARTS = ("calculation", "start", "load", "fetch", "judge", "command")
SETTINGS = GateSettings()

Took = tuple[float, float]  # CPU seconds, wall seconds


def timed(work: Callable[[], object]) -> Took:
    """Time some work in this process."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


def process(*command: str) -> Took:
    """Time a process of its own; verdicts are exit codes 0, 1 and 3."""
    before, wall_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=False)
    wall_s = time.perf_counter() - wall_s
    if done.returncode not in (0, 1, 3) or (command[:2] == GATE and b'"verdict"' not in done.stdout):
        raise SystemExit(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall_s


def in_memory(requests: int, runs: int, seed: int) -> list[RunSample]:
    """Runs like those of the files: the requests, and each stage with as many spans as there."""
    dice = np.random.default_rng(seed)
    each = requests // runs
    made = []
    for number in range(runs):
        values = {REQUESTS: 8.0 * np.exp(0.2 * dice.standard_normal(each))}
        for stage, (name, typical_ms) in enumerate(STAGES_MS, 1):
            count = each * (len(STAGES_MS) + 1 - stage) // (len(STAGES_MS) + 1)
            values[Series(name, "NVIDIA L4")] = typical_ms * np.exp(0.2 * dice.standard_normal(count))
        made.append(run_of_values(str(number), 2 * number + seed, values))
    return made


def parts_of(files: list[FileSource]) -> dict[str, Took]:
    """Time what the command does, part by part, in this process."""
    took: dict[str, Took] = {}
    fetched = []
    with private_store() as private:
        loaded = [0.0, 0.0]
        asked = [0.0, 0.0]
        for number, file in enumerate(files):
            for sum_, part in (
                (loaded, timed(lambda file=file, number=number: private.load_only(file, number))),
                (asked, timed(lambda: fetched.append(_fetched(private.store)))),
            ):
                sum_[0] += part[0]
                sum_[1] += part[1]
        took["load"], took["fetch"] = (loaded[0], loaded[1]), (asked[0], asked[1])
    took["judge"] = timed(lambda: judge_stratified(fetched[0], fetched[1], SETTINGS))
    return took


def _fetched(store: object) -> list[object]:
    return fetch_runs(store, Side(whole_time(store), Filters()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="a side")
    parser.add_argument("--runs", type=int, default=1, help="a side")
    parser.add_argument("--no-lengths", action="store_true", help="requests do not say how long their input is")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    taken: dict[str, list[Took]] = {part: [] for part in PARTS}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{name}.otlp.zst" for name in ("base", "cand")]
        like = {"runs": options.runs, "lengths": not options.no_lengths}
        counted = [write_run(path, options.requests, seed=seed, **like) for seed, path in enumerate(paths)]
        files = [read_source("FILE", str(path)) for path in paths]
        arrays = [in_memory(options.requests, options.runs, seed) for seed in (0, 1)]
        for _ in range(options.rounds):
            taken["calculation"].append(timed(lambda: judge(arrays[0], arrays[1], SETTINGS)))
            taken["start"].append(process(sys.executable, "-c", START))
            for part, took in parts_of(files).items():
                taken[part].append(took)
            taken["command"].append(process(*GATE, *map(str, paths), "--json"))
        size_mb = sum(path.stat().st_size for path in paths) / 1e6
    requests, spans = (sum(each[place] for each in counted) // 2 for place in (0, 1))
    print(f"{requests:,} requests and {spans:,} spans a side in {options.runs} runs, {size_mb:.0f} MB together")
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.rounds} rounds, seconds, least (median)\n")
    print(f"{'':14}{'CPU':>16}{'wall':>16}")
    least: dict[str, dict[str, float]] = {}
    for part in PARTS:
        columns = [[took[place] for took in taken[part]] for place in (0, 1)]
        print(f"{part:14}" + "".join(f"{min(each):9.2f} ({statistics.median(each):5.2f})" for each in columns))
        least[part] = {"cpu_s": round(min(columns[0]), 3), "wall_s": round(min(columns[1]), 3)}
    answer = {"requests": requests, "spans": spans, "runs": options.runs, "least": least}
    print("\n" + json.dumps(answer))
    if options.json:
        options.json.write_text(json.dumps(answer))


START = """
import tailsight_cli.commands.gate
from tailsight_cli.gating.loading import private_store
with private_store():
    pass
"""

if __name__ == "__main__":
    main()
