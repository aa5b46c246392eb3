"""What does counting numbered batches cost an insert? One run, interleaved; prints a table and a JSON line.

The bare insert of bench_ingest's segment (200 batches of 512 spans) into the embedded ClickHouse, in this process, decoded by
the database: where our C module decodes, the view has nothing to do, and the counters' rows are made in Python.

    others     requests without numbers, into a store without the view `sender_batches_from_otlp`: the floor
    + view     the same requests into a store as it is
    numbered   the same spans with our sender's counters in every batch's scope, into a store as it is
    beside     numbered, into a store without the view that keeps the counters beside every span, as before migration 0010

Run: python tests/benchmarks/bench_sender_batches.py
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from bench_ingest import make_bodies
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.otlp import any_value

from tailsight_collector.keep.records import encode_record
from tailsight_storage import ChdbDsn, Store, open_store
from tailsight_storage.migrations import load_migrations

ROUNDS = 16
FLAT = "CREATE MATERIALIZED VIEW IF NOT EXISTS otlp_traces_flat TO span_arrivals AS"


def numbered(bodies: list[bytes]) -> list[bytes]:
    """Put a sender's counters into each request's scope."""
    result = []
    for number, body in enumerate(bodies, 1):
        message = ExportTraceServiceRequest.FromString(body)
        [scope_spans] = message.resource_spans[0].scope_spans
        sent = number * len(scope_spans.spans)
        said = {
            "sender.id": "00c0ffee00c0ffee", "batch.number": number, "batch.spans": len(scope_spans.spans),
            "batch.priority": "normal", "sender.recorded": sent, "sender.spans": sent,
            "sender.dropped": {"buffer_full": 3, "spool_full": 9}, "sender.sampled_out": {"rate": 400},
            "sender.kept": {"slow": 4, "error": 6, "rate": 60}, "sender.last": False,
        }  # fmt: skip
        for key, value in said.items():
            scope_spans.scope.attributes.add(key=f"tailsight.{key}", value=any_value(value))
        result.append(message.SerializeToString())
    return result


def counters_beside_spans(store: Store) -> None:
    """Give the view over spans the form that it had in migration 0007."""
    [statement] = [each for each in load_migrations()[6].statements if each.startswith(FLAT)]
    store.run(statement.replace(FLAT, "ALTER TABLE otlp_traces_flat MODIFY QUERY"))


def main() -> None:
    """Measure and print."""
    plain = make_bodies()
    segments = {
        name: b"".join(encode_record(body, time.time_ns()) for body in bodies)
        for name, bodies in (("plain", plain), ("numbered", numbered(plain)))
    }
    cpu_s: dict[str, list[float]] = {"others": [], "+ view": [], "numbered": [], "beside": []}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        stores = {name: open_store(ChdbDsn(Path(folder), name), create=True) for name in ("without", "whole", "before")}
        for name in ("without", "before"):
            stores[name].run("DROP TABLE sender_batches_from_otlp")
        counters_beside_spans(stores["before"])
        for store in stores.values():
            store.run("SYSTEM STOP MERGES")  # they would take their time in the others' turns
        arms = {
            "others": ("without", "plain"), "+ view": ("whole", "plain"), "numbered": ("whole", "numbered"),
            "beside": ("before", "numbered"),
        }  # fmt: skip
        for number in range(ROUNDS):
            for name in list(arms)[:: -1 if number % 2 else 1]:
                where, what = arms[name]
                began_s = time.process_time()
                stores[where].insert_otlp_traces(segments[what], f"{name}-{number}", decoded_here=False)
                cpu_s[name].append(time.process_time() - began_s)
        for store in stores.values():
            store.close()
    for name, values in cpu_s.items():
        print(f"  {name:10} CPU s   min {min(values):6.3f}  median {statistics.median(values):6.3f}")
    print(json.dumps({
        f"{name.strip('+ ')}_to_others": round(min(values) / min(cpu_s["others"]), 3)
        for name, values in cpu_s.items() if name != "others"
    }))  # fmt: skip


if __name__ == "__main__":
    main()
