"""What does a profile cost the service that is recorded, while it is recorded?

One service runs rounds of the same requests (a request, three stages, 2 ms of work), its spans go to a file. The rounds
alternate at random between ways of recording, all on the same process:

    none          nobody looks
    non-blocking  as `tailsight profile` does it: py-spy --nonblocking at 100 Hz, and /proc for who waits for the GIL
    py-spy alone  the same without /proc
    sidecar       as `tailsight.profiling.start()` does it, /proc at 250 Hz; here it is this process that does
    blocking      py-spy holds the process still for each sample

Each is given as a ratio to a round of `none` beside it: the median of all rounds, with its 95 % interval (order statistics).
Processor time of the service per request, wall time per request, and the p99 of requests. The row `none` compares
rounds without anybody looking with each other: what overlaps its interval is noise.

Run it with: python tests/benchmarks/bench_profile.py [--quick]
"""

import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tailsight._profile_ask import Ask
from tailsight._profile_recording import Recording
from tailsight_cli.profiling.spy import Spy, SpyOptions, make_way, py_spy, source
from tailsight_cli.profiling.thread_states import ThreadStates

QUICK = "--quick" in sys.argv
ROUNDS = 8 if QUICK else 60
REQUESTS = 200 if QUICK else 750
WAYS = ("none", "non-blocking", "py-spy alone", "sidecar", "blocking")
MEASURES = ("processor", "wall", "p99")
SERVED = """
import json, statistics, sys, time
import tailsight
tailsight.configure(service="bench", transport="file", file=sys.argv[1])
def work(ms):
    total, end = 0, int(ms * 9_000)
    for number in range(end):
        total += number
    return total
@tailsight.request
def handle():
    for name in ("preprocess", "compute", "postprocess"):
        with tailsight.stage(name):
            work(2 / 3)
print("ready", flush=True)
for line in sys.stdin:
    times, cpu = [], time.process_time()
    began = time.perf_counter()
    for _ in range(int(line)):
        start = time.perf_counter()
        handle()
        times.append(time.perf_counter() - start)
    print(json.dumps({"processor": time.process_time() - cpu, "wall": time.perf_counter() - began,
                      "p99": statistics.quantiles(times, n=100)[-1]}), flush=True)
"""


def measured(service: "subprocess.Popen[str]", way: str, folder: Path) -> dict[str, float]:
    """Let the service work while it is recorded in one way."""
    with ExitStack() as stack:
        if way == "sidecar":
            recording = Recording(str(py_spy()), service.pid, Ask(duration_s=300), "hand", {}, lambda *_: "")
            stack.callback(recording.kill)
            for task in (recording._spy.pid, recording._thread.native_id):
                make_way(task)  # as a sidecar has from its start
            while b"Sampling process" not in os.pread(recording._log.fileno(), 1000, 0):
                time.sleep(0.01)
        elif way != "none":
            path = folder / f"{time.monotonic_ns()}.json"
            spy = Spy(service.pid, path, 600, SpyOptions(100, blocking=way == "blocking"))
            stack.callback(spy.stop)
            while "Sampling process" not in path.with_suffix(".log").read_text():
                time.sleep(0.01)
        if way == "non-blocking":
            stack.enter_context(ThreadStates(service.pid, 100))
        assert service.stdin is not None
        assert service.stdout is not None
        service.stdin.write(f"{REQUESTS}\n")
        service.stdin.flush()
        answer: dict[str, float] = json.loads(service.stdout.readline())
    return answer


def main() -> None:
    order = random.Random(1)
    found: dict[str, dict[str, list[float]]] = {way: {name: [] for name in MEASURES} for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command: list[Any] = [sys.executable, "-c", SERVED, folder / "spans.otlp"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdin is not None
            assert service.stdout is not None
            assert service.stdout.readline() == "ready\n"
            measured(service, "none", folder)  # warm
            for number in range(ROUNDS):
                ways = [*WAYS, "beside"]
                order.shuffle(ways)
                answers = {way: measured(service, "none" if way == "beside" else way, folder) for way in ways}
                for way in WAYS:
                    for measure in MEASURES:
                        found[way][measure].append(answers[way][measure] / answers["beside"][measure])
                print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
            service.stdin.close()
    print(f"{source()}, Python {platform.python_version()}, {ROUNDS} rounds of {REQUESTS} requests of about 2 ms")
    print(f"{'ratio to none':16}" + "".join(f"{measure:>26}" for measure in MEASURES))
    for way in WAYS:
        cells = []
        for measure in MEASURES:
            ratios = sorted(found[way][measure])
            # ranks of a sign test: the binomial's standard deviation is half the root
            reach = round(1.96 * ROUNDS**0.5 / 2)
            low, high = ratios[ROUNDS // 2 - reach - 1], ratios[ROUNDS // 2 + reach]
            middle = statistics.median(ratios)
            cells.append(f"{middle:.3f} ({low:.3f} to {high:.3f})")
        print(f"{way:16}" + "".join(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
