"""Traces that the waterfall has to cope with: two hosts whose clocks disagree, a lost parent, and very many spans."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from dashboard.sample_store import post
from testkit.otlp import request, span, span_id, trace_id

MS = 1_000_000
MESSY, LARGE = 0xABCD0001 << 96, 0xABCD0002 << 96  # their ids: known, and unlike random ones
LARGE_SPANS = 701
LATE_CLOCK_MS = 250


def send_traces(otlp_url: str, at_ns: int) -> None:
    """Send both, started at this time."""
    for host, spans in (("edge-0", messy_caller(at_ns)), ("gpu-1", messy_callee(at_ns)), ("node-0", large(at_ns))):
        resource = {"service.name": {"edge-0": "gateway", "gpu-1": "ranker"}.get(host, "search"), "host.name": host}
        post(otlp_url, request(spans, resource).SerializeToString())


def messy_caller(at_ns: int) -> Iterator[dict[str, Any]]:
    """A request of 100 ms: 20 ms of preprocess, then a call of 70 ms; and a span whose parent never came."""
    yield _part(MESSY, 1, 0, "POST /rank with a rather long name that needs more than a line", at_ns, 0, 100)
    yield _part(MESSY, 2, 1, "preprocess", at_ns, 2, 22, **{"tailsight.stage": "preprocess", "tokens": 512})
    yield _part(MESSY, 3, 1, "call ranker", at_ns, 25, 95) | {"kind": 3}
    yield _part(MESSY, 9, 99, "lost", at_ns, 40, 45)


def messy_callee(at_ns: int) -> Iterator[dict[str, Any]]:
    """What the call runs on a host whose clock is late: 40 ms of queue, 20 ms of compute that fails."""
    late_ns = at_ns + LATE_CLOCK_MS * MS
    yield _part(MESSY, 4, 3, "rank", late_ns, 30, 92) | {"kind": 2}
    yield _part(MESSY, 5, 4, "wait", late_ns, 31, 71, **{"tailsight.stage": "queue", "tailsight.batch.size": 32})
    event = {"time_unix_nano": late_ns + 80 * MS, "name": "out of memory"}
    failed = {"status": {"code": 2, "message": "CUDA out of memory"}, "events": [event]}
    yield _part(MESSY, 6, 4, "compute", late_ns, 71, 91, **{"tailsight.stage": "compute"}) | failed


def large(at_ns: int) -> Iterator[dict[str, Any]]:
    """A request with 700 calls, one after the other."""
    random, reached = Random(5), 1.0
    for number in range(1, LARGE_SPANS):
        length = random.expovariate(1.0)
        stage = "compute" if number % 3 else "serialize"
        yield _part(
            LARGE, number + 1, 1, f"step {number}", at_ns, reached, reached + length, **{"tailsight.stage": stage}
        )
        reached += length
    yield _part(LARGE, 1, 0, "bulk", at_ns, 0, reached + 1)


def _part(
    trace: int, number: int, parent: int, name: str, at_ns: int, from_ms: float, to_ms: float, **attributes: Any
) -> dict[str, Any]:
    return span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_span_id=span_id(parent) if parent else b"",
        name=name,
        start_time_unix_nano=at_ns + round(from_ms * MS),
        end_time_unix_nano=at_ns + round(to_ms * MS),
        attributes=attributes,
    )
