"""Results as they look in a terminal: functions from an analysis' answer to something that rich can print.

They ask nothing and compute nothing but text, so that `tailsight demo` reports with the same tables.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from tailsight_analysis import Breakdown, Excess, LatencySummary, OverRepresented, ResponseTimes, Tail, Window

NO_STAGE = "(no stage)"
NO_VALUE = "–"
PIPED_WIDTH = 160  # of output that goes to a file or another program
LEAST_SHARE = 0.005
_BAR_WIDTH = 12
_EMPTY = {"stage": NO_STAGE}
_SHARE = "share"
_DROPPED = ("p90", "p99.9", "p95", "errors", "max", "stored")
_ROUGH = "~"  # before a figure that rests on too few
_ROUGH_NOTE = f"{_ROUGH} fewer than 10 lie beyond this p99.9: a rough figure."
_LEAST_NAME = 12  # characters that a dimension's names are folded to, before figures are left out
_GAP = 2
_LONGEST_VALUE = 120
# rules above and below, and nothing between columns but their padding
_LINES = box.Box("    \n    \n────\n    \n    \n────\n    \n    \n")
_EIGHTHS = " ▏▎▍▌▋▊▉█"


def console() -> Console:
    """Open standard output for rich: the terminal's width, or a fixed one where there is no terminal."""
    # COLUMNS is how people ask for a width; rich reads it by itself
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PIPED_WIDTH
    return Console(width=width, highlight=False)


def render_breakdown(result: Breakdown) -> RenderableType:
    """Table of groups, the requests as wholes first. Where it is too narrow for all quantiles, some are left out."""
    notes = [] if result.requests else ["No request starts in this window: its spans belong to requests outside it."]
    if result.requests and result.requests.stored is not None:
        notes.append(
            f"Estimates: {_requests(result.requests.stored)} that were kept stand for {result.requests.count:,}, each "
            "counted by its sampling weight."
        )
    if result.requests and result.sampled_requests < result.requests.stored_count:
        notes.append(f"“{_SHARE}” comes from {result.sampled_requests:,} of {result.requests.stored_count:,} requests.")
    heading = _heading("Latency in ms", result.window, result.filters.label)
    response = _response(result.response) if result.response else []
    return Group(heading, _BreakdownTable(result), *_notes(notes), *response)


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
            if folded + sum(widths[name] for name in shown) + _GAP * (len(groups) + len(shown)) <= options.max_width:
                break
            shown.pop(heading, None)
        table = _table()
        for name in groups:
            table.add_column(name, overflow="fold", min_width=min(widths[name], _LEAST_NAME))
        for heading in shown:
            table.add_column(heading, justify="right", no_wrap=True, min_width=widths[heading])
        for at, cells in enumerate(zip(*groups.values(), *shown.values(), strict=True)):
            whole = at == 0 and self.result.requests is not None
            texts = (Text(cell) for cell in cells)  # texts, because names may look like markup
            table.add_row(*texts, style="bold" if whole else "", end_section=whole)
        yield table
        if any(cell.startswith(_ROUGH) for cell in shown.get("p99.9", [])):
            yield from _notes([_ROUGH_NOTE])

    def _names(self) -> list[list[str]]:
        rows = [
            [printable(value) or _EMPTY.get(name, NO_VALUE) for name, value in row.group.items()]
            for row in self.result.rows
        ]
        if self.result.requests is None:
            return rows
        return [["requests", *[""] * (len(self.result.by) - 1)], *rows]

    def _columns(self) -> dict[str, list[str]]:
        figures = [(row, NO_VALUE if row.self_share is None else percent(row.self_share)) for row in self.result.rows]
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
            "p99.9": [
                f"{_ROUGH if latency.p999_is_rough else ''}{significant(latency.p999_ms)}" for latency, _ in latencies
            ],
            "max": [significant(latency.max_ms) for latency, _ in latencies],
            "jitter": [significant(latency.jitter_ms) for latency, _ in latencies],
            "errors": [percent(latency.error_rate) for latency, _ in latencies],
            _SHARE: [share for _, share in latencies],
        }


def render_tail(result: Tail) -> RenderableType:
    """Verdict in a sentence, stages with their excess, attributes that are over-represented."""
    stages = _table()
    stages.add_column("stage", overflow="fold", min_width=10)
    for heading in ("tail ms", "typical ms", "excess ms"):
        stages.add_column(heading, justify="right", no_wrap=True)
    stages.add_column("share of excess", no_wrap=True)
    for stage in result.stages:
        stages.add_row(Text(printable(stage.stage)), *_excess(stage))
    stages.add_row("unaccounted", *_excess(result.unaccounted), style="italic", end_section=True)
    stages.add_row("whole request", *_excess(result.total), style="bold")
    counts = (
        f"{_requests(result.tail_requests)} at or above {_quantile(result.quantile)}, compared with "
        f"{result.typical_requests:,} typical ones (p40 to p60), of {result.requests:,}.\n"
    )
    notes = []
    if result.stored:
        notes.append(
            f"Estimates: {result.stored.tail:,} of the tail and {result.stored.typical:,} typical ones are stored, of "
            f"{_requests(result.stored.requests)} that were kept, each counted by its sampling weight."
        )
    if result.is_sampled:
        notes.append(
            f"Means come from {result.tail_sampled:,} of the tail and {result.typical_sampled:,} typical ones."
        )
    if result.unaccounted.tail_ms < 0:
        notes.append("Negative unaccounted time: stages ran in parallel, and add up to more than the request.")
    return Group(
        _heading("Why slow requests are slow", result.window, result.filters.label),
        Text(verdict(result), style="bold"),
        Text(counts),
        stages,
        *_notes(notes),
        Text(""),
        _attributes(result),
    )


def verdict(result: Tail) -> str:
    """Say in one sentence what the tail's excess is."""
    threshold = f"{_quantile(result.quantile)} is {significant(result.threshold_ms)} ms"
    if result.is_rough:
        threshold += f" (roughly: the tail is {_requests(result.held.tail)})"
    extra_ms = result.total.excess_ms
    if extra_ms <= 0:
        return f"{threshold}, and the tail takes no longer than a typical request: there is nothing to explain."
    of_extra = f"of the tail's extra {significant(extra_ms)} ms"
    parts = [(printable(stage.stage), stage.excess_share) for stage in result.stages]
    parts.append(("time that no stage accounts for", result.unaccounted.excess_share))
    parts = sorted((part for part in parts if part[1] >= LEAST_SHARE), key=lambda part: -part[1])
    if not parts:
        return f"{threshold}; no stage explains the tail's extra {significant(extra_ms)} ms."
    first, *others = parts
    text = f"{threshold}; {percent(first[1])} {of_extra} is {first[0]}"
    if first[1] < 0.8 and others and others[0][1] >= 0.1:
        text += f", {percent(others[0][1])} is {others[0][0]}"
    return f"{text}."


def significant(value: float) -> str:
    """Write a number with three significant digits, whole above 100, at most four decimals, never in powers of ten."""
    rounded = float(f"{value:.2e}")
    if rounded == 0:
        return "0"
    if abs(rounded) < 0.00005:
        return "<0.0001" if value > 0 else "0"
    decimals = min(4, max(0, 2 - math.floor(math.log10(abs(rounded)))))
    return f"{value:,.{decimals}f}"


def percent(share: float) -> str:
    """Write a share in percent: whole ones, one decimal below ten."""
    value = share * 100
    if value == 0:
        return "0 %"
    if abs(value) < 0.1:
        return "<0.1 %" if value > 0 else "0 %"
    return f"{value:.0f} %" if abs(value) >= 9.95 else f"{value:.1f} %"


def printable(text: str) -> str:
    """Make a name or value of foreign origin safe for a terminal: no control characters, no endless prompts."""
    shown = "".join(character if character.isprintable() else "�" for character in text[:_LONGEST_VALUE])
    return shown + "…" if len(text) > _LONGEST_VALUE else shown


def bar(share: float, width: int = _BAR_WIDTH) -> str:
    """Draw a share of 0 to 1 in eighths of a character; nothing below 0, full above 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (_EIGHTHS[rest] if rest else "")


def _response(times: ResponseTimes) -> list[RenderableType]:
    """Response time beside service time, for the requests that say when they should have started."""
    parts: list[RenderableType] = [Text("")]
    if times.response and times.service:
        table = _table()
        table.add_column(f"{_requests(times.count)} with an intended start", overflow="fold")
        for heading in ("p50", "p90", "p99", "p99.9"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, line in (("response (from it)", times.response), ("service (from the actual one)", times.service)):
            rough = _ROUGH if line.p999_is_rough else ""
            shown = [significant(line.p50_ms), significant(line.p90_ms), significant(line.p99_ms)]
            table.add_row(name, *shown, f"{rough}{significant(line.p999_ms)}")
        parts.append(table)
        if times.response.p999_is_rough or times.service.p999_is_rough:
            parts += _notes([_ROUGH_NOTE])
    if times.ignored:
        parts += _notes([
            f"Left out: {_requests(times.ignored)} whose intended start is more than 1 h early, or unreadable."
        ])  # fmt: skip
    return parts


def _attributes(result: Tail) -> RenderableType:
    if not result.attributes:
        tested = f" ({result.attributes_tested:,} tested)" if result.attributes_tested else ""
        return Text(f"No attribute value is over-represented in the tail{tested}.")
    table = _table()
    table.add_column("over-represented in the tail", overflow="fold", ratio=1)
    for heading in ("tail", "typical", "lift", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in result.attributes:
        table.add_row(
            Text(printable(f"{pair.key} = {pair.value}")),
            percent(pair.tail_share),
            percent(pair.typical_share),
            _lift(pair),
            _p(pair),
        )
    return table


def _table() -> Table:
    return Table(box=_LINES, pad_edge=False, padding=(0, _GAP - 1, 0, 0), show_edge=False, header_style="bold cyan")


def _heading(title: str, window: Window, filters: str) -> RenderableType:
    text = Text.assemble((title, "bold"), "  ", (window.label, "dim"))
    if filters:
        text.append(f"\n{filters}", style="dim")
    text.append("\n")
    return text


def _notes(notes: list[str]) -> list[RenderableType]:
    return [Text(note, style="dim") for note in notes]


def _excess(excess: Excess) -> list[str]:
    share = percent(excess.excess_share)
    return [
        significant(excess.tail_ms),
        significant(excess.typical_ms),
        significant(excess.excess_ms),
        f"{share:>6} {bar(excess.excess_share)}",
    ]


def _requests(count: int) -> str:
    return f"{count:,} request" if count == 1 else f"{count:,} requests"


def _quantile(quantile: float) -> str:
    return f"p{quantile * 100:g}"


def _lift(pair: OverRepresented) -> str:
    at_least = "" if pair.typical_share else "≥ "
    return f"{at_least}{significant(pair.lift)}×"


def _p(pair: OverRepresented) -> str:
    return f"{pair.p_value:.1e}" if pair.p_value < 0.001 else f"{pair.p_value:.3f}"
