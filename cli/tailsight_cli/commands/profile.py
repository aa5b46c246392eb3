"""`tailsight profile`: record which code a running Python process runs, and keep it with the stages that it ran for."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tailsight_analysis import connect
from tailsight_analysis.tail import LEAST_QUANTILE
from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.options import parse_length_s, store_option
from tailsight_cli.profiling.keeping import DEFAULT_ENDPOINT, read_endpoint
from tailsight_cli.profiling.session import Asked, Session, Watch
from tailsight_cli.profiling.spy import SpyOptions, py_spy
from tailsight_cli.progress import steps
from tailsight_cli.render.profile import render_profiles, said_of
from tailsight_cli.render.text import console
from tailsight_cli.signals import sigterm_interrupts

MAX_DURATION_S = 3600
_HELP = """Record which code runs in a Python process that sends spans, and join it to its stages.

py-spy reads the stacks from outside, without holding the process still; nothing is changed in it. Samples are joined to
the stages that ran on their threads and kept in the store; `tailsight flame` shows them. Ctrl-C ends a recording early
and keeps what there is. Reading another process takes a permission: docs/profiles.md.

\b
Examples:
  tailsight profile --service ranker                         30 s of its processes on this machine
  tailsight profile --pid 4711 --duration 2m --rate 200
  tailsight profile --service ranker --on-tail --rounds 5    when its p99 rises above 1.5 times the usual one
  tailsight profile --service ranker --every 1h --rounds 24  30 s of each hour of a day
  tailsight profile --pid 4711 --json | jq '.profiles[].agreement'
"""


@click.command("profile", help=_HELP)
@click.option("--pid", type=click.IntRange(1), metavar="P", help="This process.")
@click.option("--service", metavar="NAME", help="The processes of this service that run on this machine, 8 at most.")
@click.option("--duration", default="30s", show_default=True, metavar="TIME", help="How long: 10s, 2m; at most 1h.")
@click.option(
    "--rate", default=100, show_default=True, type=click.IntRange(1, 1000), metavar="HZ", help="Samples a second."
)
@click.option("--blocking", is_flag=True, help="Hold the process still for each sample: about 0.1 ms each, more exact.")
@click.option("--gil/--no-gil", default=True, show_default=True, help="Tell which threads wait for the GIL.")
@click.option("--idle/--no-idle", default=True, show_default=True, help="Also samples of threads that wait.")
@click.option("--on-tail", is_flag=True, help="Record when the p99 of the last minute is above the usual one.")
@click.option(
    "--factor", default=1.5, show_default=True, type=click.FloatRange(1.0, 1000.0), metavar="X",
    help="With --on-tail: how many times the p99 of the hour before.",
)  # fmt: skip
@click.option(
    "--rounds", default=3, show_default=True, type=click.IntRange(1, 100), metavar="N",
    help="With --on-tail or --every: at most so many recordings.",
)  # fmt: skip
@click.option(
    "--every", metavar="TIME",
    help="Record so often; with --on-tail not more often than so (5m).",
)  # fmt: skip
@click.option(
    "--for", "watch_for", default="24h", show_default=True, metavar="TIME",
    help="With --on-tail or --every: for so long in all.",
)  # fmt: skip
@click.option(
    "--quantile", default="p99", show_default=True, metavar="pN", help="Where the tail of requests begins."
)  # fmt: skip
@click.option(
    "--raw",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep py-spy's own files, too.",
)
@click.option(
    "--endpoint", default=DEFAULT_ENDPOINT, show_default=True, envvar="TAILSIGHT_ENDPOINT", show_envvar=True,
    metavar="URL", help="The collector that keeps the profile: its OTLP/HTTP address.",
)  # fmt: skip
@store_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def command(
    pid: int | None,
    service: str | None,
    duration: str,
    rate: int,
    blocking: bool,
    gil: bool,
    idle: bool,
    on_tail: bool,
    factor: float,
    rounds: int,
    every: str | None,
    watch_for: str,
    quantile: str,
    raw: Path | None,
    endpoint: str,
    store: str,
    as_json: bool,
) -> int | None:
    """Find the processes, record them, put together what was seen with their spans, and keep it."""
    if (pid is None) == (service is None):
        raise click.UsageError("name either --pid P or --service NAME")
    asked = Asked(
        _length_s("--duration", duration, MAX_DURATION_S),
        SpyOptions(rate, blocking, idle),
        gil,
        _quantile(quantile),
        raw,
    )
    pause_s = _length_s("--every", every or "5m", 86_400 * 7)
    watch = Watch(factor, rounds, pause_s, _length_s("--for", watch_for, 86_400 * 365))
    if every and not on_tail and pause_s <= asked.duration_s:
        raise click.UsageError(f"--every {every} is not longer than --duration {duration}: use a longer one")
    _make_folder(raw)
    place = read_endpoint(endpoint)
    py_spy()  # said before anything else is begun
    with collector_errors(), sigterm_interrupts(), connect(store) as opened, steps("Looking for the process …") as say:
        session = Session(opened, place, asked, pid, service or "", say)
        session.find()
        if on_tail:
            session.record_tails(watch)
        elif every:
            session.record_schedule(watch)
        else:
            session.record("hand")
    if not session.kept:
        raise CommandError(
            session.failure
            or f"the p99 did not rise above {factor:g} times the usual one within {watch_for}: nothing was recorded",
            NOT_ENOUGH_DATA,
        )
    if as_json:
        click.echo(json.dumps({"profiles": [said_of(*each) for each in session.kept]}, indent=2, ensure_ascii=False))
    else:
        console().print(render_profiles(session.kept))
    return None if any(each.plain["profile"]["trusted"] for _, each in session.kept) else NOT_ENOUGH_DATA


def _length_s(option: str, text: str, most_s: float) -> float:
    length_s = parse_length_s(text)
    if length_s is None or not 1 <= length_s <= most_s:
        raise click.UsageError(f"{option} {text!r} is no time from 1s to {most_s:g}s: use 30s, 2m, 1h")
    return length_s


def _make_folder(raw: Path | None) -> None:
    """Make the folder before anything is recorded, that may not be copied into it."""
    if raw is None:
        return
    try:
        raw.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--raw {raw} is no folder that can be written to: {error.strerror}") from error


def _quantile(text: str) -> float:
    try:
        value = float(text.removeprefix("p")) / 100
    except ValueError:
        value = 0.0
    if not LEAST_QUANTILE <= value < 1:
        raise click.UsageError(f"--quantile {text!r} is none from p{LEAST_QUANTILE * 100:g} on: use p99 or p95")
    return value
