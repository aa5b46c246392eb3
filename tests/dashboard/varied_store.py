"""Requests that differ in known ways, for the views on jitter and on hardware.

Four hosts, two of each type, each with one worker and a queue. The L4s take twice as long at the same work, and get the
shorter inputs; their workers pause for 70 ms every PERIOD_MS. One in six postprocesses takes 9 ms instead of a half.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from dashboard.sample_store import post
from testkit.metrics import metric, metrics_request, point
from testkit.otlp import request, span, span_id, trace_id

MS = 1_000_000
L4, H100 = "NVIDIA L4", "NVIDIA H100 80GB HBM3"
HOSTS = ((L4, "l4-0"), (L4, "l4-1"), (H100, "h100-0"), (H100, "h100-1"))
REQUESTS_A_HOST = 300
REQUESTS = REQUESTS_A_HOST * len(HOSTS)
VARIED_SPANS = REQUESTS * 5
BETWEEN_MS = 60.0  # the mean, of a host's requests
PERIOD_MS, PAUSE_MS = 700, 70
DEADLINE_MS = 60
RATIO = 2.0
POWER_W = {L4: 70.0, H100: 350.0}
QUALITY = {"mini": 0.80, "large": 0.88, "old": 0.76}  # and old is the slowest
_SLOWNESS = {"mini": 1.0, "large": 1.3, "old": 1.6}
_MS_A_TOKEN = {L4: 0.02 * RATIO, H100: 0.02}


def send_varied(otlp_url: str, at_ns: int) -> None:
    """Send them, started from this time on, and the power of the devices."""
    for number, (hardware, host) in enumerate(HOSTS):
        resource = {"service.name": "ranker", "host.name": host, "tailsight.hardware": hardware}
        random = Random(number)
        post(otlp_url, request(spans_of_host(random, number, hardware, at_ns), resource).SerializeToString())
        post(otlp_url, _power(at_ns, hardware, host), "metrics")


def _power(at_ns: int, hardware: str, host: str) -> bytes:
    length_s = round(REQUESTS_A_HOST * BETWEEN_MS / 1000) + 5
    points = [
        point(POWER_W[hardware], time_unix_nano=at_ns + second * 1000 * MS, attributes={"hw.id": f"gpu-{host}"})
        for second in range(-5, length_s, 5)
    ]
    resource = {"service.name": "devices", "host.name": host, "tailsight.hardware": hardware}
    return metrics_request([metric("hw.power", points, unit="W")], resource).SerializeToString()


def spans_of_host(random: Random, number: int, hardware: str, at_ns: int) -> Iterator[dict[str, Any]]:
    """Make the spans of one host's requests, as `testkit.otlp.request` takes them."""
    arrives, free = 0.0, 0.0
    for index in range(REQUESTS_A_HOST):
        arrives += random.expovariate(1 / BETWEEN_MS)
        model = random.choices(tuple(QUALITY), (3, 2, 1))[0]
        lengths = (128, 256, 384) if random.random() < (0.85 if hardware == L4 else 0.25) else (512, 640, 768)
        tokens = random.choice(lengths)
        begins = max(arrives + 0.3, free)
        if hardware == L4 and begins % PERIOD_MS < PAUSE_MS:
            begins += PAUSE_MS - begins % PERIOD_MS
        ends = begins + 2 + _MS_A_TOKEN[hardware] * tokens * _SLOWNESS[model] * random.lognormvariate(0, 0.12)
        after = ends + (random.uniform(8, 10) if random.random() < 1 / 6 else random.uniform(0.4, 0.6))
        free = ends
        trace = trace_id((number + 1) << 64 | (index + 1))
        root = span_id((number + 1) << 40 | (index + 1) << 8)
        stages = (("preprocess", arrives + 0.1, arrives + 0.3), ("queue", arrives + 0.3, begins),
                  ("compute", begins, ends), ("postprocess", ends, after))  # fmt: skip
        for place, (stage, begin, end) in enumerate(stages, start=1):
            yield _span(at_ns, trace, root, place, stage, begin, end, {"tailsight.stage": stage})
        said = {"tokens": tokens, "tailsight.model": model, "tailsight.deadline_ms": DEADLINE_MS,
                "tailsight.quality": QUALITY[model] + random.gauss(0, 0.05)}  # fmt: skip
        yield _span(at_ns, trace, root, 0, "rank", arrives, after + 0.1, said)


def _span(
    at_ns: int, trace: bytes, root: bytes, place: int, name: str, begin_ms: float, end_ms: float, said: dict[str, Any]
) -> dict[str, Any]:
    return span(
        trace_id=trace,
        span_id=(int.from_bytes(root, "big") + place).to_bytes(8, "big"),
        parent_span_id=root if place else b"",
        name=name,
        kind=1 if place else 2,
        start_time_unix_nano=at_ns + round(begin_ms * MS),
        end_time_unix_nano=at_ns + round(end_ms * MS),
        attributes=said,
    )
