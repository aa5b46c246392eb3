"""`tailsight regressions` says since which version, run or moment which stage is slower, on which hardware."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import Any

import click

from tailsight_analysis import Filters, NoSpansError, Store, Window, connect, whole_time
from tailsight_analysis.changes.history import LEAST_CHANGE
from tailsight_analysis.regressions import BY, METRICS, regressions
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.nothing_found import way_out
from tailsight_cli.options import FILTER_HELP, asking_options, chosen_window, parse_length_s
from tailsight_cli.progress import steps
from tailsight_cli.render.regressions import render_regressions
from tailsight_cli.render.text import console

_HELP = """Since which version, run or moment is what slower? Change points of every stage on every hardware type,
and of the requests, in each metric. Without --since, --until or --run: everything in the store.

Versions and runs are in the order in which they were first seen. A change is reported if it is larger than
--least-change, if noise between versions does not explain it, and if it stands among all series that were looked at
(false discovery rate 5 %). One slow version, or two, are no change. What was reported does not move when new
versions come. Where the workload changed at the same point, that is said too.

\b
Examples:
  tailsight regressions                                  every version in the store
  tailsight regressions --by run --metric p99 --stage compute
  tailsight regressions --by time --bucket 1h --since 7d --service ranker
  tailsight regressions --json | jq '.changes[] | select(.direction == "slower")'
"""


def _bucket_s(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    if (length := parse_length_s(text)) is None:
        raise click.BadParameter(f"{text!r} is no length of time: use 30s, 5m, 1h or 1d")
    return length


@click.command("regressions", help=_HELP)
@click.option(
    "--by", type=click.Choice(BY), default="version", show_default=True, help="What the history is a history of."
)
@click.option("--metric", "metrics", multiple=True, type=click.Choice(METRICS), help="Only this metric. Default: all.")
@click.option(
    "--bucket", callback=_bucket_s, metavar="LENGTH", help="With --by time: the length of a stretch, like 1h."
)
@click.option(
    "--least-change", type=float, default=LEAST_CHANGE, show_default=True, metavar="SHARE",
    help="The smallest change worth telling: 0.05 is 5 %.",
)  # fmt: skip
@asking_options(FILTER_HELP)
def command(by: str, metrics: tuple[str, ...], bucket: float | None, least_change: float, **asked: Any) -> None:
    """Ask for the history and print its changes."""
    if bucket is not None and by != "time":
        raise click.UsageError(f"--bucket is for --by time: a history over {by} has no stretches of time")
    filters = Filters(**{field.name: tuple(asked[field.name]) for field in fields(Filters)})
    window = chosen_window(asked["since"], asked["until"], all_time=asked["all_time"], now_ns=time.time_ns())
    with connect(asked["store"]) as store:
        try:
            window = window or _everything(store, filters)
            with steps("Reading the history …") as said:
                result = regressions(
                    store, window, filters, by=by, metrics=metrics or METRICS, least_change=least_change,
                    bucket_s=bucket, said=said,
                )  # fmt: skip
        except NoSpansError as error:
            raise CommandError(f"{error}; {way_out(store, filters)}", NOT_ENOUGH_DATA) from error
    if asked["as_json"]:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_regressions(result))


def _everything(store: Store, filters: Filters) -> Window:
    window = whole_time(store, filters.run)
    if window is None:
        raise NoSpansError(f"no spans in {store.dsn}")
    return window
