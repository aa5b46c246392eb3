"""`tailsight jitter` says how much latencies vary, and how."""

from __future__ import annotations

import json

import click

from tailsight_analysis import jitter
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.jitter import render_jitter
from tailsight_cli.render.text import console

_HELP = """How much do latencies vary, per stage and hardware, and how.

Jitter is p99 − p50; beside it stand the interquartile range (IQR), the coefficient of variation (CV), and the
inter-arrival jitter of RFC 3550: how much one request differs from the one before it. Below the table: whether the
distribution has more than one mode and where the gap is, whether slow ones come back with a period, and how many
missed their deadline (the attribute tailsight.deadline_ms, or --deadline), in how long a row.

\b
Examples:
  tailsight jitter                             the last hour, per stage and hardware
  tailsight jitter --service ranker --deadline 50
  tailsight jitter --stage compute --since 24h
  tailsight jitter --all-time --json | jq '.rows[] | select(.period)'
"""


@click.command("jitter", help=_HELP)
@click.option(
    "--deadline",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MS",
    help="Deadline of every request, in the place of its own.",
)
@reading_options
def command(question: Question, deadline: float | None) -> None:
    """Ask for the jitter and print it."""
    result = jitter(question.store, question.window, question.filters, deadline)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_jitter(result))
