"""Where a question looks: the window of time and the filters, and how both are bound to a query's parameters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from tailsight_analysis.errors import QuestionError

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
DEFAULT_WINDOW_S = 3600
# SQL adds an hour on either side of a window (sql/around.sql), and times are Int64 nanoseconds.
_EARLIEST_NS = 0
_LATEST_NS = 9_000_000_000 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Window:
    """The half-open span of time [since_ns, until_ns), in nanoseconds since 1970, to which start times belong."""

    since_ns: int
    until_ns: int

    def __post_init__(self) -> None:
        if not _EARLIEST_NS <= self.since_ns < self.until_ns <= _LATEST_NS:
            raise QuestionError(
                f"window from {self.since_ns} to {self.until_ns} ns since 1970 is empty or impossible: "
                "its end must come after its start"
            )

    @classmethod
    def last(cls, seconds: float = DEFAULT_WINDOW_S, *, now_ns: int | None = None) -> Window:
        """Return the window of the last `seconds` until now."""
        until_ns = time.time_ns() if now_ns is None else now_ns
        return cls(until_ns - round(seconds * NS_PER_S), until_ns)

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return (self.until_ns - self.since_ns) / NS_PER_S

    @property
    def label(self) -> str:
        """Human text in UTC: `2026-11-22 07:00:00 – 08:00:00 UTC (1 h)`."""
        since, until = _utc(self.since_ns), _utc(self.until_ns)
        finer = self.duration_s < 10
        first, last = _clock(self.since_ns, finer=finer), _clock(self.until_ns, finer=finer)
        day = "" if since.date() == until.date() else f"{until:%Y-%m-%d} "
        return f"{since:%Y-%m-%d} {first} – {day}{last} UTC ({_length(self.duration_s)})"

    def to_json(self) -> dict[str, str | int]:
        """Plain data: both ends as ISO 8601 text in UTC and as nanoseconds."""
        return {
            "since": iso(self.since_ns),
            "until": iso(self.until_ns),
            "since_ns": self.since_ns,
            "until_ns": self.until_ns,
            "label": self.label,
        }


@dataclass(frozen=True, slots=True)
class Filters:
    """What a question is limited to: any of the values within a field, all of the fields together; empty: no limit.

    `service` also decides what a request is: with it, a request is an entry span of that service.
    """

    service: tuple[str, ...] = ()
    stage: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()
    version: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    region: tuple[str, ...] = ()

    def parameters(self) -> dict[str, list[str]]:
        """As bound parameters of sql/filters.sql and sql/requests.sql."""
        return {field.name: list(getattr(self, field.name)) for field in fields(self)}

    @property
    def label(self) -> str:
        """Human text: `service=ranker, hardware=L4|T4`; empty without filters."""
        return ", ".join(f"{name}={'|'.join(values)}" for name, values in self.parameters().items() if values)

    def to_json(self) -> dict[str, list[str]]:
        """Plain data: the fields that limit something."""
        return {name: values for name, values in self.parameters().items() if values}


NO_FILTERS = Filters()


def scope_parameters(window: Window, filters: Filters) -> dict[str, object]:
    """Bind a window and filters to a query that includes sql/requests.sql or sql/filters.sql."""
    return {"since_ns": window.since_ns, "until_ns": window.until_ns, **filters.parameters()}


def describe(window: Window, filters: Filters) -> str:
    """Name a scope in an error message."""
    limits = f" with {filters.label}" if filters.label else ""
    return f"{window.label}{limits}"


def as_names(value: str | Sequence[str] | None) -> list[str]:
    """One name, several, or none."""
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def iso(time_ns: int) -> str:
    """ISO 8601 text in UTC, to the nanosecond."""
    return f"{_utc(time_ns):%Y-%m-%dT%H:%M:%S}.{time_ns % NS_PER_S:09}Z"


def _utc(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC)


def _clock(time_ns: int, *, finer: bool) -> str:
    text = f"{_utc(time_ns):%H:%M:%S}"
    return f"{text}.{time_ns % NS_PER_S // NS_PER_MS:03}" if finer else text


def _length(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = timedelta(seconds=round(seconds))
    hours, rest = divmod(whole.seconds, 3600)
    parts = [(whole.days, "d"), (hours, "h"), (rest // 60, "min"), (rest % 60, "s")]
    named = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(named[:2])
