"""Why a verdict, in sentences: the decisive one first."""

from __future__ import annotations

from collections.abc import Sequence

from tailsight_analysis.gating.fitting import Fit
from tailsight_analysis.gating.result import Calibration, Compared, GateVerdict, Needed
from tailsight_analysis.gating.samples import Series
from tailsight_analysis.gating.variation import CAREFUL_BETWEEN, Variation

_MOST_NAMED = 5
_MANY_RUNS = 100


def reasons(
    verdict: GateVerdict,
    compared: Sequence[Compared],
    fitted: Fit,
    varied: Variation,
    calibration: Calibration | None,
    wanted: Needed | None,
) -> tuple[str, ...]:
    """Say it."""
    result = []
    deciding = [each for each in compared if each.decides]
    open_ = [each for each in compared if each.verdict == "inconclusive"]
    if verdict == "regression":
        slower = sorted(
            (each for each in compared if each.verdict == "regression"), key=lambda each: -(each.ci_low or 0)
        )
        result += [_slower(each) for each in slower[:_MOST_NAMED]]
        if len(slower) > _MOST_NAMED:
            result.append(f"and {len(slower) - _MOST_NAMED} more metrics")
    elif verdict == "pass":
        result.append(f"all {len(deciding)} metrics that must pass are shown to lie within their margins")
        if open_:
            result.append(
                f"none of the other {len(compared) - len(deciding)} metrics is shown to be slower, "
                f"but {len(open_)} are not decided; widest: {_widest(open_)}"
            )
    else:
        deciding_open = [each for each in deciding if each.verdict == "inconclusive"]
        result.append(
            f"{len(deciding_open)} of {len(deciding)} metrics that must pass are not decided; "
            f"widest: {_widest(deciding_open)}"
        )
        result.append(_wanted(wanted))
    if varied.is_careful:
        result.append(
            "one run a side cannot show how much runs differ: taken to be "
            f"{CAREFUL_BETWEEN:.0%}, so that only a large change is a regression and nothing passes; "
            "record several runs a side (--repeat), or calibrate"
        )
    elif calibration is not None and not varied.is_calibrated:
        result.append("these runs vary far more than the calibration says: it was not used")
    if min(fitted.runs) > 1 and not fitted.in_turn:
        result.append(
            "runs of both sides were not taken in turn: "
            "a drift of the machine would look like a change (--repeat takes turns)"
        )
    return tuple(result)


def _slower(row: Compared) -> str:
    name = Series(row.stage, row.hardware).name.replace(" on *", " on all hardware")
    if row.limit_ms is not None and row.candidate_interval_ms and (row.candidate_interval_ms[0] or 0) > row.limit_ms:
        return f"{name} {row.metric} is {row.candidate_ms:.3g} ms, above its limit of {row.limit_ms:g} ms"
    return (
        f"{name} {row.metric} takes {_change(row.ratio)} "
        f"({_change(row.ci_low)} to {_change(row.ci_high)}), tolerance {row.tolerance:.1%}"
    )


def _widest(open_: Sequence[Compared]) -> str:
    row = max(open_, key=lambda each: (each.ci_high or 0) - each.margin)
    return (
        f"{Series(row.stage, row.hardware).name} {row.metric}, "
        f"{_change(row.ci_low)} to {_change(row.ci_high)}, margin {row.margin:.1%}"
    )


def _change(ratio: float | None) -> str:
    """Human text: `+12.0%`, `3.1 times`, `more than 1000 times`."""
    if ratio is None:
        return "unknown"
    if ratio > 1000:
        return "more than 1000 times"
    return f"{ratio:.3g} times" if ratio >= 3 else f"{ratio - 1:+.1%}"


def _wanted(wanted: Needed | None) -> str:
    advice = "allow more, compare fewer metrics, or take longer runs"
    if wanted is None or (wanted.runs is None and wanted.requests is None):
        return f"no reasonable number of further runs decides all of them: {advice}"
    parts = []
    if wanted.runs is not None:
        parts.append(f"{wanted.runs:,} more runs a side")
    if wanted.requests is not None:
        parts.append(f"{wanted.requests:,} more requests a side in as many runs")
    if wanted.requests is None and (wanted.runs or 0) > _MANY_RUNS:
        return f"to decide all of them takes {parts[0]}: rather {advice}"
    return f"{' or '.join(parts)} would decide"
