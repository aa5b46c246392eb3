"""Run files of many requests for bench_gate_files.py, made in seconds: one message as the SDK writes it, with other ids and times.

A request has a root and none to two stages, in equal parts, in messages of 512 spans. Durations are log-normal: preprocess 2 ms,
compute 10 ms. Inputs have 32 to 2,048 tokens, log-uniform.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from testkit.gated import FIRST_NS, MACHINE, RUN_NS
from testkit.otlp import request, span

from tailsight_cli.recording.header import Device, Header, Lost, Run
from tailsight_cli.recording.run_file import write_run_file
from tailsight_collector.keep.records import encode_varint

SPANS_A_MESSAGE = 512
STAGES_MS = (("preprocess", 2.0), ("compute", 10.0))
RESOURCE = {
    "host.name": "node-1", "process.pid": 4711, "telemetry.sdk.name": "tailsight", "telemetry.sdk.language": "python",
    "telemetry.sdk.version": "0.1.0", "tailsight.hardware": "NVIDIA L4", "hw.type": "gpu", "hw.name": "NVIDIA L4",
    "hw.vendor": "NVIDIA", "service.name": "ranker",
}  # fmt: skip
_TEMPLATES = 8
_SPACING_NS = 50_000  # of requests


@dataclass(frozen=True, slots=True)
class Template:
    """A message, where its ids and times lie, and which request and stage each span is."""

    body: npt.NDArray[np.uint8]
    trace_at: npt.NDArray[np.int64]  # first byte, an entry a span
    span_at: npt.NDArray[np.int64]
    parent_at: npt.NDArray[np.int64]  # an entry a span that has one
    start_at: npt.NDArray[np.int64]
    request: npt.NDArray[np.int64]
    stage: npt.NDArray[np.int64]  # 0: the root, else 1 more than its place in STAGES_MS

    @property
    def requests(self) -> int:
        """How many it has."""
        return int(self.request[-1]) + 1


def write_run(
    path: Path, requests: int, *, runs: int = 1, factor: float = 1.0, seed: int = 0, lengths: bool = True
) -> tuple[int, int]:
    """Write a file of `runs` runs with about as many requests together; `factor` is how much slower compute is.

    Without `lengths` requests do not say how long their input is.

    Returns how many requests and spans it has.
    """
    name = path.name.removesuffix(".otlp.zst")
    parts, described = [], []
    for number in range(runs):
        label = name if runs == 1 else f"{name}#{number + 1}"
        start_ns = FIRST_NS + (2 * number + (number + seed) % 2) * RUN_NS
        part = path.with_name(f"{path.name}.{number}")
        templates = [_template(label, lengths, random.Random(number)) for number in range(_TEMPLATES)]
        counted = _write_part(
            part, templates, start_ns, requests // runs, factor, np.random.default_rng([seed, number])
        )
        parts.append(part)
        described.append(Run(label, start_ns, start_ns + RUN_NS, 0, counted[1], counted[0], 0.5, Lost()))
    header = Header(
        "2026-11-22T20:00:00Z", name, "record", ("python", "bench.py"), "mirrored", MACHINE,
        Device("gpu", "NVIDIA L4", "NVIDIA"), {"python": "3.11"}, (), None, tuple(described),
        sum(part.stat().st_size for part in parts),
    )  # fmt: skip
    write_run_file(path, header, parts)
    for part in parts:
        part.unlink()
    return sum(run.requests for run in described), sum(run.spans for run in described)


def _write_part(
    path: Path, templates: list[Template], start_ns: int, requests: int, factor: float, dice: np.random.Generator
) -> tuple[int, int]:
    made = spans = 0
    with path.open("wb") as file, zstandard.ZstdCompressor(write_checksum=True).stream_writer(file) as packed:
        while made < requests:
            template = templates[spans % _TEMPLATES]
            message = _filled(template, start_ns + made * _SPACING_NS, factor, dice)
            packed.write(encode_varint(len(message)) + message)
            made += template.requests
            spans += len(template.request)
    return made, spans


def _template(label: str, lengths: bool, dice: random.Random) -> Template:
    spans, of_request, of_stage = [], [], []
    number = 0
    while len(spans) < SPANS_A_MESSAGE:
        trace, root = dice.randbytes(16), dice.randbytes(8)
        stages = dice.randrange(3)
        for stage in (*range(1, stages + 1), 0):
            attributes = {"thread.id": 140_699_264_093_056}
            if stage:
                attributes = {"tailsight.stage": STAGES_MS[stage - 1][0], **attributes}
            if lengths and stage == 0:
                attributes["tokens"] = round(math.exp(dice.uniform(math.log(32), math.log(2048))))
            spans.append(
                span(
                    trace_id=trace, span_id=dice.randbytes(8) if stage else root, parent_span_id=root if stage else b"",
                    name=STAGES_MS[stage - 1][0] if stage else "rank", start_time_unix_nano=FIRST_NS,
                    end_time_unix_nano=FIRST_NS, attributes=attributes,
                )
            )  # fmt: skip
            of_request.append(number)
            of_stage.append(stage)
        number += 1
    body = request(spans, {**RESOURCE, "tailsight.run": label}).SerializeToString()
    places = _places(body)
    return Template(np.frombuffer(body, np.uint8), *places, np.array(of_request), np.array(of_stage))


def _places(body: bytes) -> tuple[npt.NDArray[np.int64], ...]:
    """Find ids and times, by their keys and values."""
    message = ExportTraceServiceRequest.FromString(body)
    found: tuple[list[int], ...] = ([], [], [], [])
    at = 0
    for each in message.resource_spans[0].scope_spans[0].spans:
        values = (each.trace_id, each.span_id, each.parent_span_id, each.start_time_unix_nano.to_bytes(8, "little"))
        for places, key, value in zip(found, (b"\x0a\x10", b"\x12\x08", b"\x22\x08", b"\x39"), values, strict=True):
            if value:
                at = body.index(key + value, at) + len(key)
                places.append(at)
    return tuple(np.array(places) for places in found)


def _filled(template: Template, start_ns: int, factor: float, dice: np.random.Generator) -> bytes:
    body = template.body.copy()
    spans, requests = len(template.request), template.requests
    traces = dice.integers(0, 256, (requests, 16), dtype=np.uint8)
    roots = dice.integers(1, 256, (requests, 8), dtype=np.uint8)
    own = dice.integers(1, 256, (spans, 8), dtype=np.uint8)
    is_root = template.stage == 0
    own[is_root] = roots[template.request[is_root]]
    took = np.zeros(spans)
    for stage, (_, typical_ms) in enumerate(STAGES_MS, 1):
        its = template.stage == stage
        ms = typical_ms * (factor if stage == 2 else 1.0)
        took[its] = ms * 1e6 * np.exp(0.2 * dice.standard_normal(int(its.sum())))
    together = np.bincount(template.request, took, requests)
    took[is_root] = together + 1e6 * np.exp(0.2 * dice.standard_normal(requests))
    starts = start_ns + template.request * _SPACING_NS
    times = np.stack((starts, starts + took.astype(np.int64)), axis=1).astype("<u8")
    _put(body, template.trace_at, traces[template.request])
    _put(body, template.span_at, own)
    _put(body, template.parent_at, roots[template.request[~is_root]])
    _put(body, template.start_at, times[:, :1].view(np.uint8))
    _put(body, template.start_at + 9, times[:, 1:].copy().view(np.uint8))  # the end's key is one byte
    return body.tobytes()


def _put(body: npt.NDArray[np.uint8], at: npt.NDArray[np.int64], values: npt.NDArray[np.uint8]) -> None:
    body[at[:, None] + np.arange(values.shape[1])] = values
