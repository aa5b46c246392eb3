"""`tailsight tail` says why the slow requests are slow."""

from __future__ import annotations

import json
import re

import click

from tailsight_analysis import tail
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.tail import render_tail
from tailsight_cli.render.text import console

_HELP = """Why are the slow requests slow: which stages and attribute values set them apart from typical ones.

The tail is every request at or above the quantile, typical are those between p40 and p60. A stage's excess is its mean
time in the tail minus its mean time in typical requests; with the unaccounted time, the excesses add up to the whole
difference. Attributes are listed where more tail requests have them than chance allows (Fisher's exact test, corrected
by Benjamini and Hochberg for all values tested).

\b
Examples:
  tailsight tail                               p99 of the last hour
  tailsight tail --quantile p95 --since 24h
  tailsight tail --service ranker --hardware 'NVIDIA L4' --run nightly
  tailsight tail --all-time --json | jq '.stages[0]'
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
