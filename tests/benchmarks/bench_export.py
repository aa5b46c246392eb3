"""How many spans a second does `tailsight export` write, and how much memory does it take, format by format?

A store of a million spans: traces of eight spans in four services, six attributes a span, a start every 100 µs. Each format is
written by a process of its own from the embedded store, whose engine is in that process, and through the SQL port of a
collector, where it is not. Processor time is that of the exporting process, without its start, as one that exports a single
trace takes it; memory is the peak of what was resident.

Run it with: python tests/benchmarks/bench_export.py [--spans 1000000] [--from folder|port]
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from testkit.otlp import request
from testkit.processes import CollectorProcess

from tailsight_collector.keep.records import encode_varint
from tailsight_storage import open_store

SERVICES = ("gateway", "ranker", "encoder", "decoder")
STAGES = ("", "preprocess", "queue", "compute", "network", "serialize", "compute", "postprocess")
ENDINGS = ("otlp", "perfetto.json", "jaeger.json", "parquet", "otlp.json", "otlp.zst")
STEP_NS = 100_000
BATCH = 20_000


def fill(folder: Path, spans: int) -> None:
    """Make a store of so many spans."""
    dice = random.Random(1)
    first_ns = (time.time_ns() // 10**9 - 3600) * 10**9
    with open_store(f"chdb://{folder}", create=True) as store:
        for at in range(0, spans, BATCH):
            segment = b""
            by_service: dict[str, list[dict[str, object]]] = {name: [] for name in SERVICES}
            for number in range(at, min(at + BATCH, spans), 8):
                trace_id, ids = dice.randbytes(16), [dice.randbytes(8) for _ in STAGES]
                for place, stage in enumerate(STAGES):
                    start_ns = first_ns + number // 8 * STEP_NS + place * 1_000_000
                    end_ns = start_ns + (900_000 if place else 9_000_000)
                    attributes = {
                        "tailsight.stage": stage, "thread.id": place, "tokens": dice.randrange(4000),
                        "http.route": "/v1/rank", "ratio": dice.random(), "cached": place == 3,
                    }  # fmt: skip
                    by_service[SERVICES[place // 2]].append({
                        "trace_id": trace_id, "span_id": ids[place], "parent_span_id": ids[0] if place else b"",
                        "name": stage or "rank", "kind": 1, "start_time_unix_nano": start_ns,
                        "end_time_unix_nano": end_ns, "attributes": attributes,
                    })  # fmt: skip
            for name, members in by_service.items():
                resource = {
                    "service.name": name,
                    "host.name": f"host-{name}",
                    "service.version": "1.2.3",
                    "process.pid": 7,
                }
                encoded = request(members, resource).SerializeToString()
                segment += encode_varint(len(encoded)) + encoded
            store.insert_otlp_traces(segment, f"bench-{at}")


def measured(*arguments: str) -> tuple[float, float, int]:
    """Run `tailsight export`; returns seconds, processor seconds, and the peak of its memory in bytes."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tailsight_cli.main", "export", "--force", *arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"export {arguments} ended with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def table(store: str, folder: Path, spans: int, one: str) -> None:
    """Print what each format takes."""
    print("\n| file | spans/s | CPU µs a span | peak MiB | file, B a span |\n|---|---|---|---|---|", flush=True)
    for ending in ENDINGS:
        file = folder / f"x.{ending}"
        start_s, start_cpu_s, start_bytes = measured("--trace", one, "-o", str(file), "--store", store)
        wall_s, cpu_s, peak_bytes = measured("--all-time", "-o", str(file), "--store", store)
        size = file.stat().st_size
        print(
            f"| `.{ending}` | {spans / (wall_s - start_s):,.0f} | {(cpu_s - start_cpu_s) / spans * 1e6:.0f} "
            f"| {peak_bytes >> 20} ({start_bytes >> 20} for one trace) | {size / spans:.0f} |",
            flush=True,
        )
        file.unlink()


def main() -> None:
    """Fill a store and export it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--from", dest="place", choices=("folder", "port"))
    options = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}; {options.spans:,} spans"
    )
    with tempfile.TemporaryDirectory(prefix="tailsight-bench-") as name:
        folder = Path(name)
        if (child := os.fork()) == 0:  # the engine allows one process: the one that fills it ends
            fill(folder / "store", options.spans)
            os._exit(0)
        os.waitpid(child, 0)
        one = random.Random(1).randbytes(16).hex()
        if options.place != "port":
            print("\nFrom a folder, with the engine in the process:")
            table(f"chdb://{folder / 'store'}", folder, options.spans, one)
        if options.place != "folder":
            with CollectorProcess(folder / "store") as collector:
                print("\nThrough the SQL port:")
                table(collector.store, folder, options.spans, one)


if __name__ == "__main__":
    main()
