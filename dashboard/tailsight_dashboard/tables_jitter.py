"""The tables of the Jitter view: pure functions from what analysis returns to pandas Stylers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import Jitter, JitterRow, Queueing, Station
from tailsight_dashboard.format import count, group_name, milliseconds, share
from tailsight_dashboard.tables import styled
from tailsight_dashboard.wording_jitter import NS_PER_MS, REQUESTS

UNKNOWN = "—"  # also the placeholder of these tables: Streamlit writes None itself
MEASURES = ("p50 (ms)", "p99 (ms)", "p99−p50 (ms)", "IQR (ms)", "RFC 3550 (ms)")


def measures(result: Jitter) -> Styler:
    """Build the table: the requests as wholes, then a line a stage and hardware."""
    rows = [*([result.requests] if result.requests else []), *result.rows]
    with_hardware = any(row.group.get("hardware") for row in rows)
    with_deadlines = any(row.deadlines for row in rows)
    frame = pd.DataFrame(
        {
            "Stage": [group_name("stage", row.group["stage"]) if row.group else REQUESTS for row in rows],
            **({"Hardware": [row.group.get("hardware", "") for row in rows]} if with_hardware else {}),
            "Count": [row.count for row in rows],
            **({"Stored": [row.stored for row in rows]} if result.weighted else {}),
            "p50 (ms)": [row.spread.p50 / NS_PER_MS for row in rows],
            "p99 (ms)": [row.spread.p99 / NS_PER_MS for row in rows],
            "p99−p50 (ms)": [row.spread.above_median.value / NS_PER_MS for row in rows],
            "95 % (ms)": [_bounds(row.spread.above_median.low, row.spread.above_median.high) for row in rows],
            "IQR (ms)": [row.spread.middle_half.value / NS_PER_MS for row in rows],
            "CV": [row.spread.cv.value if row.spread.cv else None for row in rows],
            "RFC 3550 (ms)": [row.interarrival.mean_ns / NS_PER_MS if row.interarrival else None for row in rows],
            **(_deadlines(rows) if with_deadlines else {}),
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Count": count,
        **({"Stored": count} if result.weighted else {}),
        **dict.fromkeys(MEASURES, or_unknown(milliseconds)),
        "CV": or_unknown(lambda value: f"{value:.2f}"),
    }
    if with_deadlines:
        formats |= {"Missed": or_unknown(share), "Streak": or_unknown(lambda value: count(round(value)))}
    return styled(frame, formats)


def stations(result: Queueing) -> Styler:
    """Build the table of queues, the longest mean wait first, with the waits that one more worker would leave."""
    found = result.stations
    after = [each.one_more.replayed_one_more if each.reproduced else None for each in found]
    with_host = any(each.host for each in found)
    frame = pd.DataFrame(
        {
            "Service": [each.service for each in found],
            **({"Host": [each.host for each in found]} if with_host else {}),
            "Workers": [each.workers for each in found],
            "Busy": [each.utilisation for each in found],
            "Items a second": [each.arrival_rate for each in found],
            "Service time (ms)": [each.service_ns / NS_PER_MS for each in found],
            "Wait (ms)": [each.wait.mean / NS_PER_MS for each in found],
            "p99 wait (ms)": [each.wait.p99 / NS_PER_MS for each in found],
            "With one more (ms)": [waits.mean / NS_PER_MS if waits else None for waits in after],
            "In the queue": [each.little.in_queue for each in found],
            "Little": [_little(each) for each in found],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Workers": or_unknown(lambda value: count(round(value))),
        "Busy": or_unknown(share),
        "Items a second": milliseconds,
        "Service time (ms)": milliseconds,
        "Wait (ms)": milliseconds,
        "p99 wait (ms)": milliseconds,
        "With one more (ms)": or_unknown(milliseconds),
        "In the queue": milliseconds,
    }
    return styled(frame, formats)


def or_unknown(write: Callable[[Any], str]) -> Callable[[Any], str]:
    """Write an em dash where there is no value."""
    return lambda value: UNKNOWN if pd.isna(value) else write(value)


def _deadlines(rows: Sequence[JitterRow]) -> dict[str, list[Any]]:
    return {
        "Missed": [row.deadlines.rate if row.deadlines else None for row in rows],
        "Streak": [row.deadlines.streak if row.deadlines else None for row in rows],
    }


def _little(station: Station) -> str:
    return "holds" if station.little.holds else "fails"


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return UNKNOWN
    return f"{milliseconds(low / NS_PER_MS)} to {milliseconds(high / NS_PER_MS)}"
