"""What changed between two sets of requests, in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from tailsight_analysis.compare import Comparison, Difference, Part, Side, SideCount, SlowdownCause
from tailsight_cli.render.quality import data_notes
from tailsight_cli.render.text import (
    MINUS,
    NO_VALUE,
    bar,
    new_table,
    note_lines,
    percent,
    printable,
    requests_text,
    significant,
)

FEW_STRETCHES = 0.35  # of the candidate's time, in which most of a change came
MUCH_MORE = 0.1  # by which a place's share in the tail is above that in the mean, for the tail to be spoken of


def render_comparison(result: Comparison) -> RenderableType:
    """Verdict in a sentence, the request's change with its parts, causes, improvements, and what is not comparable."""
    found = result.findings
    parts: list[RenderableType] = [
        Text("What changed", style="bold"),
        _side("baseline ", result.baseline, result.baseline_count),
        _side("candidate", result.candidate, result.candidate_count),
        Text(""),
        Text(verdict(result), style="bold"),
        Text(""),
        _request(found.differences),
    ]
    if found.causes:
        parts += [Text(""), _operations("slower", found.causes)]
    if found.suspects:
        parts += [Text(""), _operations("not proven: could be chance", found.suspects)]
    if found.improvements:
        parts += [Text(""), _operations("faster", found.improvements)]
    notes = _notes(result)
    return Group(*parts, *([Text("")] if notes else []), *note_lines(notes))


def verdict(result: Comparison) -> str:
    """Say in one sentence how the p99 changed, how much of it is mix, and what is slower."""
    found = result.findings
    p99 = found.differences["p99"]
    text = f"p99 went from {significant(p99.baseline_ms)} to {significant(p99.candidate_ms)} ms"
    if found.is_only_mix:
        return f"{text}; the sides were asked too different things to tell mix from slowdown."
    if not found.causes and found.suspects:
        return f"{text}. Nothing is proven. {_suspicion(found.differences, found.suspects[0])}"
    if not found.causes:
        return f"{text}; no operation is slower for the same work on the same hardware, beyond chance."
    first = found.causes[0]
    where = ", in its long times only" if first.where == "tail" else ""
    more = f"{_signed(first.delta.ms)} ms a request{where}, {percent(first.share)} of the slowdown"
    return f"{text}. Slower first of all: {_name(first)}, {more}."


def _suspicion(differences: Mapping[str, Difference], first: SlowdownCause) -> str:
    """Say where most of a slowdown is that chance may explain."""
    is_tail = first.tail_share > first.share + MUCH_MORE
    whole, share = ("p99", first.tail_share) if is_tail else ("mean", first.share)
    longer = f"{significant(differences[whole].slowdown.ms)} ms longer for the same work"
    who = f"The p99 is {longer}" if is_tail else f"Requests took {longer}"
    what = "of the longest requests' growth" if is_tail else "of that"
    stretches = ", in few stretches of time" if first.time_share <= FEW_STRETCHES else ""
    return f"{who}; {percent(share)} {what} is {_name(first)}{stretches}: could be chance (p = {_p_value(first)})."


def _p_value(cause: SlowdownCause) -> str:
    return f"{cause.p_value:.0e}" if cause.p_value < 0.001 else f"{cause.p_value:.3f}"


def _side(name: str, side: Side, count: SideCount) -> Text:
    label = printable(side.filters.label) or "all requests"
    indent = " " * (len(name) + 2)
    about = (f"\n{indent}{side.window.label}", "dim")
    return Text.assemble(f"{name}  ", label, f", {requests_text(count.requests)}", about, overflow="fold")


def _request(differences: Mapping[str, Difference]) -> RenderableType:
    """Rows that add up; intervals are of the quantiles, the mean's are in the JSON."""
    table = new_table()
    table.add_column("request, ms", no_wrap=True)
    for name in differences:
        table.add_column(name, justify="right", no_wrap=True)
        if name != "mean":
            table.add_column("95 %", justify="right", no_wrap=True, style="dim")
    plain = {"baseline": "baseline_ms", "candidate": "candidate_ms"}
    for number, (heading, field) in enumerate(plain.items()):
        cells: list[str] = []
        for name, each in differences.items():
            cells += [significant(getattr(each, field)), *([""] if name != "mean" else [])]
        table.add_row(heading, *cells, end_section=number == 1)
    for heading, field in {"workload mix": "workload", "hardware mix": "hardware", "slowdown": "slowdown"}.items():
        table.add_row(heading, *_parts(differences, field), end_section=field == "slowdown")
    table.add_row("change", *_parts(differences, "delta"), style="bold")
    return table


def _parts(differences: Mapping[str, Difference], field: str) -> list[str]:
    cells: list[str] = []
    for name, each in differences.items():
        part: Part = getattr(each, field)
        cells += [_signed(part.ms), *([_range(part)] if name != "mean" else [])]
    return cells


def _operations(heading: str, causes: tuple[SlowdownCause, ...]) -> RenderableType:
    table = new_table()
    table.add_column(heading, overflow="fold", ratio=1)
    for title in ("baseline", "candidate", "change ms"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("share", no_wrap=True)
    table.add_column("of tail", justify="right", no_wrap=True)
    table.add_column("p", justify="right", no_wrap=True)
    for cause in causes:
        table.add_row(
            Text(_name(cause)),
            significant(cause.baseline_ms),
            significant(cause.candidate_ms),
            _signed(cause.delta.ms),
            f"{percent(cause.share):>6} {bar(cause.share, 5)}",
            percent(max(0.0, cause.tail_share)),
            _p_value(cause),
        )
    return table


def _name(cause: SlowdownCause) -> str:
    name = printable(" ".join(part for part in (cause.service, cause.name) if part))
    if cause.stage and cause.stage != cause.name:
        name += f" ({printable(cause.stage)})"
    return f"{name} on {printable(cause.hardware)}" if cause.hardware else name


def _notes(result: Comparison) -> list[str]:
    found = result.findings
    notes = []
    for each in found.not_comparable:
        lacking = (
            f"{percent(each.candidate_share)} of the candidate's and {percent(each.baseline_share)} of the baseline's"
        )
        what = printable(each.covariate)
        if not each.adjusted and found.is_only_mix:
            notes.append(f"The sides have nothing in common of {what}: all of the change counts as mix.")
        elif each.adjusted:
            notes.append(f"Not comparable by {what}: {lacking} requests have no counterpart; they count as mix.")
        else:
            notes.append(
                f"Not adjusted for {what}, of which the sides have nothing in common: what it makes slower is not "
                "told apart from a slowdown."
            )
    for name, count in (("baseline", result.baseline_count), ("candidate", result.candidate_count)):
        if count.stored is not None:
            notes.append(f"Estimates: {requests_text(count.stored)} of the {name} stand for {count.requests:,}.")
        if count.looked_at < (count.stored or count.requests):
            notes.append(f"Figures come from {count.looked_at:,} of the {name}'s requests.")
        notes += [f"{name.capitalize()}: {note}" for note in data_notes(count.data)]
    if result.candidate_count.looked_at and found.effective < 0.1 * result.candidate_count.looked_at:
        notes.append(
            f"The mixes differ much: the slowdown rests on what {significant(found.effective)} requests would tell."
        )
    changed = [cause for cause in (*found.causes, *found.suspects) if _called_more(cause)]
    notes += [
        f"{_name(cause)}: a request waited for it {significant(cause.baseline_calls)} times on average, then "
        f"{significant(cause.candidate_calls)} times."
        for cause in changed
    ]
    return notes


def _called_more(cause: SlowdownCause) -> bool:
    return cause.candidate_calls > 1.1 * cause.baseline_calls


def _signed(value: float) -> str:
    text = significant(abs(value))
    return text if text == "0" else f"{'+' if value > 0 else MINUS}{text}"


def _range(part: Part) -> str:
    if part.ms == part.low_ms == part.high_ms == 0:
        return ""
    if part.low_ms is None and part.high_ms is None:
        return NO_VALUE
    low, high = (NO_VALUE if end is None else _signed(end) for end in (part.low_ms, part.high_ms))
    return f"{low} to {high}"
