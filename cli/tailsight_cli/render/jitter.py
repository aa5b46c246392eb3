"""Jitter in a terminal: a table of measures, and in sentences what the distributions look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from tailsight_analysis import Jitter, JitterRow
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    GAP,
    NO_VALUE,
    new_table,
    note_lines,
    percent,
    printable,
    requests_text,
    significant,
    title_line,
)

NO_STAGE = "(no stage)"
REQUESTS = "requests"
_NS_PER_MS = 1_000_000
_DROPPED = ("stored", "95 %", "p99", "count", "IQR", "RFC 3550", "CV")
_ROUGH = "~"
_LEAST_NAME = 10
_MOST_MISSING = 3  # rows whose missing spans are named


def render_jitter(result: Jitter) -> RenderableType:
    """Table of groups, the requests as wholes first; then what is remarkable about them, and what it rests on."""
    found = [Text(f"• {line}") for line in findings(result)]
    return Group(
        title_line("Jitter in ms", result.window, result.filters.label),
        _JitterTable(result),
        *note_lines([*_notes(result), *data_notes(result.data)]),
        Text(""),
        *(found or [Text("One mode everywhere, and no period.")]),
    )


def findings(result: Jitter) -> Iterator[str]:
    """Say in a sentence each: periods, modes, deadlines, streams."""
    # spans without a stage are mostly the requests themselves
    stages = [row for row in result.rows if row.group["stage"] or not result.requests]
    rows = ([result.requests] if result.requests else []) + stages
    for row in rows:
        if row.spike:
            period, name = row.spike.period, _name(row)
            yield (
                f"{name}: slow ones (the slowest {percent(period.slow_share)}) come back every "
                f"{significant(period.period_ns / _NS_PER_MS)} ms, {percent(period.strength)} of them in step, over "
                f"{period.cycles:,} periods (p {_p(period.p_value)})."
            )
    for row in rows:
        if row.modes and len(row.modes.modes) > 1:
            peaks = ", ".join(
                f"{percent(mode.share)} around {significant(mode.at / _NS_PER_MS)} ms" for mode in row.modes.modes
            )
            gaps = " and ".join(significant(gap / _NS_PER_MS) for gap in row.modes.gaps)
            yield (
                f"{_name(row)}: {len(row.modes.modes)} modes, {peaks}; "
                f"{'gap' if len(row.modes.gaps) == 1 else 'gaps'} at {gaps} ms (p {_p(row.modes.p_value)})."
            )
    for row in rows:
        if row.deadlines:
            missed = row.deadlines
            text = f"{_name(row)}: {percent(missed.rate)} of {round(missed.count):,} missed their deadline"
            if missed.streak and missed.streak_from_ns is not None:
                text += f", at most {missed.streak:,} in a row, from {_time(missed.streak_from_ns)}"
            yield f"{text}."
    for row in rows:
        if row.gaps:
            yield (
                f"{_name(row)}: between items of {row.gaps.streams:,} streams, typically "
                f"{significant(row.gaps.p50_ms)} ms (p50) to {significant(row.gaps.p99_ms)} ms (p99), at most "
                f"{significant(row.gaps.max_ms)} ms."
            )


def _notes(result: Jitter) -> Iterator[str]:
    if result.weighted:
        stored = result.requests.stored if result.requests else None
        kept = f"{requests_text(stored)} that were kept stand for all; " if stored else ""
        yield f"Estimates: {kept}what depends on their order (RFC 3550, streaks) is not known."
    if result.accuracy:
        yield f"Quantiles are within {percent(result.accuracy)} of the exact ones."
    if result.in_order != result.window:
        yield f"RFC 3550, deadlines, streams and periods: of the latest part, {result.in_order.label}."
    short = [row for row in ([result.requests] if result.requests else []) + list(result.rows) if row.spread.missing]
    if short:
        named = ", ".join(f"{_name(row)} {row.spread.missing:,}" for row in short[:_MOST_MISSING])
        more = f", and {len(short) - _MOST_MISSING} others" if len(short) > _MOST_MISSING else ""
        yield f"{_ROUGH} not enough data for an interval; still needed: {named}{more}."


@dataclass(frozen=True, slots=True)
class _JitterTable:
    """A table that leaves out columns, in the order of _DROPPED, until it fits."""

    result: Jitter

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = ([self.result.requests] if self.result.requests else []) + list(self.result.rows)
        names = {
            "stage": [_stage(row) for row in rows],
            "hardware": [printable(row.group.get("hardware", "")) for row in rows],
        }
        if not any(names["hardware"]):
            del names["hardware"]
        columns = self._figures(rows)
        for heading in _DROPPED:
            if _width(names, columns) <= options.max_width:
                break
            columns.pop(heading, None)
        table = new_table()
        for heading, cells in names.items():
            longest = max(cell_len(heading), *map(cell_len, cells))
            table.add_column(heading, overflow="fold", min_width=min(longest, _LEAST_NAME))
        for heading in columns:
            table.add_column(heading, justify="right", no_wrap=True)
        for at, row in enumerate(rows):
            texts = [Text(values[at]) for values in (*names.values(), *columns.values())]
            whole = row is self.result.requests
            table.add_row(*texts, style="bold" if whole else "", end_section=whole)
        yield table

    def _figures(self, rows: list[JitterRow]) -> dict[str, list[str]]:
        deadlines = any(row.deadlines for row in rows)
        return {
            "count": [f"{row.count:,}" for row in rows],
            **({"stored": [f"{row.stored or 0:,}" for row in rows]} if self.result.weighted else {}),
            "p50": [_ms(row.spread.p50) for row in rows],
            "p99": [_ms(row.spread.p99) for row in rows],
            "p99−p50": [f"{_ROUGH if row.spread.missing else ''}{_ms(row.spread.above_median.value)}" for row in rows],
            "95 %": [_interval(row) for row in rows],
            "IQR": [_ms(row.spread.middle_half.value) for row in rows],
            "CV": [significant(row.spread.cv.value) if row.spread.cv else NO_VALUE for row in rows],
            "RFC 3550": [_ms(row.interarrival.mean_ns) if row.interarrival else NO_VALUE for row in rows],
            **(
                {"missed": [percent(row.deadlines.rate) if row.deadlines else NO_VALUE for row in rows]}
                if deadlines
                else {}
            ),
        }


def _width(names: dict[str, list[str]], columns: dict[str, list[str]]) -> int:
    def longest(heading: str, cells: list[str]) -> int:
        return max(cell_len(heading), *map(cell_len, cells))

    folded = sum(min(longest(heading, cells), _LEAST_NAME) for heading, cells in names.items())
    return (
        folded + sum(longest(heading, cells) for heading, cells in columns.items()) + GAP * (len(names) + len(columns))
    )


def _interval(row: JitterRow) -> str:
    figure = row.spread.above_median
    if figure.low is None or figure.high is None:
        return NO_VALUE
    return f"[{_ms(figure.low)}, {_ms(figure.high)}]"


def _stage(row: JitterRow) -> str:
    return printable(row.group["stage"]) or NO_STAGE if "stage" in row.group else REQUESTS


def _name(row: JitterRow) -> str:
    hardware = printable(row.group.get("hardware", ""))
    return f"{_stage(row)} on {hardware}" if hardware else _stage(row)


def _ms(value_ns: float) -> str:
    return significant(value_ns / _NS_PER_MS)


def _p(value: float) -> str:
    return f"{max(value, 1e-99):.0e}" if value < 0.001 else f"{value:.3f}"


def _time(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}.{time_ns // 1_000_000 % 1000:03}"
