"""Rules as they are written, and their evaluation: one place that knows the kinds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tailsight_analysis.alerting import jitter, regression, slo, throttling, words
from tailsight_analysis.alerting.finding import Findings
from tailsight_analysis.alerting.tallies import Tallies
from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_storage import Store

Rule = slo.SloRule | regression.RegressionRule | jitter.JitterRule | throttling.ThrottlingRule

KINDS = ("slo", "regression", "jitter", "throttling")
_KEYS = {"slo": slo.KEYS, "regression": regression.KEYS, "jitter": jitter.KEYS, "throttling": throttling.KEYS}


def rule_of(where: str, kind: object, table: Mapping[str, Any], *, beside: frozenset[str] = frozenset()) -> Rule:
    """Read a rule's table. `where` names it in errors, `beside` are keys that others read. Raises QuestionError."""
    if kind not in KINDS:
        raise QuestionError(f"{where}: kind = {kind!r} is none; use {', '.join(KINDS)}")
    words.check_keys(where, table, _KEYS[str(kind)] | set(words.FILTER_KEYS) | beside)
    match kind:
        case "slo":
            return slo.slo_rule(where, table)
        case "regression":
            return regression.regression_rule(where, table)
        case "jitter":
            return jitter.jitter_rule(where, table)
        case _:
            return throttling.throttling_rule(where, table)


def evaluate(
    store: Store,
    rule: Rule,
    now_ns: int,
    memory: Mapping[str, Any] | None = None,
    tallies: Tallies | None = None,
) -> Findings:
    """Evaluate a rule as of `now_ns`, with what its last evaluation remembered.

    `tallies` are what this process has read for the rule: without them, `slo` reads its whole window.
    Where there is nothing to say anything about, nothing is found. Raises QuestionError and StorageError.
    """
    memory = memory or {}
    try:
        match rule:
            case slo.SloRule():
                return slo.evaluate_slo(store, rule, now_ns, tallies)
            case jitter.JitterRule():
                return jitter.evaluate_jitter(store, rule, now_ns)
            case throttling.ThrottlingRule():
                return throttling.evaluate_throttling(store, rule, now_ns)
            case regression.RegressionRule():
                return regression.evaluate_regression(store, rule, now_ns, memory)
    except NotEnoughDataError:
        return Findings((), memory)
