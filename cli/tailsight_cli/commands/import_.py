"""`tailsight import`: OTLP files into a collector or a store."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.guarding import headers_from_environment
from tailsight_collector.importer import CollectorTarget, Imported, StoreTarget, import_files
from tailsight_collector.keep.power_cut import kept_safe
from tailsight_collector.receive.checks import REASONS
from tailsight_storage import ChdbDsn, StoreDsn, open_store, parse_dsn

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
EPILOG = """\b
Examples:
  tailsight import sample_traces/*.otlp.zst --run sample
  tailsight import spans.json --service ranker --endpoint http://127.0.0.1:4318
  tailsight import night.otlp.gz --store chdb:///var/lib/tailsight        (no collector needed)
\b
A collector that asks for a token finds it in OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'.
"""


@click.command(name="import", epilog=EPILOG)
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path, exists=False, dir_okay=True)
)
@click.option("--run", metavar="NAME", help="Label all spans with this run (tailsight.run).")
@click.option("--service", metavar="NAME", help="Label all spans with this service (service.name).")
@click.option(
    "--endpoint", default=DEFAULT_ENDPOINT, show_default=True, help="A running collector's OTLP/HTTP address."
)
@click.option(
    "--store",
    metavar="DSN",
    help="With chdb:///folder: load in this process, without a collector. Any other is only named in what to ask next.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    files: tuple[Path, ...], run: str | None, service: str | None, endpoint: str, store: str | None, as_json: bool
) -> None:
    """Import OTLP files: .otlp (length-delimited requests), protobuf, JSON or JSON lines, also as .gz or .zst.

    Prints the time window that the spans cover, for --since and --until of the reading commands.
    """
    dsn = parse_dsn(store) if store else None
    for path in files:
        if not path.is_file():
            what = "is a folder; name its files" if path.is_dir() else "does not exist"
            raise CommandError(f"{path} {what}", UNREADABLE)
    with collector_errors():
        if not isinstance(dsn, ChdbDsn):
            target = CollectorTarget(endpoint, headers=headers_from_environment())
            imported = _with_progress(files, target, run, service)
        else:
            with kept_safe(dsn.folder), open_store(dsn, create=True) as opened:
                imported = _with_progress(files, StoreTarget(opened), run, service)
    if as_json:
        click.echo(json.dumps(_plain(imported)))
    else:
        _report(imported, run, dsn)


def _with_progress(
    files: tuple[Path, ...], target: CollectorTarget | StoreTarget, run: str | None, service: str | None
) -> Imported:
    columns = (TextColumn("importing"), BarColumn(), DownloadColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("import", total=sum(path.stat().st_size for path in files))
        return import_files(
            files,
            target,
            run=run,
            service=service,
            on_progress=lambda done: progress.update(task, completed=done),
        )


def _plain(imported: Imported) -> dict[str, object]:
    window = None
    if imported.accepted_spans:
        since, until = window_of(imported)
        window = {"since": since, "until": until}
    counts = asdict(imported)
    return {
        "files": counts["files"],
        "skipped": counts["skipped"],
        "spans": counts["spans"],
        "accepted_spans": imported.accepted_spans,
        "rejected_spans": dict(imported.rejected),
        "window": window,
    }


def window_of(imported: Imported) -> tuple[str, str]:
    """Give the spans' window as ISO 8601 text in whole seconds, its end exclusive: what --since and --until take."""
    since = datetime.fromtimestamp(imported.first_start_ns // 10**9, UTC)
    until = datetime.fromtimestamp(imported.last_end_ns // 10**9, UTC) + timedelta(seconds=1)
    return f"{since:%Y-%m-%dT%H:%M:%SZ}", f"{until:%Y-%m-%dT%H:%M:%SZ}"


def _report(imported: Imported, run: str | None, dsn: StoreDsn | None) -> None:
    for line in imported.skipped:
        click.echo(f"skipped {line}", err=True)
    files = "1 file" if imported.files == 1 else f"{imported.files} files"
    click.echo(f"imported {imported.accepted_spans:,} spans from {files}")
    for reason, count in imported.rejected.most_common():
        click.echo(f"  rejected {count:,}: {REASONS[reason]} (kept in rejected_spans)")
    if not imported.accepted_spans:
        return
    since, until = window_of(imported)
    click.echo(f"window   {since} to {until}")
    where = f"--run {run}" if run else f"--since {since} --until {until}"
    click.echo(f"next     tailsight tail {where}{f' --store {dsn}' if dsn else ''}")
