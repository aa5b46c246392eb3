"""A file's content through a format's reader, without a store."""

from __future__ import annotations

import json
from pathlib import Path

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.importing.known import format_of
from tailsight_collector.importing.registry import Options, Report
from tailsight_collector.importing.source import file_source

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class Read:
    """What was made of a file: its format's name, the report, the requests, and their spans with their resource."""

    def __init__(self, path: Path, options: Options | None = None) -> None:
        source = file_source(path)
        found = format_of(source.head)
        assert found is not None
        self.format = found.name
        self.report = Report()
        self.requests = list(found.read(source, options or Options(), self.report))
        self.spans: list[Span] = []
        self.resources: list[dict[str, object]] = []
        for request in self.requests:
            for of_resource in request.resource_spans:
                for scoped in of_resource.scope_spans:
                    self.spans += scoped.spans
                    self.resources += [plain(of_resource.resource.attributes)] * len(scoped.spans)

    @property
    def refused(self) -> dict[str, int]:
        return {reason: refusal.count for reason, refusal in self.report.refused.items()}

    def named(self, name: str) -> Span:
        [found] = [span for span in self.spans if span.name == name]
        return found


def read_json(tmp_path: Path, document: object, options: Options | None = None) -> Read:
    path = tmp_path / "document.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return Read(path, options)


def plain(attributes) -> dict[str, object]:
    """Attributes as Python has them."""
    return {pair.key: value_of(pair.value) for pair in attributes}


def value_of(value) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return plain(value.kvlist_value.values)
    return getattr(value, kind) if kind else None
