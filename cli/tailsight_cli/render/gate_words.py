"""What a gate says in words, the same in a terminal, a comment, an annotation and a test report."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tailsight_analysis.gating.importance import by_importance
from tailsight_analysis.gating.result import Calibration, Compared, Needed
from tailsight_analysis.gating.samples import REQUEST, Series
from tailsight_cli._errors import without_controls
from tailsight_cli.gating.config import StoredCalibration
from tailsight_cli.gating.report import GateReport
from tailsight_cli.render.text import MINUS, NO_VALUE, percent, printable, significant

ALL_HARDWARE = "*"
MOST_SAID = 5.0  # of a change that can be found
_CHANGED = {"regression": "slower", "improvement": "faster"}
_IS_MORE = re.compile(r"and \d+ more metrics")
HOW_TO_CALIBRATE = (
    "Not calibrated: how often this machine raises a false alarm is not known. "
    "`tailsight gate calibrate RUN RUN … --write` measures it."
)


def headline(report: GateReport) -> str:
    """Say in a sentence or two what was found, where, by how much, and how sure that is."""
    judgement = report.judgement
    deciding = [row for row in by_importance(judgement.comparisons) if row.decides]
    confidence = f"All intervals hold together with {percent(report.config.settings.confidence)} confidence."
    if judgement.verdict == "regression":
        slower = report.of_verdict("regression")
        more = f" {len(slower) - 1} more {_metrics(len(slower) - 1)} slower, too." if len(slower) > 1 else ""
        return f"Regression: {finding(slower[0])}.{more} {confidence}"
    if judgement.verdict == "inconclusive":
        open_ = report.undecided()
        which = f"{len(open_)} of {len(deciding)} {_deciding(deciding)}"
        return f"Inconclusive: {which} are not decided, first of all {finding(open_[0])}. {confidence}"
    nearest = max(deciding, key=lambda row: (row.ci_high or row.ratio) - row.margin)
    faster = len(report.of_verdict("improvement"))
    also = f" {faster} {_metrics(faster)} faster." if faster else ""
    shown = f"Pass: all {len(deciding)} {_deciding(deciding)} are shown to be within their margin"
    return f"{shown}, nearest to it {finding(nearest)}.{also} {confidence}"


def _deciding(rows: Sequence[Compared]) -> str:
    """Name what must be shown for a gate to pass."""
    return "metrics of the requests" if not any(row.stage or row.hardware for row in rows) else "metrics that must pass"


def finding(row: Compared) -> str:
    """Say what one comparison found: `compute on L4 p99 went from 10.2 to 11.4 ms, +12 % (+8.1 to +16 %; …)`."""
    what = f"{name(row)} {row.metric}"
    if is_over_limit(row):
        return f"{what} is {significant(row.candidate_ms)} ms{candidate_range(row)}, above its limit of {limit(row)}"
    moved = f"went from {significant(row.baseline_ms)} to {significant(row.candidate_ms)} ms"
    bound = f"{change(1 + row.tolerance)} is allowed" if row.verdict == "regression" else f"passes {_below(row)}"
    return f"{what} {moved}, {change(row.ratio)} ({interval(row)}; {bound})"


def is_over_limit(row: Compared) -> bool:
    """Whether it is the absolute limit that is broken."""
    low = row.candidate_interval_ms[0] if row.candidate_interval_ms else None
    return row.limit_ms is not None and low is not None and low > row.limit_ms


def name(row: Compared) -> str:
    """Name what was compared; names of foreign origin are made printable."""
    stage = printable(row.stage) or (REQUEST if not row.hardware else "(no stage)")
    return f"{stage} on {hardware(row)}" if row.hardware else stage


def hardware(row: Compared) -> str:
    """Name the type of hardware."""
    return "all hardware" if row.hardware == ALL_HARDWARE else printable(row.hardware)


def change(ratio: float) -> str:
    """Write a ratio as a change: `+12 %`."""
    percents = abs(ratio - 1) * 100
    text = f"{percents:.1f}" if percents < 9.95 else f"{percents:,.0f}"
    return "0 %" if text == "0.0" else f"{'+' if ratio > 1 else MINUS}{text} %"


def interval(row: Compared) -> str:
    """Write where the true change lies."""
    if row.ci_low is None and row.ci_high is None:
        return "not known"
    low = NO_VALUE if row.ci_low is None else change(row.ci_low).removesuffix(" %")
    return f"{low} to {NO_VALUE if row.ci_high is None else change(row.ci_high)}"


def limit(row: Compared) -> str:
    """Write the absolute limit."""
    return f"{row.limit_ms:g} ms" if row.limit_ms is not None else NO_VALUE


def candidate_range(row: Compared) -> str:
    """Write between what the candidate's metric lies; nothing where that is not known."""
    if row.candidate_interval_ms is None or None in row.candidate_interval_ms:
        return ""
    low, high = (significant(each or 0.0) for each in row.candidate_interval_ms)
    return f" ({low}–{high})"


def allowed(row: Compared) -> str:
    """Write what is allowed: a share, and a limit where there is one."""
    return change(1 + row.tolerance) + (f", {limit(row)}" if row.limit_ms is not None else "")


def passes(row: Compared) -> str:
    """Write below what a metric must be shown to lie to pass; in brackets where the gate passes without it."""
    return _below(row) if row.decides else f"({_below(row)})"


def _below(row: Compared) -> str:
    return f"below {change(1 + row.margin)}"


def needed(wanted: Needed | None) -> str:
    """Write what more would decide."""
    if wanted is None:
        return ""
    if wanted.runs is not None:
        return f"{wanted.runs:,} more runs"
    return f"{wanted.requests:,} more requests" if wanted.requests is not None else ""


def folded(report: GateReport) -> str:
    """Count what is not shown: `12 metrics are not decided, 3 pass (nearest to its margin: …)`."""
    rows = report.folded()
    open_ = [row for row in rows if row.verdict == "inconclusive"]
    passed = [row for row in rows if row.verdict == "pass"]
    more = "more " if any(row not in open_ for row in report.of_verdict("inconclusive")) else ""
    changed = {word: sum(row.verdict == verdict for row in rows) for verdict, word in _CHANGED.items()}
    parts = [f"{count} more {_metrics(count)} {word}" for word, count in changed.items() if count]
    parts += [f"{len(open_)} {more}{_metrics(len(open_))} not decided"] if open_ else []
    if passed:
        count = "1 metric passes" if len(passed) == 1 else f"{len(passed)} metrics pass"
        row = passed[0]
        nearest = f", nearest to its margin: {name(row)} {row.metric}, {change(row.ratio)} ({interval(row)})"
        is_said = report.judgement.verdict == "pass"  # by the headline
        parts.append(f"{count}{'' if is_said else nearest}")
    return "; ".join(parts)


def remarks(report: GateReport) -> list[str]:
    """List the judgement's reasons that no row of the table says already, and the notes."""
    rows = [f"{Series(row.stage, row.hardware).name} {row.metric}" for row in report.judgement.comparisons]
    rows += [f"{name(row)} {row.metric}" for row in report.judgement.comparisons]
    reasons = [each for each in report.judgement.reasons if not any(row in each for row in rows)]
    if report.judgement.verdict == "regression":  # of whose rows the headline counts the others
        reasons = [each for each in reasons if not _IS_MORE.fullmatch(each)]
    if report.judgement.verdict == "pass":
        reasons = reasons[1:]  # the headline has it
    return [*(_sentence(without_controls(each)) for each in reasons), *map(without_controls, report.notes)]


def calibration_line(report: GateReport) -> str:
    """Say how often such gates are wrong on this machine, or that nobody knows yet."""
    stored = report.config.calibration
    if stored is None or report.judgement.calibration is None:
        return HOW_TO_CALIBRATE
    return f"{calibration_text(stored.calibration)}{_of(stored)}."


def calibration_text(calibration: Calibration) -> str:
    """Say what a calibration found."""
    low, high = calibration.false_alarm_interval
    alarms = round(calibration.false_alarm_rate * calibration.gates)
    if calibration.smallest_change is None:
        power = "no change is found 95 % of the time"
    else:
        smallest = calibration.smallest_change
        metric = next((name for name, each in calibration.smallest_changes.items() if each == smallest), "")
        power = f"the smallest change found 95 % of the time: {smallest_text(smallest)}"
        power += f" of the request's {metric}" if metric else ""
    times = "false alarm" if alarms == 1 else "false alarms"
    return (
        f"Calibrated with {calibration.runs} runs of the same code: {alarms:,} {times} in {calibration.gates:,} gates "
        f"({percent(calibration.false_alarm_rate)}; 95 %: {percent(low)} to {percent(high)}); {power}"
    )


def smallest_text(change: float) -> str:
    """Write a change that can be found; of one that is larger than any that matters, only that."""
    return percent(change) if change < MOST_SAID else f"over {MOST_SAID * 100:.0f} %"


def _of(stored: StoredCalibration) -> str:
    parts = [part for part in (printable(stored.machine), stored.created[:10]) if part]
    return f" ({', '.join(parts)})" if parts else ""


def _metrics(count: int) -> str:
    return "metric is" if count == 1 else "metrics are"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"
