"""`tailsight hardware` compares hardware types at the same work."""

from __future__ import annotations

import json

import click

from tailsight_analysis import hardware
from tailsight_cli.options import Question, reading_options
from tailsight_cli.prices import price_option
from tailsight_cli.render.hardware import render_hardware
from tailsight_cli.render.text import console

_HELP = """How much faster is which hardware at the same work: per stage and for whole requests, beside the raw numbers.

Work is sorted by operation, model, batch size and input length; within each sort like is compared with like, and the
sorts are put together in the same shares for both types. Only what both types did can be compared: "comparable" is how
much that is. Ratios are of means, with 95 % intervals. With prices, the cost of a request; where power was measured,
its energy.

\b
Examples:
  tailsight hardware                           the last hour, against the most frequent type
  tailsight hardware --reference 'NVIDIA H100 80GB HBM3' --since 24h
  tailsight hardware --input gen_ai.usage.input_tokens --price 'NVIDIA L4=0.71'
  tailsight hardware --all-time --json | jq '.comparisons[0].types'
"""


@click.command("hardware", help=_HELP)
@click.option(
    "--reference", metavar="TYPE", help="The hardware type to compare with. Default: the most frequent at each stage."
)
@click.option(
    "--input", "input_key", metavar="KEY",
    help="Attribute that has the input's length. Default: found by its name.",
)  # fmt: skip
@price_option
@reading_options
def command(question: Question, reference: str | None, input_key: str | None, prices: dict[str, float]) -> None:
    """Ask for the comparison and print it."""
    result = hardware(
        question.store, question.window, question.filters, reference=reference, input_key=input_key, prices=prices
    )
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_hardware(result, tuple(prices)))
