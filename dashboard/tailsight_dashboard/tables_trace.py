"""Tables of the Trace view: pure functions from what analysis returns to pandas Stylers. Cells keep their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from tailsight_analysis import Trace, TraceEvent, TraceRequest, TraceSpan
from tailsight_dashboard.charts_trace import shown_levels, span_name
from tailsight_dashboard.format import UNACCOUNTED, milliseconds, share
from tailsight_dashboard.tables import styled

SPAN_TIMES = {
    "Start (ms)": "start_ms",
    "Duration (ms)": "duration_ms",
    "Self (ms)": "self_ms",
    "Critical path (ms)": "path_ms",
}


def spans(trace: Trace) -> Styler:
    """Build the table of a trace's spans, in the order of their tree."""
    levels = shown_levels(trace.spans)
    where = {title: [getattr(span, field) for span in trace.spans] for title, field in _WHERE.items()}
    where["Status"] = [status if status != "UNSET" else "" for status in where["Status"]]
    frame = pd.DataFrame(
        {
            "Span": [
                "\u2003" * min(level, 12) + span_name(span, trace.spans)
                for span, level in zip(trace.spans, levels, strict=True)
            ],
            **{title: [getattr(span, field) for span in trace.spans] for title, field in SPAN_TIMES.items()},
            **{title: values for title, values in where.items() if any(values)},
        }
    )
    return styled(frame, dict.fromkeys(SPAN_TIMES, milliseconds))


def contributions(request: TraceRequest) -> Styler:
    """Build the table of what a request waited for: its stages and the rest, which add up to its duration."""
    length = request.duration_ms
    rest = (UNACCOUNTED, request.unaccounted_ms, request.unaccounted_ms / length if length else 0.0)
    lines = [*((stage.stage, stage.contribution_ms, stage.share) for stage in request.stages), rest]
    lines.append(("Sum", length, 1.0))
    frame = pd.DataFrame(lines, columns=["Stage", "Path (ms)", "Share"])
    return styled(frame, {"Path (ms)": milliseconds, "Share": share})


def attributes(values: Mapping[str, Any]) -> pd.DataFrame:
    """Build the table of a span's attributes."""
    return pd.DataFrame({"Attribute": list(values), "Value": [value_text(value) for value in values.values()]})


def events(found: Iterable[TraceEvent]) -> Styler:
    """Build the table of what happened during a span."""
    lines = [
        (
            event.offset_ms,
            event.name,
            ", ".join(f"{key}={value_text(value)}" for key, value in event.attributes.items()),
        )
        for event in found
    ]
    return styled(pd.DataFrame(lines, columns=["At (ms)", "Event", "Attributes"]), {"At (ms)": milliseconds})


def facts(span: TraceSpan) -> pd.DataFrame:
    """Build the table of what is known of a span beside its times; what it does not say is left out."""
    known = {title: getattr(span, field) for title, field in _FACTS.items()}
    known = {title: value for title, value in known.items() if value}
    if span.moved_ms:
        known["Moved by (ms)"] = milliseconds(span.moved_ms)
    return pd.DataFrame({"Of the span": list(known), "Value": list(known.values())})


def value_text(value: Any) -> str:
    """Write an attribute's value: texts as they are, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


_WHERE = {"Service": "service", "Stage": "stage", "Hardware": "hardware", "Host": "host", "Status": "status"}
_FACTS = {
    "Span id": "span_id",
    "Parent": "parent_span_id",
    "Kind": "kind",
    **_WHERE,
    "Message": "status_message",
    "Version": "version",
    "Model": "model",
    "Region": "region",
    "Environment": "environment",
    "Run": "run",
}
