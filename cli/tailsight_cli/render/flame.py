"""Flame graphs in a terminal: the functions that most samples are of, and those that two sides differ by."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis import Filters, Window
from tailsight_analysis.flames import RecordedProfile, StageDifference, StageFlame, top_functions
from tailsight_analysis.profiles import DifferenceEntry
from tailsight_cli.render.text import NO_VALUE, bar, new_table, note_lines, percent, printable, significant, title_line

_LONGEST_FILE = 28
_COLUMNS = (
    "self: samples in which the function ran itself; total: share in which it or what it called ran; GIL, waits: share "
    "of its own in which it waited for the interpreter's lock, or for something else."
)


def render_flame(found: StageFlame, window: Window, filters: Filters, limit: int) -> RenderableType:
    """Table of functions, those that ran most themselves first."""
    flame = found.flame
    everything = top_functions(flame)
    # what is on every stack, and never runs itself, is only the way to the stage
    functions = [each for each in everything if each.self_samples or each.total_samples < flame.samples]
    table = new_table()
    table.add_column("function", overflow="fold", min_width=16)
    table.add_column("file", overflow="fold")
    for heading in ("self", "share", "", "total", "GIL", "waits"):
        table.add_column(heading, justify="left" if not heading else "right", no_wrap=True)
    for each in functions[:limit]:
        share = each.self_ms / flame.ms
        table.add_row(
            Text(printable(each.function)),
            Text(_file(each.file)),
            f"{each.self_samples:,}",
            percent(share),
            bar(share),
            percent(each.total_ms / flame.ms),
            _of(each.gil_samples, each.self_samples),
            _of(each.waiting_samples, each.self_samples),
        )
    basis = (
        f"{flame.samples:,} samples of {flame.requests:,} requests, {significant(flame.ms)} ms at {_rates(found)} Hz."
    )
    notes = [f"{basis} {_COLUMNS}"]
    if len(functions) > limit:
        notes.append(f"{len(functions) - limit:,} more functions: --limit N, or -o FILE.html for the whole graph.")
    return Group(
        title_line("Which code ran", window, filters.label), table, *note_lines([*notes, *_rests_on(found.profiles)])
    )


def render_difference(found: StageDifference, window: Window, filters: Filters, limit: int) -> RenderableType:
    """Table of functions, those that differ most certainly first; ms are per request."""
    result = found.difference
    name_a, name_b = printable(result.name_a), printable(result.name_b)
    table = new_table()
    table.add_column("function", overflow="fold", min_width=16)
    for heading in (f"{name_a} ms", f"{name_b} ms", "more ms (95 %)", "samples", "p"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found.functions[:limit]:
        table.add_row(*_difference_cells(each), style="bold" if each.certain else "")
    certain = sum(each.certain for each in found.functions)
    basis = (
        f"{name_a}: {result.samples_a:,} samples of {result.requests_a:,} requests; {name_b}: {result.samples_b:,} of "
        f"{result.requests_b:,}. ms: per request with the function on the stack. p: corrected for all functions."
    )
    notes = [
        basis,
        f"{certain} of {len(found.functions)} functions differ for certain (bold)."
        if certain
        else "No function differs for certain: record more requests of both.",
    ]
    if found.everywhere:
        whole = found.everywhere[-1]
        bounds = f"{significant(whole.low_ms)} to {significant(whole.high_ms)}"
        notes.append(
            f"{name_a} requests take {significant(whole.difference_ms)} ms more here in all ({bounds}); "
            f"{len(found.everywhere)} functions on every stack of both are left out."
        )
    title = title_line(f"Which code {name_a} runs more than {name_b}", window, filters.label)
    return Group(title, table, *note_lines([*notes, *_rests_on(found.profiles)]))


def _difference_cells(each: DifferenceEntry) -> list[RenderableType]:
    return [
        Text(f"{printable(each.function)} ({_file(each.file).rpartition('/')[2]})"),
        significant(each.a.ms),
        significant(each.b.ms),
        f"{significant(each.difference_ms)} ({significant(each.low_ms)} to {significant(each.high_ms)})",
        f"{each.a.samples:,}:{each.b.samples:,}",
        significant(each.p_value),
    ]


def _rests_on(profiles: Sequence[RecordedProfile]) -> list[str]:
    """Say what the recordings are, and how good their clocks' fits."""
    if not profiles:
        return []
    samples = sum(each.samples for each in profiles)
    ambiguous = sum(each.ambiguous for each in profiles)
    agreements = sorted(each.agreement for each in profiles if each.agreement is not None)
    said = f"From {len(profiles)} recording{'s' if len(profiles) != 1 else ''}"
    if agreements:
        said += f", whose frames and spans agree in {percent(agreements[0])} of the samples or more"
    if samples:
        said += f"; {percent(ambiguous / samples)} of all samples are ambiguous and left out"
    untrusted = sum(not each.trusted and each.trigger != "import" for each in profiles)
    notes = [f"{said}."]
    if untrusted:
        notes.append(f"Of {untrusted} the clock could not be fitted: their samples are of no stage.")
    return notes


def _rates(found: StageFlame) -> str:
    rates = sorted({each.rate_hz for each in found.profiles if each.rate_hz} or {found.flame.rate_hz})
    return " and ".join(f"{rate:g}" for rate in rates) if len(rates) < 4 else f"{rates[0]:g} to {rates[-1]:g}"


def _of(part: int, whole: int) -> str:
    return percent(part / whole) if whole and part else NO_VALUE


def _file(name: str) -> str:
    shown = "/".join(printable(name).split("/")[-2:])
    return shown if len(shown) <= _LONGEST_FILE else f"…{shown[-_LONGEST_FILE + 1 :]}"
