"""Delivering one encoded request: when to try again, when to give up, and what is counted."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from . import _otlp
from ._answer import Answer, Unreachable
from ._guard import warn_once
from ._options import Settings
from ._stats import Counters, DropReason

# A generator of its own, and not seeded by the application: services must not come back in step.
system_random = random.SystemRandom().random


class Collector(Protocol):
    """Where requests go."""

    url: str

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        """Send a request, or raise Unreachable."""
        ...

    def close(self) -> None:
        """Let go of the connection."""


class Patience(Protocol):
    """How long the delivery may go on. The sender's thread implements it, and cuts it short at exit."""

    def now(self) -> float:
        """Return monotonic seconds."""
        ...

    def deadline(self) -> float | None:
        """Return the monotonic second at which everything must be over, or None while there is no hurry."""
        ...

    def wait(self, seconds: float, *, also_at_exit: bool) -> bool:
        """Wait; return False once that would reach beyond the deadline, or once there is one and not `also_at_exit`."""
        ...


MAX_RETRY_AFTER_S = 300.0
"""What a collector may ask for at most, unless retry_max_s is more: one that says a year must not end the delivery."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The backoff: doubled each time, and a random part of it, so that many services do not come back at once.

    Where the collector says when to come back, the later of both counts. It is believed up to MAX_RETRY_AFTER_S, or
    `max_s` where that is more.
    """

    initial_s: float
    max_s: float
    for_s: float

    @classmethod
    def of(cls, settings: Settings) -> "RetryPolicy":
        """Take the policy from the settings."""
        return cls(settings.retry_initial_s, settings.retry_max_s, settings.retry_for_s)

    def backoff_s(self, retry: int, fraction: float) -> float:
        """Return how long to wait before the `retry`-th retry (from 0); `fraction` in [0, 1) is the jitter."""
        full = min(self.max_s, self.initial_s * 2.0 ** min(retry, 60))
        return full * (0.5 + 0.5 * fraction)

    def pause_s(self, retry: int, fraction: float, retry_after_s: float | None) -> float:
        """Return how long to wait in the light of what the collector said.

        The backoff is the least: a Retry-After of 0, or of a past date, is no leave to hammer.
        """
        asked_s = min(retry_after_s or 0.0, max(self.max_s, MAX_RETRY_AFTER_S))
        return max(self.backoff_s(retry, fraction), asked_s)


class Delivery:
    """Takes encoded requests to the collector."""

    def __init__(
        self,
        collector: Collector,
        policy: RetryPolicy,
        counters: Counters,
        patience: Patience,
        jitter: Callable[[], float] = system_random,
    ) -> None:
        self._collector = collector
        self._policy = policy
        self._counters = counters
        self._patience = patience
        self._jitter = jitter
        self._was_reached = False

    def deliver(self, body: bytes, spans: int) -> bool:
        """Deliver a request with `spans` spans, with as many attempts as it takes. Return whether it arrived."""
        give_up_at = self._patience.now() + self._policy.for_s
        retry = 0
        while True:
            deadline = self._patience.deadline()
            try:
                answer = self._collector.post(
                    body, timeout_s=None if deadline is None else deadline - self._patience.now()
                )
            except Unreachable as error:
                problem, retry_after_s = str(error), None
            else:
                self._was_reached = True
                self._counters.posts += 1
                if answer.accepted:
                    count_accepted(self._counters, self._collector.url, answer, spans)
                    return True
                if not answer.retryable:
                    count_refused(self._counters, self._collector.url, answer, spans)
                    return False
                problem, retry_after_s = f"it answered {answer.status}", answer.retry_after_s
            self._counters.failures += 1
            delay = self._policy.pause_s(retry, self._jitter(), retry_after_s)
            # A process that never reached a collector has none: do not keep it from exiting.
            if self._patience.deadline() is not None and not self._was_reached:
                return self._lost(DropReason.SHUTDOWN, spans, problem)
            if self._patience.now() + delay > give_up_at:
                return self._lost(DropReason.RETRIES_EXHAUSTED, spans, problem)
            warn_once(
                ("unreachable", self._collector.url),
                "the collector at %s does not take spans: %s. They are kept, within the buffer's bound, and tried "
                "again. Start one with `tailsight up`, set TAILSIGHT_ENDPOINT, or switch off with "
                "TAILSIGHT_ENABLED=false",
                self._collector.url,
                problem,
            )
            if not self._patience.wait(delay, also_at_exit=self._was_reached):
                return self._lost(DropReason.SHUTDOWN, spans, problem)
            retry += 1
            self._counters.retries += 1

    def _lost(self, reason: DropReason, spans: int, problem: str | None) -> bool:
        self._counters.drop(reason, spans)
        warn_once(
            ("lost", reason, self._collector.url),
            "%d spans are dropped (%s): the collector at %s did not take them in time: %s",
            spans,
            reason.value,
            self._collector.url,
            problem,
        )
        return False


def count_accepted(counters: Counters, url: str, answer: Answer, spans: int) -> None:
    """Take note that the collector took a batch of `spans` spans, or most of it."""
    rejected, message = _otlp.partial_success(answer.body)
    rejected = min(rejected, spans)
    counters.sent += spans - rejected
    if rejected or message:
        counters.drop(DropReason.REJECTED, rejected)
        warn_once(
            ("partial success", url),
            "the collector at %s rejected %d of %d spans: %s. They are not sent again; tailsight.stats() counts them",
            url,
            rejected,
            spans,
            message[:200] or "no reason given",
        )


def count_refused(counters: Counters, url: str, answer: Answer, spans: int) -> None:
    """Take note that the collector refused a batch for good."""
    counters.failures += 1
    counters.drop(DropReason.REFUSED, spans)
    warn_once(
        ("refused", url, answer.status),
        "the collector at %s refuses spans with status %s (%s): they are dropped. Check the endpoint and its "
        "headers; tailsight.stats() counts further ones",
        url,
        answer.status,
        _readable(answer.body),
    )


def _readable(body: bytes) -> str:
    shown = "".join(character if character.isprintable() else " " for character in body[:200].decode(errors="replace"))
    return " ".join(shown.split()) or "no reason given"
