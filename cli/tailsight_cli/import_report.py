"""What an import has done, as JSON and as text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import click

from tailsight_cli._errors import without_controls
from tailsight_cli.profiling.profile_import import KeptProfile
from tailsight_collector.importer import FileReport, Imported
from tailsight_collector.receive.checks import REASONS
from tailsight_storage import StoreDsn

# Of many files only those are shown one by one with which something is the matter.
FEW_FILES = 10


def plain(imported: Imported, profiles: Sequence[KeptProfile] = ()) -> dict[str, object]:
    """Return the result as --json prints it."""
    window = None
    if imported.accepted_spans:
        since, until = window_of(imported)
        window = {"since": since, "until": until}
    return {
        "files": imported.files,
        "skipped": imported.skipped,
        "failed": imported.failed,
        "spans": imported.spans,
        "accepted_spans": imported.accepted_spans,
        "already_spans": imported.already,
        "rejected_spans": dict(imported.rejected),
        "window": window,
        "reports": [_plain_file(each) for each in imported.reports],
        "profiles": [each.to_json() for each in profiles],
    }


def _plain_file(of_file: FileReport) -> dict[str, object]:
    report = of_file.report
    return {
        "file": of_file.name,
        "format": of_file.format,
        "unit": report.unit,
        "read": report.read,
        "kept_spans": report.kept,
        "already_spans": of_file.already,
        "same_as": of_file.same_as or None,
        "refused": [
            {"reason": reason, "count": refusal.count, "first": refusal.first}
            for reason, refusal in sorted(report.refused.items(), key=lambda item: -item[1].count)
        ],
        "notes": dict(report.notes),
    }


def window_of(imported: Imported) -> tuple[str, str]:
    """Give the spans' window as ISO 8601 text in whole seconds, its end exclusive: what --since and --until take."""
    since = datetime.fromtimestamp(imported.first_start_ns // 10**9, UTC)
    until = datetime.fromtimestamp(imported.last_end_ns // 10**9, UTC) + timedelta(seconds=1)
    return f"{since:%Y-%m-%dT%H:%M:%SZ}", f"{until:%Y-%m-%dT%H:%M:%SZ}"


def show(imported: Imported, run: str | None, dsn: StoreDsn | None, profiles: Sequence[KeptProfile] = ()) -> None:
    """Print the result for a reader."""
    for line in imported.skipped:
        click.echo(f"skipped {without_controls(line)}", err=True)
    for of_file in imported.reports:
        if len(imported.reports) <= FEW_FILES or of_file.report.refused or of_file.report.notes:
            _show_file(of_file)
    for profile in profiles:
        _show_profile(profile)
    if profiles:
        which = f"--run {run}" if run else "--all-time"
        click.echo(f"next     tailsight flame --outside {which}{f' --store {dsn}' if dsn else ''}")
        if not imported.files:
            return
    files = "1 file" if imported.files == 1 else f"{imported.files} files"
    click.echo(f"imported {imported.accepted_spans:,} spans from {files}")
    if imported.already:
        click.echo(f"  {imported.already:,} of them were in the store already")
    for reason, count in imported.rejected.most_common():
        click.echo(f"  rejected {count:,}: {REASONS[reason]} (kept in rejected_spans)")
    if not imported.accepted_spans:
        return
    since, until = window_of(imported)
    click.echo(f"window   {since} to {until}")
    where = f"--run {run}" if run else f"--since {since} --until {until}"
    click.echo(f"next     tailsight tail {where}{f' --store {dsn}' if dsn else ''}")


def _show_file(of_file: FileReport) -> None:
    report = of_file.report
    made = "" if report.kept == report.read else f", {report.kept:,} spans made of them"
    click.echo(f"{without_controls(of_file.name)}: {of_file.title}, {_counted(report.read, report.unit)}{made}")
    if of_file.same_as:
        click.echo(f"  the same content as {without_controls(of_file.same_as)}: adds nothing")
    for reason, refusal in sorted(report.refused.items(), key=lambda item: -item[1].count):
        click.echo(f"  refused {refusal.count:,}: {reason} (first: {without_controls(refusal.first)})")
    for text, count in report.notes.items():
        click.echo(f"  note {count:,} ×: {text}")


def _show_profile(profile: KeptProfile) -> None:
    stacks = "1 stack" if profile.stacks == 1 else f"{profile.stacks:,} stacks"
    click.echo(f"{profile.file}: profile ({profile.format}), {_counted(profile.samples, 'samples')} of {stacks}")
    if not profile.is_new:
        click.echo("  it was there already: adds nothing")
    for note in profile.notes:
        click.echo(f"  note: {note}")


def _counted(count: int, unit: str) -> str:
    return f"1 {unit.removesuffix('s')}" if count == 1 else f"{count:,} {unit}"
