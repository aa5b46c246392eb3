"""The sentences on what an answer rests on, in Markdown: how many requests, and what is not in the store."""

from __future__ import annotations

from collections.abc import Iterator

from tailsight_analysis import DataQuality
from tailsight_dashboard.format import count, share


def basis(requests: int, stored: int, sampled: int, *, weighted: bool) -> Iterator[str]:
    """Say how many requests an answer rests on, where these are not simply all."""
    if weighted:
        yield f"Estimates: {_requests(stored)} that were kept stand for {count(requests)}."
    if sampled < stored:
        yield f"Figures come from {count(sampled)} of {_requests(stored)}, drawn at random."


def missing(data: DataQuality | None) -> list[str]:
    """Say which spans of the window are not in the store, and which came late; empty where none."""
    if data is None:
        return []
    parts = [
        f"{count(number)} {what}"
        for number, what in (
            (data.dropped_spans, "dropped by their senders"),
            (data.missing_spans, "sent and not here"),
            (data.rejected_spans, "rejected"),
        )
        if number
    ]
    if data.late_spans and data.late_share:
        parts.append(f"{count(data.late_spans)} ({share(data.late_share)}) more than a minute late")
    return [f"Spans of this time: {', '.join(parts)}."] if parts else []


def _requests(number: int) -> str:
    return "1 request" if number == 1 else f"{count(number)} requests"
