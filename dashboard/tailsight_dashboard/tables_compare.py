"""The tables of two sides: pure functions from what analysis returns to pandas Stylers."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import Comparison, SlowdownCause
from tailsight_analysis.compare import Part
from tailsight_dashboard.format import lift, milliseconds, p_value, share
from tailsight_dashboard.tables import signed, styled
from tailsight_dashboard.wording_compare import place

LEVELS = {"Baseline": "baseline_ms", "Candidate": "candidate_ms"}
PARTS = {"Change": "delta", "Workload mix": "workload", "Hardware mix": "hardware", "Slowdown": "slowdown"}


def differences(result: Comparison) -> Styler:
    """Build the table of the requests' figures: workload mix, hardware mix and slowdown add up to the change."""
    columns: dict[str, list[float] | list[str]] = {"Requests": [*LEVELS, *PARTS]}
    figures = [f"{name} (ms)" for name in result.findings.differences]
    for title, each in zip(figures, result.findings.differences.values(), strict=True):
        parts: list[Part] = [getattr(each, field) for field in PARTS.values()]
        columns[title] = [*(getattr(each, field) for field in LEVELS.values()), *(part.ms for part in parts)]
        name = title.removesuffix(" (ms)")
        columns[f"95 % of {name}"] = [*("" for _ in LEVELS), *(_interval(part) for part in parts)]
    style = styled(pd.DataFrame(columns), dict.fromkeys(figures, milliseconds))
    with_sign: Any = signed  # pandas' stubs want functions that take any object
    return style.format(with_sign, subset=(range(len(LEVELS), len(LEVELS) + len(PARTS)), figures))


def has_places(result: Comparison) -> bool:
    """Whether any operation became slower or faster."""
    found = result.findings
    return bool(found.causes or found.suspects or found.improvements)


def places(result: Comparison) -> Styler:
    """Build the table of operations: causes, then suspects, then improvements."""
    found = result.findings
    kinds = (("slower", found.causes), ("could be chance", found.suspects), ("faster", found.improvements))
    lines: list[tuple[str, SlowdownCause]] = [(kind, each) for kind, causes in kinds for each in causes]
    frame = pd.DataFrame(
        {
            "Operation": [place(each) for _, each in lines],
            "Became": [kind for kind, _ in lines],
            "Change (ms)": [each.delta.ms for _, each in lines],
            "95 %": [_interval(each.delta) for _, each in lines],
            "Share": [each.share for _, each in lines],
            "Of the tail": [each.tail_share for _, each in lines],
            "Baseline (ms)": [each.baseline_ms for _, each in lines],
            "Candidate (ms)": [each.candidate_ms for _, each in lines],
            "p-value": [each.p_value for _, each in lines],
            "In": ["long times only" if each.where == "tail" else "all" for _, each in lines],
            "Calls before": [each.baseline_calls for _, each in lines],
            "Calls after": [each.candidate_calls for _, each in lines],
        }
    )
    formats = {"Baseline (ms)": milliseconds, "Candidate (ms)": milliseconds, "Change (ms)": signed}
    shares = {"Share": share, "Of the tail": share}
    return styled(
        frame, {**formats, **shares, "p-value": p_value, **dict.fromkeys(("Calls before", "Calls after"), lift)}
    )


def _interval(part: Part) -> str:
    if part.low_ms is None and part.high_ms is None:
        return "—"
    return " to ".join("—" if end is None else signed(end) for end in (part.low_ms, part.high_ms))
