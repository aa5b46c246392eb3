"""Queues in a terminal: how busy each is, and for the longest ones the waits with as many workers and with one more."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Queueing, Station
from tailsight_analysis.statistics.queues import Waits
from tailsight_cli.render.text import NO_VALUE, new_table, note_lines, percent, printable, significant, title_line

_NS_PER_MS = 1_000_000
MOST_IN_DETAIL = 3


def render_queueing(result: Queueing) -> RenderableType:
    """Table of queues; then in detail those with the longest waits."""
    table = new_table()
    for heading in ("service", "host"):
        table.add_column(heading, overflow="fold", min_width=6)
    for heading in ("workers", "busy", "items/s", "service", "wait", "p99 wait"):
        table.add_column(heading, justify="right", no_wrap=True)
    for station in result.stations:
        table.add_row(
            Text(printable(station.service)),
            Text(printable(station.host) or NO_VALUE),
            NO_VALUE if station.workers is None else str(station.workers),
            NO_VALUE if station.utilisation is None else percent(station.utilisation),
            significant(station.arrival_rate),
            _ms(station.service_ns),
            _ms(station.wait.mean),
            _ms(station.wait.p99),
        )
    parts: list[RenderableType] = [title_line("Queues, times in ms", result.window, result.filters.label), table]
    if result.looked_at != result.window:
        parts += note_lines([f"Of the latest part of it: {result.looked_at.label}."])
    for station in result.stations[:MOST_IN_DETAIL]:
        parts += [Text(""), *_detail(station)]
    if more := len(result.stations) - MOST_IN_DETAIL:
        parts += note_lines([f"--json has the other {more:,} in detail."] if more > 0 else [])
    return Group(*parts)


def _detail(station: Station) -> Iterator[RenderableType]:
    name = printable(station.service) + (f" on {printable(station.host)}" if station.host else "")
    yield Text(f"{name}: {verdict(station)}", style="bold")
    one_more = station.one_more
    lines: list[tuple[str, Waits | None]] = [("measured", station.wait)]
    if station.workers is not None and one_more.replayed is not None:
        now, then = _workers(station.workers), _workers(station.workers + 1)
        lines += [
            (f"replayed, {now}", one_more.replayed),
            (f"by formula, {now}", one_more.formula),
            (f"replayed, {then}", one_more.replayed_one_more),
            (f"by formula, {then}", one_more.formula_one_more),
        ]
    table = new_table()
    table.add_column("waits", overflow="fold", min_width=12)
    for heading in ("mean", "95 %", "p99", "95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for label, waits in lines:
        table.add_row(label, *_waits(waits))
    yield table
    yield from note_lines(list(_notes(station)))


def verdict(station: Station) -> str:
    """Say in a sentence what one more worker would change, or why that cannot be told."""
    wait = f"{_ms(station.wait.mean)} ms of waiting for {_ms(station.service_ns)} ms of {printable(station.serving)}"
    after = station.one_more.replayed_one_more
    if after is None or station.workers is None:
        return f"{wait}; what one more worker would change cannot be told."
    if not station.reproduced:
        return f"{wait}; the model does not fit, so what one more worker would change is a guess."
    then = _workers(station.workers + 1)
    return f"{wait}; with {then} in the place of {station.workers} it would be {_ms(after.mean)} ms."


def _notes(station: Station) -> Iterator[str]:
    source = "as given" if station.workers_given else "the most that were seen at once"
    if station.workers is not None:
        yield f"{_workers(station.workers)}: {source}."
    if station.reproduced is False and station.one_more.replayed is not None:
        yield (
            f"Replayed, it is {_ms(station.one_more.replayed.mean)} ms where {_ms(station.service_wait_ns)} ms were "
            "measured: a batch waits to fill, workers pause or do other work, or there are not as many (--workers)."
        )
    little = station.little
    if not little.holds:
        text = (
            f"Little's law does not hold: {significant(little.in_queue)} in the queue on average, where rate × wait "
            f"says {significant(little.expected)}"
        )
        if little.found_said is not None and little.found_spans is not None:
            said, shown = significant(little.found_said), significant(little.found_spans)
            text += f"; arrivals say they found {said}, spans show {shown}"
        yield f"{text}. Spans are missing."
    if station.unserved or station.unqueued:
        yield (
            f"{station.unserved:,} queue spans without a {printable(station.serving)} after them, {station.unqueued:,} "
            f"{printable(station.serving)} spans without a queue before them."
        )
    for note in station.notes:
        yield f"{note[0].upper()}{note[1:]}."
    if station.workers is None:
        yield "--workers says how many there are."


def _waits(waits: Waits | None) -> list[str]:
    if waits is None:
        return [NO_VALUE] * 4
    p99 = waits.p99_interval
    return [
        _ms(waits.mean),
        _interval(waits.mean_interval),
        _ms(waits.p99),
        "" if p99 is None else _interval((p99.low, p99.high)),
    ]


def _interval(interval: tuple[float | None, float | None] | None) -> str:
    if interval is None:
        return ""
    low, high = (NO_VALUE if end is None else _ms(end) for end in interval)
    return f"[{low}, {high}]"


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count:,} workers"


def _ms(value_ns: float) -> str:
    return significant(value_ns / _NS_PER_MS)
