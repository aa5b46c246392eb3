"""Spans of one resource are put together into requests of bounded size, in the order in which they came."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from tailsight_collector.importing.values import put

SPANS = 1000
BYTES = 1024 * 1024


class Bundle:
    """The request that is being filled. Use: `span = bundle.span({...}); …; if bundle.is_full: yield bundle.take()`."""

    def __init__(self) -> None:
        self._request = ExportTraceServiceRequest()
        self._scopes: dict[tuple[object, ...], ScopeSpans] = {}
        self._spans = 0
        self._estimated_bytes = 0

    def span(self, resource: Mapping[str, object], scope: str = "", version: str = "") -> Span:
        """Add an empty span of a resource (its attributes by name) and return it to be filled."""
        key = (scope, version, *((name, repr(value)) for name, value in resource.items()))
        scoped = self._scopes.get(key)
        if scoped is None:
            target = self._request.resource_spans.add()
            for name, value in resource.items():
                put(target.resource.attributes, name, value)
            scoped = target.scope_spans.add()
            scoped.scope.name, scoped.scope.version = scope, version
            self._scopes[key] = scoped
            self._estimated_bytes += target.ByteSize()
        self._spans += 1
        return scoped.spans.add()

    def filled(self, span: Span) -> None:
        """Say that a span is complete: its size counts from here on."""
        self._estimated_bytes += span.ByteSize()

    @property
    def is_full(self) -> bool:
        """Whether it is time to take the request."""
        return self._spans >= SPANS or self._estimated_bytes >= BYTES

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._spans

    def take(self) -> ExportTraceServiceRequest:
        """Return the request and begin a new one."""
        request = self._request
        self._request = ExportTraceServiceRequest()
        self._scopes.clear()
        self._spans = self._estimated_bytes = 0
        return request
