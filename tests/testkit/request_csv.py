"""CSVs of requests through their reader, without a store."""

from __future__ import annotations

from pathlib import Path

from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.request_csv_mapping import items_of
from testkit.importing import Read

START = "2026-11-23T08:30:00Z"
START_NS = 1_795_422_600 * 10**9
TRACE = "0af7651916cd43dd8448eb211c80319c"
MAP = "start=at,duration_ms=latency,stage.queue_ms=queue,stage.prefill_ms=prefill,service=server,trace_id=id,attr.n=n"
HEADER = "at,latency,queue,prefill,server,id,n"


def options(*texts: str, start_ns: int | None = None) -> Options:
    return Options(start_ns=start_ns, mapping=items_of(texts))


def read(tmp_path: Path, text: str | bytes, *maps: str, start_ns: int | None = None) -> Read:
    path = tmp_path / "requests.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return Read(path, options(*(maps or (MAP,)), start_ns=start_ns))


def places(found: Read) -> dict[str, str]:
    return {reason: refusal.first for reason, refusal in found.report.refused.items()}


def roots(found: Read):
    return [span for span in found.spans if not span.parent_span_id]


def lengths(found: Read, root) -> list[tuple[str, int, int]]:
    """Name, start after the request's, and length of a request's phases."""
    return [
        (span.name, span.start_time_unix_nano - root.start_time_unix_nano, span.end_time_unix_nano - span.start_time_unix_nano)
        for span in found.spans
        if span.parent_span_id == root.span_id
    ]  # fmt: skip
