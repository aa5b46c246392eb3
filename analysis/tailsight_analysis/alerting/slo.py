"""Does a service burn its error budget too fast? Several windows, several burn rates.

Google, *The Site Reliability Workbook* (2018), chapter 5, "Alerting on SLOs", approach 6: a burn rate is how many times
as fast as the objective allows bad requests come. An alert fires while, of a pair of windows, both burn faster than the
pair's rate: the long one shows that it matters, the short one that it still goes on. The chapter's rates for a page are
14.4 over 1 h (2 % of a 30 days' budget) and 6 over 6 h (5 %), each beside a window of a twelfth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tailsight_analysis.alerting import words
from tailsight_analysis.alerting.finding import Finding, Findings
from tailsight_analysis.alerting.tallies import Asked, Counted, Tallies
from tailsight_analysis.errors import QuestionError
from tailsight_analysis.scope import NO_FILTERS, NS_PER_MS, NS_PER_S, Filters
from tailsight_storage import Store

LEAST_REQUESTS = 30
SETTLE_S = 10.0
KEYS = frozenset({"objective", "within", "errors", "burn", "least_requests", "settle"})
_BURN_KEYS = ("long", "short", "rate")


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows and the burn rate that both must be above."""

    long_s: float
    short_s: float
    rate: float


DEFAULT_BURNS = (Burn(3600.0, 300.0, 14.4), Burn(6 * 3600.0, 1800.0, 6.0))


@dataclass(frozen=True, slots=True)
class SloRule:
    """A share of requests, `objective`, is to be good: to take no longer than `within_ms`, not to fail, or both.

    Fewer than `least_requests` stored ones in a long window decide nothing. Windows end `settle_s` before now: what
    started later may not have come yet.
    """

    objective: float
    within_ms: float | None
    errors: bool
    burns: tuple[Burn, ...] = DEFAULT_BURNS
    least_requests: int = LEAST_REQUESTS
    settle_s: float = SETTLE_S
    filters: Filters = NO_FILTERS

    @property
    def promise(self) -> str:
        """The objective in words."""
        good = [f"within {self.within_ms:g} ms"] if self.within_ms is not None else []
        good += ["without an error"] if self.errors else []
        return f"{self.objective * 100:g} % of requests {' and '.join(good)}"


def slo_rule(where: str, table: Mapping[str, Any]) -> SloRule:
    """Read the keys of a rule; raises QuestionError."""
    if "objective" not in table:
        raise QuestionError(f"{where}: objective is missing; give the share of good requests, like 0.99")
    objective = words.share(where, "objective", table["objective"])
    within_s = words.seconds(where, "within", table["within"]) if "within" in table else None
    errors = words.truth(where, "errors", table.get("errors", False))
    if within_s is None and not errors:
        raise QuestionError(f'{where}: nothing makes a request bad; give within = "25ms", errors = true, or both')
    if within_s is not None and within_s <= 0:
        raise QuestionError(f"{where}: within = {table['within']!r} can never be met")
    burns: tuple[Burn, ...] = DEFAULT_BURNS
    if "burn" in table:
        if not isinstance(table["burn"], list) or not table["burn"]:
            raise QuestionError(f'{where}: burn is a list of {{ long = "1h", short = "5m", rate = 14.4 }}')
        burns = tuple(_burn(where, each) for each in table["burn"])
    fastest = 1 / (1 - objective)
    for burn in burns:
        if burn.rate >= fastest:
            raise QuestionError(
                f"{where}: with objective {objective:g} nothing burns faster than {fastest:g} times, so the rate "
                f'{burn.rate:g} is never passed; give lower ones: burn = [{{ long = "1h", short = "5m", rate = '
                f"{fastest / 2:.3g} }}]"
            )
    return SloRule(
        objective,
        None if within_s is None else within_s * 1000,
        errors,
        burns,
        int(words.amount(where, "least_requests", table.get("least_requests", LEAST_REQUESTS))),
        words.seconds(where, "settle", table["settle"]) if "settle" in table else SETTLE_S,
        words.filters(where, table),
    )


def _burn(where: str, table: object) -> Burn:
    if not isinstance(table, Mapping) or any(key not in table for key in _BURN_KEYS):
        raise QuestionError(f'{where}: each burn is a {{ long = "1h", short = "5m", rate = 14.4 }}')
    words.check_keys(f"{where}, burn", table, _BURN_KEYS)
    burn = Burn(
        words.seconds(where, "long", table["long"]),
        words.seconds(where, "short", table["short"]),
        words.amount(where, "rate", table["rate"]),
    )
    if not 0 < burn.short_s <= burn.long_s <= 90 * 86400:
        raise QuestionError(f"{where}: a burn's short window must lie above 0 and be no longer than its long one (90d)")
    if burn.rate <= 0:
        raise QuestionError(f"{where}: a burn rate of {burn.rate:g} always holds; use one above 0, like 14.4")
    return burn


def evaluate_slo(store: Store, rule: SloRule, now_ns: int, tallies: Tallies | None = None) -> Findings:
    """Count what each window holds, and judge it. With its `tallies` of earlier looks only what is new is read."""
    asked = Asked(
        tuple(sorted({length for burn in rule.burns for length in (burn.long_s, burn.short_s)})),
        rule.filters,
        {
            "within_ns": 0 if rule.within_ms is None else max(1, round(rule.within_ms * NS_PER_MS)),
            "errors": int(rule.errors),
        },
    )
    until_ns = now_ns - round(rule.settle_s * NS_PER_S)
    return Findings((judge_slo(rule, (tallies or Tallies()).windows(store, asked, until_ns)),))


def judge_slo(rule: SloRule, counted: Mapping[float, Counted]) -> Finding:
    """Say whether a pair's windows both burn too fast. `counted` is by a window's length in seconds."""
    rates = {length_s: burn_rate(rule, each) for length_s, each in counted.items()}
    rated = [(burn, rates[burn.long_s], rates[burn.short_s]) for burn in rule.burns]
    over = [
        (burn, long, short)
        for burn, long, short in rated
        if counted[burn.long_s].stored >= rule.least_requests and long > burn.rate and short > burn.rate
    ]
    burn, long, short = max(over or rated, key=_how_far)
    requests = counted[burn.long_s]
    in_long, in_short = words.shown_s(burn.long_s), words.shown_s(burn.short_s)
    if over:
        text = (
            f"{rule.promise}: {_percent(requests)} were bad in {in_long}; the error budget burns {long:.3g} times "
            f"too fast ({short:.3g} times in {in_short}), the limit is {burn.rate:g}"
        )
    elif requests.stored < rule.least_requests:
        text = f"{rule.promise}: {requests.stored} requests in {in_long} are too few to tell"
    else:
        text = (
            f"{rule.promise}: {_percent(requests)} were bad in {in_long}, a burn rate of {long:.3g}, "
            f"and {short:.3g} in {in_short}"
        )
    labels = {"service": "|".join(rule.filters.service)} if rule.filters.service else {}
    return Finding(labels, bool(over), long, burn.rate, "burn rate", text, rule.filters)


def burn_rate(rule: SloRule, counted: Counted) -> float:
    """How many times as fast as the objective allows bad requests come; 0 without requests."""
    return counted.bad / counted.requests / (1 - rule.objective) if counted.requests else 0.0


def _how_far(rated: Sequence[Any]) -> float:
    burn, long, short = rated
    return float(min(long, short) / burn.rate)


def _percent(counted: Counted) -> str:
    return f"{100 * counted.bad / counted.requests if counted.requests else 0:.3g} % of {round(counted.requests):,}"
