"""Run files whose durations are known: spans of OpenTelemetry's own SDK at times of our choosing, packed as a recording is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

import zstandard
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tailsight_cli.recording.header import Device, Git, Header, Lost, Machine, Run
from tailsight_cli.recording.run_file import write_run_file
from tailsight_collector.keep.records import encode_varint

FIRST_NS = 1_760_000_000_000_000_000
RUN_NS = 60_000_000_000
STAGES_MS = {"preprocess": 2.0, "compute": 10.0}
MACHINE = Machine("0123456789abcdef", "AMD EPYC 9575F", 2, 1 << 34, "x86_64", "Linux 6.18")
_SPREAD = 0.1


def write_gated(
    path: Path,
    *,
    slower: Mapping[str, float] | None = None,
    runs: int = 4,
    requests: int = 300,
    side: int = 0,
    hardware: str = "NVIDIA L4",
    version: str = "1",
    exit_code: int = 0,
    lost: Lost | None = None,
    machine: Machine = MACHINE,
) -> Path:
    """Write a file of runs NAME#1, NAME#2, … by a fixed seed; `side` 0 and 1 take turns. `slower` is a factor a stage."""
    name = path.name.removesuffix(".otlp.zst")
    described, parts = [], []
    for number in range(1, runs + 1):
        label = name if runs == 1 else f"{name}#{number}"
        start_ns = FIRST_NS + (2 * number + (number + side) % 2) * RUN_NS
        random = Random(f"{side} {number} {sorted((slower or {}).items())}")
        part = path.with_name(f"{path.name}.{number}")
        part.write_bytes(_run(label, start_ns, requests, random, slower or {}, hardware, version))
        parts.append(part)
        described.append(
            Run(label, start_ns, start_ns + RUN_NS, exit_code, 3 * requests, requests, 0.5, lost or Lost())
        )
    header = Header(
        created="2026-11-22T20:00:00Z",
        name=name,
        source="record",
        command=("python", "bench.py"),
        order="mirrored",
        machine=machine,
        hardware=Device("gpu", hardware, "NVIDIA"),
        versions={"python": "3.11.7"},
        services=(),
        git=Git(f"{side}" * 40, "main", side == 1),
        runs=tuple(described),
        body_bytes=sum(part.stat().st_size for part in parts),
    )
    write_run_file(path, header, parts)
    for part in parts:
        part.unlink()
    return path


def on_another_machine(name: str) -> Machine:
    return replace(MACHINE, id=name, cpu=name)


def _run(
    label: str,
    start_ns: int,
    requests: int,
    random: Random,
    slower: Mapping[str, float],
    hardware: str,
    version: str,
) -> bytes:
    resource = {
        "service.name": "ranker",
        "service.version": version,
        "tailsight.run": label,
        "tailsight.hardware": hardware,
    }
    provider = TracerProvider(resource=Resource(resource))
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    for number in range(requests):
        at_ns = begin_ns = start_ns + number * 50_000_000
        root = tracer.start_span("rank", start_time=begin_ns)
        inside = trace.set_span_in_context(root)
        for stage, typical_ms in STAGES_MS.items():
            took_ms = typical_ms * random.lognormvariate(0, _SPREAD) * slower.get(stage, 1.0)
            span = tracer.start_span(stage, inside, attributes={"tailsight.stage": stage}, start_time=at_ns)
            at_ns += round(took_ms * 1e6)
            span.end(at_ns)
        root.end(at_ns)
    message = encode_spans(exporter.get_finished_spans()).SerializeToString()
    return zstandard.ZstdCompressor(write_checksum=True).compress(encode_varint(len(message)) + message)
