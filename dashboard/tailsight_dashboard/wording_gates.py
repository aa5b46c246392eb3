"""The sentences on gate reports, in Markdown: the verdict, what was unlike, what decided it, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tailsight_analysis.gate_reports import SHOWN_DIGITS, ListedReport
from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.kept import KeptReport, ReportSide
from tailsight_analysis.gating.result import Calibration, Compared, Needed
from tailsight_dashboard.format import NO_STAGE, clock_and_day, count, duration, plain, share, within
from tailsight_dashboard.wording_regressions import moved, series

EXPLANATION = (
    "What `tailsight gate` found when it compared a candidate with a baseline, in CI or by hand. Of all of the store: "
    "the time and the filters do not limit them."
)
VERDICTS = ("regression", "inconclusive", "pass")
ICONS = {
    "regression": ":red[:material/trending_up:]",
    "inconclusive": ":orange[:material/help:]",
    "pass": ":green[:material/check_circle:]",
}
MEANINGS = {
    "regression": "Slower: the whole interval of a change lies above what is allowed.",
    "inconclusive": "Not decided: neither shown to be slower, nor shown to be not.",
    "pass": "Shown not to be slower than is allowed.",
}
NONE = (
    "No gate report is kept here. A gate keeps its report with `--keep`, in CI too; `tailsight gate keep FILE` adds "
    "one that was written elsewhere."
)
COMMANDS = """\
tailsight record -o base.otlp.zst -o cand.otlp.zst --repeat 10 --in ../base --in . -- python bench.py
tailsight gate base.otlp.zst cand.otlp.zst --keep {endpoint}
"""
NOT_CALIBRATED = (
    "Not calibrated: how often this machine raises a false alarm is not known. `tailsight gate calibrate` measures it."
)
NO_SIDE = "(no name)"
ALL_HARDWARE = "all hardware"
MOST_NAMED = 3


def listed(reports: Sequence[ListedReport], *, more: bool) -> str:
    """Count the reports by their verdict, and say what the latest is."""
    counted = Counter(report.verdict for report in reports)
    parts = ", ".join(f"{count(counted[verdict])} {verdict}" for verdict in VERDICTS if counted[verdict])
    number = f"The latest {count(len(reports))}" if more else count(len(reports))
    return f"{number} {'report' if len(reports) == 1 else 'reports'}: {parts}."


def name(report: ListedReport) -> str:
    """Name a report in a list to choose from: when, what, verdict."""
    what = report.title or f"{side(report.baseline)} → {side(report.candidate)}"
    return f"{minute(report.at_ns)} · {report.verdict} · {what}"


def minute(at_ns: int) -> str:
    """Write when a gate was judged, in UTC: `2026-11-22 07:10`."""
    return clock_and_day(at_ns)[:-3]


def side(of: ReportSide) -> str:
    """Name a side: its branch where its recording has one, else its sources; and its commit."""
    sources = ", ".join(of.sources[:MOST_NAMED]) + (" …" if len(of.sources) > MOST_NAMED else "")
    known = of.branches[0] if of.branches else sources
    return " ".join(part for part in (known, of.commits[0] if of.commits else "") if part) or NO_SIDE


def title(report: KeptReport) -> str:
    """Head an opened report: its verdict, and what was judged."""
    verdict = report.judgement.verdict
    what = f" · {plain(report.title)}" if report.title else ""
    return f"{ICONS[verdict]} **{verdict.capitalize()}**{what}"


def judged(report: KeptReport) -> str:
    """Say when it was judged, and what its id is."""
    return f"Judged **{minute(report.at_ns)} UTC** · report `{report.id[:SHOWN_DIGITS]}`"


def unlike(report: KeptReport) -> list[str]:
    """Say first what makes the sides unlike."""
    return [f":material/warning: **Unlike:** {plain(each)}" for each in report.judgement.differences]


def headline(report: KeptReport) -> str:
    """Say in a sentence what decided it."""
    judgement = report.judgement
    rows = by_importance(judgement.comparisons)
    of = [row for row in rows if row.verdict == judgement.verdict]
    if judgement.verdict == "regression" and of:
        more = f" {count(len(of) - 1)} more {_are(len(of) - 1)} slower, too." if len(of) > 1 else ""
        return f"{finding(of[0])}.{more}"
    deciding = [row for row in rows if row.decides]
    if judgement.verdict == "inconclusive":
        open_ = [row for row in deciding if row.verdict == "inconclusive"]
        first = f" First of all: {finding(open_[0])}." if open_ else ""
        wanted = needed(judgement.needed)
        way_out = f" {wanted} a side would decide." if wanted else ""
        return f"{count(len(open_))} of {count(len(deciding))} metrics that must pass are not decided.{way_out}{first}"
    faster = sum(row.verdict == "improvement" for row in rows)
    also = f" {count(faster)} {_are(faster)} faster." if faster else ""
    return f"All {count(len(deciding))} metrics that must pass are shown to be within what is allowed.{also}"


def compared(row: Compared) -> str:
    """Name what was compared: `requests`, `compute on L4`, `compute on all hardware`."""
    return series(
        row.stage or (NO_STAGE if row.hardware else ""), ALL_HARDWARE if row.hardware == "*" else row.hardware
    )


def finding(row: Compared) -> str:
    """Say what one comparison found: `p99 of **compute on L4** went from 10.2 ms to **11.4 ms**, +12 % [+8.1 % …]`."""
    who = f"{row.metric} of **{plain(compared(row))}**"
    if is_over_limit(row):
        bounds = row.candidate_interval_ms or (None, None)
        limit = duration(row.limit_ms or 0.0)
        return f"{who} is **{duration(row.candidate_ms)}** [{within(*bounds)} ms], above its limit of {limit}"
    went = f"went from {duration(row.baseline_ms)} to **{duration(row.candidate_ms)}**"
    return f"{who} {went}, {moved(row.ratio)} [{interval(row)}], where {moved(1 + row.tolerance)} is allowed"


def finding_text(row: Compared) -> str:
    """Say the same without Markdown, for a chart."""
    went = f"{duration(row.baseline_ms)} → {duration(row.candidate_ms)}, {moved(row.ratio)} [{interval(row)}]"
    over = f", above its limit of {duration(row.limit_ms or 0.0)}" if is_over_limit(row) else ""
    return f"{compared(row)} {row.metric}: {went}{over}; {row.verdict}"


def drawn(report: KeptReport, number: int) -> str:
    """Say what the chart shows, and of how many."""
    of = len(report.judgement.comparisons)
    which = f"The {count(number)} that matter most of {count(of)} comparisons" if number < of else "All comparisons"
    return (
        f"{which}: the change as a dot on its interval ({share(report.confidence)} for all together). A tick is what "
        "is allowed; a paler one, where it is there, what a change must be shown to lie below to pass. Red is slower, "
        "orange not decided, green passes, blue is faster."
    )


def is_over_limit(row: Compared) -> bool:
    """Whether it is the absolute limit that is broken."""
    low = row.candidate_interval_ms[0] if row.candidate_interval_ms else None
    return row.limit_ms is not None and low is not None and low > row.limit_ms


def interval(row: Compared) -> str:
    """Write between which changes the true one lies: `+8.1 % to +16 %`."""
    if row.ci_low is None and row.ci_high is None:
        return "not known"
    low = "—" if row.ci_low is None else moved(row.ci_low)
    return f"{low} to {'—' if row.ci_high is None else moved(row.ci_high)}"


def needed(wanted: Needed | None) -> str:
    """Say what more would decide: `12 more runs`; nothing where nothing within reason would."""
    if wanted is None:
        return ""
    if wanted.runs is not None:
        return f"{count(wanted.runs)} more {'run' if wanted.runs == 1 else 'runs'}"
    return f"{count(wanted.requests)} more requests" if wanted.requests is not None else ""


def sides(report: KeptReport) -> str:
    """Say of both sides what they are and how much ran, a line each."""
    pairs = (("Baseline", report.baseline), ("Candidate", report.candidate))
    return "  \n".join(f"{name}: {_side(each)}" for name, each in pairs)


def _side(of: ReportSide) -> str:
    runs = "1 run" if of.runs == 1 else f"{count(of.runs)} runs"
    requests = "1 request" if of.requests == 1 else f"{count(of.requests)} requests"
    sources = ", ".join(plain(source) for source in of.sources[:MOST_NAMED])
    more = f" and {count(len(of.sources) - MOST_NAMED)} more" if len(of.sources) > MOST_NAMED else ""
    said = (("branch", of.branches), ("commit", of.commits), ("", of.versions))
    parts = [f"{what} {plain(', '.join(texts[:MOST_NAMED]))}".strip() for what, texts in said if texts]
    return ", ".join([f"**{sources}{more}**" if sources else NO_SIDE, *parts, runs, requests])


def reasons(report: KeptReport) -> list[str]:
    """List what the gate said, in its own words, and what else there is to know."""
    return [_sentence(each) for each in (*report.judgement.reasons, *report.notes)]


def calibration(report: KeptReport) -> str:
    """Say how often such gates are wrong on that machine, or that nobody knows."""
    found = report.judgement.calibration
    if found is None:
        return NOT_CALIBRATED
    of = ", ".join(part for part in (plain(report.machine), report.calibrated[:10]) if part)
    smallest = ""
    if found.smallest_change is not None:
        smallest = f" The smallest change that it finds 95 % of the time: {share(found.smallest_change)}."
    return (
        f"Calibrated with {count(found.runs)} runs of the same code{f' ({of})' if of else ''}: false alarms in "
        f"{error_rate(found)} of {count(found.gates)} gates.{smallest}"
    )


def error_rate(found: Calibration) -> str:
    """Write the rate of false alarms with its interval: `1 % [0.1 % to 5 %]`."""
    return rate(found.false_alarm_rate, found.false_alarm_interval)


def rate(value: float | None, bounds: tuple[float, float] | None) -> str:
    """Write a rate with its interval; a dash where it was never measured."""
    if value is None:
        return "—"
    return share(value) + (f" [{share(bounds[0])} to {share(bounds[1])}]" if bounds else "")


def _are(number: int) -> str:
    return "metric is" if number == 1 else "metrics are"


def _sentence(text: str) -> str:
    said = plain(text)
    return f"{said[:1].upper()}{said[1:]}{'' if said.endswith(('.', '!', '?')) else '.'}"
