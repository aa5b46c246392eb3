"""When does an alert begin, when is it repeated, and when is it over? Pure: conditions and a moment in, events out.

    (nothing) ──firing──► pending ──for_s──► firing ──clear for resolve_after_s──► resolved, forgotten
                          clear: forgotten       └── every repeat_s: told of again

An alert is a rule and a group's labels: however often it is evaluated, it begins once and is resolved once. A group
that an evaluation does not speak of is clear.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tailsight_collector.alerts.conditions import Condition
from tailsight_collector.alerts.settings import Schedule

NS_PER_S = 1_000_000_000
MAX_ALERTS = 200
"""Of a rule: a group too many is left out, and counted."""
FIRING, RESOLVED = "firing", "resolved"
GONE = "nothing more was found of it"
_LONGEST_TEXT = 1000
_LATER = frozenset({"webhooks", "kind", "severity"})
"""What state files of 0.1.0's first days do not have."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One group of a rule whose condition holds, or held until a moment ago. Times in nanoseconds since 1970.

    `fired_ns` is 0 while it is pending, `clear_ns` while its condition holds. `told` counts messages: 1 is its begin.
    """

    rule: str
    labels: Mapping[str, str]
    since_ns: int
    fired_ns: int
    clear_ns: int
    told_ns: int
    told: int
    value: float | None
    limit: float | None
    unit: str
    text: str
    filters: Mapping[str, Sequence[str]]
    webhooks: tuple[str, ...] = ()
    """Whoever was told of it, to be told of its end, whatever has become of its rule."""
    kind: str = ""
    severity: str = ""

    @property
    def fingerprint(self) -> str:
        """What tells alerts apart."""
        return fingerprint(self.rule, self.labels)

    @property
    def id(self) -> str:
        """This occurrence of it."""
        return f"{self.fingerprint}-{self.fired_ns // 1_000_000:x}"

    def to_json(self) -> dict[str, Any]:
        """Plain data, for the state file."""
        return asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Alert:
        """Read what `to_json` wrote; raises TypeError, KeyError or ValueError."""
        names = [field.name for field in fields(cls)]
        known = {name: plain[name] for name in names if name not in _LATER or name in plain}
        alert = cls(**{**known, "webhooks": tuple(known.get("webhooks", ()))})
        numbers = (alert.since_ns, alert.fired_ns, alert.clear_ns, alert.told_ns, alert.told)
        if not all(isinstance(number, int) for number in numbers) or not isinstance(alert.labels, Mapping):
            raise TypeError("an alert of the state file is none")
        return alert


@dataclass(frozen=True, slots=True)
class Event:
    """What there is to tell: an alert begins, goes on (`alert.told` above 1) or is over."""

    status: str
    alert: Alert
    at_ns: int

    @property
    def id(self) -> str:
        """The same for the same message, however often it is sent: receivers may drop what they have."""
        return f"{self.alert.id}-{self.status}-{self.alert.told}"


@dataclass(frozen=True, slots=True)
class Step:
    """One evaluation's outcome: the rule's alerts from now on, by fingerprint, and what there is to tell."""

    alerts: dict[str, Alert]
    events: tuple[Event, ...]
    left_out: int


def step(alerts: Mapping[str, Alert], conditions: Iterable[Condition], schedule: Schedule, now_ns: int) -> Step:
    """Bring the alerts of one rule to what an evaluation found."""
    by_group = {fingerprint(schedule.rule, condition.labels): condition for condition in conditions}
    kept: dict[str, Alert] = {}
    events: list[Event] = []
    for name, before in alerts.items():
        after, event = _moved(_not_ahead(before, now_ns), by_group.get(name), schedule, now_ns)
        if after is not None:
            kept[name] = after
        if event is not None:
            events.append(event)
    left_out = 0
    for name, condition in by_group.items():
        if name in alerts or not condition.firing:
            continue
        if len(kept) >= MAX_ALERTS:
            left_out += 1
            continue
        after, event = _moved(_begun(schedule.rule, condition, now_ns), condition, schedule, now_ns)
        if after is not None:
            kept[name] = after
        if event is not None:
            events.append(event)
    return Step(kept, tuple(events), left_out)


def resolve_all(alerts: Iterable[Alert], now_ns: int, reason: str) -> list[Event]:
    """End alerts whose rule is evaluated no more; pending ones leave without a word."""
    return [_resolved(alert, now_ns, reason) for alert in alerts if alert.fired_ns]


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """Tell one group of one rule from all others."""
    text = json.dumps([rule, sorted(labels.items())], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _begun(rule: str, condition: Condition, now_ns: int) -> Alert:
    labels = dict(condition.labels)
    return Alert(rule, labels, now_ns, 0, 0, 0, 0, None, None, "", "", {})


def _moved(
    alert: Alert, condition: Condition | None, schedule: Schedule, now_ns: int
) -> tuple[Alert | None, Event | None]:
    if condition is None or not condition.firing:
        if not alert.fired_ns:
            return None, None
        alert = replace(alert, clear_ns=alert.clear_ns or now_ns)
        if now_ns - alert.clear_ns < _ns(schedule.resolve_after_s):
            return alert, None
        return None, _resolved(alert, now_ns, condition.text if condition else GONE)
    alert = replace(
        alert, clear_ns=0, value=condition.value, limit=condition.limit, unit=condition.unit,
        text=_one_line(condition.text), filters={name: list(values) for name, values in condition.filters.items()},
    )  # fmt: skip
    if not alert.fired_ns:
        if now_ns - alert.since_ns < _ns(schedule.for_s):
            return alert, None
        alert = replace(alert, fired_ns=now_ns)
    elif not schedule.repeat_s or now_ns - alert.told_ns < _ns(schedule.repeat_s):
        return alert, None
    webhooks = tuple(dict.fromkeys((*alert.webhooks, *schedule.webhooks)))
    alert = replace(
        alert, told_ns=now_ns, told=alert.told + 1, webhooks=webhooks, kind=schedule.kind, severity=schedule.severity
    )
    return alert, Event(FIRING, alert, now_ns)


def _resolved(alert: Alert, now_ns: int, text: str) -> Event:
    return Event(RESOLVED, replace(alert, text=_one_line(text), told=alert.told + 1, told_ns=now_ns), now_ns)


def _not_ahead(alert: Alert, now_ns: int) -> Alert:
    """Where the clock was set back, go on from now: else nothing would happen until it is there again."""
    if max(alert.since_ns, alert.clear_ns, alert.told_ns) <= now_ns:
        return alert
    return replace(
        alert,
        since_ns=min(alert.since_ns, now_ns),
        clear_ns=min(alert.clear_ns, now_ns),
        told_ns=min(alert.told_ns, now_ns),
    )


def _one_line(text: str) -> str:
    """Make words harmless in which names of foreign origin stand: one line, no control characters, no end of it."""
    line = " ".join("".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text).split())
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}…"


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)
