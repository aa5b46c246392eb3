"""What happened to the spans, counted.

The counters are plain ints without a lock: in CPython an `x += n` with a local `n` is not interrupted between its load
and its store, and a lock on the hot path would cost more than the counters are worth. Drops, which are rare and many
threads count, have a lock; a reentrant one, since a signal handler may drop spans as well.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from ._sampling import Reason


class DropReason(StrEnum):
    """Why a span was recorded but did not arrive."""

    BUFFER_FULL = "buffer_full"  # more was recorded than could be sent, and `buffer_bytes` was reached
    REFUSED = "refused"  # the collector answered with a status that must not be retried
    RETRIES_EXHAUSTED = "retries_exhausted"  # the collector stayed away for longer than `retry_for_s`
    REJECTED = "rejected"  # the collector took the batch but not these spans (OTLP partial success)
    INTERNAL_ERROR = "internal_error"  # a defect of ours; the log has one line about it
    SHUTDOWN = "shutdown"  # still unsent when the time for the last flush was over
    SPOOL_FULL = "spool_full"  # the collector was away for so long that `spool_bytes` was reached on disk
    DEVICE_PENDING = "device_pending"  # a device had not said when its work was done: too much of it, or the end


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the SDK's own counters since the process began. All are numbers of spans unless said."""

    sent: int
    """Spans that the collector acknowledged."""
    dropped: Mapping[str, int]
    """Spans lost, by reason (the values of DropReason). A reason that never occurred is absent."""
    pending_bytes: int
    """Bytes of finished, unsent records held in memory, the sidecar's rings included."""
    posts: int
    """Requests to the collector that it answered, whatever the answer. gRPC's UNAVAILABLE counts as none."""
    retries: int
    """Requests repeated after a failure."""
    failures: int
    """Requests that failed: no answer, or a refusal."""
    internal_errors: int
    """Errors of the SDK that its guard caught. Anything but 0 is a defect worth a report."""
    spooled_bytes: int = 0
    """Bytes that wait on disk for a collector that is away."""
    kept: Mapping[str, int] = field(default_factory=dict)
    """Requests that sampling kept, by reason. Empty while everything is kept."""
    sampled_out: Mapping[str, int] = field(default_factory=dict)
    """Requests that sampling did not keep, by reason."""
    transport: str = ""
    """What carries the spans now: sidecar, thread or file; empty before the first one."""

    def plus(self, other: "Stats") -> "Stats":
        """Add another snapshot."""
        return Stats(
            sent=self.sent + other.sent,
            dropped=_sum(self.dropped, other.dropped),
            pending_bytes=self.pending_bytes + other.pending_bytes,
            posts=self.posts + other.posts,
            retries=self.retries + other.retries,
            failures=self.failures + other.failures,
            internal_errors=self.internal_errors + other.internal_errors,
            spooled_bytes=self.spooled_bytes + other.spooled_bytes,
            kept=_sum(self.kept, other.kept),
            sampled_out=_sum(self.sampled_out, other.sampled_out),
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    return MappingProxyType({key: one.get(key, 0) + other.get(key, 0) for key in (*one, *other)})


class Counters:
    """The live counters behind Stats."""

    __slots__ = (
        "_changing",
        "dropped",
        "failures",
        "internal_errors",
        "kept",
        "on_decision",
        "on_drop",
        "posts",
        "retries",
        "sampled_out",
        "sent",
    )

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew: in a forked child, which has lost nothing yet."""
        self.sent = 0
        self.posts = 0
        self.retries = 0
        self.failures = 0
        self.internal_errors = 0
        self.dropped: dict[DropReason, int] = {}
        self.kept: dict[Reason, int] = {}
        self.sampled_out: dict[Reason, int] = {}
        self.on_drop: Callable[[DropReason, int], None] | None = None
        self.on_decision: Callable[[Reason, bool], None] | None = None
        """Told of each change, under the lock: the sidecar's shared memory follows these counters."""
        self._changing = threading.RLock()  # a new one: after a fork, a thread that is gone may hold the old one

    def drop(self, reason: DropReason, spans: int) -> None:
        """Count `spans` as lost for `reason`."""
        if spans > 0:
            with self._changing:
                self.dropped[reason] = self.dropped.get(reason, 0) + spans
                if self.on_drop is not None:
                    self.on_drop(reason, spans)

    def absorb(self, there: Stats) -> None:
        """Add what was counted elsewhere. Nobody is told: it has been reported from there."""
        with self._changing:
            self.sent += there.sent
            self.posts += there.posts
            self.retries += there.retries
            self.failures += there.failures
            self.internal_errors += there.internal_errors
            for name, spans in there.dropped.items():
                reason = DropReason(name)
                self.dropped[reason] = self.dropped.get(reason, 0) + spans

    def decided(self, reason: Reason, kept: bool) -> None:
        """Count a request that sampling kept, or did not."""
        with self._changing:
            counted = self.kept if kept else self.sampled_out
            counted[reason] = counted.get(reason, 0) + 1
            if self.on_decision is not None:
                self.on_decision(reason, kept)

    def snapshot(self, *, pending_bytes: int) -> Stats:
        """Copy the counters."""
        return Stats(
            sent=self.sent,
            dropped=MappingProxyType({str(reason): spans for reason, spans in self.dropped.copy().items()}),
            pending_bytes=pending_bytes,
            posts=self.posts,
            retries=self.retries,
            failures=self.failures,
            internal_errors=self.internal_errors,
            kept=MappingProxyType({str(reason): requests for reason, requests in self.kept.copy().items()}),
            sampled_out=MappingProxyType({str(reason): n for reason, n in self.sampled_out.copy().items()}),
        )


counters = Counters()
"""The process's counters. They outlive a second configure(), so that nothing lost is forgotten."""
