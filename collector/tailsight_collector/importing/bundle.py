"""Spans of one resource are put together into requests of bounded size, in the order in which they came."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from tailsight_collector.importing.values import put

SPANS = 1000
BYTES = 1024 * 1024
RESOURCE_BYTES = 4 * BYTES
"""Resources count apart: else a large one would stand anew before each of its spans."""
UNFOLDED_BYTES = 56 * 1024 * 1024
"""So much a request's resources may be, each as often as it has spans, as the store keeps them: below spool.py's."""


_Scope = tuple[ScopeSpans, int]
"""Where spans of one resource and scope go, and how many bytes the two are."""


class Bundle:
    """The request that is being filled. Use: `span = bundle.span({...}); …; if bundle.is_full: yield bundle.take()`."""

    def __init__(self) -> None:
        self._request = ExportTraceServiceRequest()
        self._scopes: dict[tuple[object, ...], _Scope] = {}
        # By the mapping's identity, so that a large one that many spans share is not compared for each of them.
        self._seen: dict[tuple[int, str, str], tuple[Mapping[str, object], _Scope]] = {}
        self._spans = 0
        self._span_bytes = 0
        self._resource_bytes = 0
        self._unfolded_bytes = 0

    def span(self, resource: Mapping[str, object], scope: str = "", version: str = "") -> Span:
        """Add an empty span of a resource (its attributes by name) and return it to be filled."""
        seen = self._seen.get((id(resource), scope, version))
        if seen is None:
            seen = resource, self._scope(resource, scope, version)
            self._seen[id(resource), scope, version] = seen  # which holds the mapping: its id stays its own
        scoped, size = seen[1]
        self._spans += 1
        self._unfolded_bytes += size
        return scoped.spans.add()

    def _scope(self, resource: Mapping[str, object], name: str, version: str) -> _Scope:
        key = (name, version, *((each, type(value), _told_apart(value)) for each, value in resource.items()))
        if key not in self._scopes:
            target = self._request.resource_spans.add()
            for each, value in resource.items():
                put(target.resource.attributes, each, value)
            scoped = target.scope_spans.add()
            scoped.scope.name, scoped.scope.version = name, version
            self._scopes[key] = scoped, target.ByteSize()
            self._resource_bytes += self._scopes[key][1]
        return self._scopes[key]

    def filled(self, span: Span) -> None:
        """Say that a span is complete: its size counts from here on."""
        self._span_bytes += span.ByteSize()

    @property
    def is_full(self) -> bool:
        """Whether it is time to take the request."""
        return (
            self._spans >= SPANS
            or self._span_bytes >= BYTES
            or self._resource_bytes >= RESOURCE_BYTES
            or self._unfolded_bytes >= UNFOLDED_BYTES
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to take."""
        return not self._spans

    def take(self) -> ExportTraceServiceRequest:
        """Return the request and begin a new one."""
        request = self._request
        self._request = ExportTraceServiceRequest()
        self._scopes.clear()
        self._seen.clear()
        self._spans = self._span_bytes = self._resource_bytes = self._unfolded_bytes = 0
        return request


def _told_apart(value: object) -> object:
    """Return what tells a value from others of its type: texts as they are, whose hash is computed once."""
    return value if isinstance(value, str | int) else repr(value)
