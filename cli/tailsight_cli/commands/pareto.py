"""`tailsight pareto` weighs the quality of models against their latency."""

from __future__ import annotations

import json

import click

from tailsight_analysis import DIMENSIONS, pareto
from tailsight_cli.options import Question, reading_options
from tailsight_cli.prices import price_option
from tailsight_cli.render.pareto import render_pareto
from tailsight_cli.render.text import console

_HELP = """Which model is worth its time: quality against latency, and which variants nothing else beats at both.

Requests carry their quality as an attribute (an evaluation's score, a rating, right or wrong). A variant is on the
front unless another one is better at both, for certain (both differences lie outside chance) or probably (one does, and
the other at least looks no worse).

\b
Examples:
  tailsight pareto                             models of the last hour, quality found by its name
  tailsight pareto --quality eval.score --by model,version --latency p50
  tailsight pareto --quality word_error --lower-is-better --price 'NVIDIA L4=0.71'
  tailsight pareto --all-time --json | jq '.variants[] | select(.on_front)'
"""


def _dimensions(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown or not names:
        raise click.BadParameter(f"{', '.join(unknown) or 'nothing'}: use any of {', '.join(DIMENSIONS)}")
    return tuple(dict.fromkeys(names))


@click.command("pareto", help=_HELP)
@click.option("--quality", metavar="KEY", help="Attribute that has a request's quality. Default: found by its name.")
@click.option(
    "--by", multiple=True, default=("model",), show_default=True, callback=_dimensions, metavar="DIMENSION",
    help=f"What a variant is: {', '.join(DIMENSIONS)}; several with commas or repeated.",
)  # fmt: skip
@click.option(
    "--latency",
    type=click.Choice(["p50", "p99"]),
    default="p99",
    show_default=True,
    help="What quality is weighed against.",
)
@click.option(
    "--lower-is-better/--higher-is-better", default=None, help="Whether little of it is good. Default: by its name."
)
@price_option
@reading_options
def command(
    question: Question,
    quality: str | None,
    by: tuple[str, ...],
    latency: str,
    lower_is_better: bool | None,
    prices: dict[str, float],
) -> None:
    """Ask for the front and print it."""
    result = pareto(
        question.store, question.window, question.filters,
        by=by, quality=quality, latency=latency, lower_is_better=lower_is_better, prices=prices,
    )  # fmt: skip
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_pareto(result))
