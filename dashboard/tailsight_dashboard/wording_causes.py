"""The sentences on the causes of a tail, in Markdown: what, how much of it, how sure, and its other names."""

from __future__ import annotations

from tailsight_analysis import Cause, Condition, Place, Tail
from tailsight_dashboard.format import duration, lift, p_value, plain, quantile, share

_SEVERAL = "; "


def headline(cause: Cause) -> str:
    """Name a cause with its share: `61 % of the extra time [52 to 70 %]: queue where batch size ≥ 24`."""
    part = f"**{share(cause.excess_share)}** of the extra time [{_interval(cause.excess_share_interval)}]"
    if not cause.conditions:
        return f"{part}: {place(cause)}, and no condition sets those requests apart"
    return f"{part}: {place(cause)} where **{'** and **'.join(_of(cause, each) for each in cause.conditions)}**"


def place(cause: Cause) -> str:
    """Name the stage of a cause and its service."""
    name = f"**{plain(cause.stage)}**" if cause.stage else "**time that no stage accounts for**"
    return f"{name} of {plain(cause.service)}" if cause.service else name


def evidence(cause: Cause, tail: Tail) -> str:
    """Say how many requests meet the conditions, how sure that is, and what would be without them."""
    chance = " Its interval includes 0: its part could be chance." if cause.excess_share_interval[0] <= 0 else ""
    if not cause.conditions:
        return f"Where the time goes is known, why is not.{chance}"
    typical = f"{share(cause.typical_share)} of typical ones" if cause.typical_share else "no typical one does"
    times = lift(cause.lift, at_least=not cause.typical_share)
    parts = [f"{share(cause.tail_share)} of tail requests meet this, {typical} ({times})"]
    if cause.p_value is not None:
        p = p_value(cause.p_value)
        parts.append(f"p {p}" if p.startswith("<") else f"p = {p}")
    if cause.without_ms is not None:
        parts.append(
            f"without it, {quantile(tail.quantile)} would be about **{duration(cause.without_ms)}** instead of "
            f"{duration(tail.threshold_ms)}"
        )
    return f"{' · '.join(parts)}.{chance}"


def same_as(cause: Cause) -> str:
    """Name the conditions that (almost) the same requests meet; empty where there are none."""
    others: dict[str, Condition] = {}  # one of each: other spans of these requests mostly say the same words
    for condition in cause.conditions:
        for other in condition.same_as:
            others.setdefault(other.text, other)
    for condition in cause.conditions:
        others.pop(condition.text, None)
    if not others:
        return ""
    return f"(Almost) the same requests have: {_SEVERAL.join(_of(cause, other) for other in others.values())}."


def no_cause() -> str:
    """Say that nothing was found."""
    return "No stage takes so much longer in the tail that it could be called a cause."


def method() -> str:
    """Say what the figures are worth."""
    return (
        "Causes of one stage do not overlap. Shares have 95 % intervals; p-values are corrected for all conditions "
        "tested. “Without” gives requests that meet the conditions the stage's time of those that do not: an estimate."
    )


def _of(cause: Cause, condition: Condition) -> str:
    """Write a condition, and where it was seen unless that is the cause's own stage."""
    is_here = condition.on == Place(cause.service, cause.stage)
    return plain(condition.text if is_here else condition.label)


def _interval(bounds: tuple[float, float]) -> str:
    low, high = (share(bound) for bound in bounds)
    return f"{low.removesuffix(' %')} to {high}"
