"""Where gate reports are kept: sent to a running collector, or written into a store that nobody else has open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

import click
import httpx

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.guarding import headers_from_environment
from tailsight_collector.keep.power_cut import kept_safe
from tailsight_collector.receive.gate_reports import PATH
from tailsight_storage import ChdbDsn, QueryFailedError, StoreDsn, StoreInUseError, open_store, parse_dsn
from tailsight_storage.gate_reports import GateReportRow, keep_gate_report, read_gate_report

DEFAULT_PLACE = "http://127.0.0.1:4318"
PLACES = "a collector's OTLP address (http://host:4318), or a store: chdb:///folder, clickhouse://server:8123/database"
ATTEMPTS = 4
TIMEOUT_S = 10.0
MAX_WAIT_S = 5.0
_RETRYABLE = frozenset({429, 502, 503, 504})
_TOO_OLD = frozenset({404, 405})
_UNKNOWN_TABLE, _NOT_ALLOWED = 60, 497
_LONGEST_ANSWER = 300
_LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """A report that is in the store now; `is_new` is False where it was there before."""

    id: str
    is_new: bool


class Place(Protocol):
    """Where reports can be kept."""

    def keep(self, data: bytes) -> Kept:
        """Check a report and keep it; raises CommandError or StorageError."""


@dataclass(frozen=True, slots=True)
class CollectorPlace:
    """A running collector. `headers` may hold its token."""

    endpoint: str
    headers: Mapping[str, str]
    sleep: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """The address without a password that may stand in it."""
        parts = urlsplit(self.endpoint)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    def keep(self, data: bytes) -> Kept:
        """Send a report, again where the collector is busy or away for a moment."""
        row = read_gate_report(data)  # what is wrong with it is told without a collector
        with httpx.Client(timeout=TIMEOUT_S, headers={**self.headers, "Content-Type": "application/json"}) as client:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    answer = client.post(f"{self.endpoint}{PATH}", content=data)
                except httpx.HTTPError as error:
                    wrong = f"{self.name} does not answer: {str(error) or type(error).__name__}"
                    wait_s = 2.0**attempt / 4
                else:
                    if answer.status_code == httpx.codes.OK:
                        return _kept(self.name, answer, row)
                    wrong = _said(self.name, answer)
                    if answer.status_code not in _RETRYABLE:
                        break
                    asked = answer.headers.get("Retry-After", "")
                    wait_s = float(asked) if asked.isdecimal() else 2.0**attempt / 4
                if attempt < ATTEMPTS:
                    self.sleep(min(wait_s, MAX_WAIT_S))
        raise CommandError(wrong, UNREADABLE)


@dataclass(frozen=True, slots=True)
class StorePlace:
    """A store: a folder that no collector has open, or a ClickHouse server."""

    dsn: StoreDsn

    def keep(self, data: bytes) -> Kept:
        """Write a report into its table."""
        row = read_gate_report(data)
        if isinstance(self.dsn, ChdbDsn):
            try:
                with kept_safe(self.dsn.folder), open_store(self.dsn, create=True) as store:
                    return Kept(row.id, keep_gate_report(store, row))
            except StoreInUseError as error:
                raise CommandError(
                    f"store {self.dsn} is in use by a running collector, which takes reports at its OTLP address, like "
                    f"{DEFAULT_PLACE}",
                    UNREADABLE,
                ) from error
        try:
            with open_store(self.dsn) as store:
                return Kept(row.id, keep_gate_report(store, row))
        except QueryFailedError as error:
            if error.code == _NOT_ALLOWED:
                raise CommandError(
                    f"store {self.dsn} may only be read here; a collector takes reports at its OTLP address, like "
                    f"{DEFAULT_PLACE} ({error.detail})",
                    UNREADABLE,
                ) from error
            if error.code == _UNKNOWN_TABLE:
                raise CommandError(
                    f"store {self.dsn} has no table for reports: start a collector of this version with it once",
                    UNREADABLE,
                ) from error
            raise


def read_place(option: str, text: str) -> Place:
    """Read where to keep reports; raises UsageError."""
    scheme, _, rest = text.partition("://")
    if scheme in ("http", "https"):
        try:
            is_address = bool(urlsplit(text).hostname)
        except ValueError:
            is_address = False
        if not is_address:
            raise click.UsageError(f"{option} {text} names no host; use {PLACES}")
        endpoint = text.rstrip("/").removesuffix("/v1/traces").rstrip("/")
        return CollectorPlace(endpoint, headers_from_environment())
    if not rest:
        raise click.UsageError(f"{option} {text!r} is no place for reports; use {PLACES}")
    return StorePlace(parse_dsn(text))


def title_from_environment(environment: Mapping[str, str] = os.environ) -> str:
    """Name what a CI job judges, as GitHub and GitLab tell it: `acme/ranker #17`; nothing elsewhere."""
    said = environment.get
    if project := said("GITHUB_REPOSITORY", ""):
        number = said("GITHUB_REF", "").removeprefix("refs/pull/").partition("/")[0]
        ref = f"#{number}" if said("GITHUB_REF", "").startswith("refs/pull/") else said("GITHUB_REF_NAME", "")
    elif project := said("CI_PROJECT_PATH", ""):
        number = said("CI_MERGE_REQUEST_IID", "")
        ref = f"!{number}" if number else said("CI_COMMIT_REF_NAME", "")
    else:
        return ""
    return f"{project} {ref}".strip()[:_LONGEST_TITLE]


def _kept(endpoint: str, answer: httpx.Response, row: GateReportRow) -> Kept:
    said = _plain(answer)
    if said.get("id") != row.id:
        raise CommandError(f"{endpoint} answered 200, and not as a collector does; is that its OTLP port?", UNREADABLE)
    return Kept(row.id, bool(said.get("new")))


def _said(endpoint: str, answer: httpx.Response) -> str:
    status = answer.status_code
    if status in (401, 403):
        return (
            f"{endpoint} asks for a token that may send (status {status}): set "
            "OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'; `tailsight token create` makes one"
        )
    if status in _TOO_OLD:
        return (
            f"{endpoint} takes no reports (status {status}): name a collector's OTLP/HTTP port (4318 by default), and "
            "upgrade a collector that is older than this tailsight"
        )
    words = " ".join(str(_plain(answer).get("message") or answer.text).split())[:_LONGEST_ANSWER]
    return f"{endpoint} refused the report with status {status}{f': {words}' if words else ''}"


def _plain(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}
