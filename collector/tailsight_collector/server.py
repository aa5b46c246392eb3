"""One collector process: the OTLP ports, the SQL port, the journals and the loaders, from start to clean end.

Order of the start: the journals' folders are taken, the store is opened and migrated, what a crash left is queued for
loading, and only then do the ports open. Order of the end: ports close, the journals are synced and closed, the loaders
load what they can in a few seconds; the rest waits on the disk for the next start.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

from tailsight_collector.alerts.settings import STATE_FILE
from tailsight_collector.errors import CollectorFailedError, SettingsError
from tailsight_collector.guard import exposure
from tailsight_collector.guard.access import Access, Caller
from tailsight_collector.guard.tls_door import protocol_of
from tailsight_collector.keep import power_cut
from tailsight_collector.keep.line import METRICS_TABLES, TRACES_TABLES, Line
from tailsight_collector.keep.loader import Insert
from tailsight_collector.keep.routes import Routes
from tailsight_collector.listening import listen, url_of
from tailsight_collector.query.sql_port import SqlPort
from tailsight_collector.query.sql_watch import SqlWatch
from tailsight_collector.receive.gate_reports import GATE_REPORTS
from tailsight_collector.receive.http_guard import HttpGuard
from tailsight_collector.receive.intake import Counts, Intake
from tailsight_collector.receive.kept_documents import KeptDocuments
from tailsight_collector.receive.limits import connections_for, raise_open_files_limit
from tailsight_collector.receive.otlp_http import OtlpHttp
from tailsight_collector.receive.profiles import PROFILES
from tailsight_collector.receive.signals import METRICS, TRACES
from tailsight_collector.recordings.joining import Recordings
from tailsight_collector.settings import CollectorSettings
from tailsight_collector.sources import SourceStages
from tailsight_collector.watch.durations import INSERT_BOUNDS_S, Durations, timed
from tailsight_collector.watch.logs import present_limit
from tailsight_collector.watch.metrics import Metrics, SignalSource, Sources
from tailsight_storage import ChdbDsn, Store, open_store

if TYPE_CHECKING:
    from tailsight_collector.alerts.running import RunningAlerts
    from tailsight_collector.receive.otlp_grpc import OtlpGrpc

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 20.0
KEEP_ALIVE_S = 75
FAILURE_CHECK_S = 1.0
FAILED_FOR_S = 30.0
DECODERS = 2


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a started collector listens. `sql_url` is empty where a server keeps the spans: ask that one."""

    otlp_url: str
    grpc_target: str
    """Host and port of OTLP/gRPC, as gRPC clients take them."""
    sql_url: str

    @property
    def store(self) -> str:
        """What reading commands take as --store; empty where a server keeps the spans."""
        return self.sql_url.replace("http", "clickhouse", 1) + "/tailsight" if self.sql_url else ""


class Collector:
    """Everything that one collector owns. Use `run` for a process; `start` and `close` are its halves."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self._access = Access(settings.tokens, own=settings.own_tokens)
        self._tls = settings.tls.context() if settings.tls else None
        self._started_ns = time.time_ns()
        self._store: Store | None = None
        self._metrics_store: Store | None = None
        self._traces = Line(
            settings.journal_folder,
            segment_bytes=settings.segment_bytes,
            segment_age_s=settings.segment_age_s,
            max_bytes=settings.max_journal_bytes,
        )
        self._metrics = Line(
            settings.metrics_journal_folder,
            segment_bytes=settings.segment_bytes,
            segment_age_s=settings.metrics_segment_age_s,
            max_bytes=settings.max_metrics_journal_bytes,
        )
        self._sql_port: SqlPort | None = None
        self._alerts: RunningAlerts | None = None
        self._kept: list[KeptDocuments] = []
        self._recordings: Recordings | None = None
        self._is_recovered = False  # the embedded store: since the start nothing in it is in doubt
        self._addresses: Addresses | None = None
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="tailsight-decode")
        self._intakes = [
            Intake(
                TRACES,
                self._traces.journal,
                self._decoders,
                max_request_bytes=settings.max_request_bytes,
                stages=SourceStages(settings.sources),
            ),
            Intake(METRICS, self._metrics.journal, self._decoders, max_request_bytes=settings.max_request_bytes),
        ]
        limits = settings.http_limits
        open_files, wanted = raise_open_files_limit(), limits.connections
        limits = replace(limits, connections=connections_for(open_files - open_files // 4, wanted))
        self._grpc_connections = connections_for(open_files - limits.connections, wanted)
        self._sources = Sources(
            signals=[
                SignalSource(name, intake, line, Durations(INSERT_BOUNDS_S))
                for name, intake, line in zip(
                    ("traces", "metrics"), self._intakes, (self._traces, self._metrics), strict=True
                )
            ],
            guard=HttpGuard(limits),
            log_limit=present_limit(),
        )

    def start(self) -> None:
        """Open the journals and the store; raises JournalError or StorageError."""
        self._warn_of_exposure()
        self._traces.open()
        self._metrics.open()
        if isinstance(self._settings.store_dsn, ChdbDsn):
            power_cut.recover_for_a_collector(self._settings.data)
            self._is_recovered = True
        _use_folder_for_temporary_files(self._settings.data / "tmp")
        self._store = open_store(self._settings.store_dsn, create=True)
        self._settings.retention.apply(self._store)
        self._metrics_store = self._store.another()  # a connection serves one thread
        self._intakes[0].repeats.remember(self._store, self._traces.left_over_paths)
        spans, points = (source.inserts for source in self._sources.signals)
        self._traces.load_into(
            timed(self._by_route(self._store), spans), self._traces.keeping_of(self._store, "traces", TRACES_TABLES)
        )
        self._metrics.load_into(
            timed(self._metrics_store.insert_otlp_metrics, points),
            self._metrics.keeping_of(self._metrics_store, "metrics", METRICS_TABLES),
        )
        if isinstance(self._store.dsn, ChdbDsn):
            self._sql_port = SqlPort(
                self._store.dsn,
                self._store.another(),
                host=self._settings.host,
                access=self._access,
                any_name=self._settings.takes_any_name,
                anybody_inserts=self._settings.sql_ingest,
            )
        for kind in (GATE_REPORTS, PROFILES):
            self._kept.append(KeptDocuments(kind, self._store.another()))
        if plan := self._settings.recordings:
            self._recordings = Recordings(plan, self._store, self._settings.data)
            self._kept.append(self._recordings.documents)
        self._start_alerts(self._store)

    def _start_alerts(self, store: Store) -> None:
        """Evaluate rules, if there are any; alerts that rules of before have left open are ended."""
        if self._settings.alerts is None and not (self._settings.data / STATE_FILE).exists():
            return
        from tailsight_collector.alerts.running import RunningAlerts  # an HTTP client: who has no rules needs none

        self._alerts = RunningAlerts(self._settings.alerts, store, self._settings.data)
        self._sources.alerts = self._alerts.alerts

    def _by_route(self, store: Store) -> Insert:
        """Make the insert of spans that takes each segment its own way into the store."""
        routes = Routes(
            self._settings.journal_folder, decodes_here=store.decodes_here, left_over=self._traces.left_over
        )
        # what an embedded store may have had before, a server that took its place does not know by any token
        is_embedded = isinstance(store.dsn, ChdbDsn)
        return lambda segment, token: store.insert_otlp_traces(
            segment, token, decoded_here=is_embedded and routes.is_decoded_here(token)
        )

    def close(self) -> bool:
        """Give everything back; what is acknowledged is in the store or in the journals.

        False where a query runs on whatever is done, so that the process does not end by itself.
        """
        self._decoders.shutdown(wait=True, cancel_futures=True)
        self._traces.stop_taking()
        self._metrics.stop_taking()
        queries_ended = not [documents for documents in self._kept if not documents.close()]
        queries_ended = (self._recordings.close() if self._recordings else True) and queries_ended
        queries_ended = (self._alerts.close() if self._alerts else True) and queries_ended
        queries_ended = (self._sql_port.close() if self._sql_port else True) and queries_ended
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        for line, store in ((self._traces, self._store), (self._metrics, self._metrics_store)):
            finished = line.close(max(0.0, deadline_s - time.monotonic()))
            if store and finished:
                store.close()
            self._is_recovered = self._is_recovered and finished and not line.is_unsafe
        if self._is_recovered and queries_ended:  # or else the next start goes back to the last checkpoint
            power_cut.settle_if_possible(self._settings.data)
        return queries_ended

    async def serve(self, stop: asyncio.Event, on_ready: Callable[[Addresses], None]) -> None:
        """Listen until `stop` is set.

        Raises SettingsError where an address cannot be bound, CollectorFailedError where it ends by itself.
        """
        settings = self._settings
        sockets = [listen(settings.host, settings.http_port, "--http-port")]
        guard = self._sources.guard
        metrics = Metrics(self._sources)
        otlp_http = OtlpHttp(
            *self._intakes,
            health=self._health,
            metrics=metrics.page,
            access=self._access,
            only_name=settings.only_name,
            kept=self._kept,
        )
        self._sources.in_flight["http"] = otlp_http.in_flight
        servers = [http_server(otlp_http.app(), self._tls, guard)]
        if self._sql_port:
            sockets.append(listen(settings.host, settings.sql_port, "--sql-port"))
            self._sources.sql = SqlWatch(self._sql_port.app())
            servers.append(http_server(self._sources.sql, self._tls, guard))
        otlp_grpc, grpc_target = await self._serve_grpc()
        self._sources.in_flight["grpc"] = otlp_grpc.in_flight
        tasks = [
            asyncio.create_task(server.serve(sockets=[bound])) for server, bound in zip(servers, sockets, strict=True)
        ]
        urls = [url_of(bound, self._tls) for bound in sockets]
        # the sockets listen already: a client that connects now is served as soon as the loop turns
        self._addresses = Addresses(urls[0], grpc_target, urls[1] if len(urls) > 1 else "")
        on_ready(self._addresses)
        stopping = asyncio.create_task(stop.wait())
        failing = asyncio.create_task(self._wait_for_failure())
        await asyncio.wait([stopping, failing, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(otlp_grpc.close(), *tasks)
        stopping.cancel()
        failing.cancel()
        if failure := self._failure:
            raise CollectorFailedError(f"the collector has failed, and only a new start helps: {failure}")

    @property
    def _failure(self) -> str:
        """Why only a restart helps; empty while it does not take one."""
        return next((line.failure for line in (self._traces, self._metrics) if line.failure), "")

    async def _wait_for_failure(self) -> None:
        """Return when it has failed for a while: long enough to be seen at `/healthz`."""
        while not self._failure:  # noqa: ASYNC110 - threads fail, and tell no loop
            await asyncio.sleep(FAILURE_CHECK_S)
        log.error("the collector has failed, and ends in %d s: %s", FAILED_FOR_S, self._failure)
        await asyncio.sleep(FAILED_FOR_S)

    async def _serve_grpc(self) -> tuple[OtlpGrpc, str]:
        """Open the gRPC port: what serves it, and where; raises SettingsError where it cannot be bound."""
        from tailsight_collector.receive.otlp_grpc import OtlpGrpc

        settings = self._settings
        otlp_grpc = OtlpGrpc(*self._intakes, access=self._access, max_connections=self._grpc_connections)
        credentials = settings.tls.grpc_credentials() if settings.tls else None
        try:
            port = await otlp_grpc.start(settings.host, settings.grpc_port, credentials)
        except OSError as error:
            listen(settings.host, settings.grpc_port, "--grpc-port").close()  # this says why it cannot be bound
            raise SettingsError(f"--grpc-port {settings.grpc_port} on {settings.host}: {error}") from None
        return otlp_grpc, f"[{settings.host}]:{port}" if ":" in settings.host else f"{settings.host}:{port}"

    def _warn_of_exposure(self) -> None:
        settings = self._settings
        words = exposure.warning(
            settings.host,
            has_tokens=settings.tokens is not None,
            asks_who=settings.asks_who,
            is_encrypted=settings.tls is not None,
        )
        if words:
            log.warning("%s", words)

    def _health(self, caller: Caller) -> dict[str, object]:
        health = self._whole_health()
        # who has shown no token is told no more than what a load balancer must know
        return health if caller.scopes else {name: health[name] for name in ("status", "version")}

    def _whole_health(self) -> dict[str, object]:
        lines = (self._traces, self._metrics)
        spans, points = (intake.counts for intake in self._intakes)
        failure = self._failure
        degraded = any(line.is_degraded for line in lines)
        return {
            "status": "failed" if failure else "degraded" if degraded else "ok",
            "failure": failure,
            "version": version("tailsight"),
            "pid": os.getpid(),
            "uptime_s": round((time.time_ns() - self._started_ns) / 1e9, 1),
            "store": str(self._settings.store_dsn),
            "addresses": asdict(self._addresses) if self._addresses else {},
            "received": _received(spans, "spans"),
            **self._traces.health(),
            "metrics": {"received": _received(points, "points"), **self._metrics.health()},
        }


def _received(counts: Counts, what: str) -> dict[str, object]:
    return {
        "requests": counts.requests,
        f"accepted_{what}": counts.accepted,
        f"rejected_{what}": dict(counts.rejected),
        "refused_requests": {str(status): count for status, count in counts.refused_requests.items()},
    }


def _use_folder_for_temporary_files(folder: Path) -> None:
    """Keep clickhouse-connect's temporary files, one an insert, in the data folder, and clear what a crash left."""
    folder.mkdir(exist_ok=True)
    for left_over in folder.iterdir():
        left_over.unlink()
    tempfile.tempdir = str(folder)


def run(settings: CollectorSettings, on_ready: Callable[[Addresses], None]) -> None:
    """Run a collector until SIGTERM or SIGINT."""
    collector = Collector(settings)
    # until the ports are open, SIGTERM unwinds like Ctrl-C; then the loop's handlers take over
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        collector.start()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve_until_signal(collector, on_ready))
    finally:
        if not collector.close():
            logging.shutdown()
            os._exit(1 if sys.exc_info()[0] else 0)  # the interpreter would wait for the query's thread


async def _serve_until_signal(collector: Collector, on_ready: Callable[[Addresses], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await collector.serve(stop, on_ready)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    import uvloop

    return uvloop.new_event_loop


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the process has one, for all ports."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the signals to `run`."""
        yield


def http_server(app: ASGIApp, tls: ssl.SSLContext | None, guard: HttpGuard) -> uvicorn.Server:
    """Make a server of our HTTP connections: under the guard's limits, and without signal handlers of its own."""
    return _Server(
        uvicorn.Config(
            app,
            http=protocol_of(guard, tls),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            server_header=False,
        )
    )
