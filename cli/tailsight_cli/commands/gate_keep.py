"""`tailsight gate keep` adds reports that were written elsewhere to those that the dashboard shows."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tailsight_analysis.gate_reports import SHOWN_DIGITS
from tailsight_cli._collecting import collector_errors
from tailsight_cli._errors import UNREADABLE, CommandError
from tailsight_cli.gating.keeping import DEFAULT_PLACE, read_place
from tailsight_storage import InvalidReportError
from tailsight_storage.gate_reports import MAX_REPORT_BYTES, read_gate_report

_HELP = """Add reports to those that `tailsight gate reports` and the dashboard show: files of `tailsight gate --json`.

A report that is there already adds nothing. Nothing is kept of any file where one of them is no report. `tailsight gate
… --keep` does this at once.

\b
Examples:
  tailsight gate base.otlp.zst cand.otlp.zst --json > gate.json
  tailsight gate keep gate.json
  tailsight gate keep gate-*.json --to https://collector.example:4318
  tailsight gate keep gate.json --to chdb:///var/lib/tailsight        (no collector runs there)
\b
A collector that asks for a token finds it in OTEL_EXPORTER_OTLP_HEADERS='Authorization=Bearer%20TOKEN'.
"""


@click.command("keep", help=_HELP)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--to", "where", default=DEFAULT_PLACE, show_default=True, metavar="WHERE",
    help="A collector's OTLP/HTTP address; or a store: chdb:///folder of a collector that is stopped, clickhouse://…",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(files: tuple[Path, ...], where: str, as_json: bool) -> None:
    """Read all files, then keep them."""
    place = read_place("--to", where)
    reports = {path: _read(path) for path in files}
    kept = []
    with collector_errors():
        for path, data in reports.items():
            each = place.keep(data)
            kept.append({"file": str(path), "id": each.id, "new": each.is_new})
            if not as_json:
                click.echo(f"{path}: {'kept' if each.is_new else 'was there already'} as {each.id[:SHOWN_DIGITS]}")
    if as_json:
        click.echo(json.dumps({"reports": kept}, indent=2, ensure_ascii=False))


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CommandError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}", UNREADABLE)
    with path.open("rb") as file:
        data = file.read(MAX_REPORT_BYTES + 1)
    try:
        read_gate_report(data)
    except InvalidReportError as error:
        raise CommandError(f"{path}: {error}", UNREADABLE) from error
    return data
