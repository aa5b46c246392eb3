"""Traces of the Nezha data set (IntelligentDDS/Nezha, MIT) as OTLP: OnlineBoutique, a fault-free minute and injected faults."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

from tailsight_storage import Store
from testkit.otlp import request

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "nezha"
TRUTH = FOLDER.parent / "expected" / "nezha.json"


def insert(store: Store, name: str, run: str) -> None:
    """Store the spans of a file, all of one run. Nothing is added: spans have no kind, and no attributes."""
    by_pod = defaultdict(list)
    with gzip.open(FOLDER / f"{name}.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            root = row["ParentID"] == "root"
            by_pod[row["PodName"]].append(
                {
                    "trace_id": bytes.fromhex(row["TraceID"]),
                    "span_id": bytes.fromhex(row["SpanID"]),
                    "parent_span_id": b"" if root else bytes.fromhex(row["ParentID"]),
                    "name": row["OperationName"],
                    "start_time_unix_nano": int(row["StartTimeUnixNano"]),
                    "end_time_unix_nano": int(row["EndTimeUnixNano"]),
                }
            )
    record = b""
    for pod, spans in by_pod.items():
        service = pod.rsplit("-", 2)[0]
        resource = {"service.name": service, "host.name": pod, "tailsight.run": run}
        message = request(spans, resource).SerializeToString()
        record += _varint(len(message)) + message
    store.insert_otlp_traces(record, f"nezha-{name}-{run}")


def _varint(number: int) -> bytes:
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])
