"""What does the collector cost beside the database alone? One run, interleaved; prints a table and a JSON line.

    bare insert   the segments' bytes into the embedded ClickHouse, in this process: the floor
    collector     the same bytes as 512-span OTLP/HTTP requests to a collector process, until they can be queried

CPU seconds are of the inserting process; the load generator's are left out. Run: python tests/benchmarks/bench_ingest.py
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from testkit.otlp import request, span
from testkit.processes import PROTOBUF, CollectorProcess

from tailsight_collector.records import encode_record
from tailsight_storage import open_store

REQUESTS, SPANS_A_REQUEST, ROUNDS = 200, 512, 4
STAGES = ("preprocess", "serialize", "network", "queue", "compute", "postprocess")
RESOURCE = {
    "service.name": "ranker", "service.version": "1.2.0", "host.name": "node-1", "tailsight.hardware": "AMD EPYC 9575F",
    "process.pid": 4711,
}  # fmt: skip


def make_bodies() -> list[bytes]:
    """Requests of traces with a root and six stages, six attributes a span."""
    dice = random.Random(1)
    now_ns = time.time_ns() - 60 * 10**9
    bodies = []
    for number in range(REQUESTS):
        spans = []
        while len(spans) < SPANS_A_REQUEST:
            trace, root = dice.randbytes(16), dice.randbytes(8)
            start_ns = now_ns + number * 10**8 + dice.randrange(10**8)
            spans += [
                span(
                    trace_id=trace,
                    span_id=dice.randbytes(8) if stage else root,
                    parent_span_id=root if stage else b"",
                    name=stage or "request",
                    start_time_unix_nano=start_ns,
                    end_time_unix_nano=start_ns + dice.randrange(1, 10**7),
                    attributes={
                        "tailsight.stage": stage, "tailsight.model": "m1", "thread.id": 77,
                        "tokens": dice.randrange(512), "score": dice.random(), "cached": dice.random() < 0.5,
                    },
                )
                for stage in ("", *STAGES)
            ]  # fmt: skip
        bodies.append(request(spans[:SPANS_A_REQUEST], RESOURCE).SerializeToString())
    return bodies


def main() -> None:
    """Measure and print."""
    bodies = make_bodies()
    spans = REQUESTS * SPANS_A_REQUEST
    bare_cpu, full_cpu, full_wall, ack_wall = [], [], [], []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_store(f"chdb://{folder}/bare", create=True) as store,
        CollectorProcess(Path(folder) / "full") as collector,
        httpx.Client() as client,
    ):
        process = psutil.Process(collector.pid)
        for round_number in range(ROUNDS):
            segment = b"".join(encode_record(body, time.time_ns()) for body in bodies)
            began_s = time.process_time()
            store.insert_otlp_traces(segment, f"round-{round_number}")
            bare_cpu.append(time.process_time() - began_s)

            before = process.cpu_times()
            began_s = time.perf_counter()
            for body in bodies:
                answer = client.post(f"{collector.otlp_url}/v1/traces", content=body, headers=PROTOBUF)
                assert answer.status_code == 200
            ack_wall.append(time.perf_counter() - began_s)
            collector.wait_until_loaded()
            full_wall.append(time.perf_counter() - began_s)
            after = process.cpu_times()
            full_cpu.append(after.user + after.system - before.user - before.system)
        with open_store(collector.store) as reader:
            assert reader.rows("SELECT count() FROM spans") == [(ROUNDS * spans,)]
            [(bytes_a_span,)] = reader.rows(
                "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts WHERE active AND table = 'spans'"
            )
    print(f"{spans:,} spans a round, {ROUNDS} rounds, {sum(map(len, bodies)) / 1e6:.1f} MB of OTLP a round")
    rows = {
        "bare insert, CPU s": bare_cpu,
        "collector, CPU s": full_cpu,
        "collector, s until acknowledged": ack_wall,
        "collector, s until queryable": full_wall,
    }
    for name, values in rows.items():
        print(f"  {name:34} min {min(values):6.3f}  median {statistics.median(values):6.3f}")
    ratio = statistics.median(full / bare for full, bare in zip(full_cpu, bare_cpu, strict=True))
    result = {
        "cpu_ratio_to_bare_insert": round(ratio, 2),
        "queryable_spans_per_s": round(spans / min(full_wall)),
        "acknowledged_spans_per_s": round(spans / min(ack_wall)),
        "bare_spans_per_cpu_s": round(spans / min(bare_cpu)),
        "bytes_a_span_on_disk": round(float(bytes_a_span), 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
