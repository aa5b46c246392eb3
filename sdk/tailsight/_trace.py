"""One trace's part in this process: the finished spans that wait for the request to end."""

from opentelemetry.trace import TraceState
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

from . import _record
from ._guard import caught
from ._recorder import Recorder
from ._stats import DropReason, counters

SAMPLED = 0x01

MAX_WAITING_SPANS = 128
"""A request with more finished spans hands on what it has: memory stays bounded, and objects do not pile up."""


class Trace:
    """The spans of one trace that were made under one entry span of this process.

    `records` is None for a trace that the caller decided not to sample.
    """

    __slots__ = ("anchor_ns", "ended", "flags", "local_root_id", "recorder", "records", "state", "trace_id")

    records: list[tuple[object, ...]] | None

    def __init__(self, recorder: Recorder, trace_id: int, flags: int, state: TraceState) -> None:
        self.recorder = recorder
        self.trace_id = trace_id
        self.flags = flags
        self.state = state
        self.anchor_ns = recorder.clock.anchor_ns
        self.records = [] if flags & SAMPLED else None
        self.local_root_id = 0
        self.ended = False

    def hand_on(self) -> None:
        """Pack the finished spans and pass them on.

        Spans may end in several threads, or in a finalizer in the midst of this function, and none may be lost or sent
        twice. A lock would be slower, and a finalizer could find it held by its own thread. Instead the list is
        exchanged in one line, and Span appends in one line: CPython switches threads after calls, so neither
        can be interrupted between reading `records` and using it.
        """
        if self.records is None:
            return
        fresh: list[tuple[object, ...]] = []  # before: making a list may collect garbage, and so run a finalizer
        batch, self.records = self.records, fresh
        if not batch:
            return
        try:
            packed = self._packed(batch)
        except Exception as error:
            # One span may have spoilt it for all.
            for record in batch if len(batch) > 1 else []:
                self._hand_on_alone(record)
            if len(batch) == 1:
                counters.drop(DropReason.INTERNAL_ERROR, 1)
            caught("packing a trace", error)
            return
        self.recorder.push(packed, len(batch))

    def _hand_on_alone(self, record: tuple[object, ...]) -> None:
        try:
            packed = self._packed([record])
        except Exception:
            counters.drop(DropReason.INTERNAL_ERROR, 1)
            return
        self.recorder.push(packed, 1)

    def _packed(self, batch: list[tuple[object, ...]]) -> bytes:
        state = "" if self.state is DEFAULT_TRACE_STATE else self.state.to_header()
        return _record.dump(self.trace_id, state, self.flags, self.anchor_ns, batch)
