"""Does a stage vary too much on a hardware type? p99 − p50, with a bound that noise does not pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tailsight_analysis.alerting import words
from tailsight_analysis.alerting.finding import Finding, Findings
from tailsight_analysis.confidence import Scale, span_cells
from tailsight_analysis.errors import QuestionError
from tailsight_analysis.queries import query
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, NS_PER_S, Filters, Window, scope_parameters
from tailsight_analysis.statistics.dispersion import Bounded, dispersion
from tailsight_analysis.timing.reading import fetch_extent
from tailsight_storage import Store

WINDOW_S = 900.0
SETTLE_S = 10.0
KEYS = frozenset({"limit", "window", "settle"})


@dataclass(frozen=True, slots=True)
class JitterRule:
    """A stage's p99 − p50 on each hardware type is to stay below `limit_ms`, in the last `window_s`."""

    limit_ms: float
    window_s: float = WINDOW_S
    settle_s: float = SETTLE_S
    filters: Filters = NO_FILTERS


def jitter_rule(where: str, table: Mapping[str, Any]) -> JitterRule:
    """Read the keys of a rule; raises QuestionError."""
    if "limit" not in table:
        raise QuestionError(f'{where}: limit is missing; give the largest p99 − p50, like "10ms"')
    window_s = words.seconds(where, "window", table["window"]) if "window" in table else WINDOW_S
    if not 1 <= window_s <= 30 * 86400:
        raise QuestionError(f"{where}: a window of {window_s:g} s cannot be used; use 1s to 30d")
    return JitterRule(
        words.seconds(where, "limit", table["limit"]) * 1000,
        window_s,
        words.seconds(where, "settle", table["settle"]) if "settle" in table else SETTLE_S,
        words.filters(where, table),
    )


def evaluate_jitter(store: Store, rule: JitterRule, now_ns: int) -> Findings:
    """Measure every stage on every hardware type; nothing where there are no spans."""
    until_ns = now_ns - round(rule.settle_s * NS_PER_S)
    window = Window(until_ns - round(rule.window_s * NS_PER_S), until_ns)
    extent = fetch_extent(store, window, rule.filters)
    if not extent.groups:
        return Findings()
    marks = store.ask(query("marks"), since_ns=window.since_ns, until_ns=window.until_ns)[0]
    scale = Scale.of(extent.spans, len(extent.groups), extent.first_ns, extent.last_ns)
    asked = {
        **scope_parameters(window, rule.filters),
        "by": ["stage", "hardware"],
        "weighted": bool(marks["weighted"]),
    }
    cells = span_cells(store, asked, scale)
    return Findings(
        tuple(
            judge_jitter(rule, stage, hardware, dispersion(its).above_median, extent.stored.get((stage, hardware), 0))
            for (stage, hardware), its in sorted(cells.items())
            if stage and len(its.value)
        )
    )


def judge_jitter(rule: JitterRule, stage: str, hardware: str, spread_ns: Bounded, stored: int) -> Finding:
    """Say whether p99 − p50, in ns, is surely above the limit: the lower end of its 95 % interval is."""
    spread = spread_ns.scaled(1 / NS_PER_MS)
    firing = spread.low is not None and spread.low > rule.limit_ms
    on = f"{stage} on {hardware}" if hardware else stage
    bounds = "too few spans for an interval" if spread.low is None else f"95 %: {spread.low:.3g} or more"
    verb = "is above" if firing else "is not surely above"
    text = (
        f"{on}: p99 − p50 is {spread.value:.3g} ms ({bounds}) in {words.shown_s(rule.window_s)}, "
        f"{verb} {rule.limit_ms:g} ms ({stored:,} spans)"
    )
    filters = replace(rule.filters, stage=(stage,), hardware=(hardware,) if hardware else ())
    return Finding({"stage": stage, "hardware": hardware}, firing, spread.value, rule.limit_ms, "ms", text, filters)
