"""A run as OTLP bytes. Messages are put together by hand, because a case has tens of thousands of spans.

`tests/analysis/test_simulator.py` compares them with what the official classes read and write.
"""

from __future__ import annotations

import functools
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from testkit.metrics import metric, metrics_request, point
from testkit.otlp import any_value
from testkit.simulator.causes import Cause
from testkit.simulator.effects import is_within
from testkit.simulator.engine import MEAN_TOKENS, Recorded
from testkit.simulator.labels import ROOT, Column
from testkit.simulator.pipeline import Pipeline
from testkit.simulator.traffic import Draws

_NS = 1_000_000
SAMPLE_MS = 1000.0  # between two of a device's samples


@dataclass(frozen=True, slots=True)
class Run:
    """A simulated run: what it was made of, and its spans."""

    name: str
    begins_ns: int
    pipeline: Pipeline
    draws: Draws
    spans: list[Recorded]
    columns: tuple[Column, ...]
    causes: tuple[Cause, ...]
    seed: int


def traces(run: Run) -> bytes:
    """Encode as one segment: length-delimited ExportTraceServiceRequest messages, one of each host and version."""
    by_place: dict[tuple[int, str], list[Column]] = defaultdict(list)
    for column in run.columns:
        by_place[column.place].append(column)
    rng = np.random.default_rng([run.seed, 77])
    trace_ids = rng.integers(0, 256, (run.draws.count, 16), dtype=np.uint8)
    trace_ids[:, 0] |= 1
    ids = [bytes(row) for row in trace_ids]
    lost = rng.random(len(run.spans)) < run.pipeline.lost_share
    arrivals_ms = run.draws.arrivals_ms.tolist()
    groups: dict[tuple[int, int, str], list[bytes]] = defaultdict(list)
    for span, is_lost in zip(run.spans, lost.tolist(), strict=True):
        if is_lost and span.parent:
            continue
        groups[span.service, span.host, _version(run, span, arrivals_ms)].append(_span(run, span, ids, by_place))
    messages = []
    for (service, host, version), spans in groups.items():
        resource = b"".join(attribute(1, key, value) for key, value in _resource(run, service, host, version).items())
        scope_spans = field(2, field(1, field(1, b"simulator")) + b"".join(spans))
        message = field(1, field(1, resource) + scope_spans)
        messages.append(varint(len(message)) + message)
    return b"".join(messages)


def metrics(run: Run) -> bytes:
    """Encode the devices' samples of runs in which somebody looks at them; empty elsewhere."""
    messages = []
    for cause in run.causes:
        if not cause.throttled or "metrics" not in cause.truth.variant:
            continue
        service, held_hosts, stretches = cause.throttled
        for number, host in enumerate(run.pipeline.services[service].hosts):
            moments = np.arange(0, run.draws.length_ms, SAMPLE_MS).tolist()
            held = [number in held_hosts and is_within(stretches, at_ms) for at_ms in moments]
            said = {"hw.type": "gpu", "hw.id": f"GPU-{host.name}", "hw.name": host.hardware, "gpu.index": 0}
            values = {
                "hw.gpu.throttled": [float(h) for h in held],
                "hw.gpu.clock.graphics": [_clock(h, n) for n, h in enumerate(held)],
                "hw.temperature": [_temperature(h, n) for n, h in enumerate(held)],
            }
            message = metrics_request(
                [
                    metric(name, [
                        point(value, time_unix_nano=run.begins_ns + round(at_ms * _NS), attributes=said)
                        for at_ms, value in zip(moments, series, strict=True)
                    ])
                    for name, series in values.items()
                ],
                _resource(run, service, number, host.version),
            ).SerializeToString()  # fmt: skip
            messages.append(varint(len(message)) + message)
    return b"".join(messages)


# --- what a span says -------------------------------------------------------------------------------------------------


def _span(run: Run, span: Recorded, ids: list[bytes], by_place: Mapping[tuple[int, str], list[Column]]) -> bytes:
    host = run.pipeline.services[span.service].hosts[span.host]
    shift_ns = run.begins_ns + round(host.clock_ms * _NS)
    start_ns, end_ns = shift_ns + round(span.start_ms * _NS), shift_ns + round(span.end_ms * _NS)
    said = dict(span.said)
    if span.stage:
        said["tailsight.stage"] = span.stage
    place = ROOT if not span.parent else (span.service, span.stage)
    for column in by_place.get(place, ()):
        value = column.values[span.request]
        if value is not None:
            said[column.key] = value
    if span.stage == "decode":
        said["gen_ai.response.time_to_first_chunk"] = round(
            (span.start_ms - run.draws.arrivals_ms[span.request]) / 1000, 6
        )
    for cause in run.causes:
        if cause.throttled and span.stage == "gpu_kernel" and cause.throttled[0] == span.service:
            said |= _device(cause, span)
    return field(
        2,
        field(1, ids[span.request])
        + field(2, span_id(span.id))
        + (field(4, span_id(span.parent)) if span.parent else b"")
        + field(5, span.name.encode())
        + bytes((6 << 3, span.kind))
        + struct.pack("<BQBQ", 7 << 3 | 1, start_ns, 8 << 3 | 1, end_ns)
        + b"".join(attribute(9, key, value) for key, value in said.items()),
    )


def _device(cause: Cause, span: Recorded) -> dict[str, Any]:
    assert cause.throttled is not None
    variant = cause.truth.variant
    held = span.host in cause.throttled[1] and is_within(cause.throttled[2], span.start_ms)
    if variant.startswith("attribute"):
        return {"hw.gpu.throttled": int(held)}
    return {"hw.gpu.clock.graphics": _clock(held, span.id)} if variant == "clock" else {}


def _clock(held: bool, number: int) -> float:
    """MHz: full or held back, and never quite still."""
    return float((1080 if held else 1740) + 15 * (number * 7 % 9 - 4))


def _temperature(held: bool, number: int) -> float:
    return (84.0 if held else 61.0) + number * 5 % 7 - 3


def _version(run: Run, span: Recorded, arrivals_ms: list[float]) -> str:
    for cause in run.causes:
        if cause.rollout and cause.rollout[0] == span.service and arrivals_ms[span.request] >= cause.rollout[1]:
            return cause.rollout[2]
    return run.pipeline.services[span.service].hosts[span.host].version


def _resource(run: Run, service: int, host: int, version: str) -> dict[str, Any]:
    named = run.pipeline.services[service]
    machine = named.hosts[host]
    labels = dict(machine.labels) | {"container.image.tag": f"v{version}"}
    return {
        "service.name": named.name, "service.version": version, "host.name": machine.name,
        "tailsight.hardware": machine.hardware, "cloud.region": "eu-1", "tailsight.run": run.name,
        "deployment.environment.name": "production", "telemetry.sdk.language": "python", **labels,
    }  # fmt: skip


# --- bytes ------------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """Encode a number as protobuf does."""
    result = bytearray()
    while number > 127:
        result.append(number & 127 | 128)
        number >>= 7
    return bytes([*result, number])


def field(number: int, content: bytes) -> bytes:
    """Encode a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


@functools.lru_cache(maxsize=200_000, typed=True)
def attribute(number: int, key: str, value: Any) -> bytes:
    """Encode a KeyValue as field `number`."""
    return field(number, field(1, key.encode()) + field(2, any_value(value).SerializeToString()))


def span_id(number: int) -> bytes:
    """Spread numbers over 64 bits, one to one: ids look like ids."""
    return (number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF).to_bytes(8, "big")


def described(pipeline: Pipeline) -> Iterable[str]:
    """Lines that say what a pipeline is, for whoever looks at one case."""
    yield f"{pipeline.shape}, {len(pipeline.services)} services, {pipeline.spans_a_request()} spans a request"
    for number, service in enumerate(pipeline.services):
        stages = ", ".join(
            f"{stage.stage} {stage.mean_ms:.1f} ms ({stage.noise.family} {stage.noise.scale:.2f}"
            + (f", {stage.tokens:.0%} by the input of {MEAN_TOKENS:.0f}" if stage.tokens else "") + ")"
            for stage in service.stages()
        )  # fmt: skip
        yield f"  {number} {service.name}: {stages}; calls {service.calls}"
        for host in service.hosts:
            yield f"      {host.name} {host.hardware} ×{host.speed:.2f} v{host.version} {host.workers} workers {host.weight:.0%} clock {host.clock_ms:+.1f} ms"
