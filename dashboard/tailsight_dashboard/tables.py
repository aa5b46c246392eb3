"""Tables: pure functions from what analysis returns to pandas Stylers. Cells keep their numbers, so that they sort."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import BreakdownRow, OverRepresented, ResponseTimes, Tail
from tailsight_dashboard import format as text
from tailsight_dashboard.format import UNACCOUNTED, count, group_name, milliseconds, share

RESPONSE = {"p50 (ms)": "p50_ms", "p90 (ms)": "p90_ms", "p99 (ms)": "p99_ms", "p99.9 (ms)": "p999_ms"}
LATENCIES = {
    "p50 (ms)": "p50_ms",
    "p90 (ms)": "p90_ms",
    "p95 (ms)": "p95_ms",
    "p99 (ms)": "p99_ms",
    "p99.9 (ms)": "p999_ms",
    "max (ms)": "max_ms",
    "jitter p99−p50 (ms)": "jitter_ms",
}


def latencies(rows: Sequence[BreakdownRow], dimension: str) -> Styler:
    """Build the table of the Stages view: a line a group, with the group's share of the requests' critical paths."""
    sampled = any(row.stored is not None for row in rows)
    frame = pd.DataFrame(
        {
            dimension.capitalize(): [group_name(dimension, row.group[dimension]) for row in rows],
            "Spans": [row.count for row in rows],
            **({"Stored": [row.stored_count for row in rows]} if sampled else {}),
            **{title: [getattr(row, field) for row in rows] for title, field in LATENCIES.items()},
            "p99 within (ms)": [_p99_within(row) for row in rows],
            "Errors": [row.error_rate for row in rows],
            "Critical path": [row.path_share for row in rows],
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Spans": count,
        **({"Stored": count} if sampled else {}),
        **dict.fromkeys(LATENCIES, milliseconds),
        "Errors": share,
        "Critical path": _share_or_dash,
    }
    return styled(frame, formats)


def _p99_within(row: BreakdownRow) -> str:
    found = row.p99_interval
    return "—" if found is None else text.within(found.low, found.high)


def response(times: ResponseTimes) -> Styler:
    """Build the table of response time beside service time: the requests that say when they should have started."""
    lines = [(name, line) for name, line in (("Response", times.response), ("Service", times.service)) if line]
    frame = pd.DataFrame(
        {
            "Time": [name for name, _ in lines],
            **{title: [getattr(line, field) for _, line in lines] for title, field in RESPONSE.items()},
        }
    )
    return styled(frame, dict.fromkeys(RESPONSE, milliseconds))


def excess(tail: Tail) -> Styler:
    """Build the table of the Tail view: tail against typical requests, a line a stage, and their sum."""
    lines = [(step.stage, step) for step in tail.stages]
    steps = sorted([*lines, ("", tail.unaccounted)], key=lambda line: -line[1].excess_ms)
    named = [*((name or UNACCOUNTED, step) for name, step in steps), ("Sum", tail.total)]
    known = tail.total.excess_interval_ms is not None
    frame = pd.DataFrame(
        {
            "Stage": [name for name, _ in named],
            "Tail (ms)": [step.tail_ms for _, step in named],
            "Typical (ms)": [step.typical_ms for _, step in named],
            "Excess (ms)": [step.excess_ms for _, step in named],
            "Of the excess": [step.excess_share for _, step in named],
            **({"95 % (ms)": [_bounds(step.excess_interval_ms) for _, step in named]} if known else {}),
        }
    )
    formats: dict[str, Callable[[Any], str]] = {
        "Tail (ms)": milliseconds,
        "Typical (ms)": milliseconds,
        "Excess (ms)": signed,
        "Of the excess": share,
    }
    return styled(frame, formats)


def attributes(found: Sequence[OverRepresented]) -> Styler:
    """Build the table of attribute values that tail requests have more often than typical ones."""
    frame = pd.DataFrame(
        {
            "Attribute": [pair.key for pair in found],
            "Value": [pair.value for pair in found],
            "Tail": [pair.tail_share for pair in found],
            "Typical": [pair.typical_share for pair in found],
            "Lift": [pair.lift for pair in found],
            "p-value": [pair.p_value for pair in found],
        }
    )
    never = [pair.typical_share == 0 for pair in found]
    style = styled(frame, {"Tail": share, "Typical": share, "Lift": text.lift, "p-value": text.p_value})
    # a value that no typical request has: analysis gives a lower bound
    return style.format({"Lift": partial(text.lift, at_least=True)}, subset=(frame.index[never], ["Lift"]))


def _share_or_dash(value: float | None) -> str:
    return share(None if value is None or pd.isna(value) else value)


def _bounds(interval_ms: tuple[float, float] | None) -> str:
    return " to ".join(signed(bound) for bound in interval_ms) if interval_ms else "—"


def signed(value_ms: float) -> str:
    """Format milliseconds of a difference for a column whose title names the unit."""
    text = milliseconds(value_ms)
    return text if value_ms <= 0 or text == "0" else f"+{text}"


def styled(frame: pd.DataFrame, formats: Mapping[str, Callable[[Any], str]]) -> Styler:
    """Keep the numbers and show texts. pandas' stubs want functions that take any object."""
    shown: Any = formats
    return frame.style.format(shown)
