"""`tailsight store quarantine`: what could not be loaded, and what is to become of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from tailsight_cli._errors import UNREADABLE, CommandError, missing_extra
from tailsight_cli.render.text import console

if TYPE_CHECKING:
    from tailsight_collector.keep.quarantine import Quarantine, Quarantined

_DEFAULT_DATA = "tailsight-data"  # as the collector's
_METRICS = "metrics"
_MAX_NAMES = 5
_HELP = """Look at what the database refused, load it again, or drop it.

A request that was acknowledged and that the database then refuses is put aside with the database's own message; all
others are loaded. Here are those of one data folder, spans and metrics. Everything here works beside a running
collector and without one: `retry` hands a record to the collector that runs, or to the next one that starts, which
loads it exactly once or puts it back with the new message.

\b
Examples:
  tailsight store quarantine list --data /var/lib/tailsight
  tailsight store quarantine show 20261122T071104.123456789-1f3a9c0e.17
  tailsight store quarantine retry --all            after what the message names is mended
  tailsight store quarantine drop --all --yes
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    signal: str
    quarantine: Quarantine
    entry: Quarantined


@click.group("quarantine", help=_HELP, short_help="What could not be loaded: look, try again, drop.")
def group() -> None:
    """Group the commands about the quarantine."""


def _data_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option(
        "--data", type=click.Path(path_type=Path), envvar="TAILSIGHT_DATA", show_envvar=True, default=_DEFAULT_DATA,
        show_default=True, help="The collector's data folder.",
    )(command)  # fmt: skip


def _json_option(command: click.decorators.FC) -> click.decorators.FC:
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")(command)


def _chosen_options(command: click.decorators.FC) -> click.decorators.FC:
    command = click.option("--all", "all_of_them", is_flag=True, help="All that `list` shows.")(command)
    return click.argument("names", nargs=-1, metavar="[NAME]...")(command)


@group.command("list")
@_data_option
@_json_option
def list_(data: Path, as_json: bool) -> None:
    """List what is in quarantine: since when, how large, and why."""
    found = _everything(data)
    if as_json:
        click.echo(json.dumps([_plain(each) for each in found], indent=2, ensure_ascii=False))
        return
    if not found:
        click.echo(f"nothing is in quarantine in {data}")
        return
    table = Table("name", "signal", "kind", "bytes", "since", "why", box=None, pad_edge=False)
    table.columns[3].justify = "right"
    table.columns[0].no_wrap = True
    for each in found:
        entry = each.entry
        why = "waits for the collector to load it again" if entry.is_waiting else entry.error
        table.add_row(
            escape(entry.name), each.signal, entry.kind, f"{entry.size_bytes:,}", f"{entry.since:%Y-%m-%d %H:%M:%S}Z",
            escape(_first_line(why)),
        )  # fmt: skip
    console().print(table)


@group.command("show")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_data_option
@_json_option
def show(names: tuple[str, ...], data: Path, as_json: bool) -> None:
    """Say what a record holds, and the database's whole message."""
    shown = [_described(each) for each in _chosen(data, names, all_of_them=False)]
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    for each in shown:
        for key, value in each.items():
            text = ", ".join(map(str, value)) if isinstance(value, list) else value
            click.echo(f"{key:<12}{'–' if text in (None, '') else _printable(str(text))}")
        click.echo()


@group.command("retry")
@_chosen_options
@_data_option
@_json_option
def retry(names: tuple[str, ...], all_of_them: bool, data: Path, as_json: bool) -> None:
    """Load records again: by the collector that runs, or by the next one that starts.

    With --all, damaged bytes are passed over: there is no whole record in them.
    """
    chosen = _chosen(data, names, all_of_them=all_of_them)
    passed_over = [each for each in chosen if all_of_them and each.entry.kind == "damaged"]
    handed = [each for each in chosen if each not in passed_over]
    with _collector_errors():
        for each in handed:
            each.quarantine.retry(each.entry)
    if as_json:
        names_of = {"retried": handed, "passed_over": passed_over}
        click.echo(json.dumps({key: [each.entry.name for each in value] for key, value in names_of.items()}))
        return
    click.echo(f"{_counted(len(handed))} handed to the collector of {data}; what it refuses again comes back here")
    if passed_over:
        click.echo(f"{_counted(len(passed_over), 'damaged piece')} passed over: nothing in them can be loaded")


@group.command("drop")
@_chosen_options
@_data_option
@_json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def drop(names: tuple[str, ...], all_of_them: bool, data: Path, as_json: bool, yes: bool) -> None:
    """Delete records for good."""
    chosen = _chosen(data, names, all_of_them=all_of_them)
    if chosen and not yes:
        size = sum(each.entry.size_bytes for each in chosen)
        click.confirm(f"Delete {_counted(len(chosen))} ({size:,} bytes) for good?", abort=True, err=True)
    with _collector_errors():
        for each in chosen:
            each.quarantine.drop(each.entry)
    if as_json:
        click.echo(json.dumps({"dropped": [each.entry.name for each in chosen]}))
    else:
        click.echo(f"{_counted(len(chosen))} deleted")


def _everything(data: Path) -> list[_Entry]:
    """Everything in the quarantines of a data folder."""
    try:
        from tailsight_collector.keep.quarantine import Quarantine
    except ModuleNotFoundError as error:
        raise missing_extra("store quarantine", "collector", error.name) from error
    journal = data / "journal"
    if not journal.is_dir():
        raise CommandError(
            f"{data} holds no journal: name the folder that the collector was given with --data", UNREADABLE
        )
    quarantines = {"traces": Quarantine(journal), _METRICS: Quarantine(journal / _METRICS)}
    return [_Entry(signal, each, entry) for signal, each in quarantines.items() for entry in each.entries()]


def _chosen(data: Path, names: tuple[str, ...], *, all_of_them: bool) -> list[_Entry]:
    if bool(names) == all_of_them:
        raise click.UsageError("name the records, or say --all" if not names else "--all leaves no choice of names")
    found = _everything(data)
    if all_of_them:
        return found
    known = {each.entry.name: each for each in found}
    for name in names:
        if name not in known:
            there = list(known)
            rest = ", …" if len(there) > _MAX_NAMES else ""
            raise CommandError(
                f"{name} is not in quarantine in {data}; there is: {', '.join(there[:_MAX_NAMES]) or 'nothing'}{rest}"
            )
    return [known[name] for name in dict.fromkeys(names)]


def _plain(each: _Entry) -> dict[str, Any]:
    entry = each.entry
    return {
        "name": entry.name,
        "signal": each.signal,
        "kind": entry.kind,
        "bytes": entry.size_bytes,
        "since": entry.since.isoformat(),
        "waiting": entry.is_waiting,
        "error": entry.error,
    }


def _described(each: _Entry) -> dict[str, Any]:
    from tailsight_collector.keep.quarantine_view import content_of

    is_metrics = each.signal == _METRICS
    try:
        content = content_of(each.entry.path.read_bytes(), is_metrics=is_metrics)
    except OSError as error:
        raise CommandError(f"{each.entry.path}: {error.strerror}", UNREADABLE) from error
    held: dict[str, Any] = {"services": None, "metrics" if is_metrics else "spans": None, "names": None}
    received_at = None
    if content:
        received_at = content.received_at.isoformat() if content.received_at else None
        held = dict(zip(held, (content.services, content.items, content.names), strict=True))
    return {**_plain(each), "received_at": received_at, **held, "path": str(each.entry.path)}


def _collector_errors() -> Any:
    from tailsight_cli._collecting import collector_errors

    return collector_errors()


def _counted(count: int, what: str = "record") -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _first_line(text: str, limit: int = 160) -> str:
    line = _printable(" ".join(text.split()))
    return line if len(line) <= limit else line[:limit] + " …"


def _printable(text: str) -> str:
    """Keep a stranger's control characters from the terminal."""
    return "".join(letter if letter.isprintable() else "�" for letter in text)
