"""What happened to the spans, counted.

The counters are plain ints without a lock: in CPython an `x += n` with a local `n` is not interrupted between its load
and its store, and a lock on the hot path would cost more than the counters are worth. Drops, which are rare and many
threads count, have a lock; a reentrant one, since a signal handler may drop spans as well.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class DropReason(StrEnum):
    """Why a span was recorded but did not arrive."""

    BUFFER_FULL = "buffer_full"  # more was recorded than could be sent, and `buffer_bytes` was reached
    REFUSED = "refused"  # the collector answered with a status that must not be retried
    RETRIES_EXHAUSTED = "retries_exhausted"  # the collector stayed away for longer than `retry_for_s`
    REJECTED = "rejected"  # the collector took the batch but not these spans (OTLP partial success)
    INTERNAL_ERROR = "internal_error"  # a defect of ours; the log has one line about it
    SHUTDOWN = "shutdown"  # still unsent when the time for the last flush was over


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of the SDK's own counters since the process began. All are numbers of spans unless said."""

    sent: int
    """Spans that the collector acknowledged."""
    dropped: Mapping[str, int]
    """Spans lost, by reason (the values of DropReason). A reason that never occurred is absent."""
    pending_bytes: int
    """Bytes of finished, unsent records held in memory."""
    posts: int
    """HTTP requests answered by the collector, whatever the answer."""
    retries: int
    """HTTP requests repeated after a failure."""
    failures: int
    """HTTP requests that failed: no answer, or one other than 2xx."""
    internal_errors: int
    """Errors of the SDK that its guard caught. Anything but 0 is a defect worth a report."""


class Counters:
    """The live counters behind Stats."""

    __slots__ = ("_dropping", "dropped", "failures", "internal_errors", "posts", "retries", "sent")

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
        self._dropping = threading.RLock()  # a new one: after a fork, a thread that is gone may hold the old one

    def drop(self, reason: DropReason, spans: int) -> None:
        """Count `spans` as lost for `reason`."""
        if spans > 0:
            with self._dropping:
                self.dropped[reason] = self.dropped.get(reason, 0) + spans

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
        )


counters = Counters()
"""The process's counters. They outlive a second configure(), so that nothing lost is forgotten."""
