"""`tailsight dashboard`: the web views alone."""

from __future__ import annotations

import os

import click

from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.options import store_option
from tailsight_cli.ports import require_free
from tailsight_cli.processes.lifeline import lifeline_option, when_stdin_closes
from tailsight_dashboard.launch import DEFAULT_HOST, DEFAULT_PORT, streamlit_arguments
from tailsight_storage import STORE_ENV, parse_dsn

_HELP = """Serve the dashboard for a store that a collector or a ClickHouse server offers, until Ctrl-C.

\b
Examples:
  tailsight dashboard
  tailsight dashboard --port 9000 --store clickhouse://reader:password@db:8123/tailsight
"""


@click.command("dashboard", help=_HELP)
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
@click.option(
    "--host",
    default=DEFAULT_HOST,
    show_default=True,
    help="Address to listen on. There is no authentication yet: keep it on loopback.",
)
@store_option
@lifeline_option
def command(port: int, host: str, store: str, lifeline: bool) -> None:
    """Serve the dashboard."""
    from streamlit.web.cli import main as streamlit

    parse_dsn(store)  # a wrong one is told here, not in a browser
    require_free(host, port, "--port")
    os.environ[STORE_ENV] = store
    if lifeline:
        # Not SIGTERM: Streamlit's handler says goodbye on a stdout that is gone by then, and fails. It has no state.
        when_stdin_closes(lambda: os._exit(0))
    try:
        streamlit(args=streamlit_arguments(port, host), prog_name="streamlit", standalone_mode=False)
    except SystemExit as ending:
        if ending.code:
            raise CommandError(f"the dashboard ended with status {ending.code}", UNREADABLE) from None
