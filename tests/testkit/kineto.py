"""Profiles as PyTorch's profiler writes them, event by event."""

from __future__ import annotations

import json
from pathlib import Path

from tailsight_collector.importing.registry import Options
from testkit.importing import Read, plain

BASE_NS = 1_790_000_000 * 10**9
H100 = {"id": 0, "name": "NVIDIA H100 80GB HBM3"}


def event(
    category: str, name: str, ts: object, dur: object, *, pid: object = 1, tid: object = 1, **args: object
) -> dict:
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, "ts": ts, "dur": dur, "args": args}


def annotation(name: str, ts: object, dur: object, **where: object) -> dict:
    return event("user_annotation", name, ts, dur, **where)


def operator(name: str, ts: object, dur: object, **where: object) -> dict:
    return event("cpu_op", name, ts, dur, **where)


def launch(ts: object, correlation: object, dur: object = 2, name: str = "cudaLaunchKernel", **where: object) -> dict:
    return event("cuda_runtime", name, ts, dur, correlation=correlation, **where)


def kernel(
    name: str, ts: object, dur: object, correlation: object, *, device: object = 0, stream: object = 7, **args: object
) -> dict:
    where = {"device": device, "stream": stream, "correlation": correlation}
    return event("kernel", name, ts, dur, pid=device, tid=stream, **where, **args)


def profile(*events: dict, **around: object) -> dict:
    known = {
        "schemaVersion": 1,
        "deviceProperties": [H100],
        "traceEvents": list(events),
        "baseTimeNanoseconds": BASE_NS,
    }
    return {key: value for key, value in {**known, **around}.items() if value is not None}


def read_profile(folder: Path, document: object, options: Options | None = None) -> Read:
    path = folder / "profile.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return Read(path, options)


def us(span) -> tuple[float, float]:
    """A span's start and end, in microseconds of the file."""
    return (span.start_time_unix_nano - BASE_NS) / 1000, (span.end_time_unix_nano - BASE_NS) / 1000


def parents(found: Read) -> dict[str, str]:
    """The name of each span's parent, "" for a request."""
    names = {span.span_id: span.name for span in found.spans}
    return {span.name: names[span.parent_span_id] if span.parent_span_id else "" for span in found.spans}


def stages(found: Read) -> dict[str, object]:
    return {span.name: plain(span.attributes).get("tailsight.stage") for span in found.spans}
