"""What to say when a question found nothing: what the store holds instead, so that the next question finds it."""

from __future__ import annotations

from dataclasses import fields

from tailsight_analysis import Filters, Store, choices, whole_time

_SEND = "send data: `tailsight demo`, `tailsight import FILE`, or an OTLP exporter pointed at a collector"
_MAX_NAMES = 8


def way_out(store: Store, filters: Filters) -> str:
    """Name what could be asked for: the values of a filter that matches nothing, or the time that the store covers."""
    held = whole_time(store)
    if held is None:
        return f"the store is empty: {_SEND}"
    there = choices(store, held)
    for field in fields(Filters):
        asked, known = getattr(filters, field.name), there[field.name]
        unknown = [value for value in asked if value not in known]
        if unknown:
            named = [value for value in known if value][:_MAX_NAMES]
            rest = ", …" if len(known) > _MAX_NAMES else ""
            return f"no span has {field.name}={unknown[0]}; there are: {', '.join(named) + rest if named else 'none'}"
    return f"the store holds spans of {held.label}; choose with --since and --until, or --all-time"
