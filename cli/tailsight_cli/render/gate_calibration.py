"""What a calibration found, in a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis.gating.settings import METRICS
from tailsight_cli._errors import without_controls
from tailsight_cli.gating.config import StoredCalibration
from tailsight_cli.gating.sampling import Side
from tailsight_cli.render.gate_words import calibration_text, smallest_text
from tailsight_cli.render.text import NO_VALUE, new_table, note_lines, percent, printable


def render_calibration(stored: StoredCalibration, side: Side, written: Path | None) -> RenderableType:
    """Show what was found in a sentence, how much runs differ, and where it was written."""
    between = stored.calibration.between_runs
    parts: list[RenderableType] = [Text(f"{calibration_text(stored.calibration)}.", style="bold")]
    if stored.machine:
        parts.append(Text(printable(stored.machine), style="dim"))
    metrics = [metric for metric in METRICS if metric in between]
    if metrics:
        table = new_table()
        table.add_column("request" if stored.calibration.smallest_changes else "")
        for metric in metrics:
            table.add_column(metric, justify="right", no_wrap=True)
        table.add_row("runs differ by (standard deviation)", *(percent(between[metric]) for metric in metrics))
        smallest = stored.calibration.smallest_changes
        if smallest:
            found = (smallest_text(smallest[metric]) if metric in smallest else NO_VALUE for metric in metrics)
            table.add_row("smallest change found 95 % of the time", *found)
        parts += [Text(""), table]
    notes = list(map(without_controls, side.notes))
    notes.append(
        f"Written into {written}: commit it, and every gate uses and shows it."
        if written
        else "Not written: --write puts it into the settings, where every gate uses and shows it."
    )
    return Group(*parts, Text(""), *note_lines(notes))
