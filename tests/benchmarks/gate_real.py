"""Real data for the gate: database latency on two VM types, a benchmark of one unchanged commit, and recorded faults."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from testkit import nezha

from tailsight_analysis import Filters, Side, whole_time
from tailsight_analysis.gate import gate
from tailsight_analysis.gating.judge import judge
from tailsight_analysis.gating.samples import REQUESTS, RunSample, run_of_values
from tailsight_analysis.gating.settings import GateSettings
from tailsight_storage import open_store

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
Floats = npt.NDArray[np.float64]
_HOUR_NS = 3_600_000_000_000


def vm_latencies(kind: str) -> Floats:
    """Latencies of one VM type in ms, in the order of time: one of each of many machines."""
    file = DATA / "azure_vmnoise" / f"pg_readonly_latency_ms_short_eastus_{kind}.csv.gz"
    with gzip.open(file, "rt") as lines:
        rows = sorted(csv.DictReader(lines), key=lambda row: row["starttime"])
    return np.array([float(row["value"]) for row in rows])


def azure_gates(kind: str, runs: int, gates: int, factor: float = 1.0, *, in_turn: bool = True) -> Counter[str]:
    """Cut the latencies into stretches of time: one of each pair of neighbours is the candidate's, or any half of them."""
    stretches = np.array_split(vm_latencies(kind), 2 * runs)
    found: Counter[str] = Counter()
    for seed in range(gates):
        random = np.random.default_rng(seed)
        pairs = np.stack([first := random.random(runs) < 0.5, ~first], axis=1).ravel()
        changed = pairs if in_turn else random.permutation(2 * runs) >= runs
        sides: tuple[list[RunSample], list[RunSample]] = ([], [])
        for number, (stretch, is_changed) in enumerate(zip(stretches, changed, strict=True)):
            values = stretch * (factor if is_changed else 1.0)
            sides[int(is_changed)].append(run_of_values(str(number), number * _HOUR_NS, {REQUESTS: values}))
        found[judge(*sides, GateSettings()).verdict] += 1
    return found


def azure_halves(kind: str) -> str:
    """The first half against the second, as one run each."""
    first, second = np.array_split(vm_latencies(kind), 2)
    sides = (run_of_values(str(number), number, {REQUESTS: half}) for number, half in enumerate((first, second)))
    return judge([next(sides)], [next(sides)], GateSettings()).verdict


def pytest_benchmark_runs() -> list[RunSample]:
    """15 runs of one commit. Only summaries are kept of each: durations are rebuilt from their quartiles."""
    runs = []
    for number, file in enumerate(sorted((DATA / "pytest_benchmark").glob("*.json"))):
        stats = json.loads(file.read_text())["benchmarks"][0]["stats"]
        levels = np.linspace(0.005, 0.995, 400)
        known = [stats[name] * 1e3 for name in ("min", "q1", "median", "q3")]
        values = np.interp(levels, [0.0, 0.25, 0.5, 0.75, 1.0], [*known, known[-1] + 3 * (known[-1] - known[1])])
        random = np.random.default_rng(number)
        runs.append(run_of_values(file.stem, number * _HOUR_NS, {REQUESTS: random.permutation(values)}))
    return runs


def pytest_benchmark_gates(gates: int) -> Counter[str]:
    """A/A gates of 7 runs a side, drawn from the 15."""
    runs, found = pytest_benchmark_runs(), Counter[str]()
    settings = GateSettings(metrics=("p50", "mean"))
    for seed in range(gates):
        order = np.random.default_rng(seed).permutation(len(runs))
        before, after = ([runs[number] for number in order[part]] for part in (slice(0, 7), slice(7, 14)))
        found[judge(before, after, settings).verdict] += 1
    return found


def nezha_gates() -> dict[str, str]:
    """The fault-free minute against itself in halves, and against each injected fault, one run a side."""
    found = {}
    names = {
        "a": "baseline_A",
        "delay": "fault_13_38_network_delay_currencyservice",
        "cpu": "fault_15_57_cpu_consumed_shippingservice",
    }
    with tempfile.TemporaryDirectory() as folder, open_store(f"chdb://{folder}/store", create=True) as store:
        windows = {}
        for run, name in names.items():
            nezha.insert(store, name, run)
            windows[run] = whole_time(store, run)
        for run, service in (("delay", ()), ("cpu", ("shippingservice",)), ("cpu", ("currencyservice",))):
            sides = [[Side(windows[each], Filters(run=(each,), service=service))] for each in ("a", run)]
            found[f"{names[run]}, {service[0] if service else 'all requests'}"] = gate(store, *sides).verdict
    return found


def report_real() -> None:
    """Print what the gate says of them."""
    print("\nreal data")
    for kind in ("B8ms", "D8s_v5"):
        print(f"  azure_vmnoise {kind}: halves as one run each: {azure_halves(kind)}")
        for runs in (3, 5, 10):
            print(f"    A/A, {runs} stretches a side: {dict(azure_gates(kind, runs, 100))}")
            print(f"    A/A, {runs} stretches a side, not in turn: {dict(azure_gates(kind, runs, 100, in_turn=False))}")
            print(f"    × 1.1, {runs} stretches a side: {dict(azure_gates(kind, runs, 100, 1.1))}")
            print(f"    × 1.2, {runs} stretches a side: {dict(azure_gates(kind, runs, 100, 1.2))}")
    print(f"  pytest_benchmark, A/A of 7 runs a side: {dict(pytest_benchmark_gates(200))}")
    for name, verdict in nezha_gates().items():
        print(f"  nezha, {name}: {verdict}")
