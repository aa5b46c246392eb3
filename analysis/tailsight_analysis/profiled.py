"""What a profiled process ran, from the store: its spans, the requests that they belong to, and of which class each is.

A request is of the tail, or typical, among all requests of its service in the window and the ten minutes before it: a
short recording alone has too few for a p99.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_analysis.profiles import StageSpan
from tailsight_analysis.queries import query
from tailsight_analysis.reading import request_parameters
from tailsight_analysis.scope import NS_PER_MS, NS_PER_S, Filters, Window
from tailsight_analysis.statistics.paired import weighted_quantile
from tailsight_analysis.tail import LEAST_QUANTILE
from tailsight_storage import Store

MAX_SPANS = 2_000_000
BEFORE_NS = 600 * NS_PER_S
TYPICAL = (0.4, 0.6)
LEAST_REQUESTS = 20  # of fewer no classes are made
_AROUND_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True)
class ServiceProcess:
    """A process that sent spans lately, as they name it. `latest_ns`: when its last span began."""

    service: str
    host: str
    pid: int
    spans: int
    latest_ns: int


@dataclass(frozen=True, slots=True)
class Labels:
    """What a span says of the process and of its work, beside what samples are joined by."""

    service: str
    version: str
    model: str


@dataclass(frozen=True, slots=True)
class ProcessSpans:
    """The spans of a process in a window, in the order of their starts; `labels` by span id.

    `complete`: they are of all its requests, for none was left out by a sampling rate.
    """

    spans: tuple[StageSpan, ...]
    labels: Mapping[str, Labels]
    complete: bool


@dataclass(frozen=True, slots=True)
class RequestClasses:
    """How long each request took, in ns, and its class: "tail", "typical" or "". Both by trace id.

    `threshold_ms` is where the tail begins; None where there were too few requests to tell. Where requests were
    sampled, the quantiles are those of all requests (docs/analysis/sampling.md), and typical are only those that the
    rate kept: what was kept for being slow or failed is not what usually happens.
    """

    durations_ns: Mapping[str, int]
    classes: Mapping[str, str]
    threshold_ms: float | None


def processes(store: Store, window: Window, *, service: tuple[str, ...] = (), pid: int = 0) -> list[ServiceProcess]:
    """List the processes that sent spans in the window, the latest first. Raises StorageError."""
    rows = store.ask(
        query("profiled_processes"), since_ns=window.since_ns, until_ns=window.until_ns, service=list(service), pid=pid
    )
    return [ServiceProcess(**{name: row[name] for name in ServiceProcess.__slots__}) for row in rows]


def arrived(store: Store, window: Window, host: str, pid: int) -> tuple[int, bool]:
    """Count a process' spans that began in the window, and tell whether later ones have come. Raises StorageError."""
    [row] = store.ask(
        query("profiled_arrival"),
        since_ns=window.since_ns,
        until_ns=window.until_ns + BEFORE_NS,
        end_ns=window.until_ns,
        host=host,
        pid=pid,
    )
    return int(row["before"]), bool(row["after"])


def process_spans(store: Store, window: Window, host: str, pid: int) -> ProcessSpans:
    """Read the spans of a process in the window, and those of the minute around it, which may reach into it.

    Raises QuestionError where there are more than can be joined, and StorageError.
    """
    rows = store.ask(
        query("profiled_spans"),
        since_ns=max(0, window.since_ns - _AROUND_NS),
        until_ns=window.until_ns,
        host=host,
        pid=pid,
        most=MAX_SPANS + 1,
    )
    if len(rows) > MAX_SPANS:
        raise QuestionError(f"process {pid} has more than {MAX_SPANS:,} spans in {window.label}: record for less time")
    spans, labels = [], {}
    complete = not any(row["sampled"] for row in rows)
    for row in rows:
        labels[row["span_id"]] = Labels(row["service"], row["version"], row["model"])
        if row["end_ns"] >= window.since_ns:
            names = [name for name in StageSpan.__slots__ if name in row]
            spans.append(StageSpan(**{name: row[name] for name in names}))
    return ProcessSpans(tuple(spans), labels, complete)


def request_classes(store: Store, window: Window, service: str, quantile: float = 0.99) -> RequestClasses:
    """Read the requests of a service around the window, and class them. Raises StorageError."""
    if not LEAST_QUANTILE <= quantile < 1:
        raise QuestionError(f"quantile {quantile} is not between {LEAST_QUANTILE} and 1")
    wide = Window(max(0, window.since_ns - BEFORE_NS), window.until_ns)
    filters = Filters(service=(service,) if service else ())
    parameters = request_parameters(store, wide, filters)
    rows = store.ask(query("profiled_requests"), **parameters)
    durations_ns = {str(row["trace_id"]): int(row["duration_ns"]) for row in rows}
    chosen = {str(row["trace_id"]) for row in rows if row["chosen"]}
    if len(durations_ns) < LEAST_REQUESTS or len(chosen) == len(durations_ns):
        return RequestClasses(durations_ns, {}, None)
    durations = np.array(list(durations_ns.values()), dtype=np.float64)
    weights = np.array([float(row["weight"]) for row in rows])
    low, high, tail = weighted_quantile(durations, weights, [*TYPICAL, quantile]).tolist()
    classes = {}
    for trace_id, duration_ns in durations_ns.items():
        if duration_ns >= tail > high:
            classes[trace_id] = "tail"
        elif low <= duration_ns <= high and trace_id not in chosen:
            classes[trace_id] = "typical"
    return RequestClasses(durations_ns, classes, float(tail) / NS_PER_MS)


def stored_p99(store: Store, window: Window, service: str) -> tuple[int, float]:
    """Count the stored requests of a window, and return their p99 in ms, unweighted. Raises StorageError.

    Where the SDK keeps a sample, this is the p99 of the sample: fit to be compared with another window's alone.
    """
    parameters = request_parameters(store, window, Filters(service=(service,) if service else ()))
    [row] = store.ask(query("request_latency"), **parameters)
    return int(row["requests"]), float(row["quantiles_ns"][3]) / NS_PER_MS if row["requests"] else 0.0


def no_spans(pid: int, host: str, window: Window) -> NotEnoughDataError:
    """Say that a recording has nothing to be joined to."""
    return NotEnoughDataError(
        f"the store has no spans of process {pid} on {host or 'any host'} in {window.label}, so its samples belong "
        "to no stage; does it send its spans to this store?"
    )
