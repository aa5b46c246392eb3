"""What came of one request to the collector, whichever protocol carried it: all that a caller needs to decide."""

from dataclasses import dataclass


class Unreachable(Exception):  # noqa: N818  it says what is the case
    """The collector did not answer. The cause is the exception behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the collector said."""

    status: str
    """As messages show it: 503, UNAVAILABLE."""
    accepted: bool
    """Whether the collector took the batch, or most of it."""
    retryable: bool = False
    """Whether the same request may succeed later. OTLP says which statuses allow another attempt."""
    retry_after_s: float | None = None
    body: bytes = b""
    """Accepted: an ExportTraceServiceResponse. Otherwise the reason, as text."""
