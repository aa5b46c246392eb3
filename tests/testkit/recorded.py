"""A recording as a sidecar sends it, and the spans of the process meanwhile, made from a few words."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import time
from array import array
from typing import Any

from testkit.otlp import request, span

PATH = "/tailsight/recordings"
STAGES = ("preprocess", "compute")
THREAD = 4242
_TASK = 77


def packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content)).decode()


def turns(duration_s: float) -> list[tuple[int, int, str]]:
    """When which stage ran, in microseconds: two that alternate, and never last the same."""
    made = random.Random(3)
    found, at, number = [], 20_000, 0
    while at < duration_s * 1e6:
        took = made.randrange(2_000, 12_000)
        found.append((at, at + took, STAGES[number % 2]))
        at += took + 500
        number += 1
    return found


def recording(
    service: str, *, process: int = 31, duration_s: float = 3.0, spawn_ns: int = 0, **said: Any
) -> dict[str, Any]:
    """A recording of one thread, whose stacks name the stage that it is in."""
    spawn_ns = spawn_ns or time.time_ns() - int((duration_s + 1) * 1e9)
    base = {"cat": "py-spy", "pid": process, "tid": THREAD}
    outer = {"name": f"thread ({_TASK}): main", "args": {"filename": "", "line": 0}}
    events = [{**base, **outer, "ph": "B", "ts": 1_000}]
    for begin, end, stage in turns(duration_s):
        frame = {"name": f"run_{stage}", "args": {"filename": "app.py", "line": 3}}
        events += [{**base, **frame, "ph": "B", "ts": begin + 5_000}, {**base, **frame, "ph": "E", "ts": end + 5_000}]
    columns = {
        "time_ns": [spawn_ns + number * 4_000_000 for number in range(500)],
        "thread": [_TASK] * 500,
        "call": [0] * 500,
    }
    return {
        "recording": {
            "service": service, "host": "h", "process": process, "spawn_ns": spawn_ns,
            "end_ns": spawn_ns + int(duration_s * 1e9), "rate_hz": 200, "idle": True, "blocking": False,
            "trigger": "hand", "source": "py-spy 0.4.3", "lost": 0, "notes": [], **said,
        },
        "trace": packed(json.dumps(events).encode()),
        "states": {
            "maps": ["55a6-55a7 rw-p 00003000 fe:00 26723 /usr/bin/python3.11"], "calls": ["running"],
            "order": sys.byteorder, **{name: packed(array("q", column).tobytes()) for name, column in columns.items()},
        },
    }  # fmt: skip


def spans_of(sent: dict[str, Any]) -> bytes:
    """The spans of that time, and one of later, as an OTLP request."""
    about = sent["recording"]
    duration_s = (about["end_ns"] - about["spawn_ns"]) / 1e9
    made = [
        span(
            name=stage,
            start_time_unix_nano=about["spawn_ns"] + begin * 1000,
            end_time_unix_nano=about["spawn_ns"] + end * 1000,
            attributes={"tailsight.stage": stage, "thread.id": THREAD},
        )
        for begin, end, stage in turns(duration_s)
    ]
    made.append(span(start_time_unix_nano=about["end_ns"] + 1000, end_time_unix_nano=about["end_ns"] + 2000))
    resource = {"service.name": about["service"], "host.name": about["host"], "process.pid": about["process"]}
    return request(made, resource).SerializeToString()
