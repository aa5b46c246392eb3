"""`tailsight gate reports`: which gates were judged, and what did they find? With an id, one report."""

from __future__ import annotations

import json

import click

from tailsight_analysis import connect
from tailsight_analysis.gate_reports import DEFAULT_LIMIT, gate_report, gate_reports
from tailsight_cli.options import store_option
from tailsight_cli.render.gate_kept import render_kept, render_reports
from tailsight_cli.render.text import console

_HELP = """List the reports that were kept, the latest first; or show one, by its id or the first digits of it.

Reports are kept by `tailsight gate … --keep` and `tailsight gate keep FILE…`. Ends with 0, whatever they say.

\b
Examples:
  tailsight gate reports
  tailsight gate reports 3f9ac01d
  tailsight gate reports --json | jq -r '.reports[] | [.judged, .verdict, .title] | @tsv'
"""


@click.command("reports", help=_HELP)
@click.argument("report", required=False, metavar="[ID]")
@click.option(
    "--limit", default=DEFAULT_LIMIT, show_default=True, type=click.IntRange(1, 10_000), metavar="N",
    help="Most reports to list.",
)  # fmt: skip
@click.option("--all", "everything", is_flag=True, help="Of one report, show metrics that pass, too.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON with stable keys.")
def command(report: str | None, limit: int, everything: bool, store: str, as_json: bool) -> None:
    """Read the store, and print what it has."""
    with connect(store) as opened:
        if report is not None:
            found = gate_report(opened, report)
            if as_json:
                click.echo(json.dumps(found.plain, indent=2, ensure_ascii=False))
            else:
                console().print(render_kept(found, everything=everything))
            return
        listed = gate_reports(opened, limit + 1)
    more = len(listed) > limit
    if as_json:
        plain = [each.to_json() for each in listed[:limit]]
        click.echo(json.dumps({"reports": plain, "more": more}, indent=2, ensure_ascii=False))
    else:
        console().print(render_reports(listed[:limit], more=more))
