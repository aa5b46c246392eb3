"""Which alerts are open? The collector that evaluates the rules writes them into the store's table `alerts`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.queries import query
from tailsight_analysis.scope import Filters, iso
from tailsight_storage import QueryFailedError, Store

_UNKNOWN_TABLE = 60


@dataclass(frozen=True, slots=True)
class OpenAlert:
    """One alert that has begun and is not resolved, as it was last told of. Times in nanoseconds since 1970.

    `since_ns` is when its condition was first seen, `fired_ns` when it became an alert, `updated_ns` when it was last
    told of. `value` and `limit` are in `unit` (`burn rate`, `ms`, `ratio`, `share`), as of then.
    """

    id: str
    rule: str
    kind: str
    severity: str
    labels: Mapping[str, str]
    filters: Filters
    since_ns: int
    fired_ns: int
    updated_ns: int
    value: float | None
    limit: float | None
    unit: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys; see docs/alerts.md."""
        return {
            "id": self.id,
            "rule": self.rule,
            "kind": self.kind,
            "severity": self.severity,
            "labels": dict(self.labels),
            "filters": self.filters.to_json(),
            "since": iso(self.since_ns),
            "since_ns": self.since_ns,
            "fired": iso(self.fired_ns),
            "fired_ns": self.fired_ns,
            "updated": iso(self.updated_ns),
            "updated_ns": self.updated_ns,
            "value": self.value,
            "limit": self.limit,
            "unit": self.unit,
            "text": self.text,
        }


def open_alerts(store: Store) -> tuple[OpenAlert, ...]:
    """Read the open alerts, the latest first; none in a store that an older collector made."""
    try:
        rows = store.ask(query("open_alerts"))
    except QueryFailedError as error:
        if error.code == _UNKNOWN_TABLE:
            return ()
        raise
    return tuple(_alert(row) for row in rows)


def _alert(row: Mapping[str, Any]) -> OpenAlert:
    filters = json.loads(row["filters"] or "{}")
    return OpenAlert(
        id=str(row["alert"]),
        rule=str(row["rule"]),
        kind=str(row["kind"]),
        severity=str(row["severity"]),
        labels={str(name): str(value) for name, value in row["labels"].items()},
        filters=Filters(**{name: tuple(values) for name, values in filters.items()}),
        since_ns=int(row["since_ns"]),
        fired_ns=int(row["fired_ns"]),
        updated_ns=int(row["updated_ns"]),
        value=_number(row["value"]),
        limit=_number(row["limit_value"]),
        unit=str(row["unit"]),
        text=str(row["text"]),
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
