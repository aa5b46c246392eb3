"""`tailsight trace` shows where the time of one request went."""

from __future__ import annotations

import json

import click

from tailsight_analysis import NoSpansError, connect, trace
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.options import store_option
from tailsight_cli.render.text import console
from tailsight_cli.render.trace import render_trace

DEFAULT_LIMIT = 60
_LARGE = 1000  # spans from which on JSON is written without indentation, which takes several times longer

_HELP = """Where did the time of one request go: its spans as a waterfall, and what it waited for.

ID is a trace id, or its first digits (4 at least), with or without dashes. All of the store is searched.

The critical path is what the request waited for: at each moment one span. Its pieces add up to the request's duration,
stage by stage, with what is unaccounted. Self time is a span's duration without that of the children that it waited
for; of a client span whose server ran on another host it is the network.

Of long traces those spans are shown that have most time on the critical path, with those above them. JSON has all
spans unless --limit says otherwise.

\b
Examples:
  tailsight trace 4bf92f3577b34da6a3ce929d0e0e4736
  tailsight trace 4bf92f --limit 200
  tailsight trace --json 4bf92f | jq '.critical_path'
  tailsight trace 4bf92f --all | less -R
"""


@click.command("trace", help=_HELP)
@click.argument("trace_id", metavar="ID")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help=f"Most spans to show. Default: {DEFAULT_LIMIT}; JSON: all."
)
@click.option("--all", "everything", is_flag=True, help="Show all spans.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
@store_option
def command(trace_id: str, limit: int | None, everything: bool, as_json: bool, store: str) -> None:
    """Ask for a trace and print it."""
    if everything and limit is not None:
        raise click.UsageError("--all leaves no choice of --limit: use either")
    if limit is None and not everything and not as_json:
        limit = DEFAULT_LIMIT
    with connect(store) as opened:
        try:
            result = trace(opened, trace_id, limit)
        except NoSpansError as error:
            raise CommandError(str(error), NOT_ENOUGH_DATA) from error
    if as_json:
        indent = 2 if len(result.spans) <= _LARGE else None
        click.echo(json.dumps(result.to_json(), indent=indent, ensure_ascii=False))
    else:
        console().print(render_trace(result))
