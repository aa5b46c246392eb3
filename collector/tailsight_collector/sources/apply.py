"""The rules of sources, applied to a request where it comes in.

A span that a rule concerns gets what the rule says as attributes of the wire contract (`tailsight.stage`, …), and spans
for its phases come beside it, in a scope of their own. So whatever reads the request later, in C or in the database,
today or after a crash, reads the same (docs/decisions/0018). A request that no rule concerns stays byte for byte.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.errors import BadRequestError
from tailsight_collector.receive.checks import check, look, rejection
from tailsight_collector.sources.matching import Found, find
from tailsight_collector.sources.memory import Memory, Producer
from tailsight_collector.sources.phases import derived_id, events_of, parts
from tailsight_storage.source_files import built_in_rules
from tailsight_storage.source_rules import SOURCE, STAGE, Rule, Rules, Texts

log = logging.getLogger(__name__)

SCOPE = "tailsight.sources"
BATCH_SIZE = "tailsight.batch.size"
DERIVED, DEFINITION, MODEL, HARDWARE = (f"tailsight.{name}" for name in ("derived", "definition", "model", "hardware"))
MODEL_KEYS = (MODEL, "gen_ai.request.model", "gen_ai.response.model")  # as in sql/migrations/0007_views.sql
MAX_CONCERNED = 50_000
MAX_DERIVED = 200_000
"""Spans of one request that are changed, and that are derived; beyond, it is kept as it came."""
MAX_LINKS = 1_000
WAIT = "queue: from the end of the producer's span to the start of the consumer's"


@dataclass(slots=True)
class Outcome:
    """What became of one span that a rule concerns. `why_not`: why no phase was derived where the rule has some."""

    found: Found
    rule: Rule
    span: Span
    derived: list[Span] = field(default_factory=list)
    why_not: str = ""


class SourceStages:
    """Rules, and what of earlier requests must be known to apply them. Used by several threads."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or built_in_rules()
        self._memory = Memory()

    def applied(self, encoded: bytes, received_ns: int) -> bytes:
        """Return a request with what the rules say; the same bytes where they say nothing."""
        return self.changed(encoded, self.concerned(encoded), received_ns)

    def concerned(self, encoded: bytes) -> list[Found]:
        """Find the spans of an encoded request that rules concern: all, or more than may be changed."""
        return find(encoded, self.rules, MAX_CONCERNED + 1)

    def changed(self, encoded: bytes, found: Sequence[Found], received_ns: int) -> bytes:
        """Return a request with what the rules say of these spans.

        What would unfold beyond the limits of a request is kept as it came.
        """
        if not found:
            return encoded
        try:
            return self._changed(encoded, found, received_ns)
        except BadRequestError as error:
            log.warning("a request of %d bytes is kept without what the rules of sources say: %s", len(encoded), error)
        except Exception:  # whatever it is, the spans must be kept
            log.exception("a request of %d bytes is kept without what the rules of sources say", len(encoded))
        return encoded

    def _changed(self, encoded: bytes, found: Sequence[Found], received_ns: int) -> bytes:
        if len(found) > MAX_CONCERNED:
            raise BadRequestError(f"rules concern more than {MAX_CONCERNED} of its spans")
        request = ExportTraceServiceRequest.FromString(encoded)
        outcomes = self.apply(request, found, received_ns)
        if not any(_changes(outcome) for outcome in outcomes):
            return encoded
        changed = request.SerializeToString()
        if look(changed, received_ns) is None:
            check(request, received_ns)
        return changed

    def apply(self, request: ExportTraceServiceRequest, found: Iterable[Found], received_ns: int) -> list[Outcome]:
        """Change the spans that rules concern and add those that are derived; spans that will be rejected stay.

        Raises BadRequestError beyond MAX_DERIVED.
        """
        context = _Context(request, self._memory, received_ns)
        work = [
            concerned
            for each in found
            if not _is_rejected((concerned := _Concerned.of(request, each, self.rules)).span, received_ns)
        ]
        for each in work:
            context.remember(each)
        outcomes = []
        added: dict[int, list[Span]] = {}
        derived = 0
        for each in work:
            outcome = context.outcome(each)
            outcomes.append(outcome)
            derived += len(outcome.derived)
            if derived > MAX_DERIVED:
                raise BadRequestError(f"it has more than {MAX_DERIVED} phases")
            if outcome.derived:
                added.setdefault(each.place, []).extend(outcome.derived)
        for place, spans in added.items():
            request.resource_spans[place].scope_spans.add(spans=spans).scope.name = SCOPE
        return outcomes


@dataclass(frozen=True, slots=True)
class _Concerned:
    """A span that a rule concerns."""

    found: Found
    span: Span
    rule: Rule

    @property
    def place(self) -> int:
        """That of its resource."""
        return self.found.resource

    @classmethod
    def of(cls, request: ExportTraceServiceRequest, found: Found, rules: Rules) -> _Concerned:
        """Look it up in its request."""
        scope_spans = request.resource_spans[found.resource].scope_spans[found.scope]
        return cls(found, scope_spans.spans[found.span], rules.rules[found.rule])


class _Context:
    """One request while rules are applied to it."""

    def __init__(self, request: ExportTraceServiceRequest, memory: Memory, received_ns: int) -> None:
        self._request = request
        self._memory = memory
        self._received_ns = received_ns
        self._resources: dict[int, tuple[bytes, str]] = {}
        self._children: dict[tuple[bytes, bytes], list[Span]] | None = None

    def remember(self, each: _Concerned) -> None:
        """Note what this span says of others, in this request and later."""
        span = each.span
        digest, host = self._resource(each.place)
        for name in each.rule.instead_of:
            self._memory.phases_come(name, span.trace_id, digest, self._received_ns)
        if span.kind == Span.SPAN_KIND_PRODUCER:
            self._memory.producers.put((span.trace_id, span.span_id), Producer(span.end_time_unix_nano, host))

    def outcome(self, each: _Concerned) -> Outcome:
        """Change one span as its rule says, and derive what comes of it."""
        span, rule = each.span, each.rule
        outcome = Outcome(each.found, rule, span)
        values = {pair.key: pair.value for pair in span.attributes}
        if rule.phases:
            self._derive_phases(each.place, outcome, values)
        if rule.waits:
            self._derive_waits(each.place, outcome)
        if rule.batch:
            _derive_batch(outcome, values)
        _set(span, values, STAGE, rule.stage)
        _set(span, values, DEFINITION, rule.definition)
        _set(span, values, MODEL, _first_text(values, rule.model))
        for target, keys in rule.copy:
            value = next((values[key] for key in keys if key in values), None)
            if value is not None and target not in values:
                span.attributes.add(key=target, value=value)
        if _changes(outcome):
            _set(span, values, SOURCE, rule.source)
        return outcome

    def _derive_phases(self, place: int, outcome: Outcome, values: dict[str, AnyValue]) -> None:
        span, rule = outcome.span, outcome.rule
        digest, _ = self._resource(place)
        if self._memory.has_phases(rule.name, span.trace_id, digest, self._received_ns):
            outcome.why_not = "its sender sends them as spans"
            return
        own: dict[str, int] = {}
        of_all: dict[str, int] = {}
        if any(phase.begin for phase in rule.phases):
            own = events_of(iter((span,)))
            of_all = {**events_of(iter(self._children_of(span))), **own}

        def event_ns(names: Texts, is_own: bool) -> int | None:
            return next((time for name in names if (time := (own if is_own else of_all).get(name)) is not None), None)

        found, outcome.why_not = parts(span, rule, values, event_ns)
        model, hardware = _first_text(values, (MODEL, *rule.model, *MODEL_KEYS[1:])), _first_text(values, (HARDWARE,))
        for part in found:
            child = _derived(
                part.phase.name, Span.SPAN_KIND_INTERNAL, rule.source, part.phase.stage, part.phase.definition
            )
            child.trace_id, child.parent_span_id, child.trace_state = span.trace_id, span.span_id, span.trace_state
            child.span_id = derived_id(span.trace_id, span.span_id, part.phase.name)
            child.start_time_unix_nano, child.end_time_unix_nano = part.start_ns, part.end_ns
            _set(child, {}, MODEL, model)
            _set(child, {}, HARDWARE, hardware)
            outcome.derived.append(child)

    def _derive_waits(self, place: int, outcome: Outcome) -> None:
        """Between the end of what produced it, on the same clock, and its own start."""
        span = outcome.span
        _, host = self._resource(place)
        origins = [(span.trace_id, span.parent_span_id)] if span.parent_span_id else []
        origins += [(link.trace_id, link.span_id) for link in span.links[:MAX_LINKS]]
        for trace_id, span_id in dict.fromkeys(origins):
            producer = self._memory.producers.get((trace_id, span_id))
            if producer is None or producer.host != host or not 0 < producer.end_ns < span.start_time_unix_nano:
                continue
            # a CONSUMER: nobody who produces waits for it
            stage = outcome.rule.waits
            wait = _derived(stage, Span.SPAN_KIND_CONSUMER, outcome.rule.source, stage, WAIT)
            wait.trace_id, wait.parent_span_id = trace_id, span_id
            wait.span_id = derived_id(trace_id, span_id, f"{stage} {span.span_id.hex()}")
            wait.start_time_unix_nano, wait.end_time_unix_nano = producer.end_ns, span.start_time_unix_nano
            wait.links.add(trace_id=span.trace_id, span_id=span.span_id)
            outcome.derived.append(wait)
        if not outcome.derived:
            outcome.why_not = "what produced it has not come before, or from another host"

    def _resource(self, place: int) -> tuple[bytes, str]:
        """Return a digest of the resource, and its host."""
        if place not in self._resources:
            resource = self._request.resource_spans[place].resource
            host = next((pair.value.string_value for pair in resource.attributes if pair.key == "host.name"), "")
            self._resources[place] = sha256(resource.SerializeToString(deterministic=True)).digest(), host
        return self._resources[place]

    def _children_of(self, span: Span) -> Iterator[Span]:
        if self._children is None:
            self._children = {}
            for resource_spans in self._request.resource_spans:
                for scope_spans in resource_spans.scope_spans:
                    for each in scope_spans.spans:
                        if each.parent_span_id and each.events:
                            self._children.setdefault((each.trace_id, each.parent_span_id), []).append(each)
        return iter(self._children.get((span.trace_id, span.span_id), ()))


def _derive_batch(outcome: Outcome, values: dict[str, AnyValue]) -> None:
    """Put the time of a batch into each of the requests that it links to, as the SDK's `batch` does."""
    span, rule = outcome.span, outcome.rule
    linked = {(link.trace_id, link.span_id) for link in span.links[:MAX_LINKS]}
    linked -= {(span.trace_id, span.parent_span_id), (span.trace_id, span.span_id)}
    model = _first_text(values, (MODEL, *rule.model, *MODEL_KEYS[1:]))
    for trace_id, span_id in sorted(linked):
        if len(trace_id) != 16 or len(span_id) != 8 or not any(trace_id) or not any(span_id):
            continue  # of the null context
        part = _derived(rule.batch, Span.SPAN_KIND_INTERNAL, rule.source, rule.batch, rule.definition)
        part.trace_id, part.parent_span_id = trace_id, span_id
        part.span_id = derived_id(trace_id, span_id, f"{rule.batch} {span.span_id.hex()}")
        part.start_time_unix_nano, part.end_time_unix_nano = span.start_time_unix_nano, span.end_time_unix_nano
        part.links.add(trace_id=span.trace_id, span_id=span.span_id)
        part.attributes.add(key=BATCH_SIZE).value.int_value = len(linked)
        _set(part, {}, MODEL, model)
        _set(part, {}, HARDWARE, _first_text(values, (HARDWARE,)))
        outcome.derived.append(part)


def _derived(name: str, kind: Span.SpanKind.ValueType, source: str, stage: str, definition: str) -> Span:
    """Make a derived span, without ids and times."""
    return Span.FromString(_template(name, kind, source, stage, definition))


@functools.lru_cache(maxsize=4096)
def _template(name: str, kind: Span.SpanKind.ValueType, source: str, stage: str, definition: str) -> bytes:
    span = Span(name=name, kind=kind)
    for key, value in ((STAGE, stage), (DERIVED, "true"), (SOURCE, source), (DEFINITION, definition)):
        _set(span, {}, key, value)
    return span.SerializeToString()


def _set(span: Span, values: dict[str, AnyValue], key: str, text: str) -> None:
    """Add an attribute that is not there, and has a text."""
    if text and key not in values:
        span.attributes.append(KeyValue(key=key, value=AnyValue(string_value=text)))


def _first_text(values: dict[str, AnyValue], keys: Texts) -> str:
    return next((text for key in keys if key in values and (text := values[key].string_value)), "")


def _changes(outcome: Outcome) -> bool:
    """Whether a rule does anything to a span, beside noting that it was there."""
    rule = outcome.rule
    return bool(rule.stage or rule.definition or rule.model or rule.copy or rule.phases or outcome.derived)


def _is_rejected(span: Span, received_ns: int) -> bool:
    times = span.start_time_unix_nano, span.end_time_unix_nano
    return rejection(span.trace_id, span.span_id, span.parent_span_id, *times, received_ns) != ""
