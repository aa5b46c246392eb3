"""The sentences on what changes would bring, in Markdown."""

from __future__ import annotations

from tailsight_analysis import Outcome, WhatIf
from tailsight_dashboard.format import count, duration, plain, quantile, share

EXPLANATION = (
    "Replays recorded requests along their critical paths, with each stage 20 % faster and with each stage never "
    "slower than its own median, and ranks what that brings. Takes some seconds."
)


def headline(result: WhatIf) -> str:
    """Say what the best change brings: `if queue never took longer than its p50, p99 would fall from 41 to 29 ms`."""
    name, recorded = quantile(result.quantile), duration(result.quantile_ms)
    if not result.outcomes:
        return f"{name} is **{recorded}**."
    best = result.outcomes[0].tail
    if best.delta_bounds_ms is not None and not best.is_significant:
        return f"{name} is **{recorded}**, and no change here moves it by more than chance."
    if best.delta_ms >= 0:
        return f"{name} is **{recorded}**, and no change here lowers it."
    bounds = f" [{_bounds(best.bounds_ms)}]" if best.bounds_ms else ""
    if best.delta_bounds_ms is None:
        bounds = ", but nobody can say how sure that is"
    return (
        f"If {_in_words(result.outcomes[0])}, {name} would fall from {recorded} to "
        f"**{duration(best.replayed_ms)}**{bounds}."
    )


def notes(result: WhatIf) -> str:
    """Say what the figures rest on."""
    replayed, held = result.sampled, result.stored or result.requests
    part = f"{count(replayed)} of {count(held)}" if replayed < held else count(replayed)
    sentences = [f"{part} requests replayed; intervals hold with 95 % confidence."]
    if result.stored is not None:
        sentences.append(f"Those kept stand for {count(result.requests)} requests: figures are estimates.")
    if result.missing:
        sentences.append(f"Not enough data for intervals: {count(result.missing)} more requests are needed.")
    for outcome in result.outcomes:
        if outcome.matched_share is not None and outcome.matched_share < 1:
            known = share(outcome.matched_share)
            sentences.append(f"{plain(outcome.scenario.label)}: {known} of the work has comparable cases there.")
    sentences.append("Waits are replayed as recorded: a queue that gets shorter because of the change is not foreseen.")
    return " ".join(sentences)


def _in_words(outcome: Outcome) -> str:
    scenario = outcome.scenario
    stages = f"**{plain(' and '.join(scenario.stages))}**"
    if scenario.at is not None:
        whose = "its" if len(scenario.stages) == 1 else "their"
        return f"{stages} never took longer than {whose} {quantile(scenario.at)}"
    return f"{stages} {'ran' if scenario.on is not None else 'were'} {plain(scenario.change)}"


def _bounds(bounds_ms: tuple[float, float]) -> str:
    return " to ".join(duration(bound) for bound in bounds_ms)
