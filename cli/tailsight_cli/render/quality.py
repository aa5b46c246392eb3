"""Under an answer: what is not in the data that it rests on. Nothing where nothing is missing."""

from __future__ import annotations

from tailsight_analysis import DataQuality
from tailsight_cli.render.text import percent


def data_notes(data: DataQuality | None) -> list[str]:
    """One line, or none: dropped, missing, rejected and late spans. `tailsight store senders` tells more."""
    if data is None:
        return []
    parts = [
        f"{count:,} {what}"
        for count, what in (
            (data.dropped_spans, "dropped by their senders"),
            (data.missing_spans, "sent and not here"),
            (data.rejected_spans, "rejected"),
        )
        if count
    ]
    if data.late_share:
        parts.append(f"{data.late_spans:,} ({percent(data.late_share)}) more than a minute late")
    if not parts:
        return []
    hint = " See `tailsight store senders`." if data.dropped_spans or data.missing_spans else ""
    return [f"Spans of this window: {', '.join(parts)}.{hint}"]
