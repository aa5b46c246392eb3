"""Is what was named right? Scores of one case, by the rules of docs/analysis/diagnosis_benchmark.md. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from diagnosis_answers import Answer, Cause, Condition
from testkit.simulator import QUIET, Case, Truth

FIRST = 3  # among so many causes the true condition must be
PERIOD_TOLERANCE = 0.03
FAMILIES = {
    "version": "version", "container.image.tag": "version", "hardware": "hardware", "host.type": "hardware",
    "tailsight.batch.size": "batch", "tailsight.queue.depth": "queue", "threads.active": "active", "requests in flight": "active", "period": "period",
    "hw.gpu.throttled": "device", "hw.gpu.throttle_reasons": "device", "hw.gpu.clock.graphics": "device",
    "hw.temperature": "device", "cache.hit": "cache", "app.embedding_cache.status": "cache", "host": "host",
    "k8s.pod.name": "host", "k8s.node.name": "host", "network.peer.address": "host", "gen_ai.usage.input_tokens": "length",
    "gen_ai.usage.output_tokens": "length", "http.request.body.size": "length", "time": "time",
}  # fmt: skip
COLUMNS = (
    "version", "hardware", "batch", "queue", "active", "period", "device", "cache", "host", "length", "time", "attribute", "none",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Score:
    """What came out of one case. None: not asked, or nothing to be found."""

    name: str
    kind: str
    variant: str
    seed: int
    stage: bool | None = None
    condition: bool | None = None
    false_tail: bool | None = None
    false_compare: bool | None = None
    false_period: bool | None = None
    named_nothing: bool | None = None  # whether a comparison names a cause or a suspect where there is none
    compared_stage: bool | None = None
    compared_place: bool | None = None
    proven_stage: bool | None = None
    named_stage: str = ""
    named_condition: str = ""
    family: str = ""
    compared: str = ""
    truth: str = ""
    errors: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of what went wrong."""
        wrong = [n for n in ("stage", "condition", "compared_stage", "compared_place") if getattr(self, n) is False]
        wrong += [name for name in ("false_tail", "false_compare", "false_period") if getattr(self, name)]
        return (*wrong, *self.errors)

    @property
    def is_false(self) -> bool | None:
        """Whether any answer names a cause where there is none."""
        answers = [each for each in (self.false_tail, self.false_compare, self.false_period) if each is not None]
        return any(answers) if answers else None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"failed": list(self.failed)}


def score(case: Case, tail: Answer, compared: Answer, periods: Answer) -> Score:
    """Score the answers to one case."""
    first = next((each for cause in tail.causes for each in cause.conditions), None)
    errors = tuple(answer.error for answer in (tail, compared, periods) if answer.error)
    is_quiet = case.kind in QUIET
    asks_tail, asks_compare = case.asks_tail, compared.is_asked and case.asks_compare
    told: dict[str, Any] = {
        "named_stage": tail.stages[0] if tail.stages else "",
        "named_condition": "; ".join(str(each) for cause in tail.causes[:FIRST] for each in cause.conditions),
        "family": FAMILIES.get(first.key, "attribute") if first else "none",
        "compared": "; ".join(
            [f"{each.service}/{each.stage}" for each in compared.causes[:FIRST]]
            or [f"not proven: {each.service}/{each.stage}" for each in compared.suspects[:1]]
        ),
        "truth": "; ".join(described(truth) for truth in case.truths),
        "errors": errors,
    }
    if is_quiet:
        return Score(
            case.name, case.kind, case.variant, case.seed, **told,
            false_tail=any(is_false(cause, case.genuine) for cause in tail.causes) if asks_tail else None,
            false_compare=bool(compared.causes) if asks_compare else None,
            false_period=bool(periods.causes) if periods.is_asked else None,
            named_nothing=bool(compared.stages) if asks_compare else None,
        )  # fmt: skip
    findable = [truth for truth in case.truths if truth.has_condition]
    return Score(
        case.name, case.kind, case.variant, case.seed, **told,
        stage=told["named_stage"] in {truth.stage for truth in case.truths},
        condition=all(finds(truth, tail, periods) for truth in findable) if findable else None,
        compared_stage=bool(compared.stages) and compared.stages[0] in {t.stage for t in case.truths} if asks_compare else None,
        compared_place=names_place((*compared.causes, *compared.suspects)[:1], case.truths) if asks_compare else None,
        proven_stage=bool(compared.causes) and compared.causes[0].stage in {t.stage for t in case.truths} if asks_compare else None,
    )  # fmt: skip


def finds(truth: Truth, tail: Answer, periods: Answer) -> bool:
    """Whether a true condition is among the first three causes; of a periodic pause also its period, by jitter."""
    named = [each for cause in tail.causes[:FIRST] for each in cause.conditions]
    named += [each for cause in periods.causes[:FIRST] for each in cause.conditions] if truth.period_ms else []
    return any(is_right(truth, each) for each in named)


def is_right(truth: Truth, named: Condition) -> bool:
    """Whether a named condition is one that an expert would accept for this cause."""
    if named.key == "period":
        return bool(truth.period_ms) and abs(float(named.text) / truth.period_ms - 1) <= PERIOD_TOLERANCE
    said = (named, *named.same_as)
    return any(accepted.accepts(each.key, each.text, each.on) for accepted in truth.conditions for each in said)


def is_false(cause: Cause, genuine: frozenset[str]) -> bool:
    """Whether a cause puts slowness down to something that has nothing to do with it; a stage alone is no claim."""
    return any(condition.key not in genuine for condition in cause.conditions)


def names_place(named: Iterable[Cause], truths: tuple[Truth, ...]) -> bool:
    """Whether a true service is named, and where a hardware type is the cause, no other type."""
    return any(
        cause.service in truth.services and cause.hardware in ("", truth.hardware or cause.hardware)
        for cause in named
        for truth in truths
    )


def names_service(cause: Cause, service: str) -> bool:
    """Whether a cause names a service: as the place, or in the operation that a caller waits for."""
    return service in (cause.service or "") or service in cause.name.lower()


def described(truth: Truth) -> str:
    """A truth in one line."""
    conditions = " | ".join(
        f"{each.key} {each.side or ''}{'≥' if each.side == 'high' else '≤' if each.side == 'low' else '='}"
        f"{f'{each.pivot:g}' if each.side else '/'.join(each.values) or 'any'}"
        for each in truth.conditions
    )
    period = f", period {truth.period_ms:.1f} ms" if truth.period_ms else ""
    return (
        f"{truth.kind} ({truth.variant}) at {'/'.join(truth.services)}·{truth.stage}{period}: {truth.share:.0%} of the excess, "
        f"{truth.affected:.1%} of requests; accepted: {conditions or ('the period' if truth.period_ms else 'no condition')}"
    )
