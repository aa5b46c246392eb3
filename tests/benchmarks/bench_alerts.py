"""What do alert rules cost: a look at each kind, twenty rules at their pace, and what clients notice of it? Tables and a JSON line.

Six hours of requests of seven spans (bench_queries' store), embedded engine. Each rule is looked at once, and then as a
collector does, every minute of the last ten; one thread, as in the collector.

    CPU      seconds of all threads of the process, the least of the later looks (a busy machine shows more, never less)
    rows     that the engine selected for a look, least of the later looks
    beside   a collector on that store, 20,000 spans/s, when each rule has been looked at once: without rules, with twenty at
             their pace, and with twenty that are looked at as often as they may be (`every` = 1 s, each rests four times as
             long as it took): when requests are acknowledged

Run: python tests/benchmarks/bench_alerts.py [--spans 5] [--seconds 15] [--part looks|beside]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from bench_ingest import SPANS_A_REQUEST, Bodies, cpu_s
from bench_queries import FILL, HOUR_NS, SPANS_A_TRACE, TRACES_AN_INSERT
from testkit.load import Load
from testkit.processes import CollectorProcess, eventually

from tailsight_analysis.alerting.rules import evaluate, rule_of
from tailsight_analysis.alerting.tallies import Tallies
from tailsight_storage import open_store
from tailsight_storage.store import Store

HOURS, LOOKS, MINUTE_NS = 6, 10, 60 * 10**9
SPANS_PER_S = 20_000
RULES: dict[
    str, tuple[str, dict[str, Any], float, int]
] = {  # kind, keys, how often by default in s, how many of twenty
    "slo": ("slo", {"objective": 0.99, "within": "25ms"}, 60, 2),
    "slo, a service": ("slo", {"objective": 0.99, "within": "25ms", "service": "ranker"}, 60, 6),
    "slo, a hardware type": ("slo", {"objective": 0.99, "errors": True, "hardware": "NVIDIA L4"}, 60, 2),
    "jitter, all stages": ("jitter", {"limit": "10s"}, 60, 1),
    "jitter, a stage": ("jitter", {"limit": "10s", "stage": "compute"}, 60, 4),
    "throttling": ("throttling", {}, 60, 3),
    "regression, by version": ("regression", {}, 600, 1),
    "regression, 6h by time": ("regression", {"by": "time", "window": "6h", "bucket": "10m"}, 600, 1),
}


def fill(folder: Path, spans: int) -> None:
    """Make the store of a data folder, which ends now."""
    traces = spans // SPANS_A_TRACE
    base_ns = time.time_ns() - HOURS * HOUR_NS
    with open_store(f"chdb://{folder}/clickhouse", create=True) as store:
        for first in range(0, traces, TRACES_AN_INSERT):
            count = min(TRACES_AN_INSERT, traces - first)
            store.run(FILL, first=first, count=count, traces=traces, base_ns=base_ns, hour_ns=HOURS * HOUR_NS)
        store.run("OPTIMIZE TABLE spans FINAL")
    (folder / "base").write_text(str(base_ns))


def _counters(store: Store) -> dict[str, int]:
    rows = store.rows("SELECT event, value FROM system.events WHERE event IN ('SelectedRows', 'SelectedBytes')")
    return {str(event): int(value) for event, value in rows}


def looks(folder: Path) -> dict[str, Any]:
    """Look at every rule as a collector would have done in the last minutes."""
    end_ns = int((folder / "base").read_text()) + HOURS * HOUR_NS
    result = {}
    with open_store(f"chdb://{folder}/clickhouse") as owner:
        store = owner.another(max_threads=1)
        for name, (kind, table, _, _) in RULES.items():
            rule, tallies, memory = rule_of(name, kind, table), Tallies(), {}
            cpu, rows, mega = [], [], []
            for look in range(LOOKS + 1):
                before, began_s = _counters(owner), time.process_time()
                memory = evaluate(store, rule, end_ns - (LOOKS - look) * MINUTE_NS, memory, tallies).memory
                cpu.append(time.process_time() - began_s)
                after = _counters(owner)
                rows.append(after["SelectedRows"] - before["SelectedRows"])
                mega.append((after["SelectedBytes"] - before["SelectedBytes"]) / 1e6)
            result[name] = {
                "first_cpu_s": round(cpu[0], 3), "first_rows": rows[0], "cpu_s": round(min(cpu[1:]), 3),
                "rows": min(rows[1:]), "mb": round(min(mega[1:]), 1),
            }  # fmt: skip
        store.close()
    return result


def beside(folder: Path, seconds: int) -> dict[str, Any]:
    """Send spans to a collector on the store, without rules and with twenty, in turns."""
    bodies, result = Bodies(), {}
    per_s = SPANS_PER_S / SPANS_A_REQUEST
    for name in [f"{rules}, {turn}" for turn in (1, 2) for rules in ("without", "at their pace", "all the time")]:
        file = folder / "alerts.toml"
        file.write_text("".join(_tables("1s" if name.startswith("all") else "")))
        batches = bodies.fresh()
        while len(batches) < per_s * seconds:
            batches += bodies.fresh()
        options = [] if name.startswith("without") else ["--alerts", str(file)]
        with CollectorProcess(folder, *options) as collector:
            process, load = psutil.Process(collector.pid), Load(collector.otlp_url, connections=8)
            load.send(batches[:10])
            collector.wait_until_loaded()
            if options:
                eventually(lambda url=collector.otlp_url: _looked_at(url) >= 20, "each rule is looked at", 300)
            before, began_s = cpu_s(process), time.perf_counter()
            took_ms = np.array(load.send(batches[10 : 10 + round(per_s * seconds)], per_s=per_s)) * 1000
            cores = (cpu_s(process) - before) / (time.perf_counter() - began_s)
            load.close()
        p50, p99, most = (float(np.quantile(took_ms, share)) for share in (0.5, 0.99, 1))
        result[name] = {
            "cores": round(cores, 2), "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "max_ms": round(most, 1),
        }  # fmt: skip
    return result


def _looked_at(url: str) -> int:
    """How many rules have been evaluated."""
    page = httpx.get(f"{url}/metrics", timeout=30).text
    return len(re.findall(r'^tailsight_alert_evaluations_total{outcome="ok".* [1-9]', page, flags=re.MULTILINE))


def _tables(every: str) -> list[str]:
    tables = []
    for name, (kind, table, _, number) in RULES.items():
        for copy in range(number):
            keys = {"name": f"{name.replace(', ', '-').replace(' ', '-')}-{copy}", "kind": kind, **table}
            if every:
                keys["every"] = every
            lines = [f"{key} = {json.dumps(value)}" for key, value in keys.items()]
            tables.append("[[rule]]\n" + "\n".join(lines) + "\n\n")
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=float, default=5, metavar="MILLIONS")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--part", choices=["looks", "beside"], help="Only this part.")
    parser.add_argument("--child", nargs=2, metavar=("PART", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, folder = options.child[0], Path(options.child[1])
        if part == "fill":
            fill(folder, round(options.spans * 1e6))
        else:
            print(json.dumps(looks(folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _child("fill", folder, options.spans)
        each: dict[str, Any] = {}
        clients: dict[str, Any] = {}
        if options.part != "beside":
            each = json.loads(_child("looks", folder, options.spans))
            print_looks(each, options.spans)
        if options.part != "looks":
            print(f"\n{SPANS_PER_S:,} spans/s for {options.seconds} s, acknowledged after")
            clients = beside(folder, options.seconds)
    for name, its in clients.items():
        print(
            f"  {name:16} p50 {its['p50_ms']:6.1f} ms  p99 {its['p99_ms']:6.1f}  max {its['max_ms']:6.1f}  {its['cores']:.2f} cores"
        )
    print(json.dumps({"spans": options.spans * 1e6, "looks": each, "beside": clients}))


def print_looks(each: Mapping[str, Mapping[str, float]], spans: float) -> None:
    """Print a row a rule, and what twenty take of a core."""
    print(
        f"{spans:g} million spans in {HOURS} h           first look: CPU s     rows   each later: CPU s     rows      MB"
    )
    for name, its in each.items():
        print(
            f"  {name:36} {its['first_cpu_s']:12.2f} {its['first_rows']:>12,} {its['cpu_s']:14.3f} {its['rows']:>12,}"
            f" {its['mb']:7.1f}"
        )
    share = sum(number * each[name]["cpu_s"] / every_s for name, (_, _, every_s, number) in RULES.items())
    print(f"  twenty of these at their pace: {100 * share:.1f} % of a core")


def _child(part: str, folder: Path, spans: float) -> str:
    command = [sys.executable, __file__, "--spans", str(spans), "--child", part, str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
