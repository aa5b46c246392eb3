"""A recording on its way to the collector: tried again for some minutes where that is away, and then given up.

In the recording's own thread. Spans wait on a disk for a collector; a recording is one of many, and the next is as
good.
"""

import random
import threading

from ._answer import Answer, Unreachable
from ._collectors import for_recordings
from ._options import GRPC, Settings

MAX_BODY_BYTES = 32 * 1024 * 1024
TIMEOUT_S = 30.0
GIVE_UP_S = 300.0
_FIRST_PAUSE_S, _MAX_PAUSE_S = 1.0, 30.0
_NO_RECORDINGS_HERE = frozenset({"404", "405", "415", "501"})


class Sender:
    """Sends recordings. `final` is set once a collector has said that it takes none, until somebody asks again."""

    def __init__(self, settings: Settings) -> None:
        self._collector = for_recordings(settings, timeout_s=TIMEOUT_S)
        self._nowhere = ""
        if settings.transport == "file":
            self._nowhere = "transport=file sends nothing to a collector, which joins the samples to stages"
        elif self._collector is None:
            self._nowhere = (
                f"TAILSIGHT_ENDPOINT is {settings.endpoint}, and recordings take a collector of tailsight's, whose "
                "address ends with /v1/traces"
            )
        self._hint = "; with protocol=grpc recordings go by HTTP all the same" if settings.protocol == GRPC else ""
        self.final = self._nowhere

    def begin_anew(self) -> None:
        """Forget what a collector has said: it may be another one by now."""
        self.final = self._nowhere

    def send(self, body: bytes, hurry: threading.Event) -> str:
        """Send a recording; returns why it was not taken, or nothing. Once there is `hurry`: one attempt."""
        collector = self._collector
        if collector is None:
            return self.final
        if len(body) > MAX_BODY_BYTES:
            return f"the recording has {len(body):,} bytes, more than {MAX_BODY_BYTES:,}: record for less time"
        pause_s, waited_s = _FIRST_PAUSE_S, 0.0
        try:
            while True:
                try:
                    answer = collector.post(body, timeout_s=2.0 if hurry.is_set() else None)
                except Unreachable as error:
                    problem, asked_s = f"{collector.url} does not answer: {_shown(str(error))}{self._hint}", 0.0
                else:
                    if answer.accepted:
                        return ""
                    problem, asked_s = self._refused(answer), answer.retry_after_s or 0.0
                    if not answer.retryable:
                        return problem
                wait_s = min(_MAX_PAUSE_S, max(asked_s, pause_s * random.uniform(0.5, 1.0)))  # noqa: S311  jitter
                pause_s, waited_s = pause_s * 2, waited_s + wait_s
                if waited_s > GIVE_UP_S or hurry.is_set() or hurry.wait(wait_s):
                    return problem
        finally:
            collector.close()

    def _refused(self, answer: Answer) -> str:
        assert self._collector is not None  # noqa: S101  it has answered
        url = self._collector.url
        if answer.status in _NO_RECORDINGS_HERE:
            self.final = f"{url} takes no recordings (status {answer.status}): it takes a collector of tailsight's"
            return self.final
        if answer.status in ("401", "403"):
            self.final = (
                f"{url} asks for a token that may send (status {answer.status}): set TAILSIGHT_HEADERS="
                "'Authorization=Bearer%20TOKEN'"
            )
            return self.final
        words = _shown(answer.body[:300].decode(errors="replace"))
        return f"{url} refused the recording with status {answer.status} ({words})"


def _shown(text: str) -> str:
    words = " ".join("".join(character if character.isprintable() else " " for character in text[:300]).split())
    return words or "no reason given"
