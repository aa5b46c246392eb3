"""From what processes wrote into a recording's folder to one zstd frame: the spans of one run, under its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from tailsight import attributes as keys
from tailsight_cli.recording.folders import Folder
from tailsight_cli.recording.header import Lost, Service
from tailsight_cli.recording.marked_tests import MarkedTests
from tailsight_cli.recording.messages import TornError, messages_in, pieces_of
from tailsight_cli.recording.senders import Senders
from tailsight_collector.importer import relabel
from tailsight_collector.keep.records import encode_varint

_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Packed:
    """A zstd frame in a file, and what is in it. `requests`: spans without a parent."""

    path: Path
    size_bytes: int
    spans: int
    requests: int
    services: frozenset[Service]
    lost: Lost
    tests: tuple[str, ...] | None


def pack(folder: Folder, run: str, out: Path) -> Packed:
    """Write all spans of a recording, whose senders have ended, to `out`, labelled as `run`; raises OSError."""
    marked = MarkedTests.of(folder)
    if marked is not None:
        for request in _Source(folder):
            marked.look(request)
    source = _Source(folder)
    senders = Senders()
    services: set[Service] = set()
    spans = requests = 0
    with (
        out.open("wb") as file,
        zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(file, closefd=False) as packed,
    ):
        for request in source:
            for resource_spans in request.resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    senders.add(scope_spans.scope)
            if marked is not None:
                marked.rewrite(request)
            for resource_spans in request.resource_spans:
                before = spans
                for scope_spans in resource_spans.scope_spans:
                    spans += len(scope_spans.spans)
                    requests += sum(not span.parent_span_id for span in scope_spans.spans)
                if spans > before:
                    services.add(_service(resource_spans.resource))
            relabel(request, run=run)
            encoded = request.SerializeToString()
            packed.write(encode_varint(len(encoded)) + encoded)
    lost = Lost(
        spans=senders.dropped,
        missing_batches=senders.missing_batches,
        cut_off_senders=senders.cut_off,
        damaged_bytes=source.damaged_bytes,
    )
    tests = None if marked is None else marked.names
    return Packed(out, out.stat().st_size, spans, requests, frozenset(services), lost, tests)


class _Source:
    """The requests that a recording holds; `damaged_bytes` counts what is none."""

    def __init__(self, folder: Folder) -> None:
        self._paths = [*sorted(folder.spans.glob("*.otlp")), *([folder.received] if folder.received.exists() else [])]
        self.damaged_bytes = 0

    def __iter__(self) -> Iterator[ExportTraceServiceRequest]:
        for path in self._paths:
            try:
                for message in messages_in(pieces_of(path)):
                    try:
                        yield ExportTraceServiceRequest.FromString(message)
                    except DecodeError:
                        self.damaged_bytes += len(message)
            except TornError as error:  # its writer was killed
                self.damaged_bytes += error.left_bytes


def _service(resource: Resource) -> Service:
    said = {pair.key: pair.value.string_value for pair in resource.attributes}
    sdk = (
        said.get(key, "") for key in (keys.TELEMETRY_SDK_NAME, keys.TELEMETRY_SDK_LANGUAGE, keys.TELEMETRY_SDK_VERSION)
    )
    return Service(
        name=said.get(keys.SERVICE_NAME, ""),
        version=said.get(keys.SERVICE_VERSION, ""),
        hardware=said.get(keys.HARDWARE, ""),
        sdk=" ".join(filter(None, sdk)),
    )
