"""What an evaluation of a rule finds: how each of its groups stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tailsight_analysis.scope import NO_FILTERS, Filters


@dataclass(frozen=True, slots=True)
class Finding:
    """How one group of a rule stands. `labels` tell groups of a rule apart; `value` and `limit` are in `unit`.

    `filters` are those of a question that shows it.
    """

    labels: Mapping[str, str]
    firing: bool
    value: float | None
    limit: float | None
    unit: str
    text: str
    filters: Filters = NO_FILTERS

    def to_json(self) -> dict[str, Any]:
        """Plain data with stable keys."""
        return {
            "labels": dict(self.labels),
            "firing": self.firing,
            "value": self.value,
            "limit": self.limit,
            "unit": self.unit,
            "text": self.text,
            "filters": self.filters.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """One evaluation. `memory` is plain data that the rule's next evaluation is given."""

    found: tuple[Finding, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)
