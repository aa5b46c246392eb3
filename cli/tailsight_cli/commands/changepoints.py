"""`tailsight changepoints` finds where any series of numbers changes its level."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from tailsight_analysis.changes.search import Change, change_points
from tailsight_analysis.changes.settings import LEAST_CHANGE, MIN_SEGMENT, ChangeSettings
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.render.changes import render_changes
from tailsight_cli.render.text import console
from tailsight_cli.series_files import parse

_HELP = """Where a series of numbers changes its level: the first point of each new level.

FILE is CSV (commas, semicolons or tabs, with or without a heading; columns of times or texts only name the points) or
JSON (an array of numbers, or of objects); - reads from standard input. Rows are in order of time.

A change is one only if noise, also autocorrelated noise, does not explain it, no order of the values would separate as
well by chance, and two outliers less would leave it. What was found does not move when points are added.

\b
Examples:
  tailsight changepoints nightly.csv --column p99_ms
  tailsight changepoints nightly.csv --column p50_ms --column p99_ms --json
  tailsight changepoints latencies.json --json | jq '.changes[-1]'
"""


@click.command("changepoints", help=_HELP)
@click.argument("file", metavar="FILE")
@click.option(
    "--column", "columns", multiple=True, metavar="NAME", help="The column to look at; several: each by itself."
)
@click.option(
    "--min-segment", type=int, default=MIN_SEGMENT, show_default=True, help="The fewest points that a level has."
)
@click.option(
    "--least-change", type=float, default=LEAST_CHANGE, show_default=True, metavar="SHARE",
    help="How much a level must differ from the one before: 0.02 is 2 %.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def command(file: str, columns: tuple[str, ...], min_segment: int, least_change: float, as_json: bool) -> None:
    """Read the file, look for changes, and print them."""
    settings = ChangeSettings(min_segment, least_change)
    series = parse("standard input" if file == "-" else file, _text(file))
    chosen = series.chosen(columns)
    answers: dict[str, Any] = {}
    parts = []
    for name in chosen:
        rows = [row for row, value in enumerate(series.columns[name]) if value is not None]
        values = [value for value in series.columns[name] if value is not None]
        if len(values) < settings.fewest_points:
            _say_too_short(name, len(values), settings)
        changes = change_points(values, settings=settings)
        answers[name] = {"changes": [_json(change, rows) for change in changes]}
        parts += [render_changes(name, values, [series.labels[row] for row in rows], changes, rows)]
        if len(values) >= settings.fewest_points:
            parts += [Text(_newest(settings), style="dim")]
        parts += [Text("")]
    if as_json:
        # one column is the answer itself: a key would only be in the way
        answer = answers if len(chosen) > 1 else answers[chosen[0]]
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    else:
        for part in parts[:-1]:
            console().print(part)


def _text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is no text in UTF-8: byte {error.start} is {error.reason}", UNREADABLE) from None


def _json(change: Change, rows: list[int]) -> dict[str, Any]:
    """Rows of the file: points without a number count, too."""
    return {**change.to_json(), "index": rows[change.index], "found_at": rows[change.found_at]}


def _newest(settings: ChangeSettings) -> str:
    return f"The newest {settings.newest_unjudged} points cannot be judged yet: what began with them may be outliers."


def _say_too_short(name: str, points: int, settings: ChangeSettings) -> None:
    click.echo(
        f"{name}: {points} points are too few for any change: it takes {settings.fewest_points} or more", err=True
    )
