"""`tailsight flame`: which code a stage runs, over all of its requests; and how the tail's differs from the typical."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tailsight_analysis import Filters, NotEnoughDataError, Store, Window, connect
from tailsight_analysis.flame_shares import RunShares, run_shares
from tailsight_analysis.flames import (
    FlameSideOf,
    StageDifference,
    StageFlame,
    profiled_time,
    stage_difference,
    stage_flame,
    top_functions,
)
from tailsight_analysis.profiles import difference_html, flame_html, to_collapsed, to_speedscope
from tailsight_cli._errors import CommandError
from tailsight_cli.options import FILTER_HELP, asking_options, chosen_window
from tailsight_cli.render.flame import render_difference, render_flame
from tailsight_cli.render.flame_shares import render_shares
from tailsight_cli.render.text import console

FILTERS = {name: text for name, text in FILTER_HELP.items() if name != "region"}
CLASSES = ("tail", "typical")
_COLLAPSED = (".collapsed", ".folded", ".txt")
_ENDINGS = f".html, .json (speedscope) or {', '.join(_COLLAPSED)}"
_HELP = """Show which code a stage runs: the samples of all its requests together, so that 2 ms have a flame graph.

`tailsight profile` takes the samples. With --diff, two classes of requests or two runs beside each other: which
functions take more time in the one than in the other, how certain that is, and on how many samples it rests.

\b
Examples:
  tailsight flame --stage compute
  tailsight flame --stage compute --diff tail:typical
  tailsight flame --stage compute --diff run=main:run=faster -o difference.html
  tailsight flame --diff run=before:run=after --outside              of imported profiles
  tailsight flame --service ranker --since 15m -o ranker.html
  tailsight flame --stage compute -o compute.speedscope.json        for https://www.speedscope.app
  tailsight flame --stage compute -o compute.collapsed              for flamegraph.pl
"""


@click.command("flame", help=_HELP)
@click.option("--diff", metavar="A:B", help="Compare tail:typical, or run=A:run=B.")
@click.option("--outside", is_flag=True, help="Also samples that ran for no request: background threads, waiting ones.")
@click.option("--class", "kind", type=click.Choice(CLASSES), help="Only requests of this class.")
@click.option(
    "-o", "--output", "output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help=f"Write a file, by its ending: {_ENDINGS}.",
)  # fmt: skip
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="Most rows.")
@asking_options(FILTERS)
def command(
    diff: str | None, outside: bool, kind: str | None, output: Path | None, limit: int, as_json: bool, **given: Any
) -> None:
    """Read the samples, and show or write them."""
    sides = _sides(diff) if diff is not None else None
    if sides and kind:
        raise click.UsageError("--diff compares classes: leave out --class")
    if sides and outside and not sides[0].runs:
        raise click.UsageError("--diff compares requests: leave out --outside")
    if sides and outside and output:
        raise click.UsageError("--diff with --outside is a table, or --json: leave out --output")
    if sides and given["run"] and sides[0].runs:
        raise click.UsageError("--diff names the runs: leave out --run")
    write = _writer(output, differs=sides is not None) if output else None
    window = chosen_window(given["since"], given["until"], all_time=given["all_time"], now_ns=time.time_ns())
    filters = Filters(**{name: tuple(given[name]) for name in (*FILTERS, "run")})
    runs = (*filters.run, *(run for side in sides or () for run in side.runs))
    with connect(given["store"]) as store:
        window = window or _window(store, runs, all_time=given["all_time"])
        found: StageFlame | StageDifference | RunShares
        if sides and outside:
            found = run_shares(store, window, filters, *sides)
            plain = found.to_json()
        elif sides:
            found = _difference(store, window, filters, sides)
            plain = found.to_json()
        else:
            found = stage_flame(store, window, filters, classes=(kind,) if kind else (), outside=outside)
            plain = found.flame.to_json() | {
                "functions": [each.to_json() for each in top_functions(found.flame)[:limit]]
            }
    if output and write and not isinstance(found, RunShares):
        _write(output, write(found))
    if as_json:
        answer = {
            "window": window.to_json(),
            "filters": filters.to_json(),
            **plain,
            "profiles": [each.to_json() for each in found.profiles],
        }
        click.echo(json.dumps(answer, indent=2, ensure_ascii=False))
    elif isinstance(found, RunShares):
        console().print(render_shares(found, window, filters, limit))
    elif isinstance(found, StageDifference):
        console().print(render_difference(found, window, filters, limit))
    else:
        console().print(render_flame(found, window, filters, limit))
    if output and not as_json:
        click.echo(f"Written to {output}.")


def _difference(
    store: Store, window: Window, filters: Filters, sides: tuple[FlameSideOf, FlameSideOf]
) -> StageDifference:
    try:
        return stage_difference(store, window, filters, *sides)
    except NotEnoughDataError as error:
        if not sides[0].runs:
            raise
        try:
            run_shares(store, window, filters, *sides)
        except NotEnoughDataError:
            raise error from None
        raise NotEnoughDataError(
            f"{error}. There are samples that ran for no request, as imported profiles have: --outside compares those",
            error.missing,
        ) from None


def _sides(text: str) -> tuple[FlameSideOf, FlameSideOf]:
    wrong = click.UsageError(f"--diff {text!r}: name two sides, tail:typical or run=A:run=B")
    first, colon, second = text.partition(":")
    if text.startswith("run="):  # a run's name may hold a colon
        first, colon, second = text.partition(":run=")
        second = f"run={second}" if colon else ""
    if not colon or first == second:
        raise wrong
    sides = []
    for side in (first, second):
        if side in CLASSES:
            sides.append(FlameSideOf(side, classes=(side,)))
        elif side.startswith("run=") and side != "run=":
            sides.append(FlameSideOf(side.removeprefix("run="), runs=(side.removeprefix("run="),)))
        else:
            raise wrong
    if bool(sides[0].runs) != bool(sides[1].runs):
        raise wrong
    return sides[0], sides[1]


def _window(store: Store, runs: tuple[str, ...], *, all_time: bool) -> Window:
    if not runs and not all_time:
        return Window.last()
    window = profiled_time(store, runs)
    if window is None:
        what = f"no samples of run {', '.join(runs)}" if runs else "no samples of stacks"
        raise NotEnoughDataError(f"{what} in {store.dsn}: take some with `tailsight profile`")
    return window


def _writer(output: Path, *, differs: bool) -> Callable[[StageFlame | StageDifference], str]:
    ending = output.suffix.lower()
    if ending in (".html", ".htm"):
        return _html
    if ending not in (".json", *_COLLAPSED):
        raise click.UsageError(f"--output {output}: the ending says what is written: {_ENDINGS}")
    if differs:
        raise click.UsageError(f"--output {output}: a difference is written as .html only")
    return _speedscope if ending == ".json" else _collapsed


def _html(found: StageFlame | StageDifference) -> str:
    if isinstance(found, StageDifference):
        return difference_html(found.difference, f"{found.difference.name_a} against {found.difference.name_b}")
    return flame_html(found.flame)


def _speedscope(found: StageFlame | StageDifference) -> str:
    return to_speedscope(found.flame) if isinstance(found, StageFlame) else ""


def _collapsed(found: StageFlame | StageDifference) -> str:
    return to_collapsed(found.flame) if isinstance(found, StageFlame) else ""


def _write(output: Path, text: str) -> None:
    """Write a whole file or none."""
    beside = output.with_name(f".{output.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(output)
    except OSError as error:
        raise CommandError(f"--output {output} cannot be written: {error.strerror}") from error
    finally:
        beside.unlink(missing_ok=True)
