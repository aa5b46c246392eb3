"""How the sidecar gets batches to the collector: at once, or by way of the spool while the collector is away.

The sidecar must go on emptying the rings whatever the collector does. So there is one attempt for each batch; where it
fails, batches go to the spool, and from then on the oldest of them is tried again, with growing pauses. A collector
that says when to come back is believed, within bounds (RetryPolicy).
"""

import time
from collections.abc import Callable

from ._answer import Answer, Unreachable
from ._batches import Batch
from ._delivery import Collector, RetryPolicy, count_accepted, count_refused, system_random
from ._guard import caught, warn_once
from ._spool import Spool
from ._stats import Counters, DropReason

_FIRST_PROBE_TIMEOUT_S = 2.0
"""A collector that was away is asked with little patience first: the rings fill meanwhile."""


class Courier:
    """Delivers numbered batches, in order. Used by one thread."""

    def __init__(
        self,
        collector: Collector,
        policy: RetryPolicy,
        counters: Counters,
        spool: Spool,
        *,
        timeout_s: float,
        now: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = system_random,
    ) -> None:
        self._collector = collector
        self._policy = policy
        self._counters = counters
        self._timeout_s = timeout_s
        self._now = now
        self._jitter = jitter
        self._failures = 0
        self.spool = spool
        spool.on_lost = self._lost_in_the_spool
        self.was_reached = False
        self.next_attempt_at = 0.0
        """While the collector is away: when it is tried again (monotonic seconds)."""

    @property
    def away(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def settled(self) -> bool:
        """Whether nothing waits."""
        return not self.spool

    def deliver(self, batch: Batch) -> None:
        """Send a batch; where that cannot be done now, keep it. In order: what waits goes first."""
        if self.away or self.spool:
            self._keep(batch)  # retry() sends it, when the rings know that it is kept
            return
        answer = self._post(batch.body)
        if answer is None:
            self._keep(batch)
        elif answer.accepted:
            count_accepted(self._counters, self._collector.url, answer, batch.spans)
        else:
            count_refused(self._counters, self._collector.url, answer, batch.spans)

    def retry(self, *, for_s: float = 1.0) -> None:
        """Send what waits, if it is time to, for about `for_s` seconds."""
        until = self._now() + for_s
        while self.spool and self._now() >= self.next_attempt_at:
            found = self.spool.oldest()
            if found is None:
                return
            waiting, body = found
            if self._failures:
                self._counters.retries += 1
            answer = self._post(body)
            if answer is None:
                return
            self.spool.remove(waiting)
            if answer.accepted:
                count_accepted(self._counters, self._collector.url, answer, waiting.spans)
            else:
                count_refused(self._counters, self._collector.url, answer, waiting.spans)
            if self._now() > until:
                return

    def _post(self, body: bytes) -> Answer | None:
        """Try once. Return None where the same request may succeed later."""
        patience_s = min(self._timeout_s, _FIRST_PROBE_TIMEOUT_S * 2.0 ** min(self._failures, 16))
        retry_after_s = None
        try:
            answer = self._collector.post(body, timeout_s=self._timeout_s if not self._failures else patience_s)
        except Unreachable as error:
            problem = str(error)
        except Exception as error:  # a defect; but the batch is worth keeping
            caught("sending a batch", error)
            problem = str(error) or type(error).__name__
        else:
            self.was_reached = True
            self._counters.posts += 1
            if not answer.retryable:
                self._failures = 0
                return answer
            problem, retry_after_s = f"it answered {answer.status}", answer.retry_after_s
        self._counters.failures += 1
        self.next_attempt_at = self._now() + self._policy.pause_s(self._failures, self._jitter(), retry_after_s)
        self._failures += 1
        warn_once(
            ("unreachable", self._collector.url),
            "the collector at %s does not take spans: %s. They are kept on disk, at most spool_bytes, and sent when it "
            "is back. Start one with `tailsight up`, set TAILSIGHT_ENDPOINT, or switch off with "
            "TAILSIGHT_ENABLED=false",
            self._collector.url,
            problem,
        )
        return None

    def _keep(self, batch: Batch) -> None:
        """Put a batch into the spool. What has to make room for it is dropped and counted; its number stays missing."""
        for lost in self.spool.put(batch.number, batch.priority, batch.spans, batch.body):
            self._lost_in_the_spool(lost.spans)

    def _lost_in_the_spool(self, spans: int) -> None:
        self._counters.drop(DropReason.SPOOL_FULL, spans)
        warn_once(
            "the spool is full",
            "the collector is away and spool_bytes is reached, or batches cannot be read from the disk again: they are "
            "dropped, and counted, see the `dropped` of tailsight.stats()",
        )
