"""`tailsight export`: the spans of a window or of single traces, as files that other tools read."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from tailsight_analysis import Filters, NoSpansError, Store, Window, connect, whole_time
from tailsight_analysis.exporting.choosing import Chosen, choose_named, choose_window
from tailsight_analysis.exporting.reading import read_spans
from tailsight_cli._errors import NOT_ENOUGH_DATA, CommandError
from tailsight_cli.exporting.formats import FORMATS, Format, chosen_format
from tailsight_cli.exporting.output import STDOUT, check, opened
from tailsight_cli.nothing_found import way_out
from tailsight_cli.options import FILTER_HELP, asking_options, chosen_window
from tailsight_cli.progress import counted
from tailsight_cli.signals import sigterm_interrupts

FILTERS = {name: f"Only traces with a span of this {name}." for name in FILTER_HELP}
_HELP = """Write spans as files of other tools: Perfetto/Chrome trace, OTLP, Jaeger, Parquet.

Whole traces: all spans of each trace that has a span in the window and one that matches the filters. Everything that
the store has of a span is written, each span once. OTLP keeps all of it: imported again it gives the same rows.

The format follows from the file's ending, or from --format: .perfetto.json, .otlp, .otlp.json (a request a line),
.jaeger.json, .parquet. With .gz or .zst behind it the file is packed. It is there when it is whole, or not at all.

\b
Examples:
  tailsight export -o last-hour.otlp.zst
  tailsight export --trace 4bf92f3577b34da6 -o slow.perfetto.json      for https://ui.perfetto.dev
  tailsight export --run nightly --service ranker -o nightly.parquet
  tailsight export --since 15m --limit 100 -o some.jaeger.json         for Jaeger's UI
  tailsight export --all-time --format otlp-json | gzip > all.jsonl.gz
\b
What becomes what, and what each format cannot say: docs/export.md.
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. `repeated`: spans that are left out, as they equal one that had arrived before.

    `of_traces`: how many there were before --limit. `rejected`: spans that arrived in the window and were rejected.
    `size_bytes` is None where it went to stdout, `window` and `rejected` where traces were named.
    """

    output: str
    format: Format
    size_bytes: int | None
    traces: int
    of_traces: int
    spans: int
    repeated: int
    rejected: int | None
    window: Window | None
    filters: Filters

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "window": self.window.to_json() if self.window else None,
            "filters": self.filters.to_json(),
            "output": self.output,
            "format": self.format.name,
            "size_bytes": self.size_bytes,
            "traces": self.traces,
            "of_traces": self.of_traces,
            "spans": self.spans,
            "repeated": self.repeated,
            "rejected": self.rejected,
        }


@click.command("export", help=_HELP)
@click.option(
    "-o", "--output", default=STDOUT, metavar="FILE", help="Where to; - is stdout, the default. Its ending is a format."
)
@click.option("--format", "format_name", type=click.Choice(list(FORMATS)), help="What is written.")
@click.option("--force", is_flag=True, help="Replace a file that exists.")
@click.option(
    "--trace", "trace_ids", multiple=True, metavar="ID",
    help="This trace, wherever in the store it is: its id or the first digits. May be given several times.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most so many traces, those that began first."
)
@asking_options(FILTERS)
def command(
    output: str,
    format_name: str | None,
    force: bool,
    trace_ids: tuple[str, ...],
    limit: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Choose the traces, write them, and say what was written."""
    written_as, packing = chosen_format(format_name, output)
    if output == STDOUT and as_json:
        raise click.UsageError("--json answers on stdout, where the export goes: name a file with --output")
    check(output, force=force, is_text=written_as.is_text)
    filters = Filters(**{field.name: tuple(given[field.name]) for field in fields(Filters)})
    window = chosen_window(given["since"], given["until"], all_time=given["all_time"], now_ns=time.time_ns())
    if trace_ids and (window or given["all_time"] or filters.label):
        raise click.UsageError("--trace looks in all of the store: leave out the window and the filters")
    with connect(given["store"]) as store, sigterm_interrupts():
        try:
            if trace_ids:
                chosen = choose_named(store, trace_ids)
            else:
                window = window or _default_window(store, filters, all_time=given["all_time"])
                arrived = Window(0, time.time_ns()) if given["all_time"] else window
                chosen = choose_window(store, window, filters, arrived)
        except NoSpansError as error:
            more = "" if trace_ids else f"; {way_out(store, filters)}"
            raise CommandError(f"{error}{more}", NOT_ENOUGH_DATA) from error
        kept = chosen.cut(limit)
        try:
            spans, repeated = _write(store, kept, written_as, output, packing, force=force)
        except KeyboardInterrupt:
            left = "" if output == STDOUT else f"; {output} was not written"
            click.echo(f"interrupted{left}", err=True)
            raise
    size_bytes = Path(output).stat().st_size if output != STDOUT and Path(output).is_file() else None
    exported = Exported(
        output, written_as, size_bytes, len(kept), chosen.of, spans, repeated, chosen.rejected, window, filters
    )
    if as_json:
        click.echo(json.dumps(exported.to_json(), indent=2, ensure_ascii=False))
    else:
        click.echo(_summary(exported), err=output == STDOUT)


def _default_window(store: Store, filters: Filters, *, all_time: bool) -> Window:
    """Return all of a run's time, or of the store's, or the last hour; raises NoSpansError."""
    if not all_time and not filters.run:
        return Window.last()
    window = whole_time(store, filters.run)
    if window is None:
        what = f"no spans of run {', '.join(filters.run)}" if filters.run else "no spans at all"
        raise NoSpansError(f"{what} in {store.dsn}")
    return window


def _write(
    store: Store, chosen: Chosen, written_as: Format, output: str, packing: str, *, force: bool
) -> tuple[int, int]:
    """Write the traces; returns how many spans were written, and left out as repetitions."""
    spans = repeated = 0
    with opened(output, packing, force=force) as file, counted("spans", chosen.span_count) as on_done:
        writer = written_as.writer(file, store, chosen)
        for page in read_spans(store, chosen):
            writer.page(page)
            spans += len(page.spans)
            repeated += page.repeated
            on_done(min(spans + repeated, chosen.span_count))
        writer.finish()
    return spans, repeated


def _summary(exported: Exported) -> str:
    where = "" if exported.output == STDOUT else f" to {exported.output}"
    size = f" ({_size(exported.size_bytes)})" if exported.size_bytes is not None else ""
    what = f"{_count(exported.spans, 'span')} of {_count(exported.traces, 'trace')}"
    lines = [f"{what} written{where} as {exported.format.title}{size}"]
    if exported.window:
        limits = f", {exported.filters.label}" if exported.filters.label else ""
        lines.append(f"  window: {exported.window.label}{limits}; whole traces, also where they reach beyond it")
    if exported.traces < exported.of_traces:
        lines.append(f"  the first {exported.traces:,} of {exported.of_traces:,} traces, by --limit")
    if exported.repeated:
        lines.append(f"  {_count(exported.repeated, 'span')} left out: equal to one that had arrived before")
    if exported.rejected:
        lines.append(f"  {_count(exported.rejected, 'span')} of the window not in it: rejected when they arrived")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _size(size_bytes: int) -> str:
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size_bytes >= 1 << power:
            return f"{size_bytes / (1 << power):.1f} {unit}"
    return f"{size_bytes} bytes"
