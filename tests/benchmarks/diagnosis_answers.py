"""What the analysis says, put into the benchmark's words. The only place that knows the shape of the answers.

It reads answers that are there and does without those that are not: today's `tail` has stages and attributes, and a later one
`causes`; `compare` and `jitter` may be absent.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import tailsight_analysis
from tailsight_analysis import AnalysisError, Filters, Store, Window

SIGNIFICANT = 0.05
# Names that the analysis may give to what the wire calls otherwise.
SAME = {
    "service.version": "version", "host.name": "host", "tailsight.hardware": "hardware", "tailsight.model": "model",
    "cloud.region": "region", "batch_size": "tailsight.batch.size", "batch size": "tailsight.batch.size",
    "queue_depth": "tailsight.queue.depth", "throttled": "hw.gpu.throttled", "start_time": "time", "since": "time",
    "period_ms": "period",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that holds for slow requests: a key, a value or a range as text, and where it was seen (service or stage).

    `same_as` are conditions that the answer calls the same, because the same requests meet them.
    """

    key: str
    text: str
    on: str = ""
    same_as: tuple[Condition, ...] = ()

    def __str__(self) -> str:
        return f"{self.key} {self.text}" + (f" on {self.on}" if self.on else "")


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause as it was named; conditions that hold together, or none."""

    stage: str
    conditions: tuple[Condition, ...] = ()
    service: str = ""
    name: str = ""
    hardware: str = ""
    p_value: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was named, first things first. `error` says why there is nothing; `is_asked` is false where no function answers.

    `suspects` are where the time went without any proof that it is not chance: they name a place, and claim nothing.
    """

    stages: tuple[str, ...] = ()
    causes: tuple[Cause, ...] = ()
    suspects: tuple[Cause, ...] = ()
    is_asked: bool = True
    error: str = ""
    plain: dict[str, Any] = field(default_factory=dict)


def ask_tail(store: Store, window: Window, filters: Filters, quantile: float) -> Answer:
    """Why are the slow requests slow?"""
    try:
        result = tailsight_analysis.tail(store, window, filters, quantile)
    except AnalysisError as error:
        return Answer(error=f"{type(error).__name__}: {error}")
    stages = tuple(stage.stage for stage in result.stages if stage.excess_ms > 0)
    named = getattr(result, "causes", None)
    if named is None:  # conditions of no stage: each over-represented value stands alone
        named = [Cause("", (_condition(pair),), p_value=pair.p_value) for pair in result.attributes]
        return Answer(stages, tuple(named), plain=result.to_json())
    return Answer(stages, tuple(each for each in map(_cause, named) if _is_significant(each)), plain=result.to_json())


def ask_compare(store: Store, window: Window, baseline: Filters, candidate: Filters) -> Answer:
    """What is slower in the candidate?"""
    compare, side = _public("compare"), _public("Side", "tailsight_analysis.comparison.sides")
    if compare is None or side is None:
        return Answer(is_asked=False)
    try:
        plain = compare(store, side(window, baseline), side(window, candidate)).to_json()
    except AnalysisError as error:
        return Answer(error=f"{type(error).__name__}: {error}")

    def slower(key: str) -> tuple[Cause, ...]:
        return tuple(
            Cause(each["stage"], (), each["service"], each["name"], each["hardware"] or "", _number(each["p_value"]))
            for each in plain.get(key, ())
            if each["delta_ms"] > 0
        )

    causes, suspects = tuple(filter(_is_significant, slower("causes"))), slower("suspects")
    return Answer(tuple(each.stage for each in (*causes, *suspects)), causes, suspects, plain=plain)


def ask_periods(store: Store, window: Window, filters: Filters) -> Answer:
    """Is there slowness at equal distances? Each period as a condition `period`, in milliseconds, on its stage."""
    jitter = _public("jitter")
    if jitter is None:
        return Answer(is_asked=False)
    try:
        plain = jitter(store, window, filters).to_json()
    except AnalysisError as error:
        return Answer(error=f"{type(error).__name__}: {error}")
    found = sorted(_periods(plain, ""), key=lambda each: each.p_value)
    return Answer(
        tuple(each.stage for each in found), tuple(each for each in found if _is_significant(each)), plain=plain
    )


def _public(name: str, module: str = "") -> Any:
    """Find a public function: of the package, else of the module in which it is being made; None where there is none."""
    found = getattr(tailsight_analysis, name, None)
    if callable(found):
        return found
    try:
        return getattr(importlib.import_module(module or f"tailsight_analysis.{name}"), name, None)
    except ImportError:
        return None


def _is_significant(cause: Cause) -> bool:
    return cause.p_value <= SIGNIFICANT


def _cause(each: Any) -> Cause:
    return Cause(
        stage=getattr(each, "stage", "") or "",
        conditions=tuple(_condition(one) for one in getattr(each, "conditions", ())),
        service=getattr(each, "service", "") or "",
        name=getattr(each, "name", "") or "",
        hardware=getattr(each, "hardware", "") or "",
        p_value=_number(getattr(each, "p_value", 0.0)),
    )


def _condition(each: Any) -> Condition:
    on = getattr(each, "on", "")
    place = on if isinstance(on, str) else on.service or on.stage
    same = tuple(_condition(other) for other in getattr(each, "same_as", ()))
    return Condition(SAME.get(each.key, each.key), _text(each), place, same)


def _text(each: Any) -> str:
    low, high = getattr(each, "low", None), getattr(each, "high", None)
    if low is not None and high is not None:
        return f"{low:g} – {high:g}"
    if low is not None:
        return f"≥ {low:g}"
    if high is not None:
        return f"< {high:g}"
    return str(each.value)


def _periods(plain: Any, stage: str) -> Iterator[Cause]:
    """Find every period in an answer, wherever it stands, with the stage beside or around it."""
    if isinstance(plain, list):
        for item in plain:
            yield from _periods(item, stage)
    if isinstance(plain, dict):
        stage = str(plain.get("stage") or stage)
        if plain.get("period_ms") and plain.get("p_value") is not None:
            yield Cause(
                stage, (Condition("period", str(plain["period_ms"]), stage),), p_value=_number(plain["p_value"])
            )
        for item in plain.values():
            yield from _periods(item, stage)


def _number(value: Any) -> float:
    return 0.0 if value is None else float(value)
