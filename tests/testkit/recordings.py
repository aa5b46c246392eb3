"""Reading run files in tests, and the programs that are recorded."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight_cli.recording.run_file import read_run_file

REQUESTS = """
import sys
import tailsight

for number in range(int(sys.argv[1])):
    with tailsight.request("rank"):
        with tailsight.stage("compute"):
            pass
print("ready")
"""
"""A program with so many requests of two spans each."""


def python(program: str, *arguments: object) -> list[str]:
    """The command line of a Python program."""
    return [sys.executable, "-c", program, *map(str, arguments)]


@dataclass(frozen=True, slots=True)
class RecordedSpan:
    name: str
    is_root: bool
    attributes: dict[str, Any]
    resource: dict[str, Any]
    start_ns: int


def spans_in(path: Path) -> Iterator[RecordedSpan]:
    """Yield the spans of a run file, its messages decoded with the official classes."""
    for message in read_run_file(path).messages():
        for resource_spans in ExportTraceServiceRequest.FromString(message).resource_spans:
            resource = _plain(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    is_root = not span.parent_span_id
                    yield RecordedSpan(span.name, is_root, _plain(span.attributes), resource, span.start_time_unix_nano)


def names_in(path: Path) -> Counter[str]:
    return Counter(span.name for span in spans_in(path))


def _plain(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
