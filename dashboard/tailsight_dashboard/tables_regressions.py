"""The tables of the Regressions view: pure functions from what analysis returns to pandas Stylers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import Regressions
from tailsight_analysis.alerting.open import OpenAlert
from tailsight_dashboard.format import clock_and_day, milliseconds, p_value
from tailsight_dashboard.tables import styled
from tailsight_dashboard.wording_regressions import moved, series, shift, unit_name

SAME = "same"


def changes(result: Regressions) -> Styler:
    """Build the table of changes: a line each, the latest first, the largest of them first."""
    found = result.changes

    def named(unit: int) -> str:
        return unit_name(result.units[unit].name, result.by)

    frame = pd.DataFrame(
        {
            "Series": [series(change.stage, change.hardware) for change in found],
            "Metric": [change.metric for change in found],
            "Became": [change.direction for change in found],
            "Change": [change.ratio for change in found],
            "95 %": [" to ".join(moved(end) for end in change.ratio_interval) for change in found],
            "Since": [named(change.first_after) for change in found],
            "Last before": [named(change.last_before) for change in found],
            "Before (ms)": [change.before_ms for change in found],
            "After (ms)": [change.after_ms for change in found],
            "p-value": [change.adjusted_p_value for change in found],
            "Known since": [named(change.found_at) for change in found],
            "Workload": [", ".join(shift(each) for each in change.mix) or SAME for change in found],
        }
    )
    return styled(frame, {"Change": moved, "Before (ms)": milliseconds, "After (ms)": milliseconds, "p-value": p_value})


def alerts(found: Sequence[OpenAlert]) -> Styler:
    """Build the table of open alerts, the latest first."""
    frame = pd.DataFrame(
        {
            "Alert": [alert.text for alert in found],
            "Rule": [alert.rule for alert in found],
            "Severity": [alert.severity for alert in found],
            "Since (UTC)": [clock_and_day(alert.since_ns) for alert in found],
            "Value": [_figure(alert.value, alert.unit) for alert in found],
            "Limit": [_figure(alert.limit, alert.unit) for alert in found],
            "Last told (UTC)": [clock_and_day(alert.updated_ns) for alert in found],
        }
    )
    return styled(frame, {})


def _figure(value: float | None, unit: str) -> str:
    return "—" if value is None else f"{value:,.3g} {unit}".strip()
