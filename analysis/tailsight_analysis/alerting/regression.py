"""Has something become slower since a version, a run or a moment? Changes that were not there at the last look.

What a change is, is said in docs/analysis/regressions.md. The first look takes the history as it is: only what is found
later is told. All changes since one version, run or moment are one alert, however many stages it made slower.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tailsight_analysis.alerting import words
from tailsight_analysis.alerting.finding import Finding, Findings
from tailsight_analysis.changes.history import FASTER, LEAST_CHANGE, SLOWER, HistoryChange
from tailsight_analysis.changes.units import Unit
from tailsight_analysis.errors import NotEnoughDataError, QuestionError
from tailsight_analysis.regressions import BY, METRICS, regressions
from tailsight_analysis.scope import NO_FILTERS, NS_PER_S, Filters, Window
from tailsight_storage import Store

WINDOW_S = 30 * 86400.0
OPEN_FOR_S = 86400.0
KEYS = frozenset({"metric", "by", "window", "bucket", "least_change", "open_for", "existing"})
_MOST_BUCKETS = 1000
_BUCKETS_S = (60.0, 300.0, 900.0, 3600.0, 10800.0, 21600.0, 43200.0, 86400.0, 604800.0)
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RegressionRule:
    """Nothing is to become slower, in `metrics`, over the history of the last `window_s` by version, run or time.

    An alert is over when it became faster again, or after `open_for_s`: then it is how things are. `existing`: the
    first look tells of what it finds, too.
    """

    metrics: tuple[str, ...] = ("p99",)
    by: str = "version"
    window_s: float = WINDOW_S
    bucket_s: float | None = None
    least_change: float = LEAST_CHANGE
    open_for_s: float = OPEN_FOR_S
    existing: bool = False
    filters: Filters = NO_FILTERS

    @property
    def question(self) -> str:
        """What it asks: whoever asks something else looks for the first time."""
        asked = (self.metrics, self.by, self.window_s, self.bucket_s, self.least_change, self.filters.to_json())
        return json.dumps(asked)


def regression_rule(where: str, table: Mapping[str, Any]) -> RegressionRule:
    """Read the keys of a rule; raises QuestionError."""
    metrics = tuple(dict.fromkeys(words.names(where, "metric", table.get("metric", "p99"))))
    by = words.text(where, "by", table.get("by", "version"))
    for key, values, known in (("metric", metrics, METRICS), ("by", (by,), BY)):
        for value in values:
            if value not in known:
                raise QuestionError(f"{where}: {key} = {value!r} is none; use {', '.join(known)}")
    if "bucket" in table and by != "time":
        raise QuestionError(f'{where}: bucket is for by = "time"; a history over {by} has no stretches of time')
    rule = RegressionRule(
        metrics,
        by,
        words.seconds(where, "window", table["window"]) if "window" in table else WINDOW_S,
        words.seconds(where, "bucket", table["bucket"]) if "bucket" in table else None,
        words.amount(where, "least_change", table.get("least_change", LEAST_CHANGE)),
        words.seconds(where, "open_for", table["open_for"]) if "open_for" in table else OPEN_FOR_S,
        words.truth(where, "existing", table.get("existing", False)),
        words.filters(where, table),
    )
    if not metrics:
        raise QuestionError(f"{where}: metric names none; use {', '.join(METRICS)}")
    if not 60 <= rule.window_s <= 400 * 86400:
        raise QuestionError(f"{where}: a window of {rule.window_s:g} s cannot be used; use 1m to 400d")
    if rule.bucket_s is not None and not max(1, rule.window_s / _MOST_BUCKETS) <= rule.bucket_s <= rule.window_s / 6:
        raise QuestionError(
            f"{where}: a window of {words.shown_s(rule.window_s)} in stretches of {words.shown_s(rule.bucket_s)} "
            f"cannot be used; use 6 to {_MOST_BUCKETS:,} of them, of 1s or more"
        )
    return rule


def evaluate_regression(store: Store, rule: RegressionRule, now_ns: int, memory: Mapping[str, Any]) -> Findings:
    """Read the history and say what is new in it; too short a history has no changes, and is remembered as such."""
    bucket_s = None if rule.by != "time" else rule.bucket_s or _bucket_s(rule.window_s)
    try:
        answer = regressions(
            store, history_window(rule, bucket_s, now_ns), rule.filters, by=rule.by, metrics=rule.metrics,
            least_change=rule.least_change, bucket_s=bucket_s,
        )  # fmt: skip
    except NotEnoughDataError:
        return judge_changes(rule, (), (), memory, now_ns)
    return judge_changes(rule, answer.changes, answer.units, memory, now_ns)


def history_window(rule: RegressionRule, bucket_s: float | None, now_ns: int) -> Window:
    """Return the window of a look: up to a quarter longer than asked for, and without the stretch that goes on.

    Its begin moves a quarter at a time. With a begin that moves with every look each one would be another history, and
    noise would be tried anew each time: that made thirteen times as many false alarms (docs/alerts.md).
    """
    quarter_ns = round(rule.window_s * NS_PER_S / 4)
    since_ns = (now_ns - 4 * quarter_ns) // quarter_ns * quarter_ns
    bucket_ns = round((bucket_s or 0) * NS_PER_S)
    return Window(since_ns, now_ns // bucket_ns * bucket_ns if bucket_ns else now_ns)


def _bucket_s(window_s: float) -> float:
    """Choose stretches of time of which the longest window has sixty or fewer: the same at every look."""
    return next((each for each in _BUCKETS_S if 1.25 * window_s <= 60 * each), _BUCKETS_S[-1])


def judge_changes(
    rule: RegressionRule,
    changes: Sequence[HistoryChange],
    units: Sequence[Unit],
    memory: Mapping[str, Any],
    now_ns: int,
) -> Findings:
    """Group the changes for the worse that are new by where they began. Pure: the memory goes in and comes out."""
    known: dict[str, int] = dict(memory.get("known", {}))
    first_look = memory.get("of") != rule.question
    slower = [change for change in changes if change.direction == SLOWER]
    by_key = {_key(change, units): change for change in slower}
    # below 0: how things were at the first look, which is told to nobody
    seen = {key: known.get(key, -now_ns if first_look and not rule.existing else now_ns) for key in by_key}
    groups: dict[int, list[tuple[HistoryChange, int]]] = {}
    for key, change in by_key.items():
        if seen[key] > 0:
            groups.setdefault(change.first_after, []).append((change, seen[key]))
    findings = [_finding(rule, units[unit], members, changes, now_ns) for unit, members in sorted(groups.items())]
    # what is not found for a while is kept, so that it is no news when it is found again
    horizon_ns = now_ns - round(2 * rule.window_s * NS_PER_S)
    kept = {key: at for key, at in known.items() if key not in seen and abs(at) > horizon_ns}
    return Findings(tuple(findings), {"of": rule.question, "known": {**kept, **seen}})


def _finding(
    rule: RegressionRule,
    unit: Unit,
    members: Sequence[tuple[HistoryChange, int]],
    changes: Sequence[HistoryChange],
    now_ns: int,
) -> Finding:
    open_ns = round(rule.open_for_s * NS_PER_S)
    held = [(change, seen_ns) for change, seen_ns in members if not _is_undone(change, changes)]
    firing = [change for change, seen_ns in held if now_ns - seen_ns < open_ns]
    shown = sorted(firing or [change for change, _ in members], key=lambda change: -change.ratio)
    more = f", and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    what = "; ".join(_words(change) for change in shown[:_SHOWN]) + more
    if firing:
        text = f"slower since {rule.by} {unit.name}: {what}"
        if any(change.mix for change in firing):
            text += " (what was asked changed there, too)"
    elif held:
        text = f"slower since {rule.by} {unit.name}, and no longer news: {what}"
    else:
        text = f"faster again after {rule.by} {unit.name}: {what}"
    worst = shown[0]
    filters = rule.filters
    if rule.by in ("version", "run"):
        filters = replace(filters, **{rule.by: (unit.name,)})
    return Finding({"since": unit.name}, bool(firing), worst.ratio, 1 + rule.least_change, "ratio", text, filters)


def _is_undone(change: HistoryChange, changes: Sequence[HistoryChange]) -> bool:
    line = (change.stage, change.hardware, change.metric)
    return any(
        later.direction == FASTER and later.first_after > change.first_after
        for later in changes
        if (later.stage, later.hardware, later.metric) == line
    )


def _words(change: HistoryChange) -> str:
    where = f"{change.stage} on {change.hardware}" if change.hardware else change.stage or "the requests"
    low, high = (100 * (end - 1) for end in change.ratio_interval)
    return (
        f"{where} {change.metric} {change.before_ms:.3g} → {change.after_ms:.3g} ms "
        f"({100 * (change.ratio - 1):+.3g} %, 95 %: {low:+.3g} to {high:+.3g})"
    )


def _key(change: HistoryChange, units: Sequence[Unit]) -> str:
    """Tell a change from others, whatever place its unit has in a window that moves on."""
    return json.dumps([units[change.first_after].name, change.stage, change.hardware, change.metric])
