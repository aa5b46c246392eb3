"""The sentences on queues, in Markdown: how busy they are, and what one more worker would change."""

from __future__ import annotations

from collections.abc import Iterator

from tailsight_analysis import Queueing, Station
from tailsight_dashboard.format import count, duration, plain, share

NS_PER_MS = 1_000_000
QUEUES_HELP = (
    "Every service with spans of the stage queue, host by host. Busy: the share of the workers' time that they serve. "
    "One more worker: the recorded arrivals and service times, replayed first come first served."
)


def name(station: Station) -> str:
    """Name a queue: `ranker on node-3`."""
    service = plain(station.service) or "(no service)"
    return f"{service} on {plain(station.host)}" if station.host else service


def headline(station: Station) -> str:
    """Say what one more worker would change, or why that cannot be told."""
    wait = (
        f"**{name(station)}**: **{duration(station.wait.mean / NS_PER_MS)}** of waiting for "
        f"{duration(station.service_ns / NS_PER_MS)} of {plain(station.serving)}"
    )
    if station.utilisation is not None:
        wait += f"; {_workers(station.workers or 0)}, {share(station.utilisation)} busy"
    after = station.one_more.replayed_one_more
    if after is None or station.workers is None:
        return f"{wait}; what one more worker would change cannot be told."
    if not station.reproduced:
        return f"{wait}; the model does not fit, so what one more worker would change is a guess."
    return f"{wait}; with one more worker it would be **{duration(after.mean / NS_PER_MS)}**."


def checks(station: Station) -> Iterator[str]:
    """Say what speaks for and against the figures of a queue."""
    replayed, little = station.one_more.replayed, station.little
    if station.reproduced is False and replayed is not None:
        yield (
            f"Replayed, the wait is {duration(replayed.mean / NS_PER_MS)} where "
            f"{duration(station.service_wait_ns / NS_PER_MS)} were measured: a batch waits to fill, workers pause or "
            "do other work, or there are not as many as were seen at once."
        )
    if little.holds:
        yield f"Little's law holds: {_number(little.in_queue)} in the queue on average, as rate × wait says."
    else:
        text = (
            f"Little's law does not hold: {_number(little.in_queue)} in the queue on average, where rate × wait says "
            f"{_number(little.expected)}"
        )
        if little.found_said is not None and little.found_spans is not None:
            text += f"; arrivals say they found {_number(little.found_said)}, spans show {_number(little.found_spans)}"
        yield f"{text}. Spans are missing."
    if station.unserved or station.unqueued:
        serving = plain(station.serving)
        yield (
            f"{count(station.unserved)} queue spans without {serving} after them, {count(station.unqueued)} spans of "
            f"{serving} without a queue before them."
        )
    for note in station.notes:
        yield f"{plain(note[:1].upper() + note[1:])}."


def looked_at(result: Queueing) -> str:
    """Say of which part of the window the figures are; empty where of all."""
    if result.looked_at == result.window:
        return ""
    return f"Of the latest part, {plain(result.looked_at.label)}."


def _workers(number: int) -> str:
    return "1 worker" if number == 1 else f"{count(number)} workers"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else count(round(value))
