"""`tailsight collector`: receive OTLP, keep it, serve it for reading."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tailsight_cli._collecting import collector_errors
from tailsight_cli.alerting import ALERTS_ENV
from tailsight_cli.guarding import access_options, own_tokens_from_environment, tls_options
from tailsight_cli.processes.lifeline import end_this_process, lifeline_option, say, when_stdin_closes
from tailsight_cli.profiling.sent import recording_plan
from tailsight_cli.source_options import rules_of, sources_option
from tailsight_collector import Addresses, CollectorSettings, Tls, run
from tailsight_collector import settings as defaults
from tailsight_collector.alerts.settings import AlertPlan
from tailsight_collector.receive.limits import HttpLimits
from tailsight_collector.retention import COLUMNS as RETAINED_TABLES
from tailsight_collector.retention import Retention
from tailsight_collector.watch.logs import FORMATS as LOG_FORMATS
from tailsight_collector.watch.logs import configure_logging
from tailsight_storage import STORE_ENV, ServerDsn, parse_dsn

EPILOG = """\b
Examples:
  tailsight collector                                   embedded store in ./tailsight-data
  tailsight collector --data /var/lib/tailsight
  tailsight collector --store clickhouse://user:password@db:8123/tailsight --data /var/lib/tailsight
  tailsight token create --name edge-7 --scope ingest --file tokens.txt
  tailsight collector --host 0.0.0.0 --tokens tokens.txt --tls-cert server.pem --tls-key server-key.pem
\b
With an embedded store, reading commands ask the SQL port (their default is clickhouse://127.0.0.1:8123/tailsight).
"""
_LIMITS = HttpLimits()
LOG_LEVELS = ("debug", "info", "warning", "error")


def data_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --data."""
    return click.option(
        "--data",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="TAILSIGHT_DATA",
        show_envvar=True,
        help=f"Folder of the journal and of the embedded store.  [default: ./{defaults.DEFAULT_DATA}]",
    )(command)


def listening_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add --host and the ports."""
    for option in (
        click.option(
            "--sql-port",
            type=click.IntRange(0, 65535),
            default=defaults.DEFAULT_SQL_PORT,
            show_default=True,
            help="Port of the ClickHouse HTTP interface, for reading; 0 lets the system choose.",
        ),
        click.option(
            "--grpc-port",
            type=click.IntRange(0, 65535),
            default=defaults.DEFAULT_GRPC_PORT,
            show_default=True,
            help="Port of OTLP/gRPC; 0 lets the system choose.",
        ),
        click.option(
            "--http-port",
            type=click.IntRange(0, 65535),
            default=defaults.DEFAULT_HTTP_PORT,
            show_default=True,
            help="Port of OTLP/HTTP and /healthz; 0 lets the system choose.",
        ),
        click.option(
            "--host",
            default=defaults.DEFAULT_HOST,
            show_default=True,
            help="Address to listen on. One that other machines reach takes --tokens.",
        ),
    ):
        command = option(command)
    return command


def limit_options(command: click.decorators.FC) -> click.decorators.FC:
    """Add what the clients of an HTTP port may cost."""
    for option in (
        click.option(
            "--max-connections",
            type=click.IntRange(64),
            default=_LIMITS.connections,
            show_default=True,
            help="HTTP connections at once, as far as open files allow; above, the longest idle one makes room.",
        ),
        click.option(
            "--header-timeout",
            type=click.FloatRange(0, 3600, min_open=True),
            default=_LIMITS.header_s,
            show_default=True,
            metavar="SECONDS",
            help="How long a request's headers may take to arrive.",
        ),
        click.option(
            "--body-timeout",
            type=click.FloatRange(0, 3600, min_open=True),
            default=_LIMITS.body_s,
            show_default=True,
            metavar="SECONDS",
            help="How long a request's body may take to arrive; anew whenever 16 KiB for each of these seconds have "
            "come, and ten times as long at most.",
        ),
        click.option(
            "--idle-timeout",
            type=click.FloatRange(0, 3600, min_open=True),
            default=_LIMITS.idle_s,
            show_default=True,
            metavar="SECONDS",
            help="How long an HTTP connection may be without a request.",
        ),
    ):
        command = option(command)
    return command


def alerts_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --alerts."""
    return click.option(
        "--alerts",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar=ALERTS_ENV,
        show_envvar=True,
        help="File of alert rules and webhooks, in TOML; see docs/alerts.md.",
    )(command)


def write_store_option(command: click.decorators.FC) -> click.decorators.FC:
    """Add --store of those who write."""
    return click.option(
        "--store",
        metavar="DSN",
        help="Where spans stay: chdb:///folder or clickhouse://user:password@host:port/database.  "
        f"[env var: {STORE_ENV}; default: embedded, in the data folder]",
    )(command)


@click.command("collector", epilog=EPILOG)
@data_option
@write_store_option
@listening_options
@access_options
@tls_options
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    default="auto",
    show_default=True,
    help="auto is text on a terminal, and JSON, an object a line, elsewhere.",
)
@click.option(
    "--segment-age",
    type=click.FloatRange(0.01, 60),
    default=defaults.DEFAULT_SEGMENT_AGE_S,
    show_default=True,
    metavar="SECONDS",
    help="Load the journal at least this often: spans can be asked for about this long after they came in.",
)
@click.option(
    "--max-journal-bytes",
    type=click.IntRange(defaults.DEFAULT_SEGMENT_BYTES),
    default=defaults.DEFAULT_MAX_JOURNAL_BYTES,
    show_default=True,
    metavar="BYTES",
    help="How much may wait on the disk for the database, and an eighth of it in metrics; above, clients get 503.",
)
@click.option(
    "--retain",
    multiple=True,
    metavar="TABLE=DAYS",
    help="Keep a table's rows for so many days from their arrival, or `forever`; may be repeated. Tables: "
    f"{', '.join(RETAINED_TABLES)}.  [default: as they are; in a new store 30 days, of stage_latency_1m, "
    "sender_batches and alerts 400]",
)
@alerts_option
@sources_option
@click.option(
    "--sql-ingest",
    is_flag=True,
    help="Without --tokens: let everybody who reaches the SQL port insert there, as other collectors do whose --store "
    "is this one. With --tokens, the scope `ingest` is what it takes.",
)
@limit_options
@lifeline_option
def command(
    data: Path | None,
    store: str | None,
    host: str,
    http_port: int,
    grpc_port: int,
    sql_port: int,
    log_level: str,
    log_format: str,
    segment_age: float,
    max_journal_bytes: int,
    tokens: Path | None,
    insecure: bool,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
    retain: tuple[str, ...],
    alerts: Path | None,
    sources: Path | None,
    sql_ingest: bool,
    max_connections: int,
    header_timeout: float,
    body_timeout: float,
    idle_timeout: float,
    lifeline: bool,
) -> None:
    """Receive OTLP over HTTP and gRPC, keep it exactly once, serve it for reading.

    A request is answered 200 only after it is synced to the journal on the disk. SIGTERM and Ctrl-C end the collector
    cleanly; after kill -9 or a power cut the next start loads what was acknowledged.
    """
    # who starts us shows our last line to people
    configure_logging(log_level, "text" if lifeline and log_format == "auto" else log_format)
    with collector_errors():
        settings = CollectorSettings.of(
            data=data,
            store=store or store_from_environment(host, sql_port),
            host=host,
            http_port=http_port,
            grpc_port=grpc_port,
            sql_port=sql_port,
            segment_age_s=segment_age,
            max_journal_bytes=max_journal_bytes,
            tokens=tokens,
            own_tokens=own_tokens_from_environment(),
            tls=Tls.of(tls_cert, tls_key, tls_client_ca),
            insecure=insecure,
            sql_ingest=sql_ingest,
            http_limits=HttpLimits(
                connections=max_connections, header_s=header_timeout, body_s=body_timeout, idle_s=idle_timeout
            ),
            retention=Retention.of(retain),
            alerts=_alert_plan(alerts),
            recordings=recording_plan(),
            sources=rules_of(sources),
        )
        if lifeline:
            when_stdin_closes(end_this_process)
        run(settings, _tell_parent if lifeline else announce)


def _alert_plan(file: Path | None) -> AlertPlan | None:
    if file is None:
        return None
    from tailsight_cli.alerting.plan import alert_plan  # the statistics: who has no rules need not load them

    return alert_plan(file)


def store_from_environment(host: str, sql_port: int) -> str | None:
    """Read TAILSIGHT_STORE, unless it names this collector's own SQL port: that is how readers reach us."""
    text = os.environ.get(STORE_ENV)
    if not text:
        return None
    dsn = parse_dsn(text)
    if isinstance(dsn, ServerDsn) and dsn.port == sql_port and dsn.host in (host, "localhost", "127.0.0.1", "::1"):
        return None
    return text


def _tell_parent(addresses: Addresses) -> None:
    say(otlp_url=addresses.otlp_url, grpc_target=addresses.grpc_target, store=addresses.store)


def announce(addresses: Addresses) -> None:
    """Say where the collector listens, one address a line."""
    click.echo(f"OTLP/HTTP  {addresses.otlp_url}/v1/traces")
    click.echo(f"OTLP/gRPC  {addresses.grpc_target}")
    click.echo(f"health     {addresses.otlp_url}/healthz")
    if addresses.store:
        click.echo(f"SQL        {addresses.store}")
