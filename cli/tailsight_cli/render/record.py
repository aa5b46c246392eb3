"""What `tailsight record` says while it records, and at the end."""

from __future__ import annotations

from collections.abc import Sequence

from tailsight_cli.recording.header import Lost, Run
from tailsight_cli.recording.recorder import Progress, Recorded
from tailsight_cli.render.text import printable, requests_text

_KILLED_FROM = 128
_BUFFER_FULL = "buffer_full"


def progress_line(progress: Progress) -> str:
    """Say that a run has ended."""
    count = f"run {progress.done} of {progress.total}"
    what = "not kept" if progress.run is None else f"{progress.run.spans:,} spans"
    if progress.run is not None and progress.run.exit_code:
        what += f", ended with {progress.run.exit_code}"
    return f"{count}  {printable(progress.label)}  {progress.took_s:.2f} s  {what}"


def losses(progress: Progress) -> list[str]:
    """Say what of a run is missing, and what had to be ended after it."""
    lines = []
    label = printable(progress.label)
    if progress.left_behind:
        processes = "1 process" if progress.left_behind == 1 else f"{progress.left_behind} processes"
        lines.append(f"{label}: {processes} that the command left running had to be ended")
    if progress.run is not None:
        lines += [f"{label}: {what}" for what in _missing(progress.run)]
    return lines


def summary_lines(recorded: Sequence[Recorded]) -> list[str]:
    """Say what was written, and what can be done with it."""
    lines = []
    for each in recorded:
        runs = each.header.runs
        requests = requests_text(sum(run.requests for run in runs))
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        lines.append(f"wrote {each.path}: {count}, {requests}, {each.header.spans:,} spans, {_size(each.size_bytes)}")
    files = " ".join(str(each.path) for each in recorded[:2])
    lines.append(f"next  tailsight {'gate' if len(recorded) > 1 else 'import'} {files}")
    return lines


def _missing(run: Run) -> list[str]:
    lines = []
    lost: Lost = run.lost
    if spans := {reason: count for reason, count in lost.spans.items() if count}:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(spans.items()))
        way_out = "; TAILSIGHT_BUFFER_BYTES gives them more room" if _BUFFER_FULL in spans else ""
        lines.append(f"{sum(spans.values()):,} spans were dropped by their senders ({reasons}){way_out}")
    if lost.missing_batches:
        lines.append(f"{lost.missing_batches:,} batches never came")
    if lost.cut_off_senders:
        senders = "1 sender" if lost.cut_off_senders == 1 else f"{lost.cut_off_senders:,} senders"
        lines.append(f"{senders} ended without a last word (killed, or out of disk): what they had is missing")
    if lost.unread_rings:
        lines.append(f"{lost.unread_rings:,} killed processes left spans in memory that cannot be read")
    if lost.refused_requests:
        lines.append(f"{lost.refused_requests:,} requests were refused: too large, or no OTLP")
    if lost.damaged_bytes:
        lines.append(f"{lost.damaged_bytes:,} bytes could not be decoded")
    if run.exit_code > _KILLED_FROM:
        lines.append(f"signal {run.exit_code - _KILLED_FROM} ended the command: requests under way are missing")
    return lines


def _size(size_bytes: int) -> str:
    if size_bytes < 10_000:
        return f"{size_bytes:,} bytes"
    return f"{size_bytes / 1e3:,.0f} kB" if size_bytes < 10_000_000 else f"{size_bytes / 1e6:,.0f} MB"
