"""One message to one webhook, once: what answered, and whether it is worth trying again.

Redirects are followed within the same origin alone: elsewhere our headers, and what the message says, are nobody's
business. Of an answer no more than its beginning is read.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from tailsight_collector.alerts.messages import ID_HEADER, SIGNATURE_HEADER, encoded, signature
from tailsight_collector.alerts.settings import Webhook

# it tells every address at info, and of many webhooks the address is the secret
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

LONGEST_RETRY_AFTER_S = 3600.0
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 2048
_REDIRECTS = frozenset({307, 308})  # those that keep method and body
_WORTH_IT = frozenset({408, 425, 429})
_USER_AGENT = "tailsight-alerts"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an attempt. `status` is 0 where nothing answered; `words` says it in short, without secrets."""

    status: int
    words: str
    took_s: float
    retry_after_s: float | None = None
    is_final: bool = False
    """Not taken, and never will be."""

    @property
    def is_taken(self) -> bool:
        """Whether the webhook has the message."""
        return 200 <= self.status < 300


def new_client() -> httpx.Client:
    """Make what posts: no redirects of its own, no cookies kept, few connections."""
    return httpx.Client(follow_redirects=False, limits=httpx.Limits(max_connections=1, max_keepalive_connections=1))


def post(client: httpx.Client, webhook: Webhook, payload: Mapping[str, Any]) -> Answer:
    """Try to deliver a message; raises nothing for whatever a webhook does."""
    body = encoded(payload, webhook)
    began_s = time.monotonic()
    deadline_s = began_s + webhook.timeout_s
    url = httpx.URL(webhook.url)
    try:
        for _ in range(MAX_REDIRECTS + 1):
            client.cookies.clear()
            with client.stream(
                "POST", url, content=body, headers=_headers(webhook, payload, body), timeout=webhook.timeout_s
            ) as response:
                if response.status_code not in _REDIRECTS:
                    return _answer(response, _beginning(response, deadline_s), time.monotonic() - began_s)
                target = url.join(response.headers.get("location", ""))
            if _origin(target) != _origin(url):
                words = f"it redirects to another host, {target.host[:100]!r}: give that one in its url"
                return Answer(response.status_code, words, time.monotonic() - began_s, is_final=True)
            url = target
        return Answer(0, f"more than {MAX_REDIRECTS} redirects", time.monotonic() - began_s, is_final=True)
    except httpx.TimeoutException:
        return Answer(0, f"no answer within {webhook.timeout_s:g} s", time.monotonic() - began_s)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        words = str(error).replace(str(url), "…").replace(webhook.url, "…") or type(error).__name__
        return Answer(0, _harmless(words), time.monotonic() - began_s)


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Read Retry-After: seconds or a date; None where there is none, or nonsense. An hour at most."""
    if not text:
        return None
    try:
        wanted_s = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        wanted_s = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return None if math.isnan(wanted_s) else min(max(wanted_s, 0.0), LONGEST_RETRY_AFTER_S)


def _headers(webhook: Webhook, payload: Mapping[str, Any], body: bytes) -> dict[str, str]:
    headers = {
        "User-Agent": _USER_AGENT,
        **webhook.headers,
        "Content-Type": "application/json",
        ID_HEADER: str(payload["id"]),
    }
    if webhook.secret:
        headers[SIGNATURE_HEADER] = signature(webhook.secret, body, int(time.time()))
    return headers


def _answer(response: httpx.Response, beginning: str, took_s: float) -> Answer:
    status = response.status_code
    words = f"{status} {_harmless(response.reason_phrase)}".strip() + (f": {beginning}" if beginning else "")
    return Answer(
        status,
        words,
        took_s,
        retry_after_s(response.headers.get("retry-after"), datetime.now(UTC)),
        is_final=not (200 <= status < 300 or status >= 500 or status in _WORTH_IT),
    )


def _beginning(response: httpx.Response, deadline_s: float) -> str:
    """Read a little of what was answered; what it breaks off with does not matter, for the status has come."""
    read = b""
    try:
        for piece in response.iter_raw():
            read += piece
            if len(read) >= MAX_ANSWER_BYTES or time.monotonic() > deadline_s:
                break
    except httpx.HTTPError:
        pass
    return _harmless(read[:MAX_ANSWER_BYTES].decode("utf-8", "replace"))


def _harmless(text: str) -> str:
    """One short line without control characters: it is a stranger's."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= 200 else f"{line[:200]}…"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
