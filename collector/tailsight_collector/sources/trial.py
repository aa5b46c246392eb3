"""What the rules of sources make of requests, told span kind by span kind; nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.receive.checks import rejection
from tailsight_collector.sources.apply import Outcome, SourceStages
from tailsight_collector.sources.matching import find
from tailsight_storage.source_rules import KINDS, STAGE, Rules

OWN = "(its own tailsight.stage)"


@dataclass(slots=True)
class PhaseCount:
    """A phase that was derived: how often, and its mean length."""

    name: str
    stage: str
    spans: int = 0
    total_ms: float = 0.0

    def to_json(self) -> dict[str, object]:
        """As `tailsight sources test --json` shows it."""
        return {"name": self.name, "stage": self.stage, "spans": self.spans, "mean_ms": self.total_ms / self.spans}


@dataclass(slots=True)
class SpanKind:
    """Spans of one scope, name and kind with the same rule. `example`: the ids of the first, as hex.

    `rule` and `source` are empty where no rule concerns them. `why_not` counts by reason spans whose phases were not
    derived though their rule has some.
    """

    scope: str
    name: str
    kind: str
    rule: str
    source: str
    stage: str
    example: tuple[str, str]
    spans: int = 0
    phases: dict[str, PhaseCount] = field(default_factory=dict)
    why_not: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As `tailsight sources test --json` shows it."""
        trace_id, span_id = self.example
        plain = {key: getattr(self, key) for key in ("scope", "name", "kind", "rule", "source", "stage", "spans")}
        phases = [phase.to_json() for phase in self.phases.values()]
        return {**plain, "phases": phases, "why_not": self.why_not, "trace_id": trace_id, "span_id": span_id}


@dataclass(slots=True)
class Trial:
    """What became of all spans: those that a rule concerns or that have a stage of their own, and the others."""

    spans: int = 0
    rejected: int = 0
    derived: int = 0
    with_stage: list[SpanKind] = field(default_factory=list)
    without_stage: list[SpanKind] = field(default_factory=list)

    def to_json(self) -> dict[str, object]:
        """As `tailsight sources test --json` shows it."""
        return {
            **{key: getattr(self, key) for key in ("spans", "rejected", "derived")},
            **{key: [kind.to_json() for kind in getattr(self, key)] for key in ("with_stage", "without_stage")},
        }


def trial_of(requests: Iterable[ExportTraceServiceRequest], rules: Rules) -> Trial:
    """Apply rules to requests as a collector would that gets them now, and say what became of their spans."""
    stages = SourceStages(rules)
    trial = Trial()
    kinds: dict[tuple[str, ...], SpanKind] = {}
    for request in requests:
        now_ns = time.time_ns()
        resources = len(request.resource_spans)  # others are of consumers that came before
        outcomes = stages.apply(request, find(request.SerializeToString(), rules), now_ns)
        by_place = {outcome.found[:3]: outcome for outcome in outcomes}
        for at, resource_spans in enumerate(request.resource_spans[:resources]):
            sent = list(resource_spans.scope_spans)
            if any(outcome.derived and outcome.found.resource == at for outcome in outcomes):
                sent.pop()  # what was derived
            for scope_at, scope_spans in enumerate(sent):
                for span_at, span in enumerate(scope_spans.spans):
                    outcome = by_place.get((at, scope_at, span_at))
                    _count(trial, kinds, scope_spans.scope.name, span, outcome, now_ns)
    in_order = sorted(kinds.values(), key=lambda kind: -kind.spans)
    trial.with_stage = [kind for kind in in_order if kind.rule]
    trial.without_stage = [kind for kind in in_order if not kind.rule]
    return trial


def _count(
    trial: Trial, kinds: dict[tuple[str, ...], SpanKind], scope: str, span: Span, outcome: Outcome | None, now_ns: int
) -> None:
    trial.spans += 1
    times = span.start_time_unix_nano, span.end_time_unix_nano
    if rejection(span.trace_id, span.span_id, span.parent_span_id, *times, now_ns):
        trial.rejected += 1
        return
    stage = next((pair.value.string_value for pair in span.attributes if pair.key == STAGE), "")
    rule = outcome.rule.name if outcome else OWN if stage else ""
    kind = KINDS[span.kind] if 0 <= span.kind < len(KINDS) else KINDS[0]
    key = (scope, span.name, kind, rule, stage)
    if key not in kinds:
        source = outcome.rule.source if outcome else ""
        kinds[key] = SpanKind(*key[:4], source, stage, (span.trace_id.hex(), span.span_id.hex()))
    found = kinds[key]
    found.spans += 1
    if outcome is None:
        return
    derived = [*outcome.derived, *(span for _, span in outcome.late)]
    trial.derived += len(derived)
    if outcome.why_not:
        found.why_not[outcome.why_not] = found.why_not.get(outcome.why_not, 0) + 1
    for child in derived:
        child_stage = next(pair.value.string_value for pair in child.attributes if pair.key == STAGE)
        phase = found.phases.setdefault(child.name, PhaseCount(child.name, child_stage))
        phase.spans += 1
        phase.total_ms += (child.end_time_unix_nano - child.start_time_unix_nano) / 1e6
