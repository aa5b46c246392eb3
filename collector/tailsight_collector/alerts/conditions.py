"""What an evaluation of a rule answers: between those who know the questions and those who ring the bell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Condition:
    """How one group of a rule stands. `labels` tell the groups of a rule apart: a rule and its labels are one alert.

    `value` and `limit` are in `unit` (None where there is none); `filters` are those of a question that shows it.
    """

    labels: Mapping[str, str]
    firing: bool
    value: float | None
    limit: float | None
    unit: str
    text: str
    filters: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """One evaluation. `memory` is plain data that the rule's next evaluation gets, also after a restart."""

    conditions: tuple[Condition, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)


class Evaluate(Protocol):
    """Answers for a rule, by its name. Called from one thread; whatever it raises leaves all alerts as they are."""

    def __call__(self, rule: str, now_ns: int, memory: Mapping[str, Any], /) -> Look:
        """Evaluate the rule as of a moment (nanoseconds since 1970), with what it remembered."""
