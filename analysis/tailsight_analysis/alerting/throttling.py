"""Does something hold a device's clocks down: heat, or power? From the samples of devices' states (docs/devices.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tailsight_analysis.alerting import words
from tailsight_analysis.alerting.finding import Finding, Findings
from tailsight_analysis.errors import QuestionError
from tailsight_analysis.queries import query
from tailsight_analysis.scope import NO_FILTERS, NS_PER_S, Filters
from tailsight_storage import Store

WINDOW_S = 300.0
SHARE = 0.1
LEAST_SAMPLES = 3
KEYS = frozenset({"window", "share", "least_samples"})
_FOREIGN = ("stage", "model")


@dataclass(frozen=True, slots=True)
class ThrottlingRule:
    """Of a device's samples of the last `window_s`, at least `least_samples`, fewer than `share` may be throttled."""

    share: float = SHARE
    window_s: float = WINDOW_S
    least_samples: int = LEAST_SAMPLES
    filters: Filters = NO_FILTERS


def throttling_rule(where: str, table: Mapping[str, Any]) -> ThrottlingRule:
    """Read the keys of a rule; raises QuestionError."""
    for key in _FOREIGN:
        if key in table:
            raise QuestionError(f"{where}: a device has no {key}; filter by hardware, host, service, version or run")
    window_s = words.seconds(where, "window", table["window"]) if "window" in table else WINDOW_S
    if not 1 <= window_s <= 30 * 86400:
        raise QuestionError(f"{where}: a window of {window_s:g} s cannot be used; use 1s to 30d")
    return ThrottlingRule(
        words.share(where, "share", table.get("share", SHARE)),
        window_s,
        max(1, int(words.amount(where, "least_samples", table.get("least_samples", LEAST_SAMPLES)))),
        words.filters(where, table),
    )


def evaluate_throttling(store: Store, rule: ThrottlingRule, now_ns: int) -> Findings:
    """Look at every device that has said whether it is throttled."""
    asked = {key: values for key, values in rule.filters.parameters().items() if key not in _FOREIGN}
    since_ns = now_ns - round(rule.window_s * NS_PER_S)
    rows = store.ask(query("alert_throttling"), since_ns=since_ns, until_ns=now_ns, **asked)
    return Findings(tuple(judge_device(rule, row) for row in rows))


def judge_device(rule: ThrottlingRule, row: Mapping[str, Any]) -> Finding:
    """Judge one row of sql/alert_throttling.sql."""
    host, device, hw_id = str(row["host"]), str(row["device"]), str(row["hw_id"])
    samples, throttled = int(row["samples"]), int(row["throttled"])
    held = throttled / samples if samples else 0.0
    firing = samples >= rule.least_samples and held >= rule.share
    reasons = ", ".join(sorted({str(reason) for reason in row["reasons"]})) if throttled else ""
    text = (
        f"{device or hw_id or 'a device'} of {host or 'an unnamed host'} was throttled in {100 * held:.3g} % of "
        f"{words.shown_s(rule.window_s)}{f' ({reasons})' if reasons else ''}, the limit is {100 * rule.share:g} %"
    )
    filters = replace(rule.filters, host=(host,) if host else rule.filters.host)
    return Finding(
        {"host": host, "device": hw_id, "hardware": device}, firing, held, rule.share, "share", text, filters
    )
