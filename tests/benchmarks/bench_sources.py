"""What do the rules of sources cost? CPU a span, beside what looking at it and storing it costs anyway.

Run: python tests/benchmarks/bench_sources.py [--quick]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from testkit.otlp import request, span

from tailsight_collector.keep.records import encode_record
from tailsight_collector.receive.checks import look
from tailsight_collector.sources import SourceStages
from tailsight_storage import open_store

SPANS_A_REQUEST = 8192
RESOURCE = {"service.name": "ranker", "host.name": "node-1", "tailsight.hardware": "NVIDIA L4", "process.pid": 4711}
LATENCIES = {"time_in_queue": 0.1, "time_in_model_prefill": 0.2, "time_in_model_decode": 0.6, "e2e": 1.0}


def kinds() -> dict[str, dict[str, Any]]:
    """Spans of each kind: of our SDK, that no rule concerns, that become a stage, that have phases."""
    start_ns = time.time_ns() - 2 * 10**9
    served = {"http.route": "/x", "http.response.status_code": 200, "url.path": "/x", "server.address": "a"}
    llm = {f"gen_ai.latency.{name}": value for name, value in LATENCIES.items()}
    llm |= {"gen_ai.usage.prompt_tokens": 512, "gen_ai.usage.completion_tokens": 64, "gen_ai.response.model": "m"}
    return {
        "of our SDK": {"attributes": {"tailsight.stage": "compute", "tailsight.model": "m", "thread.id": 7}},
        "without a rule": {"name": "GET /x", "kind": 2, "attributes": served},
        "HTTP client": {"name": "GET", "kind": 3, "attributes": {"http.request.method": "GET", "url.full": "http://a/b"}},
        "vLLM, 3 phases": {
            "name": "llm_request", "kind": 2, "attributes": llm,
            "start_time_unix_nano": start_ns, "end_time_unix_nano": start_ns + 10**9,
        },
    }  # fmt: skip


def cpu_us(work: Callable[[int], object], rounds: int) -> float:
    """CPU of this process a span, in microseconds, the least of some rounds."""
    found = []
    for number in range(rounds):
        began_s = time.process_time()
        work(number)
        found.append(time.process_time() - began_s)
    return min(found) / SPANS_A_REQUEST * 1e6


def main() -> None:
    """Print a line a kind of spans."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    rounds = 2 if parser.parse_args().quick else 9
    stages, now_ns = SourceStages(), time.time_ns()
    print(f"{'µs of CPU a span':18}{'look':>8}{'rules':>8}{'store':>8}")
    with tempfile.TemporaryDirectory() as folder, open_store(f"chdb://{folder}", create=True) as store:
        for name, fields in kinds().items():
            body = request((span(**fields) for _ in range(SPANS_A_REQUEST)), RESOURCE).SerializeToString()
            segment = encode_record(body, now_ns)
            looked = cpu_us(lambda _, body=body: look(body, now_ns), rounds)
            ruled = cpu_us(lambda _, body=body: stages.applied(body, now_ns), rounds)
            stored = cpu_us(lambda n, s=segment, k=name: store.insert_otlp_traces(s, f"{k}-{n}"), rounds)
            print(f"{name:18}{looked:8.2f}{ruled:8.2f}{stored:8.2f}")


if __name__ == "__main__":
    main()
