"""`tailsight compare` says what changed from one set of requests to another, and whether it is mix or slowdown."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import click

from tailsight_analysis import Filters, NoSpansError, NotEnoughDataError, Store, Window, whole_time
from tailsight_analysis.compare import Side, compare
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.nothing_found import way_out
from tailsight_cli.options import Question, reading_options
from tailsight_cli.progress import steps
from tailsight_cli.render.compare import render_comparison
from tailsight_cli.render.text import console
from tailsight_cli.sides import KEYS, Asked, read_side

_HELP = """What changed from one set of requests to another: is it mix, or is it slowdown, and where?

A side is KEY=VALUE, several after commas or with the option again; keys are run, version, hardware, host, region,
model, service and stage, and since and until for a window of its own. A side with a run is the whole time of it,
unless it or the command names another window.

The change of the request's mean, p50 and p99 is split into workload mix (something else was asked), hardware mix (it
ran elsewhere) and slowdown (the same takes longer); they add up. Causes are the operations that take longer for the
same work on the same hardware, where chance does not explain it (permutation of blocks of time, corrected for the
number of operations). Suspects hold a large part of the slowdown, but it could be chance: where to look first when
nothing is proven. Time between a caller and its callee counts for the callee, as stage network.

\b
Examples:
  tailsight compare --baseline run=nightly-41 --candidate run=nightly-42
  tailsight compare --baseline version=1.4 --candidate version=1.5 --since 24h
  tailsight compare --baseline since=2d,until=1d --candidate since=1d --service ranker
  tailsight compare --baseline run=A --candidate run=B --json | jq '.causes[0] // .suspects[0]'
"""


def _side(_ctx: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> Asked:
    return read_side(parameter.opts[0], texts)


@click.command("compare", help=_HELP)
@click.option(
    "--baseline", required=True, multiple=True, callback=_side, metavar="SIDE", help="What to compare with: run=A."
)
@click.option(
    "--candidate", required=True, multiple=True, callback=_side, metavar="SIDE", help="What to compare: run=B."
)
@reading_options
def command(question: Question, baseline: Asked, candidate: Asked) -> None:
    """Compare the two sides and print what changed."""
    now_ns = time.time_ns()
    sides = [_resolved(question, each, now_ns) for each in (baseline, candidate)]
    if sides[0] == sides[1]:
        raise click.UsageError("--baseline and --candidate are the same requests: name two runs, versions or windows")
    try:
        with steps("Comparing …") as said:
            result = compare(question.store, sides[0], sides[1], said)
    except NoSpansError as error:
        found = 0 if str(error).startswith("baseline") else 1
        raise CommandError(f"{error}; {way_out(question.store, sides[found].filters)}", NOT_ENOUGH_DATA) from error
    except NotEnoughDataError as error:
        raise CommandError(
            f"{error}; widen that side's window with since=, or the command's with --since or --all-time",
            NOT_ENOUGH_DATA,
        ) from error
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_comparison(result))


def _resolved(question: Question, asked: Asked, now_ns: int) -> Side:
    """Where a side looks: its filters with the command's; its window, else its runs', else the command's."""
    given = {name: tuple(dict.fromkeys((*getattr(question.filters, name), *asked.filters[name]))) for name in KEYS}
    filters = Filters(**given)
    window = asked.window(now_ns)
    if window is None and asked.filters["run"] and not _window_is_given():
        window = _whole_run(question.store, asked.filters["run"], filters)
    return Side(window or question.window, filters)


def _whole_run(store: Store, runs: Sequence[str], filters: Filters) -> Window:
    window = whole_time(store, runs)
    if window is None:
        raise CommandError(f"no spans of run {', '.join(runs)}; {way_out(store, filters)}", NOT_ENOUGH_DATA)
    return window


def _window_is_given() -> bool:
    """Whether the command itself names a window, which then is that of both sides."""
    parameters = click.get_current_context().params
    return any(parameters.get(name) for name in ("since", "until", "all_time"))
