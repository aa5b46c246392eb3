"""`tailsight tail` says why the slow requests are slow."""

from __future__ import annotations

import json
import re

import click

from tailsight_analysis import tail
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.tail import render_tail
from tailsight_cli.render.text import console

_HELP = """Why are the slow requests slow: which stage, under which conditions, and how much of the tail that explains.

The tail is every request at or above the quantile, typical are those between p40 and p60. A stage's excess is its mean
time in the tail minus its mean time in typical requests; with the unaccounted time, the excesses add up to the whole
difference. A cause is a stage under conditions that its spans meet: hardware, version, host, batch size or any other
attribute, the load, the state of the device. It is named where the conditions raise the stage's time by more than
chance, bursts and trends can; the interval is of 95 %, and "new p99" is what p99 would be about without them.
Attributes are listed where more tail requests have them than chance allows, whether or not they explain anything.

\b
Examples:
  tailsight tail                               p99 of the last hour
  tailsight tail --quantile p95 --since 24h
  tailsight tail --service ranker --hardware 'NVIDIA L4' --run nightly
  tailsight tail --all-time --json | jq '.causes[0]'
"""
_PERCENTILE = re.compile(r"[pP]?(\d+(?:\.\d+)?)")


def _quantile(_ctx: click.Context, _parameter: click.Parameter, text: str) -> float:
    """Read 0.99, 99, p99 or p99.9."""
    match = _PERCENTILE.fullmatch(text.strip())
    value = float(match[1]) if match else -1.0
    if value >= 1:
        value = round(value / 100, 12)
    if not 0.6 < value < 1:
        raise click.BadParameter(f"{text!r} is no tail: use a quantile above 0.6 and below 1, like 0.99 or p99")
    return value


@click.command("tail", help=_HELP)
@click.option(
    "--quantile", default="0.99", show_default=True, callback=_quantile, metavar="Q", help="Where the tail begins."
)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=0), metavar="N", help="Most attributes to list."
)
@reading_options
def command(question: Question, quantile: float, limit: int) -> None:
    """Ask for the tail and print it."""
    result = tail(question.store, question.window, question.filters, quantile, limit)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_tail(result))
