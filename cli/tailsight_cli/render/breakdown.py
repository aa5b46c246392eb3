"""Latencies in a terminal: a table of groups, and response times beside service times."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from tailsight_analysis import Breakdown, LatencySummary, ResponseTimes
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
    within,
)

NO_STAGE = "(no stage)"
_EMPTY = {"stage": NO_STAGE}
_SHARE = "share"
_WITHIN = "p99 within"
_DROPPED = ("p90", "p95", "errors", _WITHIN, "p99.9", "max", "stored")
_ROUGH = "~"  # before a figure that rests on too few
_ROUGH_NOTE = f"{_ROUGH} fewer than 10 lie beyond this p99.9: a rough figure."
_LEAST_NAME = 12  # characters that a dimension's names are folded to, before figures are left out


def render_breakdown(result: Breakdown) -> RenderableType:
    """Table of groups, the requests as wholes first. Where it is too narrow for all quantiles, some are left out."""
    notes = [] if result.requests else ["No request starts in this window: its spans belong to requests outside it."]
    if result.requests and result.requests.stored is not None:
        notes.append(
            f"Estimates: {requests_text(result.requests.stored)} that were kept stand for "
            f"{result.requests.count:,}, each counted by its sampling weight."
        )
    if result.requests and result.sampled_requests < result.requests.stored_count:
        notes.append(f"“{_SHARE}” comes from {result.sampled_requests:,} of {result.requests.stored_count:,} requests.")
    notes += data_notes(result.data)
    heading = title_line("Latency in ms", result.window, result.filters.label)
    response = _response(result.response) if result.response else []
    return Group(heading, _BreakdownTable(result), *note_lines(notes), *response)


@dataclass(frozen=True, slots=True)
class _BreakdownTable:
    """A table that leaves out columns, in the order of _DROPPED, until it fits."""

    result: Breakdown

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        shown = self._columns()
        groups = {name: [row[at] for row in self._names()] for at, name in enumerate(self.result.by)}
        widths = {name: max(cell_len(name), *map(cell_len, cells)) for name, cells in {**groups, **shown}.items()}
        for heading in _DROPPED:
            folded = sum(min(widths[name], _LEAST_NAME) for name in groups)
            if folded + sum(widths[name] for name in shown) + GAP * (len(groups) + len(shown)) <= options.max_width:
                break
            shown.pop(heading, None)
        table = new_table()
        for name in groups:
            table.add_column(name, overflow="fold", min_width=min(widths[name], _LEAST_NAME))
        for heading in shown:
            table.add_column(heading, justify="right", no_wrap=True, min_width=widths[heading])
        for at, cells in enumerate(zip(*groups.values(), *shown.values(), strict=True)):
            whole = at == 0 and self.result.requests is not None
            texts = (Text(cell) for cell in cells)  # texts, because names may look like markup
            table.add_row(*texts, style="bold" if whole else "", end_section=whole)
        yield table
        yield from note_lines(self._notes(shown))

    def _notes(self, shown: dict[str, list[str]]) -> list[str]:
        """Say what the figures that are shown need to be read right."""
        notes = [_ROUGH_NOTE] if any(cell.startswith(_ROUGH) for cell in shown.get("p99.9", [])) else []
        requests = self.result.requests
        if requests is None or requests.intervals is None:
            return notes
        if _WITHIN not in shown:
            notes.append(f"The requests' p99 is {significant(requests.p99_ms)} [{within(requests.p99_interval)}].")
        lacking = {
            name: each.missing
            for name, each in zip(("p50", "p90", "p95", "p99", "p99.9"), requests.intervals, strict=True)
            if each.missing and (name in shown or name == "p99")
        }
        if lacking:
            more = ", ".join(f"{name} ({missing:,} more requests)" for name, missing in lacking.items())
            notes.append(f"Not enough data for both bounds of {more}.")
        return notes

    def _names(self) -> list[list[str]]:
        rows = [
            [printable(value) or _EMPTY.get(name, NO_VALUE) for name, value in row.group.items()]
            for row in self.result.rows
        ]
        if self.result.requests is None:
            return rows
        return [["requests", *[""] * (len(self.result.by) - 1)], *rows]

    def _columns(self) -> dict[str, list[str]]:
        figures = [(row, NO_VALUE if row.path_share is None else percent(row.path_share)) for row in self.result.rows]
        latencies: list[tuple[LatencySummary, str]] = list(figures)
        if self.result.requests is not None:
            latencies.insert(0, (self.result.requests, "100 %"))
        return {
            "count": [f"{latency.count:,}" for latency, _ in latencies],
            **({"stored": [f"{latency.stored_count:,}" for latency, _ in latencies]} if self.result.weighted else {}),
            "p50": [significant(latency.p50_ms) for latency, _ in latencies],
            "p90": [significant(latency.p90_ms) for latency, _ in latencies],
            "p95": [significant(latency.p95_ms) for latency, _ in latencies],
            "p99": [significant(latency.p99_ms) for latency, _ in latencies],
            **self._within([latency for latency, _ in latencies]),
            "p99.9": [
                f"{_ROUGH if latency.p999_is_rough else ''}{significant(latency.p999_ms)}" for latency, _ in latencies
            ],
            "max": [significant(latency.max_ms) for latency, _ in latencies],
            "jitter": [significant(latency.jitter_ms) for latency, _ in latencies],
            "errors": [percent(latency.error_rate) for latency, _ in latencies],
            _SHARE: [share for _, share in latencies],
        }

    @staticmethod
    def _within(latencies: list[LatencySummary]) -> dict[str, list[str]]:
        if all(latency.intervals is None for latency in latencies):
            return {}
        return {_WITHIN: [within(latency.p99_interval) for latency in latencies]}


def _response(times: ResponseTimes) -> list[RenderableType]:
    """Response time beside service time, for the requests that say when they should have started."""
    parts: list[RenderableType] = [Text("")]
    if times.response and times.service:
        table = new_table()
        table.add_column(f"{requests_text(times.count)} with an intended start", overflow="fold")
        for heading in ("p50", "p90", "p99", "p99.9"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, line in (("response (from it)", times.response), ("service (from the actual one)", times.service)):
            rough = _ROUGH if line.p999_is_rough else ""
            shown = [significant(line.p50_ms), significant(line.p90_ms), significant(line.p99_ms)]
            table.add_row(name, *shown, f"{rough}{significant(line.p999_ms)}")
        parts.append(table)
        if times.response.p999_is_rough or times.service.p999_is_rough:
            parts += note_lines([_ROUGH_NOTE])
    if times.ignored:
        parts += note_lines([
            f"Left out: {requests_text(times.ignored)} whose intended start is more than 1 h early, or unreadable."
        ])  # fmt: skip
    return parts
