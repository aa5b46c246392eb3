"""`tailsight variance` says which stages make requests differ from each other."""

from __future__ import annotations

import json

import click

from tailsight_analysis import variance
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.text import console
from tailsight_cli.render.variance import render_variance

_HELP = """Which stages make requests differ: the requests' variance as a sum of stages' variances and covariances.

A stage's share is its own variance and half of what it varies together with others; with the unaccounted time, all
shares add up to 100 %. Below: pairs of stages that vary together (or against each other), and how much of the variance
lies within each hardware type, and between types. Shares are shown with 95 % intervals.

\b
Examples:
  tailsight variance                           the last hour
  tailsight variance --hardware 'NVIDIA L4' --since 24h
  tailsight variance --all-time --json | jq '.total.terms[:3]'
"""


@click.command("variance", help=_HELP)
@reading_options
def command(question: Question) -> None:
    """Ask for the variance and print it."""
    result = variance(question.store, question.window, question.filters)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_variance(result))
