"""What did the devices send, and did all of it arrive? See docs/analysis/delivery.md.

Our SDK's sidecars number their batches and count what they record, send and drop. So loss is a difference of counters,
never an estimate. What others send has no numbers, and is not spoken about here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import groupby
from typing import Any

from tailsight_analysis.errors import NoSendersError, QuestionError
from tailsight_analysis.queries import query
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, NS_PER_S, Filters, Window, describe, iso
from tailsight_storage import Store

DEFAULT_GRACE_S = 300.0
SENDER_FILTERS = ("service", "host", "region", "hardware", "version", "run")
MAX_GAPS = 100
# The SDK drops these when they stand in a numbered batch already: such a batch is missing here, and counted as that.
DROPPED_AS_BATCHES = frozenset({"spool_full", "refused", "retries_exhausted"})
# The SDK learns it from the collector, and the store has counted it itself.
REJECTED = "rejected"
MISSING_BATCHES = "missing_batches"
UNACCOUNTED = "unaccounted"


class State(StrEnum):
    """Whether more can come of a sender."""

    RUNNING = "running"  # heard of within the grace
    SILENT = "silent"  # not heard of for longer, and its last batch has not come: what it did since is not known
    ENDED = "ended"  # its last batch has come


@dataclass(frozen=True, slots=True)
class Gap:
    """Batches `first` to `last`, which have not arrived, and the spans in them; noticed when the next one came."""

    first: int
    last: int
    spans: int
    noticed_ns: int

    @property
    def label(self) -> str:
        """As people write it: `17–19`, or `25`."""
        return f"{self.first}–{self.last}" if self.last > self.first else f"{self.first}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "first": self.first,
            "last": self.last,
            "batches": self.last - self.first + 1,
            "spans": self.spans,
            "noticed": iso(self.noticed_ns),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Spans, of one sender or of several together.

    `sent` equals `stored` + `rejected` + `lost_by["missing_batches"]` + `outstanding`.
    """

    recorded: int
    sent: int
    stored: int
    rejected: int
    lost_by: Mapping[str, int]
    outstanding: int
    batches: int
    missing_batches: int
    repeated_batches: int
    repeated_spans: int
    kept: Mapping[str, int]
    sampled_out: Mapping[str, int]
    contradictions: int

    @property
    def lost(self) -> int:
        """Spans that will never be in the store."""
        return sum(self.lost_by.values())

    def to_json(self) -> dict[str, Any]:
        """Plain data, in spans unless said."""
        return {
            "sent": self.sent,
            "stored": self.stored,
            "lost": self.lost,
            "lost_by": dict(self.lost_by),
            "outstanding": self.outstanding,
            "recorded": self.recorded,
            "rejected": self.rejected,
            "batches": self.batches,
            "missing_batches": self.missing_batches,
            "repeated_batches": self.repeated_batches,
            "repeated_spans": self.repeated_spans,
            "kept_requests": dict(self.kept),
            "sampled_out_requests": dict(self.sampled_out),
            "contradictions": self.contradictions,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender(Account):
    """One life of one service's sidecar. `gaps` are its first MAX_GAPS, of `gap_count`.

    `settled`: its last batch has come, and the grace after it is over: what is missing now is lost.
    """

    sender: str
    service: str
    host: str
    region: str
    hardware: str
    version: str
    run: str
    state: State
    settled: bool
    highest: int
    first_heard_ns: int
    last_heard_ns: int
    gaps: tuple[Gap, ...]
    gap_count: int
    short_batches: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "sender": self.sender,
            "service": self.service,
            "host": self.host,
            "region": self.region,
            "hardware": self.hardware,
            "version": self.version,
            "run": self.run,
            "state": str(self.state),
            "settled": self.settled,
            "first_heard": iso(self.first_heard_ns),
            "last_heard": iso(self.last_heard_ns),
            "highest_batch": self.highest,
            **Account.to_json(self),
            "short_batches": self.short_batches,
            "gap_count": self.gap_count,
            "gaps": [gap.to_json() for gap in self.gaps],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Device(Account):
    """All senders of one host together, those that lost most first."""

    host: str
    senders: tuple[Sender, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "host": self.host,
            **Account.to_json(self),
            "senders": [sender.to_json() for sender in self.senders],
        }


@dataclass(frozen=True, slots=True)
class Delivery:
    """The answer, as of the window's end; devices that lost most first."""

    window: Window
    filters: Filters
    grace_s: float
    devices: tuple[Device, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/analysis/delivery.md."""
        return {
            "window": self.window.to_json(),
            "filters": self.filters.to_json(),
            "grace_s": self.grace_s,
            "devices": [device.to_json() for device in self.devices],
        }


def delivery(store: Store, window: Window, filters: Filters = NO_FILTERS, grace_s: float = DEFAULT_GRACE_S) -> Delivery:
    """Account for every sender of whom anything was received in the window, over its whole life up to the window's end.

    Of the filters, those of SENDER_FILTERS. What is missing of a sender counts as lost once its last batch has come and
    nothing more has for `grace_s`. Raises NoSendersError where nobody who numbers batches was heard.
    """
    ignored = [name for name in filters.to_json() if name not in SENDER_FILTERS]
    if ignored:
        raise QuestionError(f"a batch has no {ignored[0]}: senders can be limited by {', '.join(SENDER_FILTERS)}")
    if not 0 <= grace_s < float("inf"):
        raise QuestionError(f"a grace of {grace_s} s makes no sense: use 0 or more")
    limits = filters.parameters()
    rows = store.ask(
        query("senders"),
        since_ns=window.since_ns,
        until_ns=window.until_ns,
        max_gaps=MAX_GAPS,
        **{name: limits[name] for name in SENDER_FILTERS},
    )
    if not rows:
        raise NoSendersError(f"no numbered batch was received in {describe(window, filters)}")
    found = sorted((_sender(row, window.until_ns, grace_s) for row in rows), key=lambda sender: sender.host)
    devices = [_device(host, tuple(senders)) for host, senders in groupby(found, key=lambda sender: sender.host)]
    devices.sort(key=lambda device: (-device.lost, -device.outstanding, device.host))
    return Delivery(window, filters, grace_s, tuple(devices))


def senders_heard(store: Store) -> tuple[Window, dict[str, list[str]]] | None:
    """When anything of senders was received at all, and from which hosts and services; None where nobody numbers."""
    row = store.ask(query("senders_heard"))[0]
    if not row["batches"]:
        return None
    window = Window(int(row["first_ns"]), int(row["last_ns"]) + NS_PER_MS)
    return window, {name: [str(value) for value in row[name]] for name in ("host", "service")}


def _sender(row: Mapping[str, Any], now_ns: int, grace_s: float) -> Sender:
    last_heard_ns = int(row["last_heard_ms"]) * NS_PER_MS
    quiet = now_ns - last_heard_ns >= grace_s * NS_PER_S
    state = State.ENDED if row["ended"] else State.SILENT if quiet else State.RUNNING
    settled = state is State.ENDED and quiet
    dropped, sampled_out = _counts(row["dropped"]), _counts(row["sampled_out"])
    recorded, sent, missing = int(row["recorded"]), int(row["sent"]), int(row["missing_spans"])

    lost_by = {reason: spans for reason, spans in dropped.items() if reason not in {*DROPPED_AS_BATCHES, REJECTED}}
    never_sent = sum(lost_by.values())
    # before that only what the sender itself has given up: the rest may wait in its spool, or be on its way
    given_up = sum(spans for reason, spans in dropped.items() if reason in DROPPED_AS_BATCHES)
    lost_by[MISSING_BATCHES] = missing if settled else min(missing, given_up)
    lost_by[REJECTED] = int(row["rejected"])
    if state is State.ENDED and not sampled_out:  # with sampling, spans of requests that were not kept are recorded too
        lost_by[UNACCOUNTED] = max(0, recorded - sent - never_sent)
    return Sender(
        sender=str(row["sender"]),
        **{name: str(row[name]) for name in SENDER_FILTERS},
        state=state,
        settled=settled,
        highest=int(row["highest"]),
        first_heard_ns=int(row["first_heard_ms"]) * NS_PER_MS,
        last_heard_ns=last_heard_ns,
        gaps=tuple(
            Gap(int(first), int(last), int(spans), int(noticed_ms) * NS_PER_MS)
            for first, last, spans, noticed_ms in row["first_gaps"]
        ),
        gap_count=int(row["gaps"]),
        short_batches=int(row["short_batches"]),
        recorded=recorded,
        sent=sent,
        stored=int(row["stored"]),
        rejected=int(row["rejected"]),
        lost_by=_counts(lost_by),
        outstanding=missing - lost_by[MISSING_BATCHES],
        batches=int(row["batches"]),
        missing_batches=int(row["missing_batches"]),
        repeated_batches=int(row["repeated_batches"]),
        repeated_spans=int(row["repeated_spans"]),
        kept=_counts(row["kept"]),
        sampled_out=sampled_out,
        contradictions=int(row["contradictions"]),
    )


def _device(host: str, senders: tuple[Sender, ...]) -> Device:
    def total(name: str) -> Any:
        values = [getattr(sender, name) for sender in senders]
        return _added(values) if isinstance(values[0], Mapping) else sum(values)

    return Device(
        host=host,
        senders=tuple(sorted(senders, key=_worst_first)),
        **{field.name: total(field.name) for field in fields(Account)},
    )


def _worst_first(sender: Sender) -> tuple[int, int, int, str]:
    return -sender.lost, -sender.outstanding, -sender.last_heard_ns, sender.sender


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    result: dict[str, int] = {}
    for each in counts:
        for reason, count in each.items():
            result[reason] = result.get(reason, 0) + count
    return _counts(result)


def _counts(counts: Mapping[str, Any]) -> dict[str, int]:
    """Without reasons that never occurred, most frequent first."""
    known = {str(reason): int(count) for reason, count in counts.items() if count}
    return dict(sorted(known.items(), key=lambda item: (-item[1], item[0])))
