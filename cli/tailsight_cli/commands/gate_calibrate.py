"""`tailsight gate calibrate` measures how often gates are wrong on this machine, and how small a change they find."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tailsight_analysis import Filters, NotEnoughDataError
from tailsight_analysis.gate import calibrate
from tailsight_analysis.gating.strata import standardise
from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.gating.config import StoredCalibration, find_config, read_config
from tailsight_cli.gating.sampling import Side, fetch_sides, saying_steps
from tailsight_cli.gating.sources import check_twice, read_source
from tailsight_cli.gating.writing import check_place, file_to_write, write_calibration
from tailsight_cli.options import FILTER_HELP, store_option
from tailsight_cli.render.gate_calibration import render_calibration
from tailsight_cli.render.gate_json import strict_json
from tailsight_cli.render.text import console
from tailsight_cli.signals import sigterm_interrupts

_HELP = """How often would a gate on this machine raise a false alarm, and how small a change does it find 95 % of the
time? Compares your own runs of the same code with each other (A/A); every difference that is found is false.

RUN is what `tailsight gate` takes as a side: run files, or parts of the store. Twenty runs say more than five; record
them as you record for the gate.

With --write, what was found goes into the settings, where every gate uses and shows it: as the table `calibration`
between two marks, everything else in the file stays as it is.

\b
Examples:
  tailsight record -o same.otlp.zst --repeat 20 -- python bench.py
  tailsight gate calibrate same.otlp.zst
  tailsight gate calibrate same.otlp.zst --write
  tailsight gate calibrate monday.otlp.zst tuesday.otlp.zst --json
"""


@click.command("calibrate", help=_HELP)
@click.argument("runs", nargs=-1, required=True, metavar="RUN…")
@click.option(
    "--write", is_flag=True, help="Write it into the settings: the file that has some, or a new tailsight.toml."
)
@click.option("--service", multiple=True, metavar="NAME", help=FILTER_HELP["service"])
@click.option(
    "--config", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Settings.  [default: the nearest tailsight.toml or pyproject.toml that has some]",
)  # fmt: skip
@store_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def command(
    runs: tuple[str, ...], write: bool, service: tuple[str, ...], config: Path | None, store: str, as_json: bool
) -> None:
    """Calibrate, print what was found, and write it down."""
    sources = [read_source("RUN", text) for text in runs]
    check_twice(sources, [])
    if config is not None and not config.exists() and not write:
        raise click.UsageError(f"--config {config} does not exist")
    found_config = config if config is not None else find_config(Path.cwd())
    settings = read_config(found_config if found_config and found_config.exists() else None, to_calibrate=True)
    target = file_to_write(found_config, Path.cwd()) if write else None
    if target is not None:  # before minutes of reading, not after
        check_place(target)
    with collector_errors(), sigterm_interrupts(), saying_steps() as said:
        (side,) = fetch_sides((sources,), store, Filters(service=service), said)
        said(f"Comparing {len(side.runs)} runs with each other")
        try:
            calibration = calibrate(standardise(side.runs, side.runs).baseline, settings.settings)
        except NotEnoughDataError as error:
            raise CommandError(f"{error}; `tailsight record --repeat` records several", NOT_ENOUGH_DATA) from error
    stored = StoredCalibration(calibration, f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", _machine(side))
    if target is not None:
        write_calibration(target, stored)
    if as_json:
        said_of = {"created": stored.created, "machine": stored.machine, "written": str(target) if target else None}
        click.echo(strict_json({**calibration.to_json(), **said_of}))
    else:
        console().print(render_calibration(stored, side, target))


def _machine(side: Side) -> str:
    """Name the machine of the runs; nothing where they are of several."""
    machines = {run.about.get("machine", "") for run in side.runs}
    return machines.pop() if len(machines) == 1 else ""
