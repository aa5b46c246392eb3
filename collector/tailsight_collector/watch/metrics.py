"""What the collector says about itself, as Prometheus reads it: one table, that makes `/metrics` and its documentation.

Nothing is counted here. The parts of the collector keep plain numbers, and a scrape reads them: a request costs no more
because somebody watches. Labels have few values, none of them a client's.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from tailsight_collector.keep.line import Line
from tailsight_collector.query.sql_watch import SqlWatch
from tailsight_collector.receive.http_guard import HttpGuard
from tailsight_collector.receive.in_flight import InFlight
from tailsight_collector.receive.intake import Intake
from tailsight_collector.watch.durations import Durations
from tailsight_collector.watch.logs import RateLimit

if TYPE_CHECKING:
    from tailsight_collector.alerts.service import Alerts

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


@dataclass(frozen=True, slots=True)
class SignalSource:
    """One signal's parts. `inserts`: how long the database took for a segment, or for a part of one."""

    name: str
    intake: Intake
    line: Line
    inserts: Durations


@dataclass(slots=True)
class Sources:
    """Where the numbers are. What is not there, as the SQL port of a collector with a server, has no samples."""

    signals: Sequence[SignalSource]
    guard: HttpGuard
    log_limit: RateLimit | None = None
    sql: SqlWatch | None = None
    alerts: Alerts | None = None
    in_flight: dict[str, InFlight] = field(default_factory=dict)


Sample = tuple[tuple[str, ...], float | Durations]
"""Values of the labels, in the table's order, and what was counted."""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric: a line of the table. Counters are named without the `_total` that Prometheus adds."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[Sources], Iterable[Sample]]

    @property
    def shown_name(self) -> str:
        """The name as queries have it."""
        return f"{self.name}_total" if self.kind == COUNTER else self.name

    @property
    def documentation(self) -> str:
        """Its line in docs/operations.md."""
        labels = ", ".join(f"`{label}`" for label in self.labels) or "–"
        return f"| `{self.shown_name}` | {self.kind} | {labels} | {self.help} |"


def _per_signal(read: Callable[[SignalSource], float | Durations]) -> Callable[[Sources], Iterator[Sample]]:
    return lambda sources: (((each.name,), read(each)) for each in sources.signals)


def _per_line(name: str) -> Callable[[Sources], Iterator[Sample]]:
    return _per_signal(lambda each: getattr(each.line.numbers(), name))


def _requests(sources: Sources) -> Iterator[Sample]:
    for each in sources.signals:
        for (protocol, status), count in tuple(each.intake.counts.answers.items()):
            yield (each.name, protocol, str(status)), count


def _received_bytes(sources: Sources) -> Iterator[Sample]:
    for each in sources.signals:
        for protocol, size_bytes in tuple(each.intake.counts.received_bytes.items()):
            yield (each.name, protocol), size_bytes


def _rejected(sources: Sources) -> Iterator[Sample]:
    for each in sources.signals:
        for reason, count in tuple(each.intake.counts.rejected.items()):
            yield (each.name, reason), count


def _sql_queries(sources: Sources) -> Iterator[Sample]:
    if sources.sql:
        for outcome, count in tuple(sources.sql.outcomes.items()):
            yield (outcome,), count


def _alert_ages(sources: Sources) -> Iterator[Sample]:
    if sources.alerts:
        now_s = time.monotonic()
        for rule, at_s in tuple(sources.alerts.evaluated_s.items()):
            yield (rule,), now_s - at_s


def _alert_messages(sources: Sources) -> Iterator[Sample]:
    for name, courier in sources.alerts.couriers.items() if sources.alerts else ():
        for outcome, count in tuple(courier.outcomes.items()):
            yield (name, outcome), count


TABLE = (
    Described(
        "tailsight_build_info", GAUGE, "Always 1; the versions are in the labels.", ("version", "python"),
        lambda _: [((version("tailsight"), platform.python_version()), 1)],
    ),
    Described(
        "tailsight_requests", COUNTER,
        "Answered requests by signal (traces, metrics), protocol (http, grpc) and HTTP status, or the one that stands "
        "for gRPC's code; 499: the client left before.",
        ("signal", "protocol", "status"), _requests,
    ),
    Described(
        "tailsight_received_bytes", COUNTER, "Bytes of requests' bodies, packed as they came.", ("signal", "protocol"),
        _received_bytes,
    ),
    Described(
        "tailsight_accepted", COUNTER, "Spans (traces) and data points (metrics) that were acknowledged.", ("signal",),
        _per_signal(lambda each: each.intake.counts.accepted),
    ),
    Described(
        "tailsight_rejected", COUNTER, "Spans and data points that are not stored, by reason.", ("signal", "reason"),
        _rejected,
    ),
    Described(
        "tailsight_repeated_batches", COUNTER,
        "Numbered batches of our SDK that came again and were acknowledged without being stored again.", ("signal",),
        _per_signal(lambda each: each.intake.repeats.count),
    ),
    Described(
        "tailsight_acknowledgement_duration_seconds", HISTOGRAM,
        "From a request's headers to its 200: its arrival, its check, and the journal's sync.", ("signal",),
        _per_signal(lambda each: each.intake.counts.acknowledgements),
    ),
    Described(
        "tailsight_in_flight_requests", GAUGE, "Requests that have arrived and are not answered yet.", ("protocol",),
        lambda sources: [((name,), each.requests) for name, each in sources.in_flight.items()],
    ),
    Described(
        "tailsight_in_flight_bytes", GAUGE,
        "Bytes of these in memory, packed and unpacked; clients get 503 above 256 MiB.",
        ("protocol",), lambda sources: [((name,), each.whole_bytes) for name, each in sources.in_flight.items()],
    ),
    Described(
        "tailsight_journal_bytes", GAUGE, "Acknowledged bytes on the disk that are not loaded yet.", ("signal",),
        _per_line("journal_bytes"),
    ),
    Described(
        "tailsight_journal_kept_bytes", GAUGE,
        "Bytes on the disk that are loaded, and kept until a power cut could not take them from the database.",
        ("signal",), _per_line("kept_bytes"),
    ),
    Described(
        "tailsight_journal_limit_bytes", GAUGE, "How much both may be together; above, clients get 503.", ("signal",),
        _per_line("max_bytes"),
    ),
    Described(
        "tailsight_journal_waiting_segments", GAUGE, "Closed segments that wait to be loaded.", ("signal",),
        _per_line("waiting_segments"),
    ),
    Described(
        "tailsight_journal_oldest_age_seconds", GAUGE, "Age of the oldest record that is not loaded; 0 where all are.",
        ("signal",), _per_line("oldest_unloaded_age_s"),
    ),
    Described(
        "tailsight_quarantined_records", GAUGE, "Records in the quarantine, with the database's message beside each.",
        ("signal",), _per_line("quarantined_records"),
    ),
    Described(
        "tailsight_loaded_segments", COUNTER, "Segments that the database has confirmed.", ("signal",),
        _per_line("loads"),
    ),
    Described(
        "tailsight_loading_fails", GAUGE, "1 while the last attempt to load a segment has failed.", ("signal",),
        _per_signal(lambda each: int(each.line.is_degraded)),
    ),
    Described(
        "tailsight_insert_duration_seconds", HISTOGRAM,
        "How long the database took for an insert that it confirmed: a segment, or a part of one.", ("signal",),
        _per_signal(lambda each: each.inserts),
    ),
    Described(
        "tailsight_sql_queries", COUNTER,
        "Statements at the SQL port by outcome: ok, failed, refused, unauthenticated, rate_limited, busy, cancelled, "
        "too_long, too_large, too_much_memory.", ("outcome",), _sql_queries,
    ),
    Described(
        "tailsight_sql_query_duration_seconds", HISTOGRAM,
        "How long statements at the SQL port took until their answer began, waiting included.", (),
        lambda sources: [((), sources.sql.durations)] if sources.sql else [],
    ),
    Described(
        "tailsight_http_connections", GAUGE, "Open connections of the HTTP ports.", (),
        lambda sources: [((), sources.guard.connection_count)],
    ),
    Described(
        "tailsight_http_connections_limit", GAUGE, "How many there may be.", (),
        lambda sources: [((), sources.guard.limits.connections)],
    ),
    Described(
        "tailsight_http_connections_closed", COUNTER,
        "Connections that were ended for what their client did, by reason: slow_headers, slow_body, slow_reader, "
        "slow_handshake, "
        "header_bytes, not_http, pipelined, too_many_connections (the longest idle one made room, or none could).",
        ("reason",), lambda sources: [((reason,), count) for reason, count in tuple(sources.guard.closed.items())],
    ),
    Described(
        "tailsight_alerts_open", GAUGE, "Alerts of each rule that have begun and are not resolved.", ("rule",),
        lambda sources: (
            [((rule,), count) for rule, count in sources.alerts.open_by_rule.items()] if sources.alerts else []
        ),
    ),
    Described(
        "tailsight_alert_evaluations", COUNTER, "Evaluations of each rule by outcome: ok, failed.", ("rule", "outcome"),
        lambda sources: tuple(sources.alerts.evaluations.items()) if sources.alerts else [],
    ),
    Described(
        "tailsight_alert_evaluation_age_seconds", GAUGE,
        "How long ago each rule was last evaluated without an error, or the collector started.", ("rule",), _alert_ages,
    ),
    Described(
        "tailsight_alert_evaluation_duration_seconds", HISTOGRAM, "How long evaluations took.", (),
        lambda sources: [((), sources.alerts.durations)] if sources.alerts else [],
    ),
    Described(
        "tailsight_alert_messages", COUNTER,
        "Attempts to deliver to each webhook: delivered, failed; given_up: messages that it will never get.",
        ("webhook", "outcome"), _alert_messages,
    ),
    Described(
        "tailsight_alert_messages_waiting", GAUGE, "Messages that a webhook has not taken yet.", ("webhook",),
        lambda sources: (
            [((name,), each.waiting) for name, each in sources.alerts.couriers.items()] if sources.alerts else []
        ),
    ),
    Described(
        "tailsight_log_messages_left_out", COUNTER,
        "Log messages that were not written, because there were many alike.", (),
        lambda sources: [((), sources.log_limit.suppressed)] if sources.log_limit else [],
    ),
)  # fmt: skip


class Metrics:
    """The page of `/metrics`: the table and what Prometheus's own client tells of the process."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._registry = CollectorRegistry()  # of our own: nothing else in this process gets in
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Make the page and its content type: Prometheus text, or OpenMetrics for whoever accepts that."""
        try:
            encode, kind = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is no number
            encode, kind = choose_encoder("")
        return encode(self._registry), kind

    def collect(self) -> Iterator[Metric]:
        """Read all numbers, as the registry asks for them."""
        for described in TABLE:
            yield _family(described, self._sources)

    def describe(self) -> list[Metric]:
        """Leave the registry without a look at numbers that are not there yet."""
        return []


def _family(described: Described, sources: Sources) -> Metric:
    samples = list(described.read(sources))
    if described.kind == HISTOGRAM:
        histogram = HistogramMetricFamily(described.name, described.help, labels=described.labels)
        for labels, durations in samples:
            assert isinstance(durations, Durations)  # noqa: S101 - the table is ours
            histogram.add_metric(labels, list(durations.buckets()), durations.sum_s)
        return histogram
    kind = CounterMetricFamily if described.kind == COUNTER else GaugeMetricFamily
    family = kind(described.name, described.help, labels=described.labels)
    for labels, value in samples:
        assert not isinstance(value, Durations)  # noqa: S101 - the table is ours
        family.add_metric(labels, value)
    return family


if __name__ == "__main__":
    for described in TABLE:
        print(described.documentation)  # noqa: T201 - for docs/operations.md
