"""Keeping the spans of marked tests, and only those, and making requests of their bodies.

The plugin opens a request around a test's body (around each call, under pytest-benchmark), since it cannot know
beforehand whether the body makes requests of its own. Where it did, the one around it is taken out again, and what
stood directly in it stands by itself, as it would have without the plugin.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterator
from contextlib import suppress
from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from tailsight import attributes as keys
from tailsight_cli.recording.folders import Folder

TEST_NAME = "test.name"
BODY = "tailsight.test.body"
"""Marks a request that the plugin made; it is not kept."""


@dataclass(frozen=True, slots=True, order=True)
class _Ran:
    """When a marked test's body ran, in Unix nanoseconds, and in which process."""

    start_ns: int
    end_ns: int
    test: str


class MarkedTests:
    """The marked tests of one run. `look` must have seen every request before the first `rewrite`."""

    def __init__(self, ran: dict[int, list[_Ran]]) -> None:
        self._ran = {pid: sorted(tests) for pid, tests in ran.items()}
        self._test_of_trace: dict[bytes, str] = {}
        self._bodies: dict[bytes, str] = {}  # the requests that the plugin made, by span id
        self._parents_of_requests: set[bytes] = set()
        self._with_own_requests: set[str] = set()

    @classmethod
    def of(cls, folder: Folder) -> MarkedTests | None:
        """Read which tests ran; None where the plugin was not at work."""
        if not folder.tests.is_dir():
            return None
        ran: dict[int, list[_Ran]] = defaultdict(list)
        for path in sorted(folder.tests.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # half a line of a process that was killed
                    said = json.loads(line)
                    ran[int(said["pid"])].append(_Ran(int(said["start_ns"]), int(said["end_ns"]), str(said["test"])))
        return cls(ran)

    @property
    def names(self) -> tuple[str, ...]:
        """The tests that ran."""
        return tuple(sorted({each.test for tests in self._ran.values() for each in tests}))

    def look(self, request: ExportTraceServiceRequest) -> None:
        """Find the requests that the plugin made, and those of the tests' own."""
        for resource_spans, scope_spans, span in _spans_of(request):
            attributes = {pair.key: pair.value for pair in span.attributes}
            if BODY in attributes:
                test = attributes[TEST_NAME].string_value
                self._bodies[span.span_id] = test
                self._test_of_trace[span.trace_id] = test
            elif not _is_request(span, scope_spans, attributes.keys()):
                continue
            elif not span.parent_span_id and (test_there := self._by_time(resource_spans, span)):
                self._with_own_requests.add(test_there)
            if span.parent_span_id:
                self._parents_of_requests.add(span.parent_span_id)

    def rewrite(self, request: ExportTraceServiceRequest) -> None:
        """Leave out what is of no marked test, name the test on the others, and take out the plugin's own requests."""
        shells = {
            span_id
            for span_id, test in self._bodies.items()
            if span_id in self._parents_of_requests or test in self._with_own_requests
        }
        for resource_spans in request.resource_spans:
            for scope_spans in resource_spans.scope_spans:
                kept = []
                for span in scope_spans.spans:
                    test = self._test_of_trace.get(span.trace_id) or self._by_time(resource_spans, span)
                    if test is None or span.span_id in shells:
                        continue
                    if span.parent_span_id in shells:
                        span.parent_span_id = b""
                    _name_test(span, test)
                    kept.append(span)
                if len(kept) < len(scope_spans.spans):
                    spans = [Span.FromString(span.SerializeToString()) for span in kept]
                    del scope_spans.spans[:]
                    scope_spans.spans.extend(spans)
            # Their counts are of all spans, marked or not.
            scopes = [each for each in resource_spans.scope_spans if each.spans]
            if len(scopes) < len(resource_spans.scope_spans):
                copies = [ScopeSpans.FromString(each.SerializeToString()) for each in scopes]
                del resource_spans.scope_spans[:]
                resource_spans.scope_spans.extend(copies)

    def _by_time(self, resource_spans: ResourceSpans, span: Span) -> str | None:
        """Find the test that ran when a span began: a thread, or a child process, may know nothing of the test's trace.

        In a span's own process, if tests ran in that; in any, if it says no process or one that runs none.
        """
        pid = next((p.value.int_value for p in resource_spans.resource.attributes if p.key == keys.PROCESS_PID), None)
        for tests in (self._ran[pid],) if pid in self._ran else self._ran.values():
            began = bisect_right(tests, span.start_time_unix_nano, key=lambda each: each.start_ns) - 1
            if began >= 0 and span.start_time_unix_nano <= tests[began].end_ns:
                return tests[began].test
        return None


def _spans_of(request: ExportTraceServiceRequest) -> Iterator[tuple[ResourceSpans, ScopeSpans, Span]]:
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield resource_spans, scope_spans, span


def _is_request(span: Span, scope_spans: ScopeSpans, attributes: Container[str]) -> bool:
    if span.kind in (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CONSUMER):
        return True
    return scope_spans.scope.name == "tailsight" and keys.STAGE not in attributes


def _name_test(span: Span, test: str) -> None:
    kept = [pair for pair in span.attributes if pair.key not in (BODY, TEST_NAME)]
    if len(kept) < len(span.attributes):
        copies = [type(pair).FromString(pair.SerializeToString()) for pair in kept]
        del span.attributes[:]
        span.attributes.extend(copies)
    span.attributes.add(key=TEST_NAME).value.string_value = test
