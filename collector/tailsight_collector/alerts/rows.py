"""Rows of the table `alerts`: how dashboard and commands know what is open."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Protocol

from tailsight_collector.alerts.machine import Event
from tailsight_collector.alerts.settings import Schedule
from tailsight_storage.queries import load_query

_MS = 1_000_000


class Keeper(Protocol):
    """What keeping a row needs of a store."""

    def run(self, statement: str, **parameters: object) -> None:
        """Run one statement that gives no rows."""


def row_of(event: Event, schedule: Schedule) -> dict[str, Any]:
    """Make a row, as plain data that a file can hold."""
    alert = event.alert
    return {
        "at_ms": event.at_ns // _MS,
        "alert": alert.id,
        "status": event.status,
        "rule": schedule.rule,
        "kind": schedule.kind,
        "severity": schedule.severity,
        "label_names": list(alert.labels),
        "label_values": list(alert.labels.values()),
        "filters": json.dumps({name: list(values) for name, values in alert.filters.items()}, ensure_ascii=False),
        "since_ms": alert.since_ns // _MS,
        "fired_ms": alert.fired_ns // _MS,
        "value": alert.value,
        "limit_value": alert.limit,
        "unit": alert.unit,
        "text": alert.text,
    }


def keep(store: Keeper, row: Mapping[str, Any]) -> None:
    """Insert a row; the same one again changes nothing that is asked. Raises StorageError."""
    numbers = {name: math.nan if row[name] is None else row[name] for name in ("value", "limit_value")}
    store.run(load_query("tailsight_collector", "keep_alert").text, **{**row, **numbers})
