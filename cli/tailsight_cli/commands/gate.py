"""`tailsight gate`: is the candidate slower than the baseline? Its exit code stops a pull request, or lets it pass."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from tailsight_analysis import Filters, NotEnoughDataError, StorageError
from tailsight_analysis.gate import judge_stratified
from tailsight_analysis.gate_reports import SHOWN_DIGITS
from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError, one_line
from tailsight_cli.commands.gate_calibrate import command as calibrate_command
from tailsight_cli.commands.gate_keep import command as keep_command
from tailsight_cli.commands.gate_reports import command as reports_command
from tailsight_cli.gating.config import ON_INCONCLUSIVE, find_config, read_config, with_tolerance
from tailsight_cli.gating.keeping import Place, read_place, title_from_environment
from tailsight_cli.gating.outputs import STDOUT, Outputs
from tailsight_cli.gating.report import GateReport, report
from tailsight_cli.gating.sampling import fetch_sides, saying_steps, unlike
from tailsight_cli.gating.sources import Source, check_twice, read_source
from tailsight_cli.gating.uncompared import why_nothing
from tailsight_cli.gating.values import share
from tailsight_cli.options import FILTER_HELP, store_option
from tailsight_cli.render.gate import render_gate
from tailsight_cli.render.gate_json import strict_json
from tailsight_cli.render.gate_markdown import gate_markdown
from tailsight_cli.render.text import console
from tailsight_cli.signals import sigterm_interrupts

SUBCOMMANDS: dict[str, click.Command] = {
    "calibrate": calibrate_command,
    "keep": keep_command,
    "reports": reports_command,
}
_HELP = """Is the candidate slower than the baseline? Ends with 1 where it is, 0 where it is shown not to be, 3 where
there is too little to say.

A side is one run or several: run files of `tailsight record` (or any file that `tailsight import` takes), or parts of
the store, written run=NAME, version=X, or since=TIME,until=TIME. Compared are requests, and each stage on each type of
hardware, by p50, p95, p99, mean and jitter (p99 − p50).

regression: the whole interval of a change lies above its tolerance. pass: all intervals lie below. Anything else is
inconclusive, with how many more runs or requests would decide. Two runs a side are better than one, ten in turns better
still: see `tailsight record --repeat`.

Settings are in [tool.tailsight.gate] of pyproject.toml, or [gate] of tailsight.toml, in this folder or one above it.

Further commands, each with its own --help: `tailsight gate calibrate RUN RUN …` measures how often this machine raises
a false alarm; `tailsight gate reports` lists the reports that were kept with --keep; `tailsight gate keep FILE…` adds
those that --json wrote.

\b
Examples:
  tailsight gate base.otlp.zst cand.otlp.zst
  tailsight gate --baseline a.otlp.zst --baseline b.otlp.zst --candidate c.otlp.zst
  tailsight gate run=nightly-41 run=nightly-42
  tailsight gate version=1.4 version=1.5 --service ranker --tolerance 3%
  tailsight gate since=2d,until=1d since=1d --json | jq -r .verdict
  tailsight gate base.otlp.zst cand.otlp.zst --markdown gate.md --junit gate.xml
  tailsight gate base.otlp.zst cand.otlp.zst --keep http://127.0.0.1:4318
"""


class GateCommand(click.Command):
    """The command, and those beneath it: a side of such a name would be written ./calibrate."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand over to a subcommand where its name stands first."""
        if args and (below := SUBCOMMANDS.get(args[0])):
            return below.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


def _tolerance(_ctx: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = 1.0
    return share(parameter.opts[0], number if number < 1 else text)


@click.command("gate", cls=GateCommand, help=_HELP, options_metavar="[OPTIONS]")
@click.argument("sides", nargs=-1, metavar="[BASE CAND]")
@click.option("--baseline", "baselines", multiple=True, metavar="SIDE", help="What to compare with; more than once.")
@click.option("--candidate", "candidates", multiple=True, metavar="SIDE", help="What to compare; more than once.")
@click.option(
    "--on-inconclusive", type=click.Choice(ON_INCONCLUSIVE),
    help="Exit code where nothing is decided: pass is 0, fail is 1.  [default: 3]",
)  # fmt: skip
@click.option(
    "--tolerance", metavar="SHARE", callback=_tolerance,
    help="By how much slower anything may be that has no tolerance of its own, like 3%.  [default: 5%]",
)  # fmt: skip
@click.option("--service", multiple=True, metavar="NAME", help=FILTER_HELP["service"])
@click.option(
    "--config", type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="FILE",
    help="Settings.  [default: the nearest tailsight.toml or pyproject.toml that has some]",
)  # fmt: skip
@click.option("--markdown", metavar="FILE", help="Write the report for a pull-request comment; - is stdout.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JUnit XML.")
@click.option("--github", is_flag=True, help="Print annotations of a workflow run, and write the summary of its job.")
@click.option(
    "--keep", metavar="WHERE",
    help="Keep it where the dashboard shows it: a running collector, like http://127.0.0.1:4318, or a store.",
)  # fmt: skip
@click.option(
    "--title", metavar="TEXT",
    help="What is judged, for lists of reports.  [default: in CI, the repository and its pull request]",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Show metrics that pass, too.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
@click.pass_context
def command(
    ctx: click.Context,
    sides: tuple[str, ...],
    baselines: tuple[str, ...],
    candidates: tuple[str, ...],
    on_inconclusive: str | None,
    tolerance: float | None,
    service: tuple[str, ...],
    config: Path | None,
    markdown: str | None,
    junit: Path | None,
    github: bool,
    keep: str | None,
    title: str | None,
    everything: bool,
    store: str,
    as_json: bool,
) -> None:
    """Judge, print the report in every form that was asked for, and end with the verdict's exit code."""
    baseline, candidate = _sides(sides, baselines, candidates)
    if as_json and markdown == STDOUT:
        raise click.UsageError("--json and --markdown - both want stdout: write one of them to a file")
    settings = with_tolerance(read_config(config or find_config(Path.cwd())), tolerance)
    outputs = Outputs(markdown, junit, github, stdout_taken=as_json or markdown == STDOUT)
    outputs.check([*baseline, *candidate])
    place = read_place("--keep", keep) if keep else None  # empty: a variable of a CI job that is not set
    with collector_errors(), sigterm_interrupts(), saying_steps() as said:
        found = fetch_sides((baseline, candidate), store, Filters(service=service), said)
        said("Judging")
        stored = settings.calibration
        try:
            judgement = judge_stratified(
                found[0].runs, found[1].runs, settings.settings, stored.calibration if stored else None
            )
        except NotEnoughDataError as error:
            why, differ = why_nothing(found[0].runs, found[1].runs, settings.settings), "; ".join(unlike(*found))
            raise CommandError(f"{why}{f' ({differ})' if differ else ''}", NOT_ENOUGH_DATA) from error
    result = report(
        judgement, found, settings, on_inconclusive or settings.on_inconclusive,
        judged_ns=time.time_ns(), title=title_from_environment() if title is None else title,
    )  # fmt: skip
    try:
        outputs.write_files(result)
    finally:  # what cannot be written into a file is seen all the same
        with outputs.printing(result):
            if as_json:
                click.echo(strict_json(result.to_json()))
            elif markdown == STDOUT:
                click.echo(gate_markdown(result), nl=False)
            else:
                console().print(render_gate(result, everything=everything))
    if place is not None:
        _keep(result, place)
    ctx.exit(result.exit_code)


def _keep(result: GateReport, place: Place) -> None:
    """Keep the report. Where that fails it is said, and the verdict stands: it is what stops a pull request."""
    try:
        kept = place.keep(strict_json(result.to_json()).encode())
    except (CommandError, StorageError, OSError) as error:
        click.echo(one_line(f"tailsight: the report is not kept: {error}"), err=True)
    else:
        click.echo(f"The report is kept as {kept.id[:SHOWN_DIGITS]}.", err=True)


def _sides(
    sides: tuple[str, ...], baselines: tuple[str, ...], candidates: tuple[str, ...]
) -> tuple[list[Source], list[Source]]:
    if sides and (baselines or candidates):
        raise click.UsageError("name the sides either as BASE CAND or with --baseline and --candidate")
    if sides and len(sides) != 2:
        raise click.UsageError(
            f"{len(sides)} sides: name two, BASE and CAND; several runs a side go with --baseline and --candidate"
        )
    texts = ((sides[0],), (sides[1],)) if sides else (baselines, candidates)
    for name, given in zip(("--baseline", "--candidate"), texts, strict=True):
        if not given:
            raise click.UsageError(
                f"no {name}: name two sides, like `tailsight gate base.otlp.zst cand.otlp.zst`"
                if not (baselines or candidates)
                else f"no {name}: a gate compares two sides"
            )
    baseline = [read_source("--baseline", text) for text in texts[0]]
    candidate = [read_source("--candidate", text) for text in texts[1]]
    check_twice(baseline, candidate)
    return baseline, candidate
