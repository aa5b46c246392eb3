"""How long do the questions take, with how much memory, and how does that grow with the spans? A table and a JSON line.

The store is made in the engine by `numbers()`: an hour of requests of seven spans (a root and six stages), on four hosts
of three hardware types, with five attributes a span, log-normal stages and a heavy tail. Each size is asked in a process
of its own; a question is asked once to warm the caches and to watch the memory, then ROUNDS times.

    wall     seconds of the first time, and the least and the median of the others
    CPU      least seconds of all threads: on two cores half of it is the least that a busy machine can show
    RSS      highest resident memory of the process that holds the engine and the analysis, while it answers
    engine   most memory that one query took, by the engine's own account, looked at twenty times a second

Run: python tests/benchmarks/bench_queries.py [--spans 1,5,20] [--questions breakdown,tail] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

import tailsight_analysis
import tailsight_analysis.regressions
from tailsight_analysis import AnalysisError, Filters, Side, Window
from tailsight_storage import open_store
from tailsight_storage.store import Store

ROUNDS = 3
SPANS_A_TRACE = 7
TRACES_AN_INSERT = 250_000
HOUR_NS = 3_600_000_000_000
BASE_NS = 1_795_305_600_000_000_000
HALF_NS = HOUR_NS // 2
QUESTIONS: dict[str, Callable[[Callable[..., object], Store, Window], object]] = {
    "breakdown": lambda ask, store, window: ask(store, window),
    "tail": lambda ask, store, window: ask(store, window),
    "timeline": lambda ask, store, window: ask(store, window),
    "variance": lambda ask, store, window: ask(store, window),
    "hardware": lambda ask, store, window: ask(store, window),
    "jitter": lambda ask, store, window: ask(store, window),
    "queueing": lambda ask, store, window: ask(store, window),
    "whatif": lambda ask, store, window: ask(store, window),
    "regressions": lambda ask, store, window: ask(store, window, by="time"),  # by the minute, all metrics
    # the first half of the hour against the second
    "compare": lambda ask, store, window: ask(
        store, Side(Window(window.since_ns, window.since_ns + HALF_NS), Filters()),
        Side(Window(window.since_ns + HALF_NS, window.until_ns), Filters()),
    ),
}  # fmt: skip
GOALS_S = {"breakdown": 1.5, "tail": 2.0, "variance": 3.0, "hardware": 3.0, "whatif": 10.0, "compare": 10.0}

PEAK = "SELECT max(peak_memory_usage) FROM system.processes WHERE query NOT LIKE '%system.processes%'"

# One row a trace first, with what its spans share; then one row a span. Random numbers are hashes of the trace's number, so
# that the same store is made every time: `normal` are Box and Muller's (1958).
FILL = """
INSERT INTO spans (received_at, start_time, duration_ns, trace_id, span_id, parent_span_id, service, stage, name, kind,
    status, hardware, host, region, environment, version, run, model, thread_id, attributes, resource, scope_name)
WITH
    (salt -> (cityHash64(number, salt) + 1) / 18446744073709551616.) AS uniform,
    (salt -> sqrt(-2 * log(uniform(salt))) * cos(2 * pi() * uniform(salt + 100))) AS normal,
    cityHash64(number, 7) % 4 AS machine,
    [1, 2, 4, 8, 16, 24, 32, 48][1 + cityHash64(number, 8) % 8] AS batch_size,
    {base_ns:Int64} + toInt64(number * ({hour_ns:Float64} / {traces:UInt64})) AS began_ns,
    -- ms: queueing has the heavy tail, most of all in large batches on the slowest hardware
    [exp(-0.2 + 0.3 * normal(1)), exp(-1.2 + 0.25 * normal(2)), exp(-0.4 + 0.5 * normal(3)),
        exp(0.3 + if(machine < 2 AND batch_size >= 24, 1.1, 0.7) * normal(4)),
        exp(if(machine < 2, 2.2, 1.8) + 0.2 * normal(5)) * (1 + if(uniform(6) < 0.005, 4, 0)),
        exp(-0.7 + 0.3 * normal(7))] AS stages_ms,
    arrayMap(ms -> toUInt64(ms * 1e6), stages_ms) AS stages_ns,
    arrayMap(reached -> toUInt64(reached), arrayCumSum(stages_ns)) AS ends_ns
SELECT
    fromUnixTimestamp64Nano(began_ns + 2000000000, 'UTC'),
    fromUnixTimestamp64Nano(began_ns + if(place < 2, 0, 50000 + toInt64(ends_ns[place - 2])), 'UTC'),
    if(place = 1, ends_ns[6] + 400000, stages_ns[place - 1]),
    sipHash128(number),
    reinterpretAsFixedString(cityHash64(number, 13, place)),
    if(place = 1, toFixedString('', 8), reinterpretAsFixedString(cityHash64(number, 13, 1))),
    if(place <= 2, 'gateway', 'ranker'),
    ['', 'preprocess', 'serialize', 'network', 'queue', 'compute', 'postprocess'][place],
    ['handle', 'tokenize', 'pack', 'send', 'wait', 'forward', 'decode'][place],
    if(place = 1, 'SERVER', 'INTERNAL'),
    if(uniform(9) < 0.002 AND place IN (1, 6), 'ERROR', 'UNSET'),
    ['NVIDIA L4', 'NVIDIA L4', 'NVIDIA A100-SXM4-40GB', 'NVIDIA H100 80GB HBM3'][1 + machine],
    concat('node-', toString(1 + machine)),
    'eu-west-1', 'prod', if(number * 2 < {traces:UInt64}, '1.4.0', '1.5.0'), 'bench',
    ['bert-base', 'bert-large'][1 + cityHash64(number, 14) % 2],
    140000000000000 + cityHash64(number, 15) % 16,
    map('tailsight.batch.size', toString(batch_size), 'tailsight.queue.depth', toString(cityHash64(number, 16) % 40),
        'tokens', toString(cityHash64(number, 17) % 512), 'cache', if(cityHash64(number, 18) % 10 < 7, 'hit', 'miss'),
        'tenant', concat('tenant-', toString(cityHash64(number, 19) % 50))),
    map('service.name', if(place <= 2, 'gateway', 'ranker'), 'host.name', concat('node-', toString(1 + machine)),
        'process.pid', '4711', 'telemetry.sdk.language', 'python'),
    'tailsight'
FROM numbers({first:UInt64}, {count:UInt64})
ARRAY JOIN [1, 2, 3, 4, 5, 6, 7] AS place
"""


def fill(store: Store, spans: int) -> None:
    """Make the spans, and say how far it is: twenty million take minutes."""
    traces = spans // SPANS_A_TRACE
    began = time.monotonic()
    for first in range(0, traces, TRACES_AN_INSERT):
        count = min(TRACES_AN_INSERT, traces - first)
        store.run(FILL, first=first, count=count, traces=traces, base_ns=BASE_NS, hour_ns=HOUR_NS)
        done = (first + count) / traces
        print(f"\r  {spans:,} spans: {done:4.0%} made in {time.monotonic() - began:.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    store.run("OPTIMIZE TABLE spans FINAL")


class PeakMemory:
    """Watch, while it is open: this process's resident memory, and what the engine says that its queries take."""

    def __init__(self, store: Store) -> None:
        self.rss_bytes = self.engine_bytes = 0
        self._store, self._done = store.another(), threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        self._store.close()

    def _watch(self) -> None:
        process = psutil.Process()
        while True:
            self.rss_bytes = max(self.rss_bytes, process.memory_info().rss)
            [(most,)] = self._store.rows(PEAK)
            self.engine_bytes = max(self.engine_bytes, int(str(most)))
            if self._done.wait(0.05):
                return


def timed(name: str, question: Callable[..., object], store: Store, window: Window) -> tuple[float, float]:
    """Ask once: wall seconds, and CPU seconds of all threads."""
    began, cpu_began = time.perf_counter(), time.process_time()
    QUESTIONS[name](question, store, window)
    return time.perf_counter() - began, time.process_time() - cpu_began


def ask(folder: Path, spans: int, names: list[str]) -> None:
    """Fill a store that is not there, ask, and print a JSON line a question."""
    dsn = f"chdb://{folder}"
    if not (folder / "complete").exists():
        with open_store(dsn, create=True) as store:
            store.run("TRUNCATE TABLE spans")
            fill(store, spans)
        (folder / "complete").touch()
    window = Window(BASE_NS, BASE_NS + HOUR_NS)
    for name in names:
        question = getattr(tailsight_analysis, name, None)
        question = getattr(question, name, question)  # where the module has the name
        if not callable(question):
            print(f"  {name}: not there", file=sys.stderr)
            continue
        with open_store(dsn) as store:
            try:
                with PeakMemory(store) as memory:  # which costs time, so not while time is taken
                    first_s, _ = timed(name, question, store, window)
                times = [timed(name, question, store, window) for _ in range(ROUNDS)]
            except AnalysisError as error:
                print(f"  {name}: {error}", file=sys.stderr)
                continue
            wall_s, cpu_s = zip(*times, strict=True)
            result = {
                "question": name, "spans": spans, "first_s": first_s, "least_s": min(wall_s),
                "median_s": statistics.median(wall_s), "cpu_s": min(cpu_s), "rss_bytes": memory.rss_bytes,
                "engine_bytes": memory.engine_bytes,
            }  # fmt: skip
        print(json.dumps(result), flush=True)


def table(results: list[dict[str, float]]) -> None:
    """Print a line a question and size, and what it grew by since the size before."""
    print(f"{'question':<12}{'spans':>12}{'first':>9}{'least':>9}{'median':>9}{'CPU':>9}{'RSS':>9}{'engine':>9}  goal")
    for result in results:
        goal = GOALS_S.get(str(result["question"])) if result["spans"] >= 20_000_000 else None
        verdict = "" if goal is None else f"{goal:g} s {'met' if result['median_s'] < goal else 'MISSED'}"
        print(
            f"{result['question']:<12}{result['spans']:>12,}{result['first_s']:>7.2f} s{result['least_s']:>7.2f} s"
            f"{result['median_s']:>7.2f} s{result['cpu_s']:>7.2f} s{result['rss_bytes'] / 2**30:>7.2f} G{result['engine_bytes'] / 2**30:>7.2f} G  {verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", default="1,5,20", help="millions, with commas (1,5,20)")
    parser.add_argument(
        "--questions", default=",".join(QUESTIONS), help="with commas; those that are not there are left out"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="make the stores there, or use those that are there"
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = given.questions.split(",")
    if unknown := [name for name in names if name not in QUESTIONS]:
        parser.error(f"no question {', '.join(unknown)}: use {', '.join(QUESTIONS)}")
    if given.worker:
        ask(given.keep, int(given.worker), names)
        return
    results = []
    with tempfile.TemporaryDirectory(prefix="tailsight-bench-") as temporary:
        for millions in (float(text) for text in given.spans.split(",")):
            spans = round(millions * 1_000_000)
            folder = (given.keep or Path(temporary)) / f"{spans}"
            folder.mkdir(parents=True, exist_ok=True)
            command = [
                sys.executable,
                __file__,
                "--worker",
                str(spans),
                "--keep",
                folder,
                "--questions",
                given.questions,
            ]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as worker:
                results.extend(json.loads(line) for line in worker.stdout or ())
            if worker.returncode:
                sys.exit(f"the worker for {spans:,} spans ended with {worker.returncode}")
    results.sort(key=lambda result: (names.index(result["question"]), result["spans"]))
    table(results)
    print(json.dumps({"benchmark": "queries", "cores": os.cpu_count(), "results": results}))


if __name__ == "__main__":
    main()
