"""Helpers for testing code that is instrumented with tailsight: a fake clock, predictable ids, and captured spans.

    from tailsight.testing import FakeClock, capture

    def test_tokenizing_is_measured():
        with capture(clock=FakeClock()) as captured:
            handle("a query")
        span = captured.one(stage="preprocess")
        assert span.attributes["tokens"] == 2

Nothing is sent while capturing. Captured spans appear when their request (the outermost span) has ended.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from . import _record
from ._clock import Clock
from ._fake_device import FakeDevice, fake_device
from ._ids import Ids
from ._recorder import Limits, Recorder, current
from ._sampling import TailSampler

__all__ = [
    "Capture",
    "CapturedEvent",
    "CapturedLink",
    "CapturedSpan",
    "FakeClock",
    "FakeDevice",
    "SequentialIds",
    "capture",
    "fake_device",
]

_KINDS = {_record.KIND_INTERNAL: "INTERNAL", _record.KIND_SERVER: "SERVER", _record.KIND_CLIENT: "CLIENT"}
_STATUS = {_record.STATUS_UNSET: "UNSET", _record.STATUS_OK: "OK", _record.STATUS_ERROR: "ERROR"}


class FakeClock(Clock):
    """A clock that stands still until it is told otherwise. All values are nanoseconds."""

    __slots__ = ("_monotonic_ns", "_wall_ns", "tick_ns")

    def __init__(self, *, unix_ns: int = 1_700_000_000_000_000_000, tick_ns: int = 0) -> None:
        """Begin at `unix_ns`. With `tick_ns` each reading of the monotonic clock advances time by as much."""
        self._monotonic_ns = 0
        self._wall_ns = unix_ns
        self.tick_ns = 0
        super().__init__(self._read, lambda: self._wall_ns)
        self.tick_ns = tick_ns

    def advance(self, ns: int) -> None:
        """Let time pass."""
        self._monotonic_ns += ns
        self._wall_ns += ns

    def step_wall_clock(self, ns: int) -> None:
        """Set the wall clock forward or back, as NTP or an operator does. The monotonic clock does not notice."""
        self._wall_ns += ns

    def peek(self) -> int:
        """Return the monotonic time without letting any pass."""
        return self._monotonic_ns

    def _read(self) -> int:
        self.advance(self.tick_ns)
        return self._monotonic_ns


class SequentialIds(Ids):
    """Ids that count from 1."""

    __slots__ = ()

    def __init__(self) -> None:
        self.span_id = count(1).__next__
        self.trace_id = count(1).__next__


@dataclass(frozen=True, slots=True)
class CapturedEvent:
    """An event of a span."""

    name: str
    unix_ns: int
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CapturedLink:
    """A link of a span. Ids are hexadecimal."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CapturedSpan:
    """A finished span. Ids are hexadecimal."""

    name: str
    stage: str | None  # None: a request
    kind: str  # INTERNAL, SERVER or CLIENT
    trace_id: str
    span_id: str
    parent_span_id: str | None  # None: the root of a trace
    start_unix_ns: int
    duration_ns: int
    attributes: dict[str, Any]
    status: str  # UNSET, OK or ERROR
    status_message: str
    events: tuple[CapturedEvent, ...]
    links: tuple[CapturedLink, ...]
    dropped_attributes: int
    thread_id: int
    trace_state: str


@dataclass(slots=True)
class Capture:
    """The spans captured so far, in the order in which they began."""

    spans: list[CapturedSpan] = field(default_factory=list)
    _taking: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def find(self, *, stage: str | None = None, name: str | None = None) -> list[CapturedSpan]:
        """Return the spans with this stage and this name; None means any."""
        return [
            span
            for span in self.spans
            if (stage is None or span.stage == stage) and (name is None or span.name == name)
        ]

    def one(self, *, stage: str | None = None, name: str | None = None) -> CapturedSpan:
        """Return the only span with this stage and this name. Raises LookupError if there are none or several."""
        found = self.find(stage=stage, name=name)
        if len(found) != 1:
            seen = ", ".join(f"{span.name} ({span.stage or 'request'})" for span in self.spans) or "none"
            raise LookupError(
                f"{len(found)} spans have stage={stage!r} and name={name!r}, expected one; captured: {seen}"
            )
        return found[0]

    def children_of(self, parent: CapturedSpan) -> list[CapturedSpan]:
        """Return the spans directly below `parent`."""
        return [
            span for span in self.spans if span.parent_span_id == parent.span_id and span.trace_id == parent.trace_id
        ]

    def clear(self) -> None:
        """Forget what was captured."""
        self.spans.clear()

    def take(self, packed: bytes) -> None:
        """Add the spans of a packed batch."""
        batch = _record.load(packed)
        with self._taking:
            self.spans.extend(_captured(batch, span) for span in batch.spans)
            self.spans.sort(key=lambda span: span.start_unix_ns)


@contextmanager
def capture(
    *,
    clock: Clock | None = None,
    ids: Ids | None = None,
    limits: Limits | None = None,
    enabled: bool = True,
    sampler: TailSampler | None = None,
) -> Iterator[Capture]:
    """Collect finished spans in memory instead of sending them, in all threads, until the block ends.

    Call configure() before, not inside: it would end the capturing.
    """
    captured = Capture()
    push: Callable[[bytes, int], None] = lambda packed, _spans: captured.take(packed)  # noqa: E731
    recorder = Recorder(
        clock=clock or Clock(),
        ids=ids or SequentialIds(),
        limits=limits or Limits(),
        push=push,
        enabled=enabled,
        sampler=sampler,
    )
    before, current.recorder = current.recorder, recorder
    try:
        yield captured
    finally:
        if current.recorder is recorder:
            current.recorder = before


def _captured(batch: _record.TraceBatch, span: _record.SpanRecord) -> CapturedSpan:
    extra = span.extra or _record.Extra()
    return CapturedSpan(
        name=span.name,
        stage=span.stage,
        kind=_KINDS[span.kind],
        trace_id=f"{batch.trace_id:032x}",
        span_id=f"{span.span_id:016x}",
        parent_span_id=f"{span.parent_id:016x}" if span.parent_id else None,
        start_unix_ns=span.start_ns + batch.anchor_ns,
        duration_ns=span.end_ns - span.start_ns,
        attributes=span.attributes,
        status=_STATUS[extra.status],
        status_message=extra.status_message,
        events=tuple(
            CapturedEvent(event.name, event.time_ns + batch.anchor_ns, event.attributes) for event in extra.events
        ),
        links=tuple(
            CapturedLink(f"{link.trace_id:032x}", f"{link.span_id:016x}", link.attributes) for link in extra.links
        ),
        dropped_attributes=extra.dropped_attributes,
        thread_id=span.thread_id,
        trace_state=batch.trace_state,
    )
