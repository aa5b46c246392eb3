"""One message to one webhook, once: what answered, and whether it is worth trying again.

Redirects are followed within the same origin alone: elsewhere our headers, and what the message says, are nobody's
business. Of an answer no more than its beginning is read; what it repeats of our secrets is not said.
"""

from __future__ import annotations

import logging
import math
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

import httpx

from tailsight_collector.alerts.deadline import Deadline
from tailsight_collector.alerts.messages import ID_HEADER, SIGNATURE_HEADER, encoded, signature
from tailsight_collector.alerts.settings import Webhook
from tailsight_collector.errors import SettingsError

# it tells every address at info, and of many webhooks the address is the secret
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

LONGEST_RETRY_AFTER_S = 3600.0
MAX_REDIRECTS = 3
MAX_ANSWER_BYTES = 2048
_REDIRECTS = frozenset({307, 308})  # those that keep method and body
_WORTH_IT = frozenset({408, 425, 429})
_USER_AGENT = "tailsight-alerts"
_LEAST_SECRET = 6
"""Shorter parts of an address or a header are words, not secrets."""


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


def new_client(webhook: Webhook) -> httpx.Client:
    """Make what posts: no redirects of its own, a connection for each attempt.

    Raises SettingsError where the environment's proxies or certificates cannot be used.
    """
    try:
        return httpx.Client(
            verify=ssl.create_default_context(cafile=webhook.ca_file) if webhook.ca_file else True,
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
        )
    except (ImportError, ValueError, OSError) as error:
        words = _harmless(_without_secrets(str(error), webhook))
        raise SettingsError(f"this environment's proxies or certificates allow no connection: {words}") from None


def post(client: httpx.Client, webhook: Webhook, payload: Mapping[str, Any]) -> Answer:
    """Try to deliver a message; raises nothing for whatever a webhook does."""
    body = encoded(payload, webhook)
    began_s = time.monotonic()
    url = httpx.URL(webhook.url)
    with Deadline(webhook.timeout_s) as deadline:
        try:
            for _ in range(MAX_REDIRECTS + 1):
                client.cookies.clear()
                with client.stream(
                    "POST", url, content=body, headers=_headers(webhook, payload, body), timeout=webhook.timeout_s,
                    extensions={"trace": deadline.trace},
                ) as response:  # fmt: skip
                    if response.status_code not in _REDIRECTS:
                        return _answer(response, _beginning(response), webhook, time.monotonic() - began_s)
                    target = url.join(response.headers.get("location", ""))
                if _origin(target) != _origin(url):
                    words = f"it redirects to another host, {target.host[:100]!r}: give that one in its url"
                    return Answer(response.status_code, words, time.monotonic() - began_s, is_final=True)
                url = target
            return Answer(0, f"more than {MAX_REDIRECTS} redirects", time.monotonic() - began_s, is_final=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            took_s = time.monotonic() - began_s
            if deadline.is_over or isinstance(error, httpx.TimeoutException):
                return Answer(0, f"no answer within {webhook.timeout_s:g} s", took_s)
            return Answer(0, _harmless(_without_secrets(str(error), webhook) or type(error).__name__), took_s)


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Read Retry-After: seconds or a date; None where there is none, or nonsense. An hour at most."""
    if not text:
        return None
    try:
        wanted_s = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        wanted_s = ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
    return None if math.isnan(wanted_s) else min(max(wanted_s, 0.0), LONGEST_RETRY_AFTER_S)


def _headers(webhook: Webhook, payload: Mapping[str, Any], body: bytes) -> dict[str, str]:
    headers = {
        "User-Agent": _USER_AGENT,
        "Accept-Encoding": "identity",  # what it says is read as it comes
        **webhook.headers,
        "Content-Type": "application/json",
        ID_HEADER: str(payload["id"]),
    }
    if webhook.secret:
        headers[SIGNATURE_HEADER] = signature(webhook.secret, body, int(time.time()))
    return headers


def _answer(response: httpx.Response, beginning: str, webhook: Webhook, took_s: float) -> Answer:
    status = response.status_code
    said, why = (_harmless(_without_secrets(text, webhook)) for text in (beginning, response.reason_phrase))
    words = f"{status} {why}".strip() + (f": {said}" if said else "")
    return Answer(
        status,
        words,
        took_s,
        retry_after_s(response.headers.get("retry-after"), datetime.now(UTC)),
        is_final=not (200 <= status < 300 or status >= 500 or status in _WORTH_IT),
    )


def _beginning(response: httpx.Response) -> str:
    """Read a little of what was answered; what it breaks off with does not matter, for the status has come."""
    read = b""
    try:
        for piece in response.iter_raw():
            read += piece
            if len(read) >= MAX_ANSWER_BYTES:
                break
    except (httpx.HTTPError, OSError):
        pass
    return read[:MAX_ANSWER_BYTES].decode("utf-8", "replace")


def _without_secrets(text: str, webhook: Webhook) -> str:
    """Leave out what an answer repeats of the address, the headers or the secret: `Cannot POST /services/T0/B0/…`."""
    url = httpx.URL(webhook.url)
    hidden = {webhook.url, str(url), webhook.secret, *webhook.headers.values()}
    told = (url.raw_path.decode("ascii", "replace"), url.fragment, webhook.secret, *webhook.headers.values())
    for each in (*told, *map(unquote, told)):
        hidden.update(part for part in (each, *re.split(r"[^\w.~-]+", each)) if len(part) >= _LEAST_SECRET)
    for part in sorted(hidden - {""}, key=len, reverse=True):
        text = text.replace(part, "…")
    return text


def _harmless(text: str) -> str:
    """One short line without control characters: it is a stranger's."""
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= 200 else f"{line[:200]}…"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
