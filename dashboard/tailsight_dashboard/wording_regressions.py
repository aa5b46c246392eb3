"""The sentences of the Regressions view, in Markdown: what changed since when, by how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tailsight_analysis import HistoryChange, MixShift, Regressions
from tailsight_analysis.alerting.open import OpenAlert
from tailsight_analysis.changes.history import FASTER
from tailsight_analysis.changes.mix import INPUT_LENGTH
from tailsight_analysis.changes.units import Line
from tailsight_analysis.regressions import LEAST_UNITS, NEWEST_UNJUDGED
from tailsight_dashboard.format import count, duration, length, p_value, plain, share

REQUESTS = "requests"
MOST_NAMED = 6
UNITS = {"version": ("version", "versions"), "run": ("run", "runs"), "time": ("stretch of time", "stretches of time")}
EXPLANATION = (
    "A change is where a series goes to another level and stays there: a lone outlier is none. What is found must be "
    "significant among all series together, and at least this large."
)
METRIC_HELP = "auto: of each series the metric that changed last and most, else the highest quantile that it has."
HOW_TO_SAY = {
    "version": "Say it with `tailsight.configure(version=…)`, or the resource attribute `service.version`; or look "
    "over runs or time.",
    "run": "Say it with `tailsight.configure(run=…)`, or the resource attribute `tailsight.run`; or look over versions "
    "or time.",
    "time": "Take more time.",
}
TOO_SHORT = {
    "version": "Take more time, or look over runs or time. Two versions can be compared below.",
    "run": "Take more time, or look over versions or time. Two runs can be compared below.",
    "time": "Wait for more requests, or look over versions or runs.",
}
NO_ALERTS = "No alert is open. The collector evaluates rules that it is given: `tailsight up --alerts alerts.toml`."


def headline(result: Regressions) -> list[str]:
    """Say what became slower since when, by how much and how sure that is; then what else did. No change says so."""
    looked = f"{count(len(result.units))} {UNITS[result.by][1]}"
    if not result.changes:
        return [f"Nothing changed in {looked}.", _unjudged(result)]
    faster = len(result.changes) - len(result.slower)
    if not result.slower:
        return [f"Nothing became slower in {looked}.", *_best(result), _unjudged(result)]
    first = result.slower[0]
    number = len(result.changes)
    others = f"{count(number)} changes in {looked}, {count(faster) if faster else 'none'} for the better."
    if number == 1:
        others = f"The only change in {looked}."
    return [f"{rose(first, result)}.", f"{evidence(first, result)} {others}", *_mix(first), _unjudged(result)]


def _unjudged(result: Regressions) -> str:
    newest = f"The newest {NEWEST_UNJUDGED} {UNITS[result.by][1]}"
    return f"{newest} cannot be judged yet: what began with them may be outliers."


def _best(result: Regressions) -> list[str]:
    first = result.changes[0]
    more = len(result.changes) - 1
    rest = f" {count(more)} more for the better." if more else ""
    return [f"{rose(first, result)}. {evidence(first, result)}{rest}", *_mix(first)]


def rose(change: HistoryChange, result: Regressions) -> str:
    """Say by how much which metric changed, with its interval: `p50 of compute on L4 rose by 24 % [18 % to 31 %] …`."""
    verb = "fell" if change.direction == FASTER else "rose"
    size = f"to {moved(change.ratio)}" if change.ratio >= 2 else f"by {share(abs(change.ratio - 1))}"
    since = unit_name(result.units[change.first_after].name, result.by)
    with_ = f"at **{plain(since)} UTC**" if result.by == "time" else f"with {UNITS[result.by][0]} **{plain(since)}**"
    who = f"**{plain(series(change.stage, change.hardware))}**"
    return f"{change.metric} of {who} {verb} **{size}** [{_bounds(change)}] {with_}{_until(change, result)}"


def _bounds(change: HistoryChange) -> str:
    """Write the interval of a change in the words of the change itself: without signs where these go without saying."""
    low, high = change.ratio_interval
    if change.direction == FASTER and high < 1:
        return f"{share(1 - high)} to {share(1 - low)}"
    if change.direction != FASTER and low > 1 and high < 2:
        return f"{share(low - 1)} to {share(high - 1)}"
    return f"{moved(low)} to {moved(high)}"


def _until(change: HistoryChange, result: Regressions) -> str:
    """Say where the level ended, if another came after it."""
    line = next((each for each in result.lines if change in result.changes_of(each)), None)
    if line is None or change == result.changes_of(line)[-1]:
        return ""
    return f", until {plain(unit_name(result.units[change.last_after].name, result.by))}"


def evidence(change: HistoryChange, result: Regressions) -> str:
    """Say from what to what it went, how sure that is and since when it is known."""
    before = plain(unit_name(result.units[change.last_before].name, result.by))
    known = plain(unit_name(result.units[change.found_at].name, result.by))
    p = p_value(change.adjusted_p_value)
    return (
        f"From {duration(change.before_ms)}, last at {before}, to {duration(change.after_ms)}; "
        f"p {p.replace('<', '< ') if p.startswith('<') else f'= {p}'} among all series, known since {known}."
    )


def _mix(change: HistoryChange) -> list[str]:
    if not change.mix:
        return []
    moved_too = ", ".join(plain(shift(each)) for each in change.mix)
    return [f":material/warning: The workload changed there, too: {moved_too}. It may be no slowdown: compare below."]


def shift(each: MixShift) -> str:
    """Say what moved: `model big 20 % → 61 %`."""
    if each.kind == INPUT_LENGTH:
        return f"{INPUT_LENGTH} {each.before:,.3g} → {each.after:,.3g}"
    return f"{each.kind} {each.value} {share(each.before)} → {share(each.after)}"


def series(stage: str, hardware: str) -> str:
    """Name a series: `requests`, `compute on L4`."""
    name = stage or REQUESTS
    return f"{name} on {hardware}" if hardware else name


def moved(ratio: float) -> str:
    """Write a ratio as a change: `+12 %`, `−3.4 %`, `4.2×` from double on."""
    if ratio >= 2:
        return f"{ratio:,.3g}×"
    return "±0 %" if ratio == 1 else f"{'+' if ratio > 1 else '−'}{share(abs(ratio - 1))}"


def unit_name(name: str, by: str) -> str:
    """Name a version or run as it is called, and a stretch of time by its begin: `2026-11-22 07:10`."""
    if by != "time" or not name.endswith("Z"):
        return name
    return name.replace("T", " ").removesuffix("Z").removesuffix(":00")


def title(line: Line, result: Regressions) -> str:
    """Head a small chart: the series, its last value, and its changes."""
    changes = [
        f"**{moved(change.ratio)}** at {plain(unit_name(result.units[change.first_after].name, result.by))}"
        for change in result.changes_of(line)
    ]
    now = duration(line.points[-1].value_ms) if line.points else "—"
    return " · ".join([f"**{plain(series(line.stage, line.hardware))}** {line.metric} {now}", *changes])


def no_lines(metric: str) -> str:
    """Say why no series is drawn, and what to do."""
    return f"No series has {metric}: too few requests in each. p50 and mean need the fewest."


def notes(result: Regressions, drawn: Sequence[Line], left_out: int) -> str:
    """Say what was looked at, what could not change, and what is not drawn."""
    sentences = []
    if result.bucket_s is not None:
        sentences.append(f"Stretches of {length(result.bucket_s)}.")
    sentences.append(
        f"{count(len(result.lines))} series looked at; changes are of {share(result.least_change)} at least. "
        "Bars: 95 % intervals."
    )
    if elsewhere := _elsewhere(result.changes, drawn):
        sentences.append(f"Other metrics changed, too: {elsewhere}.")
    if result.short_lines:
        sentences.append(
            f"{count(result.short_lines)} series have fewer than {LEAST_UNITS} points: no change can show there."
        )
    if left_out:
        sentences.append(f"{count(left_out)} more series are not drawn.")
    return " ".join(sentences)


def _elsewhere(changes: Sequence[HistoryChange], drawn: Sequence[Line]) -> str:
    here = {(line.stage, line.hardware, line.metric) for line in drawn}
    found = dict.fromkeys(
        f"{change.metric} of {plain(series(change.stage, change.hardware))}"
        for change in reversed(changes)
        if (change.stage, change.hardware, change.metric) not in here
    )
    more = len(found) - MOST_NAMED
    return ", ".join(list(found)[:MOST_NAMED]) + (f", and {count(more)} more in the table" if more > 0 else "")


def nobody_says(by: str) -> str:
    """Say that spans carry no version or no run."""
    return f"No span here says its {by}."


def too_short(by: str) -> str:
    """Say that there is too little for a history."""
    return f"Too few {UNITS[by][1]} for a history."


def alert_headline(alerts: Sequence[OpenAlert]) -> str:
    """Say how many alerts are open, by severity."""
    severities = _counted(each.severity for each in alerts)
    named = ", ".join(f"{count(number)} {plain(name)}" for name, number in severities.items())
    return f"{count(len(alerts))} open: {named}."


def _counted(names: Iterable[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found
