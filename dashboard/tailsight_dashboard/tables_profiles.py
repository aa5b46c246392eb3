"""Tables of the Profiles view: pure functions from what analysis returns to pandas Stylers; cells keep numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis.flames import FunctionTotals, RecordedProfile, StageDifference
from tailsight_analysis.profiles import Flame
from tailsight_dashboard.format import count, length, milliseconds, p_value, share
from tailsight_dashboard.tables import signed, styled
from tailsight_dashboard.wording_profiles import place

MOST_ROWS = 500


def functions(found: Sequence[FunctionTotals], flame: Flame) -> Styler:
    """Build the table of a flame graph's functions, those that ran most themselves first; shares are of its time."""
    rows, whole = found[:MOST_ROWS], flame.ms or 1.0
    frame = pd.DataFrame(
        {
            "Function": [each.function for each in rows],
            "Line": [place(each.file, each.line) for each in rows],
            "Self": [each.self_samples for each in rows],
            "Self (%)": [each.self_ms / whole for each in rows],
            "Total (%)": [each.total_ms / whole for each in rows],
            "GIL": [each.gil_samples / max(1, each.self_samples) for each in rows],
            "Waits": [each.waiting_samples / max(1, each.self_samples) for each in rows],
            "File": [each.file for each in rows],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {"Self": count}
    return styled(frame, formats | dict.fromkeys(("Self (%)", "Total (%)", "GIL", "Waits"), share))


def differences(found: StageDifference) -> Styler:
    """Build the table of functions, those that differ most certainly first; milliseconds are per request."""
    rows = found.functions[:MOST_ROWS]
    names = (f"{found.difference.name_a} (ms)", f"{found.difference.name_b} (ms)")
    if names[0] in _TAKEN or names[1] in _TAKEN:  # a run may have any name
        names = (f"first: {names[0]}", f"second: {names[1]}")
    frame = pd.DataFrame(
        {
            "Function": [each.function for each in rows],
            "Line": [place(each.file, each.line) for each in rows],
            names[0]: [each.a.ms for each in rows],
            names[1]: [each.b.ms for each in rows],
            "More (ms)": [each.difference_ms for each in rows],
            "95 % (ms)": [f"{signed(each.low_ms)} to {signed(each.high_ms)}" for each in rows],
            "p-value": [each.p_value for each in rows],
            "Certain": ["yes" if each.certain else "no" for each in rows],
            "Samples": [f"{count(each.a.samples)} : {count(each.b.samples)}" for each in rows],
            "File": [each.file for each in rows],
        }
    )
    return styled(frame, {**dict.fromkeys(names, milliseconds), "More (ms)": signed, "p-value": p_value})


def recordings(profiles: Sequence[RecordedProfile]) -> Styler:
    """Build the table of recordings, the latest first."""
    frame = pd.DataFrame(
        {
            "Began (UTC)": [each.started[:19].replace("T", " ") for each in profiles],
            "Service": [each.service for each in profiles],
            "Process": [f"{each.process} on {each.host}" if each.host else str(each.process) for each in profiles],
            "Trigger": [each.trigger for each in profiles],
            "For": [length(each.duration_ms / 1000) for each in profiles],
            "Rate (Hz)": [each.rate_hz for each in profiles],
            "Samples": [each.samples for each in profiles],
            "Joined": [each.joined for each in profiles],
            "Ambiguous": [each.ambiguous for each in profiles],
            "Lost": [each.lost for each in profiles],
            "Clock": [_fit(each) for each in profiles],
            "Agreement": [share(each.agreement) for each in profiles],
            "By chance": [share(each.by_chance) for each in profiles],
            "Notes": ["; ".join(each.notes) for each in profiles],
            "By": [each.source for each in profiles],
            "Id": [each.id for each in profiles],
        }
    )
    counts = dict.fromkeys(("Samples", "Joined", "Ambiguous", "Lost"), count)
    return styled(frame, {**counts, "Rate (Hz)": _rate})


_TAKEN = ("More (ms)", "95 % (ms)")


def _fit(profile: RecordedProfile) -> str:
    if profile.trigger == "import":
        return "none: a file"
    return "fitted" if profile.trusted else "not fitted"


def _rate(value: float) -> str:
    return f"{value:g}"
