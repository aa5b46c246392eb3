"""Which spans of a request cannot be stored? The answer that a client gets as `partial_success`.

The store asks the same question (in C, or in SQL: `tailsight_rejection` in 0007_views.sql) when it sorts spans into
`spans` and `rejected_spans`; a test holds them together. No Python object is made per attribute: that would cost more
than all the rest of the collector.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

from tailsight_collector.errors import BadRequestError
from tailsight_storage import Batch, batch_of, scan

YEAR_2000_NS = 946_684_800 * 10**9
DAY_NS = 86_400 * 10**9
MAX_UNFOLDED_BYTES = 256 * 1024 * 1024
# A numbered scope unfolds to so many times itself and its resource: its row in sender_batches is made as text. The C
# module has the same number.
NUMBERED_WEIGHT = 8
# What makes a request worth keeping although it has no spans: its sender's counters (sql/migrations/0010).
BATCH_NUMBER = "tailsight.batch.number"

# With ids and times a span takes 46 bytes and more. Two bytes make an empty one, and a row of rejected_spans as well.
LEAST_SPAN_BYTES = 24
FEW_SPANS = 10_000
_ZERO_TRACE_ID = bytes(16)
_ZERO_SPAN_ID = bytes(8)

# In the words of a message; the keys are the reasons in `rejected_spans`.
REASONS = {
    "trace_id_length": "the trace id is not 16 bytes long",
    "trace_id_zero": "the trace id is all zeros",
    "span_id_length": "the span id is not 8 bytes long",
    "span_id_zero": "the span id is all zeros",
    "parent_span_id_length": "the parent span id is not 8 bytes long",
    "end_before_start": "the span ends before it starts",
    "before_2000": "the span starts before the year 2000",
    "in_the_future": "the span ends more than a day ahead",
}


@dataclass(slots=True)
class Checked:
    """How many spans a request holds, and how many of them are rejected for which reason.

    `is_report`: a batch without spans carries its sender's number and counters. `batch`: the one numbered batch that it
    is; None where it is none.
    """

    spans: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    is_report: bool = False
    batch: Batch | None = None

    @property
    def message(self) -> str:
        """The reasons in one short line, most frequent first; empty where nothing was rejected."""
        if not self.rejected:
            return ""
        parts = [f"{count} × {REASONS[reason]}" for reason, count in self.rejected.most_common()]
        return f"rejected {self.rejected.total()} of {self.spans} spans: {'; '.join(parts)}"

    @property
    def total(self) -> int:
        """How many spans there are."""
        return self.spans

    @property
    def is_worth_storing(self) -> bool:
        """Whether the store would keep anything of the request: rejected spans are kept too, with their reason."""
        return self.spans > 0 or self.is_report


def batch_in(body: bytes) -> Batch | None:
    """Return which numbered batch a request is that was taken before; None where it is none."""
    found = scan(body, 0)
    if found:
        return found.batch
    try:
        return check(ExportTraceServiceRequest.FromString(body), 0).batch
    except (DecodeError, BadRequestError):  # today's limits would refuse it: an earlier version took it
        return None


def look(body: bytes, received_ns: int) -> Checked | None:
    """Check a request without decoding it; None where it is odd, or the C module is not here. Raises as `check`."""
    found = scan(body, received_ns)
    if found is None:
        return None
    if found.unfolded_bytes > MAX_UNFOLDED_BYTES:
        raise _unfolds_too_far()
    _refuse_specks(found.spans, len(body))
    rejected = Counter({reason: count for reason, count in zip(REASONS, found.rejected, strict=True) if count})
    return Checked(found.spans, rejected, found.is_report, found.batch)


def check(request: ExportTraceServiceRequest, received_ns: int) -> Checked:
    """Count the spans of a request and those that will be rejected.

    Raises BadRequestError (413) where its resources and scopes, which the store keeps with every span, would unfold it
    to more than MAX_UNFOLDED_BYTES, or where it holds more spans than it can be about.
    """
    checked = Checked()
    request_bytes = request.ByteSize()
    unfolded_bytes = 0
    latest_ns = received_ns + DAY_NS
    numbered: list[InstrumentationScope] = []
    for resource_spans in request.resource_spans:
        resource_bytes = resource_spans.resource.ByteSize()
        for scope_spans in resource_spans.scope_spans:
            spans = scope_spans.spans
            is_numbered = any(pair.key == BATCH_NUMBER for pair in scope_spans.scope.attributes)
            weight = len(spans) + (NUMBERED_WEIGHT if is_numbered else 0)
            unfolded_bytes += weight * (resource_bytes + scope_spans.scope.ByteSize())
            if unfolded_bytes > MAX_UNFOLDED_BYTES:
                raise _unfolds_too_far()
            checked.spans += len(spans)
            _refuse_specks(checked.spans, request_bytes)
            if is_numbered:
                checked.is_report |= not spans
                numbered.append(scope_spans.scope)
            for span in spans:
                start_ns = span.start_time_unix_nano
                end_ns = span.end_time_unix_nano
                trace_id = span.trace_id
                span_id = span.span_id
                if (
                    len(trace_id) != 16
                    or len(span_id) != 8
                    or trace_id == _ZERO_TRACE_ID
                    or span_id == _ZERO_SPAN_ID
                    or not YEAR_2000_NS <= start_ns <= end_ns <= latest_ns
                    or len(span.parent_span_id) not in (0, 8)
                ):
                    reason = rejection(trace_id, span_id, span.parent_span_id, start_ns, end_ns, received_ns)
                    checked.rejected[reason] += 1
    if len(numbered) == 1:
        checked.batch = batch_of(numbered[0].SerializeToString())
    return checked


def _unfolds_too_far() -> BadRequestError:
    return BadRequestError(
        f"resource and scope attributes unfold to more than {MAX_UNFOLDED_BYTES} bytes over all spans; "
        "send fewer spans at once, or smaller resource attributes",
        413,
    )


def _refuse_specks(spans: int, request_bytes: int) -> None:
    """Refuse a request of very many spans that are too small to be any: each would be a row of rejected_spans."""
    if spans > FEW_SPANS and spans * LEAST_SPAN_BYTES > request_bytes:
        raise BadRequestError(
            f"{spans} spans in {request_bytes} bytes: with ids and times they would be larger; send fewer at once", 413
        )


def rejection(
    trace_id: bytes, span_id: bytes, parent_span_id: bytes, start_ns: int, end_ns: int, received_ns: int
) -> str:
    """Return the reason why a span cannot be stored, '' where it can: the first that holds, in the store's order."""
    if len(trace_id) != 16:
        return "trace_id_length"
    if trace_id == _ZERO_TRACE_ID:
        return "trace_id_zero"
    if len(span_id) != 8:
        return "span_id_length"
    if span_id == _ZERO_SPAN_ID:
        return "span_id_zero"
    if len(parent_span_id) not in (0, 8):
        return "parent_span_id_length"
    if end_ns < start_ns:
        return "end_before_start"
    if start_ns < YEAR_2000_NS:
        return "before_2000"
    if end_ns > received_ns + DAY_NS:
        return "in_the_future"
    return ""
