"""One trace's part in this process: the finished spans that wait for the request to end."""

from collections import deque

from opentelemetry.trace import TraceState
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from . import _record
from ._guard import caught
from ._recorder import Recorder, discard
from ._sampling import Decision
from ._stats import DropReason, counters

SAMPLED = 0x01

MAX_WAITING_SPANS = 128
"""A request with more finished spans hands on what it has: memory stays bounded, and objects do not pile up."""

WAITING_VALUES = MAX_WAITING_SPANS * _record.FIELDS

MAX_PARKED_BYTES = 1024 * 1024
"""Packed spans of one request that wait for its end where a sampling rate is set. With more it is kept."""


class Trace:
    """The spans of one trace that were made under one entry span of this process.

    `records` holds the values of finished spans, one after the other (see _record.FIELDS). It is None for a trace that
    the caller decided not to sample, and for one that the sampler dropped.
    """

    __slots__ = (
        "anchor_ns",
        "decided",
        "deciding",
        "decision",
        "ended",
        "entry_id",
        "entry_is_remote",
        "entry_kind",
        "failed",
        "flags",
        "max_attributes",
        "max_text",
        "new_span_id",
        "now",
        "parked",
        "recorder",
        "records",
        "state",
        "trace_id",
    )

    records: list[object] | None

    def __init__(self, recorder: Recorder, trace_id: int, flags: int, state: TraceState) -> None:
        self.recorder = recorder
        self.now = recorder.now
        self.new_span_id = recorder.new_span_id
        limits = recorder.limits
        self.max_attributes = limits.attributes
        self.max_text = limits.value_length
        self.trace_id = trace_id
        self.flags = flags
        self.state = state
        self.anchor_ns = recorder.clock.fresh_anchor_ns()
        self.records = [] if flags & SAMPLED else None
        self.ended = self.failed = False
        self.decision: Decision | None = None
        self.decided = self.deciding = False
        # Packed spans that wait for the decision; None where everything is kept.
        self.parked: deque[tuple[bytes, int]] | None = None if recorder.sampler is None else deque()
        self.entry_id = 0
        self.entry_kind = _record.KIND_INTERNAL
        self.entry_is_remote = False

    def entry_ended(self, name: str, duration_ns: int, deadline_ms: object) -> None:
        """Take note that the entry span has ended: nothing waits any longer, and where a rate is set it is decided."""
        self.ended = True
        try:
            if self.recorder.sampler is not None and self.records is not None:
                self._decide(name, duration_ns, deadline_ms)
        finally:
            self.hand_on()

    def hand_on(self) -> None:
        """Pack the finished spans and pass them on.

        Spans may end in several threads, or in a finalizer in the midst of this function, and none may be lost or sent
        twice. A lock would be slower, and a finalizer could find it held by its own thread. Instead the list is
        exchanged in one line, and Span extends it in one line: CPython switches threads after calls, so neither
        can be interrupted between reading `records` and using it.
        """
        if self.records is None:
            return
        fresh: list[object] = []  # before: making a list may collect garbage, and so run a finalizer
        batch, self.records = self.records, fresh
        if batch:
            self._pack_and_pass_on(batch)

    def _pack_and_pass_on(self, batch: list[object]) -> None:
        try:
            packed = self._packed(batch)
        except Exception as error:
            # One span may have spoilt it for all.
            if len(batch) > _record.FIELDS:
                for start in range(0, len(batch), _record.FIELDS):
                    self._hand_on_alone(batch[start : start + _record.FIELDS])
            else:
                counters.drop(DropReason.INTERNAL_ERROR, 1)
            caught("packing a trace", error)
            return
        self._pass_on(packed, len(batch) // _record.FIELDS)

    def _hand_on_alone(self, record: list[object]) -> None:
        try:
            packed = self._packed(record)
        except Exception:
            counters.drop(DropReason.INTERNAL_ERROR, 1)
            return
        self._pass_on(packed, 1)

    def _pass_on(self, packed: bytes, spans: int) -> None:
        parked = self.parked
        if parked is None:
            self.recorder.push(packed, spans)
            return
        parked.append((packed, spans))
        if self.decided:
            self._release(parked)
        elif sum(len(waiting) for waiting, _ in parked.copy()) > MAX_PARKED_BYTES:
            self._decide("", 0, None, long=True)

    def _decide(self, name: str, duration_ns: int, deadline_ms: object, *, long: bool = False) -> None:
        """Keep the request or drop it, once and for all. Several threads may come here."""
        sampler, parked = self.recorder.sampler, self.parked
        # No call between the two lines: CPython switches threads after calls, and only one may be the first.
        if self.deciding or sampler is None or parked is None:
            return
        self.deciding = True
        self.decision = sampler.decide(
            trace_id=self.trace_id,
            name=name,
            duration_ns=duration_ns,
            failed=self.failed,
            deadline_ms=deadline_ms,
            long=long,
        )
        if self.decision is None:
            self.records = None
        self.decided = True
        self._release(parked)

    def _release(self, parked: "deque[tuple[bytes, int]]") -> None:
        """Pass on, or drop, what waited for the decision."""
        push = discard if self.decision is None else self.recorder.push
        try:
            while True:
                push(*parked.popleft())
        except IndexError:
            return

    def _packed(self, batch: list[object]) -> bytes:
        return _record.dump(
            self.trace_id,
            "" if self.state is DEFAULT_TRACE_STATE else self.state.to_header(),
            self.flags,
            self.anchor_ns,
            (self.entry_id, self.entry_kind, self.entry_is_remote),
            self.decision,
            batch,
        )
