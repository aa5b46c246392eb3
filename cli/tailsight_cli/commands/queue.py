"""`tailsight queue` says how busy the queues are, and what one more worker would change."""

from __future__ import annotations

import json

import click

from tailsight_analysis import queueing
from tailsight_cli.options import Question, reading_options
from tailsight_cli.render.queue import render_queueing
from tailsight_cli.render.text import console

_HELP = """How busy are the queues, how long does one wait, and how long would one with one more worker.

A queue is a service's `queue` stage on one host, served by the stage that follows it. Waits with one more worker are
given twice: by formula (Allen and Cunneen's for G/G/c), and by replaying the recorded arrivals and service times. The
replay with as many workers as there are says whether the model fits: it should wait as long as was measured.

\b
Examples:
  tailsight queue                              every queue of the last hour
  tailsight queue --service ranker --workers 4
  tailsight queue --service ranker --serving compute --since 15m
  tailsight queue --all-time --json | jq '.stations[0].replay_one_more'
"""


@click.command("queue", help=_HELP)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many serve each queue. Default: the most that were seen at once.",
)
@click.option(
    "--serving", metavar="STAGE", help="The stage that serves. Default: the one that follows the queue most often."
)
@reading_options
def command(question: Question, workers: int | None, serving: str | None) -> None:
    """Ask for the queues and print them."""
    result = queueing(question.store, question.window, question.filters, workers, serving)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_queueing(result))
