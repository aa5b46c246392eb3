"""`tailsight breakdown` says how long the stages take."""

from __future__ import annotations

import json

import click

from tailsight_analysis import DIMENSIONS, breakdown
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.breakdown import render_breakdown
from tailsight_cli.render.text import console

_HELP = """How long do spans take, group by group: per stage, or by any of the other dimensions.

Quantiles are exact; "p99 within" is where the p99 lies with 95 % confidence. Jitter is p99 − p50. The share is how much
of the requests' critical paths the group is: all groups add up to 100 %, and what no stage explains stands as (no
stage).
Where the SDK kept only some requests, figures are estimates weighted by what each stands for. Requests that say when
they should have started (intended_start) have their response time beside their service time.

\b
Examples:
  tailsight breakdown                          the last hour, per stage
  tailsight breakdown --by stage,hardware --since 24h
  tailsight breakdown --by version --service ranker --run nightly
  tailsight breakdown --all-time --json | jq '.rows[0]'
"""


def _dimensions(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: use any of {', '.join(DIMENSIONS)}")
    return tuple(dict.fromkeys(names))


@click.command("breakdown", help=_HELP)
@click.option(
    "--by",
    multiple=True,
    default=("stage",),
    show_default=True,
    callback=_dimensions,
    metavar="DIMENSION",
    help=f"Group by {', '.join(DIMENSIONS)}; several with commas or repeated.",
)
@reading_options
def command(question: Question, by: tuple[str, ...]) -> None:
    """Ask for a breakdown and print it."""
    result = breakdown(question.store, question.window, question.filters, by)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_breakdown(result))
