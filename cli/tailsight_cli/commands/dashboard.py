"""`tailsight dashboard`: the web views alone."""

from __future__ import annotations

import os

import click

from tailsight_analysis import STORE_ENV
from tailsight_cli.stack import DEFAULT_DASHBOARD_PORT, DEFAULT_HOST, run_dashboard

EPILOG = """\b
Examples:
  tailsight dashboard
  tailsight dashboard --port 9000 --store clickhouse://reader:password@db:8123/tailsight
"""


@click.command(epilog=EPILOG)
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_DASHBOARD_PORT, show_default=True)
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option("--store", metavar="DSN", envvar=STORE_ENV, show_envvar=True, help="The store to read.")
def command(port: int, host: str, store: str | None) -> None:
    """Serve the dashboard for a store that a collector or a ClickHouse server offers."""
    environment = dict(os.environ)
    if store:
        environment[STORE_ENV] = store
    run_dashboard(port, host, environment)
