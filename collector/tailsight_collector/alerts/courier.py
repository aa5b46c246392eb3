"""Brings messages to one webhook, in order, again and again until it takes them or there is no point any more.

Exponential backoff with jitter (Brooker, "Exponential Backoff And Jitter", AWS 2015), never sooner than Retry-After
asks for. A message that is refused for good (4xx), that has waited for a day, or that a full queue cannot hold is given
up, counted and said. Each webhook has a thread, so that one that hangs holds up no other.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tailsight_collector.alerts.post import Answer, new_client, post
from tailsight_collector.alerts.settings import Webhook
from tailsight_collector.errors import SettingsError

log = logging.getLogger(__name__)

MAX_WAITING = 1000
OLDEST_S = 24 * 3600.0
DELIVERED, FAILED, GIVEN_UP = "delivered", "failed", "given_up"


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th failure: a random part of `first_s` doubled n − 1 times, `most_s` at most."""

    first_s: float = 1.0
    most_s: float = 300.0

    def wait_s(self, failures: int, retry_after_s: float | None, part: float) -> float:
        """Return the time to wait; `part` is the random one, 0 to 1."""
        longest_s = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return max(retry_after_s or 0.0, longest_s * (0.1 + 0.9 * part))


class Courier:
    """One webhook's queue and thread. `on_done` is called with its name and the id of what needs no more sending."""

    def __init__(
        self,
        webhook: Webhook,
        on_done: Callable[[str, str], None],
        *,
        backoff: Backoff | None = None,
        oldest_s: float = OLDEST_S,
    ) -> None:
        self.webhook = webhook
        self.outcomes: Counter[str] = Counter()
        """Attempts that were taken or failed, and messages that were given up."""
        self._on_done = on_done
        self._backoff = backoff or Backoff()
        self._oldest_s = oldest_s
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._changed = threading.Condition()
        self._ends = False
        self._random = random.Random()  # noqa: S311 - for spreading attempts
        self._thread = threading.Thread(target=self._run, name=f"tailsight-webhook-{webhook.name}", daemon=True)

    @property
    def waiting(self) -> int:
        """How many messages are not delivered yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def take(self, messages: Iterable[Mapping[str, Any]]) -> None:
        """Queue messages; where there are too many, the oldest that is not on its way is given up."""
        dropped = []
        with self._changed:
            self._waiting.extend(messages)
            while len(self._waiting) > MAX_WAITING:
                dropped.append(self._waiting[1])
                del self._waiting[1]
            self._changed.notify()
        for message in dropped:
            self._give_up(message, f"more than {MAX_WAITING} are waiting")

    def end(self) -> None:
        """Begin no other attempt; what is not delivered is in the state file."""
        with self._changed:
            self._ends = True
            self._changed.notify()

    def close(self, patience_s: float) -> None:
        """End, and wait for it. An attempt that hangs ends with the process."""
        self.end()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    def _run(self) -> None:
        with ExitStack() as until_the_end:
            client = None
            while (message := self._next()) is not None:
                failures = 0
                while True:
                    try:
                        client = client or until_the_end.enter_context(new_client(self.webhook))
                        answer = post(client, self.webhook, message)
                    except SettingsError as error:
                        answer = Answer(0, str(error), 0.0)
                    except Exception as error:  # a defect of ours must not end the thread
                        log.exception("an unexpected error while telling webhook %s", self.webhook.name)
                        answer = Answer(0, type(error).__name__, 0.0)
                    if answer.is_taken:
                        self.outcomes[DELIVERED] += 1
                        break
                    self.outcomes[FAILED] += 1
                    failures += 1
                    if answer.is_final:
                        self._say_given_up(message, answer.words)
                        break
                    if age_s(message) > self._oldest_s:
                        self._say_given_up(message, f"{answer.words}, for {self._oldest_s / 3600:g} h")
                        break
                    if failures == 1:
                        log.warning(
                            "webhook %s has not taken a message, and is tried again: %s",
                            self.webhook.name, answer.words,
                            extra={"webhook": self.webhook.name, "message_id": message["id"]},
                        )  # fmt: skip
                    if self._ended_within(self._backoff.wait_s(failures, answer.retry_after_s, self._random.random())):
                        return
                with self._changed:
                    self._waiting.popleft()
                self._done(message)

    def _next(self) -> Mapping[str, Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ends or self._waiting)
            return None if self._ends else self._waiting[0]

    def _ended_within(self, seconds: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._ends, seconds)

    def _give_up(self, message: Mapping[str, Any], why: str) -> None:
        self._say_given_up(message, why)
        self._done(message)

    def _say_given_up(self, message: Mapping[str, Any], why: str) -> None:
        self.outcomes[GIVEN_UP] += 1
        log.error(
            "a message to webhook %s is given up: %s", self.webhook.name, why,
            extra={"webhook": self.webhook.name, "message_id": message["id"]},
        )  # fmt: skip

    def _done(self, message: Mapping[str, Any]) -> None:
        self._on_done(self.webhook.name, str(message["id"]))


def age_s(message: Mapping[str, Any]) -> float:
    """How long ago it was decided, by the clock of the day."""
    return time.time() - datetime.fromisoformat(message["at"]).timestamp()
