"""What does the collector cost beside the database alone, how fast is it, and what does a span weigh? Tables and a JSON line.

    bare insert   the segments' bytes into the embedded ClickHouse, which decodes them, in this process: the floor
    in Python     the same spans turned into Python rows and inserted as columns: what collectors in Python do
    collector     the same bytes as 512-span OTLP requests over real sockets, until rows and roll-ups can be queried

CPU seconds are of the inserting process, background merges included; the load generator runs on the same machine.
Run: python tests/benchmarks/bench_ingest.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

sys.path.insert(0, str(Path(__file__).parents[1]))

from testkit.load import Load
from testkit.otlp import request, span
from testkit.processes import CollectorProcess

from tailsight_collector.importer import StoreTarget, import_files
from tailsight_collector.keep.records import encode_record
from tailsight_storage import open_store
from tailsight_storage.store import Store

REQUESTS, SPANS_A_REQUEST, ROUNDS = 200, 512, 5
SPANS = REQUESTS * SPANS_A_REQUEST
SAMPLE = Path(__file__).parents[2] / "sample_traces/demo.otlp.zst"
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


class Bodies:
    """The same requests with other ids each time: no two spans that are sent have the same."""

    def __init__(self) -> None:
        self._plain = [(np.frombuffer(body, np.uint8), self._places(body)) for body in make_bodies()]
        self._seeds = iter(range(1, 10**6))

    @staticmethod
    def _places(body: bytes) -> np.ndarray:
        """Return where the bytes of ids are."""
        message = ExportTraceServiceRequest.FromString(body)
        places: list[int] = []
        at = 0
        for each in message.resource_spans[0].scope_spans[0].spans:
            for key, value in (
                (b"\x0a\x10", each.trace_id),
                (b"\x12\x08", each.span_id),
                (b"\x22\x08", each.parent_span_id),
            ):
                if value:
                    at = body.index(key + value, at) + 2
                    places += range(at, at + len(value))
        return np.array(places)

    def fresh(self) -> list[bytes]:
        """Make the next 102,400 spans."""
        mask = np.random.default_rng(next(self._seeds)).integers(0, 256, 8, dtype=np.uint8)
        bodies = []
        for plain, places in self._plain:
            body = plain.copy()
            body[places] ^= np.resize(mask, len(places))
            bodies.append(body.tobytes())
        return bodies


# --- the collector beside the floor ---------------------------------------------------------------------------------


def insert_from_python(store: Store, bodies: Sequence[bytes]) -> None:
    """Do what a collector does that decodes in Python: an object a span and an attribute, and columns of these."""
    columns = ("received_at", "trace_id", "span_id", "parent_span_id", "start_time_unix_nano", "end_time_unix_nano",
               "name", "kind", "attributes", "attribute_types", "resource")  # fmt: skip
    rows = []
    now_ns = time.time_ns()
    for body in bodies:
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {pair.key: text(pair.value)[0] for pair in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                for each in scope_spans.spans:
                    values = {pair.key: text(pair.value) for pair in each.attributes}
                    rows.append((
                        now_ns, each.trace_id, each.span_id, each.parent_span_id, each.start_time_unix_nano,
                        each.end_time_unix_nano, each.name, each.kind, {key: value for key, (value, _) in values.items()},
                        {key: kind for key, (_, kind) in values.items() if kind != "string"}, resource,
                    ))  # fmt: skip
    store._client.insert("span_arrivals", rows, columns)


def text(value: object) -> tuple[str, str]:
    kind = value.WhichOneof("value") or "unset"  # type: ignore[attr-defined]
    return str(getattr(value, kind, "")), kind.removesuffix("_value")


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def compare(bodies: Bodies, rounds: int) -> dict[str, float]:
    """Bare insert and collector, one after the other in each round."""
    bare_cpu, full_cpu, full_wall, ack_wall, python_cpu = [], [], [], [], []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_store(f"chdb://{folder}/bare", create=True) as store,
        CollectorProcess(Path(folder) / "full") as collector,
    ):
        process = psutil.Process(collector.pid)
        load = Load(collector.otlp_url)
        for round_number in range(rounds + 1):
            fresh = bodies.fresh()
            segment = b"".join(encode_record(body, time.time_ns()) for body in fresh)
            began_s = time.process_time()
            store.insert_otlp_traces(segment, f"round-{round_number}", decoded_here=False)
            bare = time.process_time() - began_s

            before, began_s = cpu_s(process), time.perf_counter()
            load.send(fresh)
            acknowledged = time.perf_counter() - began_s
            collector.wait_until_loaded()
            queryable = time.perf_counter() - began_s
            full = cpu_s(process) - before

            few = fresh[: REQUESTS // 10]
            began_s = time.process_time()
            insert_from_python(store, few)
            in_python = (time.process_time() - began_s) * 10
            if round_number:  # the first one warms up
                for values, value in (
                    (bare_cpu, bare),
                    (full_cpu, full),
                    (python_cpu, in_python),
                    (ack_wall, acknowledged),
                    (full_wall, queryable),
                ):
                    values.append(value)
        load.close()
        with open_store(collector.store) as reader:
            assert reader.rows("SELECT count() FROM spans") == [((rounds + 1) * SPANS,)]
            assert reader.rows("SELECT sum(spans) FROM stage_latency_1m") == [((rounds + 1) * SPANS,)]
    print(
        f"\n{SPANS:,} spans a round in requests of {SPANS_A_REQUEST}, {len(segment) / 1e6:.1f} MB of OTLP; {rounds} rounds"
    )
    table = {
        "bare insert, CPU s": bare_cpu,
        "collector, CPU s": full_cpu,
        "decoded in Python, CPU s (of a tenth)": python_cpu,
        "collector, s until acknowledged": ack_wall,
        "collector, s until queryable": full_wall,
    }
    for name, values in table.items():
        print(f"  {name:40} min {min(values):6.3f}  median {statistics.median(values):6.3f}")
    return {
        "cpu_ratio_to_bare_insert": round(statistics.median(f / b for f, b in zip(full_cpu, bare_cpu, strict=True)), 2),
        "cpu_ratio_of_python_to_bare_insert": round(
            statistics.median(p / b for p, b in zip(python_cpu, bare_cpu, strict=True)), 2
        ),
        "burst_acknowledged_spans_per_s": round(SPANS / min(ack_wall)),
    }


# --- at full speed, and at a pace -----------------------------------------------------------------------------------


class Memory(threading.Thread):
    """Watches a process's resident bytes, ten times a second."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._done = threading.Event()
        self.seen: list[int] = []

    def run(self) -> None:
        while not self._done.wait(0.1):
            self.seen.append(self._process.memory_info().rss)

    def stop(self) -> None:
        self._done.set()
        self.join()


def sustained(bodies: Bodies, rounds: int, folder: Path) -> dict[str, float]:
    """As fast as it goes, for rounds × 102,400 spans that were made before."""
    batches = [body for _ in range(rounds) for body in bodies.fresh()]
    spans = len(batches) * SPANS_A_REQUEST
    with CollectorProcess(folder / "sustained") as collector:
        process = psutil.Process(collector.pid)
        load = Load(collector.otlp_url)
        load.send(batches[:10])  # connections, code, tables
        collector.wait_until_loaded()
        memory = Memory(process)
        memory.start()
        before, own_before, began_s = cpu_s(process), time.process_time(), time.perf_counter()
        load.send(batches)
        acknowledged_s = time.perf_counter() - began_s
        collector.wait_until_loaded()
        queryable_s = time.perf_counter() - began_s
        used, own = cpu_s(process) - before, time.process_time() - own_before
        memory.stop()
        load.close()
        with open_store(collector.store) as reader:
            assert reader.rows("SELECT count() FROM spans") == [(spans + 10 * SPANS_A_REQUEST,)]
            assert reader.rows("SELECT sum(spans) FROM stage_latency_1m") == [(spans + 10 * SPANS_A_REQUEST,)]
            [(parts,)] = reader.rows("SELECT count() FROM system.parts WHERE active AND table = 'spans'")
    quarters = [max(memory.seen[at::1][: len(memory.seen) // 4]) for at in (0, 3 * len(memory.seen) // 4)]
    print(f"\n{spans:,} spans as fast as it goes, load generator on the same cores ({own:.1f} CPU s)")
    print(
        f"  acknowledged {spans / acknowledged_s:,.0f}/s; queryable {spans / queryable_s:,.0f}/s after {queryable_s:.1f} s, {parts} parts"
    )
    print(f"  {used / spans * SPANS:.3f} CPU s for {SPANS:,} spans, merges included")
    print(f"  resident {quarters[0] / 1e6:.0f} MB at most in the first quarter, {quarters[1] / 1e6:.0f} MB in the last")
    return {
        "acknowledged_spans_per_s": round(spans / acknowledged_s),
        "queryable_spans_per_s": round(spans / queryable_s),
        "cpu_s_for_102400": round(used / spans * SPANS, 3),
        "resident_mb": round(max(memory.seen) / 1e6),
    }


def paced(bodies: Bodies, seconds: int, folder: Path, spans_per_s: int = 50_000) -> dict[str, float]:
    """At a pace: how long until a request is acknowledged, from when it was due."""
    per_s = spans_per_s / SPANS_A_REQUEST
    batches = [body for _ in range(math.ceil(per_s * seconds / REQUESTS)) for body in bodies.fresh()]
    with CollectorProcess(folder / "paced") as collector:
        process = psutil.Process(collector.pid)
        load = Load(collector.otlp_url, connections=32)
        load.send(batches[:10])
        collector.wait_until_loaded()
        idle_mb = process.memory_info().rss / 1e6
        memory = Memory(process)
        memory.start()
        before, began_s = cpu_s(process), time.perf_counter()
        took_ms = np.array(load.send(batches, per_s=per_s)) * 1000
        used = (cpu_s(process) - before) / (time.perf_counter() - began_s)
        memory.stop()
        load.close()
    p50, p99, p999 = np.quantile(took_ms, (0.5, 0.99, 0.999))
    print(f"\n{spans_per_s:,} spans/s for {seconds} s: {used:.2f} cores")
    print(
        f"  acknowledged after p50 {p50:.1f} ms, p99 {p99:.1f} ms, p99.9 {p999:.1f} ms, at most {took_ms.max():.1f} ms"
    )
    print(f"  resident {idle_mb:.0f} MB before, {max(memory.seen) / 1e6:.0f} MB at most")
    return {
        "p50_ms": round(p50, 1),
        "p99_ms": round(p99, 1),
        "cores": round(used, 2),
        "resident_mb": round(max(memory.seen) / 1e6),
    }


# --- on the disk ----------------------------------------------------------------------------------------------------


def weights(bodies: Bodies) -> dict[str, float]:
    """Bytes a span on the disk, by column: of the recorded demo pipeline, and of this benchmark's spans."""
    found: dict[str, float] = {}
    tables: list[dict[str, float]] = []
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        open_store(f"chdb://{folder}/s", create=True) as store,
    ):
        for name in ("demo", "benchmark"):
            store.run("TRUNCATE TABLE spans")
            if name == "demo":
                import_files([SAMPLE], StoreTarget(store))
            else:
                segment = b"".join(encode_record(body, time.time_ns()) for body in bodies.fresh())
                store.insert_otlp_traces(segment, "weights")
            store.run("OPTIMIZE TABLE spans FINAL")
            [(rows, size)] = store.rows(
                "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE active AND table = 'spans'"
            )
            columns = store.rows(
                "SELECT splitByChar('.', column)[1], sum(column_bytes_on_disk) FROM system.parts_columns "
                "WHERE active AND table = 'spans' GROUP BY 1"
            )
            tables.append({str(column): float(size) / float(rows) for column, size in columns})  # type: ignore[arg-type]
            found[f"{name}_bytes_a_span"] = round(float(size) / float(rows), 1)  # type: ignore[arg-type]
            print(f"\non the disk, {name}: {rows:,} spans, {found[f'{name}_bytes_a_span']} B each")
    for column in sorted(tables[0], key=lambda name: -tables[0][name]):
        if tables[0][column] >= 0.05 or tables[1][column] >= 0.05:
            print(f"  {column:20} {tables[0][column]:6.2f} {tables[1][column]:6.2f}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    quick = parser.parse_args().quick
    bodies = Bodies()
    result: dict[str, object] = dict(compare(bodies, 2 if quick else ROUNDS))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        runs = [
            sustained(bodies, 10 if quick else 40, Path(folder) / str(number)) for number in range(1 if quick else 3)
        ]
        result["sustained"] = max(runs, key=lambda run: run["queryable_spans_per_s"])
        result["sustained_median_spans_per_s"] = statistics.median(run["queryable_spans_per_s"] for run in runs)
        result["paced"] = paced(bodies, 5 if quick else 20, Path(folder))
    result["disk"] = weights(bodies)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
