"""`tailsight import`: trace files of any known format into a collector or a store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import UNREADABLE, WRONG_USE, CommandError
from tailsight_cli.guarding import headers_from_environment
from tailsight_cli.import_report import plain, show
from tailsight_cli.source_options import rules_of, sources_option
from tailsight_collector.importer import CollectorTarget, Imported, StoreTarget, Target, import_sources
from tailsight_collector.importing.registry import Options
from tailsight_collector.importing.source import STDIN, FileSource, file_source, stdin_source
from tailsight_collector.importing.times import TimeError, iso_ns
from tailsight_collector.keep.power_cut import kept_safe
from tailsight_storage import ChdbDsn, open_store, parse_dsn

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
EPILOG = """\b
Examples:
  tailsight import sample_traces/*.otlp.zst --run sample
  tailsight import jaeger-export.json zipkin.json.gz --endpoint http://127.0.0.1:4318
  tailsight import triton.json --start 2026-11-23T08:30:00Z
  kubectl exec pod -- cat /traces.json | tailsight import - --service ranker
  tailsight import traces/ --store chdb:///var/lib/tailsight        (a folder; no collector needed)
\b
What is read, and what becomes what: docs/import.md. The same file again adds nothing.
A collector that asks for a token finds it in OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'.
"""


@click.command(name="import", epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--run", metavar="NAME", help="Label all spans with this run (tailsight.run).")
@click.option("--service", metavar="NAME", help="Label all spans with this service (service.name).")
@click.option("--start", metavar="TIME", help="When a file without the time of day (Triton's) began; ISO 8601.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    hidden=True,
    metavar="FIELD=COLUMN",
    help="Which column of a CSV of requests is what.",
)
@click.option(
    "--endpoint", default=DEFAULT_ENDPOINT, show_default=True, help="A running collector's OTLP/HTTP address."
)
@click.option(
    "--store",
    metavar="DSN",
    help="With chdb:///folder: load in this process, without a collector. Any other is only named in what to ask next.",
)
@sources_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def command(
    context: click.Context,
    files: tuple[str, ...],
    run: str | None,
    service: str | None,
    start: str | None,
    mapping: tuple[str, ...],
    endpoint: str,
    store: str | None,
    sources: Path | None,
    as_json: bool,
) -> None:
    """Import traces of other tools: OTLP, Jaeger, Zipkin, Triton, Langfuse, OpenTelemetry JS, Nezha's CSV.

    FILE is a file, a folder (with all below it), a pattern in quotes, or - for stdin. The format is found by content; a
    file may be packed as .gz or .zst. A file that cannot be read adds nothing. Prints what was read, kept and refused,
    and the time window that the spans cover, for --since and --until of the reading commands.
    """
    dsn = parse_dsn(store) if store else None
    options = Options(start_ns=_start_ns(start), mapping=mapping)
    if not isinstance(dsn, ChdbDsn) and context.get_parameter_source("sources") is ParameterSource.COMMANDLINE:
        raise CommandError(
            f"--sources {sources} is for --store chdb:///folder: the collector at {endpoint} has its own rules; "
            "start it with them"
        )
    with collector_errors(), ExitStack() as stack:
        opened = list(_sources(files, stack))
        if not isinstance(dsn, ChdbDsn):
            target: Target = CollectorTarget(endpoint, headers=headers_from_environment())
        else:
            rules = rules_of(sources)
            stack.enter_context(kept_safe(dsn.folder))
            target = StoreTarget(stack.enter_context(open_store(dsn, create=True)), rules)
        try:
            imported = _with_progress(opened, target, run, service, options)
        except KeyboardInterrupt:
            click.echo("interrupted; what was stored stays, and the same command goes on from there", err=True)
            raise
    if as_json:
        click.echo(json.dumps(plain(imported)))
    else:
        show(imported, run, dsn)
    if imported.failed:
        more = f"; and {len(imported.failed) - 1} more" if len(imported.failed) > 1 else ""
        raise CommandError(f"{imported.failed[0]}{more}", UNREADABLE)


def _start_ns(text: str | None) -> int | None:
    try:
        return None if text is None else iso_ns(text, "time")
    except TimeError:
        raise CommandError(f"--start {text} is no time with a zone; use one as 2026-11-23T08:30:00Z") from None


def _sources(names: Iterable[str], stack: ExitStack) -> Iterable[Callable[[], FileSource]]:
    """Yield what opens each file, folders and patterns unfolded; raises CommandError where there is none."""
    has_stdin = False
    for name in names:
        if name == STDIN:
            if has_stdin:
                raise CommandError("- stands there twice, and stdin can be read once; name it once", WRONG_USE)
            has_stdin = True
            yield partial(stack.enter_context, stdin_source(sys.stdin.buffer))
            continue
        for path in _paths(name):
            yield partial(file_source, path)


def _paths(name: str) -> list[Path]:
    path = Path(name)
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if each.is_file() and not _is_hidden(each.relative_to(path)))
        if not found:
            raise CommandError(f"{name} is a folder without files", UNREADABLE)
        return found
    if path.exists():
        return [path]
    if any(sign in name for sign in "*?["):
        root = Path(path.anchor or ".")
        found = sorted(each for each in root.glob(str(path.relative_to(path.anchor))) if each.is_file())
        if found:
            return found
        raise CommandError(f"{name} matches no file", UNREADABLE)
    raise CommandError(f"{name} does not exist", UNREADABLE)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _with_progress(
    sources: list[Callable[[], FileSource]], target: Target, run: str | None, service: str | None, options: Options
) -> Imported:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task("", total=None)
        return import_sources(
            sources,
            target,
            run=run,
            service=service,
            options=options,
            on_progress=lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total or None
            ),
        )
