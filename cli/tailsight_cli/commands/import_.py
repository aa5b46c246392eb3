"""`tailsight import`: trace files of any known format into a collector or a store."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import click
from click.core import ParameterSource

from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.guarding import headers_from_environment
from tailsight_cli.import_report import plain, show
from tailsight_cli.profiling.keeping import read_endpoint
from tailsight_cli.profiling.profile_import import TITLES, ProfileImport, keeps_at, keeps_in
from tailsight_cli.source_options import rules_of, sources_option
from tailsight_cli.trace_files import file_options, opened, options_of, progress_bar
from tailsight_collector.importer import CollectorTarget, StoreTarget, Target, import_sources
from tailsight_collector.importing.request_csv import FORMAT_NAME as REQUEST_CSV
from tailsight_collector.keep.power_cut import kept_safe
from tailsight_storage import ChdbDsn, open_store, parse_dsn

DEFAULT_ENDPOINT = "http://127.0.0.1:4318"
EPILOG = """\b
Examples:
  tailsight import sample_traces/*.otlp.zst --run sample
  tailsight import jaeger-export.json zipkin.json.gz --endpoint http://127.0.0.1:4318
  tailsight import triton.json --start 2026-11-23T08:30:00Z
  tailsight import requests.csv --map start=arrived_at,duration_ms=latency,stage.queue_ms=queue_time
  tailsight import before.speedscope.json --run before --start 2026-11-23T08:30:00Z
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
@click.option("--stage", metavar="NAME", help="Of a profile (speedscope, …): the stage that its samples belong to.")
@file_options
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
    stage: str | None,
    start: str | None,
    mapping: tuple[str, ...],
    endpoint: str,
    store: str | None,
    sources: Path | None,
    as_json: bool,
) -> None:
    """Import traces of other tools: OTLP, Jaeger, Zipkin, Triton, Langfuse, OpenTelemetry JS, PyTorch, LoadGen, CSV.

    Also profiles: speedscope, collapsed stacks, pyinstrument; `tailsight flame --outside` shows them.

    FILE is a file, a folder (with all below it), a pattern in quotes, or - for stdin. The format is found by content; a
    file may be packed as .gz or .zst. A file that cannot be read adds nothing. Prints what was read, kept and refused,
    and the time window that the spans cover, for --since and --until of the reading commands.
    """
    dsn = parse_dsn(store) if store else None
    options = options_of(start, mapping)
    if not isinstance(dsn, ChdbDsn) and context.get_parameter_source("sources") is ParameterSource.COMMANDLINE:
        raise CommandError(
            f"--sources {sources} is for --store chdb:///folder: the collector at {endpoint} has its own rules; "
            "start it with them"
        )
    with collector_errors(), ExitStack() as stack:
        sources_of_files = list(opened(files, stack))
        if not isinstance(dsn, ChdbDsn):
            target: Target = CollectorTarget(endpoint, headers=headers_from_environment())
            keep = keeps_at(read_endpoint(endpoint))
        else:
            rules = rules_of(sources)
            stack.enter_context(kept_safe(dsn.folder))
            opened_store = stack.enter_context(open_store(dsn, create=True))
            target = StoreTarget(opened_store, rules)
            keep = keeps_in(opened_store)
        profiles = ProfileImport(keep, service=service, run=run, stage=stage, start_ns=options.start_ns)
        try:
            with progress_bar() as on_progress:
                imported = import_sources(
                    sources_of_files,
                    target,
                    run=run,
                    service=service,
                    options=options,
                    on_progress=on_progress,
                    takes=profiles.takes,
                    taken=TITLES,
                )
        except KeyboardInterrupt:
            click.echo("interrupted; what was stored stays, and the same command goes on from there", err=True)
            raise
    if as_json:
        click.echo(json.dumps(plain(imported, profiles.kept)))
    else:
        show(imported, run, dsn, profiles.kept)
    if mapping and not any(each.format == REQUEST_CSV for each in imported.reports):
        click.echo("--map was not used: no CSV of requests was read", err=True)
    if stage and not profiles.kept:
        click.echo("--stage was not used: no profile was read (spans have stages of their own)", err=True)
    if imported.failed:
        more = f"; and {len(imported.failed) - 1} more" if len(imported.failed) > 1 else ""
        raise CommandError(f"{imported.failed[0]}{more}", UNREADABLE)
