"""From packed records to numbered OTLP requests.

Each batch carries, as attributes of its instrumentation scope, who sent it, its number, and what was recorded, kept and
dropped so far. So whoever has the batches knows what is missing: a number that never came, or a count that the sender
gives itself. Loss is known, never guessed.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from . import _otlp, _record
from . import attributes as keys
from ._guard import caught
from ._resource import SDK_NAME, sdk_version
from ._sampling import Reason, SlowRequests
from ._values import Value

NORMAL = "normal"
HIGH = "high"
"""The priority of a batch with errors and slow requests: it is the last to be dropped where disk space is short."""

_KEPT_FOR_CAUSE = frozenset({Reason.ERROR.value, Reason.DEADLINE.value, Reason.SLOW.value})


class Counts(NamedTuple):
    """What happened to spans and requests since the sender began. Cumulative."""

    never_taken_in: int  # spans dropped before add() saw them
    dropped: Mapping[str, int]  # spans, by reason, those included
    kept: Mapping[str, int]  # requests, by sampling reason
    sampled_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Batch:
    """One ExportTraceServiceRequest."""

    number: int
    priority: str
    spans: int
    body: bytes


class Batcher:
    """Encodes records, and makes batches of them. Used by one thread."""

    def __init__(
        self,
        resource: Callable[[], bytes],
        defaults: Mapping[str, Value],
        *,
        counts: Callable[[], Counts],
        drop: Callable[[int], None],
    ) -> None:
        """`resource` is asked once, when it is needed; `drop` is told how many spans could not be encoded."""
        self._resource = resource
        self._resource_bytes: bytes | None = None
        self._defaults = defaults
        self._counts = counts
        self._drop = drop
        self._slow = SlowRequests()
        self.on_request: Callable[[int], None] | None = None
        """Is told how many ns each request took."""
        self._parts: dict[str, list[bytes]] = {NORMAL: [], HIGH: []}
        self._spans = {NORMAL: 0, HIGH: 0}
        self._taken_in = 0
        self._encoded = 0
        self._number = 0
        self.id = f"{int.from_bytes(os.urandom(8)) or 1:016x}"
        self.bytes = 0
        """Encoded and not taken yet."""

    @property
    def state(self) -> tuple[int, int, int, int]:
        """Its id, and how far it is: what another one needs to go on in its place."""
        return int(self.id, 16), self._number, self._taken_in, self._encoded

    def go_on(self, state: tuple[int, int, int, int]) -> None:
        """Take the place of a batcher that is gone, as of its `state`."""
        sender_id, self._number, self._taken_in, self._encoded = state
        self.id = f"{sender_id:016x}"

    def add(self, packed: bytes) -> int:
        """Encode a packed batch, and return how many spans it has. What cannot be encoded is dropped and counted."""
        try:
            batch = _record.load(packed)
        except Exception as error:
            self._drop(1)
            caught("reading a record", error)
            return 1
        self._taken_in += len(batch.spans)
        part, encoded = self._encode(batch)
        if not encoded:
            return len(batch.spans)
        priority = HIGH if self._is_notable(batch) else NORMAL
        self._parts[priority].append(part)
        self._spans[priority] += encoded
        self.bytes += len(part)
        return len(batch.spans)

    def take(self, *, split: bool = False, last: bool = False) -> list[Batch]:
        """Return what was added as one batch, or as one of each priority. `last` makes one in any case."""
        wanted = (HIGH, NORMAL) if split else (None,)
        batches = []
        for priority in wanted:
            chosen = (HIGH, NORMAL) if priority is None else (priority,)
            parts = [part for name in chosen for part in self._parts[name]]
            spans = sum(self._spans[name] for name in chosen)
            if spans:
                of = HIGH if self._spans[HIGH] and priority != NORMAL else NORMAL
                batches.append(self._batch(parts, spans, of))
        for name in (HIGH, NORMAL):
            self._parts[name], self._spans[name] = [], 0
        self.bytes = 0
        # The last word of a sender, unless it would be its first: a process that recorded nothing has nothing to say.
        if last and (self._number or self._counts() != Counts(0, {}, {}, {})):
            batches.append(self._batch([], 0, NORMAL, last=True))
        return batches

    def _batch(self, parts: list[bytes], spans: int, priority: str, *, last: bool = False) -> Batch:
        self._number += 1
        self._encoded += spans
        return Batch(self._number, priority, spans, self._body(self._number, priority, parts, spans, last=last))

    def _body(self, number: int, priority: str, parts: list[bytes], spans: int, *, last: bool) -> bytes:
        counts = self._counts()
        said: dict[str, Value] = {
            keys.SENDER_ID: self.id,
            keys.BATCH_NUMBER: number,
            keys.BATCH_SPANS: spans,
            keys.BATCH_PRIORITY: priority,
            keys.SENDER_RECORDED: self._taken_in + counts.never_taken_in,
            keys.SENDER_SPANS: self._encoded,
        }
        for key, counted in (
            (keys.SENDER_DROPPED, counts.dropped),
            (keys.SENDER_KEPT, counts.kept),
            (keys.SENDER_SAMPLED_OUT, counts.sampled_out),
        ):
            if counted:
                said[key] = dict(counted)
        if last:
            said[keys.SENDER_LAST] = True
        if self._resource_bytes is None:
            self._resource_bytes = self._resource()
        # In a scope of its own: a store that keeps a scope's attributes with each of its spans would repeat all this.
        scopes: list[tuple[bytes, list[bytes]]] = [(_otlp.scope(SDK_NAME, sdk_version(), said), [])]
        if parts:
            scopes.append((_otlp.scope(SDK_NAME, sdk_version()), parts))
        return _otlp.export_request(self._resource_bytes, *scopes)

    def _encode(self, batch: _record.TraceBatch) -> tuple[bytes, int]:
        """Encode a batch without the spans that cannot be encoded. Return how many are in it."""
        try:
            return _otlp.spans(batch, self._defaults), len(batch.spans)
        except Exception as error:
            caught("encoding a batch", error)
        parts: list[bytes] = []
        for span in batch.spans:
            try:
                parts.append(_otlp.spans(batch._replace(spans=[span]), self._defaults))
            except Exception:  # the log has a line already
                self._drop(1)
        return b"".join(parts), len(parts)

    def _is_notable(self, batch: _record.TraceBatch) -> bool:
        """Tell whether this is an error or a slow request: what a sampler said, else what is seen here."""
        notable = False
        for span in batch.spans:
            if span.extra is not None and span.extra.status == _record.STATUS_ERROR:
                notable = True
            if span.stage is None:  # a request
                if self.on_request is not None:
                    self.on_request(span.end_ns - span.start_ns)
                reason = span.attributes.get(keys.SAMPLING_REASON)
                if reason is not None:
                    notable = notable or reason in _KEPT_FOR_CAUSE
                elif self._slow.is_slow(span.name, span.end_ns - span.start_ns):
                    notable = True
        return notable
