"""`tailsight up`: collector, embedded store and dashboard, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

import click

from tailsight_cli._collecting import collector_errors
from tailsight_cli.commands.collector import (
    alerts_option,
    data_option,
    listening_options,
    store_from_environment,
    write_store_option,
)
from tailsight_cli.guarding import access_options
from tailsight_cli.ports import require_free
from tailsight_cli.signals import sigterm_interrupts
from tailsight_cli.source_options import sources_option
from tailsight_cli.stack import Ports, Stack, dashboard_host
from tailsight_dashboard.launch import DEFAULT_PORT
from tailsight_storage import parse_dsn

_HELP = """Start the collector with its embedded store, and the dashboard over it, until Ctrl-C.

\b
Examples:
  tailsight up                                        data in ./tailsight-data
  tailsight up --data /var/lib/tailsight --dashboard-port 9000
  tailsight up --alerts alerts.toml                   with alert rules: docs/alerts.md
  tailsight up --host 0.0.0.0 --tokens tokens.txt     the dashboard stays on loopback: it asks nobody for a token
\b
TLS is `tailsight collector`'s: run it and `tailsight dashboard` side by side.
"""


@click.command("up", help=_HELP)
@data_option
@write_store_option
@listening_options
@access_options
@alerts_option
@sources_option
@click.option(
    "--dashboard-port",
    type=click.IntRange(1, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port of the dashboard.",
)
def command(
    data: Path | None,
    store: str | None,
    host: str,
    http_port: int,
    grpc_port: int,
    sql_port: int,
    dashboard_port: int,
    tokens: Path | None,
    insecure: bool,
    alerts: Path | None,
    sources: Path | None,
) -> None:
    """Start everything and wait."""
    require_free(dashboard_host(host, insecure=insecure and tokens is None), dashboard_port, "--dashboard-port")
    ports = Ports(host, http_port, grpc_port, sql_port, dashboard_port)
    store = store or store_from_environment(host, sql_port)
    with (
        collector_errors(),
        sigterm_interrupts(),
        Stack(
            ports,
            data=data,
            store=store,
            tokens=tokens,
            insecure=insecure,
            alerts=alerts,
            sources=sources,
            on_words=_pass_on,
        ) as stack,
    ):
        stack.start_dashboard()
        click.echo(f"dashboard  {stack.dashboard_url}")
        click.echo(f"OTLP/HTTP  {stack.otlp_url}/v1/traces")
        click.echo(f"OTLP/gRPC  {stack.grpc_target}")
        click.echo(f"store      {parse_dsn(stack.store)}")  # without a password
        click.echo("Ctrl-C stops.")
        stack.wait()


def _pass_on(name: str, line: str) -> None:
    click.echo(f"{name}: {line}", err=True)
