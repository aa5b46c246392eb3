"""Where profiles are kept: sent to a running collector, which stores them before it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.guarding import headers_from_environment
from tailsight_storage.profiles import MAX_PROFILE_BYTES, checked_profile, encode_profile

PATH = "/tailsight/profiles"
DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
ATTEMPTS = 4
TIMEOUT_S = 60.0  # the collector checks and stores the whole of it before it answers
MAX_WAIT_S = 5.0
_RETRYABLE = frozenset({429, 502, 503, 504})
_LONGEST_ANSWER = 300


@dataclass(frozen=True, slots=True)
class ProfilePlace:
    """A running collector. `headers` may hold its token."""

    endpoint: str
    headers: Mapping[str, str]
    sleep: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """The address without a password that may stand in it."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def keep(self, plain: Mapping[str, Any]) -> str:
        """Send a profile, again where the collector is busy or away for a moment; returns its id."""
        return self.sent(plain)[0]

    def sent(self, plain: Mapping[str, Any]) -> tuple[str, bool]:
        """Send a profile as `keep` does; returns its id, and whether the collector did not have it yet."""
        wanted = checked_profile(plain).id
        data = encode_profile(plain)
        if len(data) > MAX_PROFILE_BYTES:
            raise CommandError(
                f"the profile has {len(data):,} bytes, more than the {MAX_PROFILE_BYTES:,} that a collector takes: "
                "record for less time, or at a lower --rate",
                UNREADABLE,
            )
        wrong = ""
        with httpx.Client(timeout=TIMEOUT_S, headers={**self.headers, "Content-Type": "application/json"}) as client:
            for attempt in range(1, ATTEMPTS + 1):
                wait_s = 2.0**attempt / 4
                try:
                    answer = client.post(f"{self.endpoint}{PATH}", content=data)
                except httpx.HTTPError as error:
                    wrong = f"{self.name} does not answer: {str(error) or type(error).__name__}"
                else:
                    said = _said(answer) if answer.status_code == httpx.codes.OK else {}
                    if said.get("id") == wanted:
                        return wanted, bool(said.get("new", True))
                    wrong = self._refused(answer)
                    if answer.status_code not in _RETRYABLE:
                        break
                    asked = answer.headers.get("Retry-After", "")
                    wait_s = float(asked) if asked.isdecimal() else wait_s
                if attempt < ATTEMPTS:
                    self.sleep(min(wait_s, MAX_WAIT_S))
        raise CommandError(f"the profile is not kept: {wrong}", UNREADABLE)

    def _refused(self, answer: httpx.Response) -> str:
        status = answer.status_code
        if status == httpx.codes.OK:
            return f"{self.name} answered 200, and not as a collector does; is that its OTLP port?"
        if status in (401, 403):
            return (
                f"{self.name} asks for a token that may send (status {status}): set "
                "OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'; `tailsight token create` makes one"
            )
        if status in (404, 405):
            return (
                f"{self.name} takes no profiles (status {status}): name a collector's OTLP/HTTP port (4318 by "
                "default), and upgrade a collector that is older than this tailsight"
            )
        words = " ".join(str(_said(answer).get("message") or answer.text).split())[:_LONGEST_ANSWER]
        return f"{self.name} refused the profile with status {status}{f': {words}' if words else ''}"


def read_endpoint(text: str) -> ProfilePlace:
    """Read where a collector takes profiles; raises UsageError."""
    try:
        is_address = text.partition("://")[0] in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise click.UsageError(f"--endpoint {text!r} is no address: name a collector's, like {DEFAULT_ENDPOINT}")
    return ProfilePlace(text.rstrip("/").removesuffix("/v1/traces").rstrip("/"), headers_from_environment())


def _said(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
