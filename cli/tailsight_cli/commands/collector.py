"""`tailsight collector`: receive OTLP, keep it, serve it for reading."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from tailsight_cli._collecting import collector_errors
from tailsight_cli.processes.lifeline import end_this_process, lifeline_option, say, when_stdin_closes
from tailsight_collector import Addresses, CollectorSettings, run
from tailsight_collector import settings as defaults
from tailsight_storage import STORE_ENV, ServerDsn, parse_dsn

EPILOG = """\b
Examples:
  tailsight collector                                   embedded store in ./tailsight-data
  tailsight collector --data /var/lib/tailsight
  tailsight collector --store clickhouse://user:password@db:8123/tailsight --data /var/lib/tailsight
\b
With an embedded store, reading commands ask the SQL port (their default is clickhouse://127.0.0.1:8123/tailsight).
"""
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
            help="Port of the read-only ClickHouse HTTP interface; 0 lets the system choose.",
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
            help="Address to listen on. There is no authentication yet: keep it on loopback.",
        ),
    ):
        command = option(command)
    return command


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
@click.option("--log-level", type=click.Choice(LOG_LEVELS), default="info", show_default=True)
@click.option(
    "--segment-age",
    type=click.FloatRange(0.01, 60),
    default=defaults.DEFAULT_SEGMENT_AGE_S,
    show_default=True,
    metavar="SECONDS",
    help="Load the journal at least this often: spans can be asked for about this long after they came in.",
)
@lifeline_option
def command(
    data: Path | None,
    store: str | None,
    host: str,
    http_port: int,
    sql_port: int,
    log_level: str,
    segment_age: float,
    lifeline: bool,
) -> None:
    """Receive OTLP over HTTP, keep it exactly once, serve it for reading.

    A request is answered 200 only after it is synced to the journal on the disk. SIGTERM and Ctrl-C end the collector
    cleanly; after kill -9 or a power cut the next start loads what was acknowledged.
    """
    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(log_level.upper())))
    with collector_errors():
        settings = CollectorSettings.of(
            data=data,
            store=store or store_from_environment(host, sql_port),
            host=host,
            http_port=http_port,
            sql_port=sql_port,
            segment_age_s=segment_age,
        )
        if lifeline:
            when_stdin_closes(end_this_process)
        run(settings, _tell_parent if lifeline else announce)


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
    say(otlp_url=addresses.otlp_url, store=addresses.store)


def announce(addresses: Addresses) -> None:
    """Say where the collector listens, one address a line."""
    click.echo(f"OTLP/HTTP  {addresses.otlp_url}/v1/traces")
    click.echo(f"health     {addresses.otlp_url}/healthz")
    if addresses.store:
        click.echo(f"SQL        {addresses.store}")
