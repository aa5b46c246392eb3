"""The collector's alerts, evaluated by analysis: each imports the other's words from here alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tailsight_analysis.alerting.rules import Rule, evaluate
from tailsight_analysis.alerting.tallies import Tallies
from tailsight_cli.alerting.file import read_alert_file
from tailsight_collector.alerts.conditions import Condition, Evaluate, Look
from tailsight_collector.alerts.settings import AlertPlan
from tailsight_storage import Store


def alert_plan(path: Path) -> AlertPlan:
    """Read a file and say how its rules are evaluated; raises CommandError."""
    file = read_alert_file(path)
    return AlertPlan(file.settings, lambda store: evaluator(store, file.rules))


def evaluator(store: Store, rules: Mapping[str, Rule]) -> Evaluate:
    """Evaluate rules over one connection, as the collector asks for it."""
    tallies = {name: Tallies() for name in rules}

    def ask(rule: str, now_ns: int, memory: Mapping[str, Any]) -> Look:
        findings = evaluate(store, rules[rule], now_ns, memory, tallies[rule])
        conditions = tuple(
            Condition(
                labels=each.labels,
                firing=each.firing,
                value=each.value,
                limit=each.limit,
                unit=each.unit,
                text=each.text,
                filters=each.filters.to_json(),
            )
            for each in findings.found
        )
        return Look(conditions, findings.memory)

    return ask
