"""One trace in a terminal: a waterfall, a line a span, and where each request's time went."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from tailsight_analysis import Trace, TraceInterval, TraceMoved, TraceRequest, TraceSpan
from tailsight_cli.render.text import new_table, note_lines, percent, printable, significant

PATH, GAP, BESIDE = "█", "▒", "─"  # on the critical path, there without a stage, not on it
EARLIER, LATER = "‹", "›"  # it lies outside what is drawn
_NUMBER_WIDTH = 9
_LEAST_BAR, _MOST_BAR = 20, 100
_LEAST_LABEL, _MOST_LABEL = 22, 56
_DEEPEST = 12  # levels that are indented; deeper ones stand below each other
_FAR = 3  # what lies further away than so many times the requests' length is not drawn
_MOST_REQUESTS = 5
_MOST_HOSTS = 3


def render_trace(result: Trace) -> RenderableType:
    """Waterfall, contributions of each request, and what is odd about the trace."""
    shown = sorted(result.requests, key=lambda request: -request.duration_ms)[:_MOST_REQUESTS]
    parts: list[RenderableType] = [_title(result), Text(), Waterfall(result), Text(), _legend(), Text()]
    for request in sorted(shown, key=lambda request: request.start_ms):
        parts += [_contributions(result, request), Text()]
    if more := len(result.requests) - len(shown):
        parts += [
            Text(f"The longest {len(shown)} of {len(result.requests):,} requests; --json has the {more:,} others.")
        ]
    return Group(*parts, *note_lines(list(remarks(result))))


def remarks(result: Trace) -> Iterator[str]:
    """Say what was left out, moved or mended, in a sentence each."""
    if left_out := result.span_count - len(result.spans):
        path_ms = sum(request.duration_ms for request in result.requests) - sum(span.path_ms for span in result.spans)
        yield (
            f"{left_out:,} of {_spans(result.span_count)} are left out (+N: so many below a span), with "
            f"{significant(max(0.0, path_ms))} ms of critical paths. --limit N shows more, --all all."
        )
    if result.without_root:
        yield "No span is a root: the earliest without a parent counts as the request; its caller may yet come."
    if result.orphans:
        yield f"{_spans(result.orphans)} (marked ?) {_names(result.orphans)} a parent that is not in the trace."
    if result.cycles:
        yield (
            f"{_spans(result.cycles)} (marked @) {_names(result.cycles)} a parent that is among its own descendants: "
            "cut there."
        )
    if result.repeated:
        yield f"{_spans(result.repeated)} (marked =) {_has(result.repeated)} the id of another span; time counts once."
    if result.outside:
        yield f"{_spans(result.outside)} {'belongs' if result.outside == 1 else 'belong'} to no request."
    if result.moved:
        hosts = "; ".join(_moved(moved) for moved in result.moved[:_MOST_HOSTS])
        more = f"; {len(result.moved) - _MOST_HOSTS} more hosts" if len(result.moved) > _MOST_HOSTS else ""
        yield f"Clocks disagree. Moved to where they fit into their parents: {hosts}{more}. Stored times are unchanged."


@dataclass(frozen=True, slots=True)
class Waterfall:
    """A line a span: where it stands in its tree, when it ran, how long, and how long by itself."""

    trace: Trace

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it in the width that there is."""
        spans = self.trace.spans
        levels = shown_levels(spans)
        labels = [label(span, level, spans) for span, level in zip(spans, levels, strict=True)]
        numbers = 2 * (_NUMBER_WIDTH + 1)
        longest = max(text.cell_len for text in labels) + 1
        label_width = min(longest, _MOST_LABEL, max(_LEAST_LABEL, (options.max_width - numbers) // 2))
        bar_width = min(_MOST_BAR, max(_LEAST_BAR, options.max_width - numbers - label_width))
        scale = Scale.of(self.trace, bar_width)

        def line(left: Text, bar: str, *figures: str, style: str = "") -> Text:
            left.truncate(label_width - 1, overflow="ellipsis")
            left.pad_right(label_width - left.cell_len)
            return Text.assemble(
                left,
                (bar, style),
                *(figure.rjust(_NUMBER_WIDTH + 1) for figure in figures),
                no_wrap=True,
                overflow="crop",
            )

        yield line(Text("span", "bold cyan"), scale.axis(), "ms", "self ms", style="cyan")
        for request in self.trace.requests[:1] if len(self.trace.requests) == 1 else ():
            if request.unaccounted:
                gaps = scale.cells(request.unaccounted, request.unaccounted, GAP)
                yield line(Text("unaccounted", "italic"), gaps, significant(request.unaccounted_ms), "", style="yellow")
        for span, text in zip(spans, labels, strict=True):
            strong = PATH if span.stage else GAP
            whole = TraceInterval(span.start_ms, span.end_ms)
            bar = scale.cells((whole,), span.path, strong)
            colour = "red" if span.status == "ERROR" else "green" if span.stage else "yellow"
            yield line(text, bar, significant(span.duration_ms), significant(span.self_ms), style=colour)


@dataclass(frozen=True, slots=True)
class Scale:
    """From when until when a bar of so many characters reaches, in milliseconds."""

    begin_ms: float
    end_ms: float
    width: int

    @classmethod
    def of(cls, trace: Trace, width: int) -> Scale:
        """All spans, or only the requests where spans lie so far away that nothing could be told apart."""
        begin_ms = min(request.start_ms for request in trace.requests)
        end_ms = max(request.start_ms + request.duration_ms for request in trace.requests)
        length_ms = end_ms - begin_ms
        if length_ms == 0 or trace.end_ms - trace.begin_ms <= _FAR * length_ms:
            begin_ms, end_ms = trace.begin_ms, trace.end_ms
        return cls(begin_ms, max(end_ms, begin_ms + 1e-6), width)

    def axis(self) -> str:
        """Both ends as text."""
        first, last = significant(self.begin_ms), f"{significant(self.end_ms)} ms"
        return first + last.rjust(self.width - len(first))

    def cells(self, whole: Sequence[TraceInterval], path: Sequence[TraceInterval], strong: str) -> str:
        """Draw intervals as BESIDE, and the cells that are mostly path as `strong`.

        Where there is any path, one cell at least is.
        """
        covered, on_path = self._covered(whole), self._covered(path)
        drawn = [" "] * self.width
        for cell, share in covered.items():
            drawn[cell] = strong if on_path.get(cell, 0.0) * 2 >= share else BESIDE
        if on_path and strong not in drawn:
            drawn[max(on_path, key=lambda cell: on_path[cell])] = strong
        if not covered:
            drawn[0 if whole[0].start_ms < self.begin_ms else -1] = (
                EARLIER if whole[0].start_ms < self.begin_ms else LATER
            )
        return "".join(drawn)

    def _covered(self, intervals: Sequence[TraceInterval]) -> dict[int, float]:
        """How much of each cell the intervals cover; of one without length its cell a little."""
        per_cell = (self.end_ms - self.begin_ms) / self.width
        found: dict[int, float] = {}
        for interval in intervals:
            start, end = ((at - self.begin_ms) / per_cell for at in (interval.start_ms, interval.end_ms))
            if end < 0 or start > self.width:
                continue
            start, end = max(start, 0.0), min(end, float(self.width))
            first = min(math.floor(start), self.width - 1)
            for cell in range(first, max(first + 1, min(math.ceil(end - 1e-9), self.width))):
                part = min(end, cell + 1) - max(start, cell)
                found[cell] = found.get(cell, 0.0) + max(part, 1e-12)
        return found


def shown_levels(spans: Sequence[TraceSpan]) -> list[int]:
    """How deep each span stands among those that are shown."""
    levels: list[int] = []
    for span in spans:  # parents come first
        levels.append(0 if span.parent is None else levels[span.parent] + 1)
    return levels


def label(span: TraceSpan, level: int, spans: Sequence[TraceSpan]) -> Text:
    """Name a span: its place in the tree, its service where that is another one than its parent's, name and stage."""
    text = Text(no_wrap=True)
    text.append(" " * min(level, _DEEPEST))
    if level > _DEEPEST:
        text.append(f"{level}:", style="dim")
    if mark := "?" * span.is_orphan + "@" * span.in_cycle + "=" * span.is_repeated:
        text.append(mark, style="bold magenta")
    above = spans[span.parent] if span.parent is not None else None
    if span.service and (above is None or above.service != span.service):
        text.append(f"{printable(span.service)}: ", style="dim")
    failed = span.status == "ERROR"
    text.append(printable(span.name) or "(no name)", style="bold red" if failed else "bold" if span.is_request else "")
    if span.stage and span.stage != span.name:
        text.append(f" [{printable(span.stage)}]", style="green")
    if failed:
        text.append(" !", style="bold red")
    if span.left_out:
        text.append(f" +{span.left_out:,}", style="dim")
    return text


def _title(result: Trace) -> Text:
    names = {span.service for span in result.spans if span.service}
    counts = [_spans(result.span_count)]
    if len(result.requests) > 1:
        counts.append(f"{len(result.requests):,} requests")
    if len(names) > 1 and len(result.spans) == result.span_count:
        counts.append(f"{len(names)} services")
    text = Text.assemble((f"Trace {result.trace_id}", "bold"), "  ", (result.start_text, "dim"), "\n")
    return text.append(", ".join(counts), style="dim")


def _legend() -> Text:
    signs = (
        (PATH, "on the critical path", "green"),
        (GAP, "on it, of no stage", "yellow"),
        (BESIDE, "not on it", ""),
    )
    return Text("   ").join(Text.assemble((sign, style), (f" {meaning}", "dim")) for sign, meaning, style in signs)


def _contributions(result: Trace, request: TraceRequest) -> RenderableType:
    table = new_table()
    named = "request"
    if len(result.requests) > 1:
        named = f"request {request.span_id}"
    table.add_column("stage", overflow="fold", min_width=10)
    table.add_column("critical path ms", justify="right", no_wrap=True)
    table.add_column("share", justify="right", no_wrap=True)
    for stage in request.stages:
        table.add_row(Text(printable(stage.stage)), significant(stage.contribution_ms), percent(stage.share))
    share = request.unaccounted_ms / request.duration_ms if request.duration_ms else 0.0
    table.add_row("unaccounted", significant(request.unaccounted_ms), percent(share), style="italic", end_section=True)
    table.add_row(named, significant(request.duration_ms), "100 %", style="bold")
    return table


def _moved(moved: TraceMoved) -> str:
    least, most = (
        f"{'+' if ms > 0 else '−' if ms < 0 else ''}{significant(abs(ms))}" for ms in (moved.least_ms, moved.most_ms)
    )
    by = f"{most} ms" if least == most else f"{least} to {most} ms"
    return f"{_spans(moved.spans)} of {printable(moved.host) or 'an unnamed host'} by {by}"


def _spans(count: int) -> str:
    return f"{count:,} span" if count == 1 else f"{count:,} spans"


def _names(count: int) -> str:
    return "names" if count == 1 else "name"


def _has(count: int) -> str:
    return "has" if count == 1 else "have"
