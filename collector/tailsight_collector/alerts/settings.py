"""What alerts are told at the start: webhooks, and when each rule is evaluated; frozen, and checked."""

from __future__ import annotations

import difflib
import re
import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from tailsight_collector.alerts.conditions import Evaluate
from tailsight_collector.errors import SettingsError
from tailsight_storage import Store

STATE_FILE = "alerts.json"
"""In the data folder, beside the journal."""
FORMATS = ("tailsight", "slack")
MAX_WEBHOOKS = 16
MAX_RULES = 200
LEAST_EVERY_S = 0.1
DEFAULT_EVERY_S = 60.0
DEFAULT_RESOLVE_AFTER_S = 300.0
DEFAULT_REPEAT_S = 4 * 3600.0
DEFAULT_TIMEOUT_S = 10.0
_NAME = re.compile(r"[\w.-]{1,100}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_OWN_HEADERS = (
    "content-length", "content-type", "host", "tailsight-message-id", "tailsight-signature", "transfer-encoding",
)  # fmt: skip
_LONGEST_SEVERITY = 100


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where messages go. The address, the secret and the headers may all be secret: none is ever shown or logged."""

    name: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    """Messages are signed with it where it is not empty."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: str = FORMATS[0]
    timeout_s: float = DEFAULT_TIMEOUT_S
    ca_file: str = ""
    """Who signs its certificate, in PEM; empty: who is commonly trusted."""

    def __post_init__(self) -> None:
        checked_name("webhook", self.name)
        where = f"webhook {self.name}"
        try:
            parts = urlsplit(self.url)
            _ = parts.port, httpx.URL(self.url)
        except (ValueError, httpx.InvalidURL):
            raise SettingsError(f"{where}: its url cannot be read; use https://host/path") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", self.url):
            raise SettingsError(f"{where}: its url is none; use https://host/path")
        if parts.username is not None or parts.password is not None:
            raise SettingsError(f"{where}: its url holds a user; put that into a header with headers_env")
        for name, value in self.headers.items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
                raise SettingsError(f"{where}: {name!r} is no header that can be set")
            if not value.isascii() or not value.isprintable():
                raise SettingsError(f"{where}: the value of header {name} holds what a header cannot")
        if self.form not in FORMATS:
            raise SettingsError(f"{where}: no format {self.form!r}; use {' or '.join(FORMATS)}")
        if not 0 < self.timeout_s <= 60:
            raise SettingsError(f"{where}: a timeout of {self.timeout_s:g} s cannot be used; use up to 60s")
        if self.ca_file:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:
                why = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise SettingsError(f"{where}: ca_file {self.ca_file} cannot be used: {why}") from None

    @property
    def host(self) -> str:
        """What of the address may be shown."""
        return urlsplit(self.url).hostname or ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a rule is evaluated, and when an alert of it begins, is repeated and ends. Times in seconds."""

    rule: str
    kind: str
    webhooks: tuple[str, ...]
    severity: str = "warning"
    every_s: float = DEFAULT_EVERY_S
    for_s: float = 0.0
    resolve_after_s: float = DEFAULT_RESOLVE_AFTER_S
    repeat_s: float = DEFAULT_REPEAT_S
    """After so long an alert that is still open is told of again; 0: never."""

    def __post_init__(self) -> None:
        checked_name("rule", self.rule)
        where = f"rule {self.rule}"
        if not self.severity.isprintable() or len(self.severity) > _LONGEST_SEVERITY:
            raise SettingsError(f"{where}: severity {self.severity[:100]!r}: use up to {_LONGEST_SEVERITY} letters")
        if not LEAST_EVERY_S <= self.every_s <= 86400:
            raise SettingsError(f"{where}: every {self.every_s:g} s cannot be used; use 100ms to 1d")
        if not 0 <= self.repeat_s < float("inf") or 0 < self.repeat_s < 60:
            raise SettingsError(f"{where}: repeat {self.repeat_s:g} s cannot be used; use 1m or more, or 0s for never")
        for name, value in (("for", self.for_s), ("resolve_after", self.resolve_after_s)):
            if not 0 <= value <= 30 * 86400:
                raise SettingsError(f"{where}: {name} {value:g} s cannot be used; use 0s to 30d")


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """All webhooks and all schedules; `dashboard` is where people's links lead, empty for none."""

    webhooks: tuple[Webhook, ...]
    schedules: tuple[Schedule, ...]
    dashboard: str = ""

    def __post_init__(self) -> None:
        for what, names, most in (
            ("webhook", [webhook.name for webhook in self.webhooks], MAX_WEBHOOKS),
            ("rule", [schedule.rule for schedule in self.schedules], MAX_RULES),
        ):
            if len(names) > most:
                raise SettingsError(f"{len(names)} {what}s are too many; use at most {most}")
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise SettingsError(f"{what} {twice} is there twice; give each a name of its own")
        known = [webhook.name for webhook in self.webhooks]
        for schedule in self.schedules:
            for name in schedule.webhooks:
                if name not in known:
                    raise SettingsError(f"rule {schedule.rule}: there is no webhook {name!r}{nearest(name, known)}")

    def webhook(self, name: str) -> Webhook:
        """Find a webhook by its name; raises SettingsError."""
        known = [webhook.name for webhook in self.webhooks]
        if name not in known:
            raise SettingsError(f"there is no webhook {name!r}{nearest(name, known)}")
        return self.webhooks[known.index(name)]


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """Settings, and what evaluates the rules over a connection of its own."""

    settings: AlertSettings
    evaluator: Callable[[Store], Evaluate]


def checked_name(what: str, name: str) -> None:
    """Raise SettingsError where something cannot be called so."""
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{what} {name[:100]!r}: use a name of up to 100 letters, digits, '.', '_' and '-'")


def nearest(name: str, known: Iterable[str]) -> str:
    """Name the nearest right word, or all of them, to be put behind a message."""
    known = list(known)
    if found := difflib.get_close_matches(name, known, 1):
        return f"; did you mean {found[0]!r}?"
    return f"; known are {', '.join(known)}" if known else "; there is none at all"
