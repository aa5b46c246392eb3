"""A history whose truth is known, for the Regressions view: versions one after another, each with a run of its own.

From SLOWER_FROM on, compute takes RATIO times as long on the L4s. Nothing else changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

from dashboard.sample_store import post
from testkit.otlp import request, span, span_id, trace_id

MS = 1_000_000
VERSIONS = 12
SLOWER_FROM = 7
RATIO = 1.4
REQUESTS_A_VERSION = 260
HISTORY_SPANS = VERSIONS * REQUESTS_A_VERSION * 4
BETWEEN_MS = 1000
STRETCH_NS = 300 * 1000 * MS  # from version to version
L4, H100 = "NVIDIA L4", "NVIDIA H100 80GB HBM3"
_TAKES_MS = {"preprocess": 2.0, "compute": 12.0, "postprocess": 1.0}


def version(number: int) -> str:
    return f"1.{number}.0"


def run(number: int) -> str:
    return f"nightly-{number:02}"


def send_history(otlp_url: str, until_ns: int) -> None:
    """Send them; the last one ends before this time."""
    random = Random(5)
    for number in range(VERSIONS):
        at_ns = until_ns - (VERSIONS - number) * STRETCH_NS
        for place, hardware in enumerate((L4, H100)):
            resource = {
                "service.name": "ranker",
                "service.version": version(number),
                "tailsight.run": run(number),
                "tailsight.hardware": hardware,
                "host.name": f"node-{place}",
            }
            spans = spans_of(random, number, place, at_ns)
            post(otlp_url, request(spans, resource).SerializeToString())


def spans_of(random: Random, number: int, place: int, at_ns: int) -> Iterator[dict[str, Any]]:
    """Make the spans of one version's requests on one host, as `testkit.otlp.request` takes them."""
    for index in range(place, REQUESTS_A_VERSION, 2):
        at = at_ns + index * BETWEEN_MS * MS
        trace = trace_id((number + 1) << 32 | index + 1)
        root = (number + 1) << 40 | (index + 1) << 8
        begin, children = at + MS // 10, []
        for child, (stage, takes_ms) in enumerate(_TAKES_MS.items(), start=1):
            factor = RATIO if stage == "compute" and place == 0 and number >= SLOWER_FROM else 1.0
            end = begin + round(takes_ms * factor * random.lognormvariate(0, 0.2) * MS)
            children.append(_span(trace, root, child, stage, begin, end, {"tailsight.stage": stage}))
            begin = end
        said = {"tokens": random.choice((128, 256, 512)), "tailsight.model": "mini-lm"}
        yield _span(trace, root, 0, "rank", at, begin + MS // 10, said)
        yield from children


def _span(trace: bytes, root: int, child: int, name: str, begin: int, end: int, said: dict[str, Any]) -> dict[str, Any]:
    return span(
        trace_id=trace,
        span_id=span_id(root + child),
        parent_span_id=span_id(root) if child else b"",
        name=name,
        kind=1 if child else 2,
        start_time_unix_nano=begin,
        end_time_unix_nano=end,
        attributes=said,
    )
