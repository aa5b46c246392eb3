"""What is looked at, as a value: its form in the address is stable and readable, so that a copied link opens it again.

    ?time=6h&service=ranker&service=search&hardware=NVIDIA+L4&by=hardware
    ?time=7d&over=run&metric=p95&baseline=nightly-41&candidate=nightly-42
    ?time=custom&from=2026-11-22T07:00Z&to=2026-11-22T08:00Z&run=pr-17&quantile=p99.9

Times are UTC, to the minute. What cannot be read is left at its default, and said in a note.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from tailsight_analysis import DIMENSIONS, Filters

CUSTOM = "custom"
ALL_TIME = "all"
PRESETS: dict[str, tuple[str, int | None]] = {  # what people read, seconds
    "15m": ("Last 15 minutes", 15 * 60),
    "1h": ("Last hour", 3600),
    "6h": ("Last 6 hours", 6 * 3600),
    "24h": ("Last 24 hours", 24 * 3600),
    "7d": ("Last 7 days", 7 * 86400),
    ALL_TIME: ("All time", None),
    CUSTOM: ("From … to …", None),
}
FILTERS = ("service", "hardware", "version", "model", "run")
QUANTILES = {"p90": 0.9, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
SCALES = ("log", "linear")
SPANS = ("60", "300")
VARIANTS = ("model", "version", "hardware")
OVER = ("version", "run", "time")
AUTO = "auto"
METRICS = (AUTO, "p50", "p95", "p99", "mean", "jitter")
GRAPHS = ("all", "tail", "typical", "difference")
SIDES = ("classes", "runs")
MOST_SEARCHED = 200  # characters of a search
VIEW_KEYS = {  # the choices that each view has
    "stages": ("by", "scale"),
    "tail": ("quantile",),
    "trace": ("id", "spans", "quantile"),
    "profiles": ("stage", "graph", "sides", "first", "second", "search"),
    "jitter": ("deadline",),
    "hardware": ("variants",),
    "regressions": ("over", "metric", "scale", "baseline", "candidate", "report"),
}
VIEW_CHOICES = tuple(dict.fromkeys(name for names in VIEW_KEYS.values() for name in names))
# of a custom time; without a zone, as the widgets have it
FIRST, LAST = datetime.fromisoformat("1970-01-02"), datetime.fromisoformat("2200-01-01")


@dataclass(frozen=True, slots=True)
class Selection:
    """The choices of all views. `since` and `until` (UTC, without a zone) count where `time` is `custom`."""

    time: str = "1h"
    since: datetime | None = None
    until: datetime | None = None
    filters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by: str = "stage"
    scale: str = "log"
    quantile: str = "p99"
    id: str = ""
    spans: str = SPANS[0]
    deadline: str = ""
    variants: str = VARIANTS[0]
    over: str = OVER[0]
    metric: str = METRICS[0]
    baseline: str = ""
    candidate: str = ""
    report: str = ""
    stage: str = ""
    graph: str = GRAPHS[0]
    sides: str = SIDES[0]
    first: str = ""
    second: str = ""
    search: str = ""

    @property
    def as_filters(self) -> Filters:
        """The filters for analysis."""
        return Filters(**{name: self.filters.get(name, ()) for name in FILTERS})

    def to_address(self, view: str) -> dict[str, str | list[str]]:
        """Return the address' parameters for a view; what is at its default and speaks for itself is left out."""
        found: dict[str, str | list[str]] = {"time": self.time}
        if self.time == CUSTOM and self.since and self.until:
            found["from"], found["to"] = minute(self.since), minute(self.until)
        for name in FILTERS:
            if values := self.filters.get(name, ()):
                found[name] = list(values)
        for name in VIEW_KEYS[view]:
            value = getattr(self, name)
            if value != getattr(DEFAULT, name):
                found[name] = value
        return found


DEFAULT = Selection()


def from_address(parameters: Mapping[str, Sequence[str]]) -> tuple[Selection, tuple[str, ...]]:
    """Read an address' parameters; the notes say what was ignored and what would have been right."""
    notes: list[str] = []
    known = ("time", "from", "to", *FILTERS, *VIEW_CHOICES)
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            notes.append(f"{name} is no setting{f'; did you mean {near[0]}?' if near else ''}")

    def one_of(name: str, allowed: Sequence[str], default: str) -> str:
        value = _last(parameters, name)
        if value is None or value in allowed:
            return value or default
        notes.append(f"{name}={value} is unknown; it can be {', '.join(allowed)}")
        return default

    selection = Selection(
        time=one_of("time", tuple(PRESETS), CUSTOM if "from" in parameters or "to" in parameters else DEFAULT.time),
        filters={
            name: values for name in FILTERS if (values := tuple(dict.fromkeys(filter(None, parameters.get(name, ())))))
        },
        by=one_of("by", DIMENSIONS, DEFAULT.by),
        scale=one_of("scale", SCALES, DEFAULT.scale),
        quantile=one_of("quantile", tuple(QUANTILES), DEFAULT.quantile),
        id=_last(parameters, "id") or "",
        spans=one_of("spans", SPANS, DEFAULT.spans),
        deadline=_last(parameters, "deadline") or "",
        variants=one_of("variants", VARIANTS, DEFAULT.variants),
        over=one_of("over", OVER, DEFAULT.over),
        metric=one_of("metric", METRICS, DEFAULT.metric),
        baseline=_last(parameters, "baseline") or "",
        candidate=_last(parameters, "candidate") or "",
        report=_last(parameters, "report") or "",
        stage=_last(parameters, "stage") or "",
        graph=one_of("graph", GRAPHS, DEFAULT.graph),
        sides=one_of("sides", SIDES, DEFAULT.sides),
        first=_last(parameters, "first") or "",
        second=_last(parameters, "second") or "",
        search=(_last(parameters, "search") or "")[:MOST_SEARCHED],
    )
    if selection.time != CUSTOM:
        return selection, tuple(notes)
    since, until = (_read_minute(name, _last(parameters, name), notes) for name in ("from", "to"))
    if since and until:
        until = until + timedelta(minutes=1) if until.second or until.microsecond else until
        since, until = (moment.replace(second=0, microsecond=0) for moment in (since, until))
        if since < until:
            return replace(selection, since=since, until=until), tuple(notes)
        notes.append(f"from={minute(since)} is not before to={minute(until)}")
    return replace(selection, time=DEFAULT.time), tuple(notes)


def minute(moment: datetime) -> str:
    """Write a UTC time without a zone, to the minute: `2026-11-22T07:00Z`."""
    return f"{moment:%Y-%m-%dT%H:%M}Z"


def _last(parameters: Mapping[str, Sequence[str]], name: str) -> str | None:
    values = parameters.get(name)
    return values[-1] if values else None


def _read_minute(name: str, text: str | None, notes: list[str]) -> datetime | None:
    if text is None:
        notes.append(f"{name} is missing; a custom time takes from and to, like {name}=2026-11-22T07:00Z")
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)  # "+01:00" arrives as " 01:00"
        moment = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        moment = None
    if moment is None or not FIRST <= moment <= LAST:
        notes.append(f"{name}={text} is no time; write it like 2026-11-22T07:00Z")
        return None
    return moment
