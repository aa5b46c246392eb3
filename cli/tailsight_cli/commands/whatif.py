"""`tailsight whatif` says which change would make requests faster, and by how much."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import click

from tailsight_analysis import Scenario, default_scenarios, whatif
from tailsight_cli.options import Question, reading_options
from tailsight_cli.progress import step
from tailsight_cli.render.text import console
from tailsight_cli.render.whatif import render_whatif

_HELP = """Which change would make requests faster, and by how much.

The recorded requests are run again, trace by trace, with a stage's own work made shorter; what ran beside it may take
over, and then nothing more is gained. Without a change, every stage is tried 20 % faster, and never longer than its
median; what lowers the quantile most comes first. With several --stage each is changed alone, and all together.

20 % faster is 20 % less time. On another hardware type a stage takes what it took there in as rare a case of the same
model and batch size. Waiting is replayed as recorded: for a queue that gets shorter behind a faster stage, see
`tailsight queue`.

\b
Examples:
  tailsight whatif                             every stage, p99 of the last hour
  tailsight whatif --stage compute --faster 20%
  tailsight whatif --stage queue --stage compute --at p50
  tailsight whatif --stage compute --on 'NVIDIA H100 80GB HBM3' --quantile p95
  tailsight whatif --all-time --json | jq '.outcomes[0].tail'
"""
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*%?")
_PERCENTILE = re.compile(r"[pP]?(\d+(?:\.\d+)?)")
_STAGE_HELP = "The stage to change; may repeat. Without a change: rank only these."


def _quantile(_ctx: click.Context, _parameter: click.Parameter, text: str) -> float:
    """Read 0.99, 99, p99 or p99.9."""
    value = _level(text)
    if not 0.6 < value < 1:
        raise click.BadParameter(f"{text!r} is no tail: use a quantile above 0.6 and below 1, like 0.99 or p99")
    return value


def _at(_ctx: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Read 0.5, 50 or p50."""
    if text is None:
        return None
    value = _level(text)
    if not 0 <= value <= 1:
        raise click.BadParameter(f"{text!r} is no quantile: use p0 to p100, like p50")
    return value


def _share(_ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Read 20% or 20 as a share."""
    if text is None:
        return None
    match = _NUMBER.fullmatch(text.strip())
    most = 100.0 if parameter.name == "faster" else 1000.0
    if match is None or not 0 < float(match[1]) <= most:
        raise click.BadParameter(f"{text!r} is no share of time: use more than 0 % and at most {most:g} %, like 20%")
    return float(match[1]) / 100


def _level(text: str) -> float:
    """Read a quantile; −1 where it is none."""
    stripped = text.strip()
    match = _PERCENTILE.fullmatch(stripped)
    if match is None:
        return -1.0
    value = float(match[1])
    return round(value / 100, 12) if value > 1 or stripped[0] in "pP" else value


@click.command("whatif", help=_HELP)
@click.option("--faster", metavar="PERCENT", callback=_share, help="The stage takes so much less time.")
@click.option("--slower", metavar="PERCENT", callback=_share, help="The stage takes so much more time.")
@click.option("--at", metavar="Q", callback=_at, help="The stage never takes longer than this quantile, like p50.")
@click.option("--on", metavar="HARDWARE", help="The stage runs on this hardware type.")
@click.option(
    "--quantile", default="0.99", show_default=True, callback=_quantile, metavar="Q", help="What to bring down."
)
@reading_options
def command(
    question: Question, faster: float | None, slower: float | None, at: float | None, on: str | None, quantile: float
) -> None:
    """Ask for the changes and print what they bring."""
    stages = tuple(dict.fromkeys(question.filters.stage))
    filters = replace(question.filters, stage=())  # here a stage is what to change, not which requests to look at
    scenarios = _scenarios(stages, faster, slower, at, on)
    with step("Replaying the requests"):
        result = whatif(question.store, question.window, filters, quantile, scenarios)
    if question.as_json:
        click.echo(json.dumps(result.to_json(), indent=2, ensure_ascii=False))
    else:
        console().print(render_whatif(result))


def _scenarios(
    stages: Sequence[str], faster: float | None, slower: float | None, at: float | None, on: str | None
) -> tuple[Scenario, ...] | None:
    """Return the scenarios asked for; None for the default, of all stages."""
    changes = [given for given in (faster, slower, at, on) if given is not None]
    if len(changes) > 1:
        raise click.UsageError("--faster, --slower, --at and --on are different changes: choose one")
    if not changes:
        return default_scenarios(tuple(stages)) if stages else None
    if not stages:
        raise click.UsageError("say which stage to change: --stage NAME")
    times = 1 - faster if faster is not None else 1 + slower if slower is not None else None
    together = [tuple(stages)] if len(stages) > 1 else []
    return tuple(Scenario(names, times=times, at=at, on=on) for names in [*((name,) for name in stages), *together])


for option in command.params:
    if isinstance(option, click.Option) and option.name == "stage":
        option.help = _STAGE_HELP
