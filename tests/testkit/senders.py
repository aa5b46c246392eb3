"""The SDK's sidecar as the wire sees it: numbered batches with counters in the scope's attributes, made by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from testkit.otlp import any_value, request, span

_ids = itertools.count(1)


@dataclass
class Sidecar:
    """One life of one. `batch` makes the next batch; what is done with it is the test's business."""

    host: str = "edge-7"
    service: str = "ranker"
    id: str = field(default_factory=lambda: f"{next(_ids):016x}")
    number: int = 0
    recorded: int = 0
    sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    sampled_out: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, spans: int) -> None:
        """Drop spans that were recorded and never put into a batch."""
        self.recorded += spans
        self.dropped[reason] += spans

    def batch(
        self, spans: int | Sequence[dict[str, Any]] = 10, *, last: bool = False, priority: str = "normal"
    ) -> ExportTraceServiceRequest:
        """Put spans that are recorded now into the next batch."""
        members = [span() for _ in range(spans)] if isinstance(spans, int) else spans
        self.number += 1
        self.recorded += len(members)
        self.sent += len(members)
        message = request(members, {"service.name": self.service, "host.name": self.host, "service.version": "1.2"})
        scope = message.resource_spans[0].scope_spans[0].scope
        scope.name = "tailsight"
        said = {
            "tailsight.sender.id": self.id,
            "tailsight.batch.number": self.number,
            "tailsight.batch.spans": len(members),
            "tailsight.batch.priority": priority,
            "tailsight.sender.recorded": self.recorded,
            "tailsight.sender.spans": self.sent,
            "tailsight.sender.dropped": dict(self.dropped),
            "tailsight.sender.sampled_out": dict(self.sampled_out),
            "tailsight.sender.kept": dict(self.kept),
            "tailsight.sender.last": last,
        }
        for key, value in said.items():
            scope.attributes.add(key=key, value=any_value(value))
        return message


def apart(message: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Put the spans into a scope of their own, behind the one that has the numbers, as our sidecar does."""
    scopes = message.resource_spans[0].scope_spans
    spans = scopes.add()
    spans.scope.name = scopes[0].scope.name
    spans.spans.extend(scopes[0].spans)
    del scopes[0].spans[:]
    return message
