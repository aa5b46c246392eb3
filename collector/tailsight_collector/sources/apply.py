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
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_collector.errors import BadRequestError
from tailsight_collector.receive.checks import check, look, rejection
from tailsight_collector.sources.matching import Found, find
from tailsight_collector.sources.memory import Consumer, Ids, Memory, Producer, earliest
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
    """What became of one span that a rule concerns.

    `derived`: spans of its own resource. `late`: spans of consumers that came before it, with their resource (encoded).
    `why_not`: why no phase was derived where the rule has some.
    """

    found: Found
    rule: Rule
    span: Span
    derived: list[Span] = field(default_factory=list)
    late: list[tuple[bytes, Span]] = field(default_factory=list)
    why_not: str = ""


class SourceStages:
    """Rules, and what of earlier requests must be known to apply them. Used by several threads."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.rules = rules or built_in_rules()
        self._memory = Memory()
        self._events = frozenset(
            name
            for rule in self.rules.rules
            for phase in rule.phases
            if not phase.own
            for name in (*phase.begin, *phase.end)
        )

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
        if not any(_changes(outcome) or outcome.late for outcome in outcomes):
            return encoded
        changed = request.SerializeToString()
        if look(changed, received_ns) is None:
            check(request, received_ns)
        return changed

    def apply(self, request: ExportTraceServiceRequest, found: Iterable[Found], received_ns: int) -> list[Outcome]:
        """Change the spans that rules concern and add those that are derived; spans that will be rejected stay.

        Raises BadRequestError beyond MAX_DERIVED.
        """
        context = _Context(request, self._memory, received_ns, self._events)
        work = [
            concerned
            for each in found
            if not _is_rejected((concerned := _Concerned.of(request, each, self.rules)).span, received_ns)
        ]
        for each in work:
            context.remember(each)
        outcomes = []
        added: dict[int, list[Span]] = {}
        late: dict[bytes, list[Span]] = {}
        derived = 0
        for each in work:
            outcome = context.outcome(each)
            outcomes.append(outcome)
            derived += len(outcome.derived) + len(outcome.late)
            if derived > MAX_DERIVED:
                raise BadRequestError(f"it has more than {MAX_DERIVED} phases")
            if outcome.derived:
                added.setdefault(each.place, []).extend(outcome.derived)
            for resource, span in outcome.late:
                late.setdefault(resource, []).append(span)
        for place, spans in added.items():
            request.resource_spans[place].scope_spans.add(spans=spans).scope.name = SCOPE
        for resource, spans in late.items():
            theirs = request.resource_spans.add(resource=Resource.FromString(resource))
            theirs.scope_spans.add(spans=spans).scope.name = SCOPE
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

    def __init__(
        self, request: ExportTraceServiceRequest, memory: Memory, received_ns: int, events: frozenset[str]
    ) -> None:
        """`events`: those of which a rule asks in children too."""
        self._request = request
        self._memory = memory
        self._received_ns = received_ns
        self._events = events
        self._resources: dict[int, tuple[bytes, str, bytes]] = {}
        self._children: dict[tuple[bytes, bytes], list[Span]] | None = None

    def remember(self, each: _Concerned) -> None:
        """Note what this span says of others, in this request and later."""
        span = each.span
        digest, host, _ = self._resource(each.place)
        for name in each.rule.instead_of:
            self._memory.phases_come(name, span.trace_id, digest, self._received_ns)
        if span.kind == Span.SPAN_KIND_PRODUCER:
            self._memory.producers.put((span.trace_id, span.span_id), Producer(span.end_time_unix_nano, host))
        if span.parent_span_id and span.events and each.rule.phases:
            asked = {name: time_ns for name, time_ns in events_of(span).items() if name in self._events}
            if asked:
                self._memory.events_come((span.trace_id, span.parent_span_id), asked)

    def outcome(self, each: _Concerned) -> Outcome:
        """Change one span as its rule says, and derive what comes of it."""
        span, rule = each.span, each.rule
        outcome = Outcome(each.found, rule, span)
        values = {pair.key: pair.value for pair in span.attributes}
        if rule.phases:
            self._derive_phases(each.place, outcome, values)
        if rule.waits:
            self._derive_waits(each.place, outcome)
        if span.kind == Span.SPAN_KIND_PRODUCER:
            self._derive_late_waits(each.place, outcome)
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
        digest, _, _ = self._resource(place)
        if self._memory.has_phases(rule.name, span.trace_id, digest, self._received_ns):
            outcome.why_not = "its sender sends them as spans"
            return
        own: dict[str, int] = {}
        of_all: dict[str, int] = {}
        if any(phase.begin for phase in rule.phases):
            own = events_of(span)
            of_all = dict(self._memory.events_below((span.trace_id, span.span_id)))
            for child in self._children_of(span):
                of_all = earliest(of_all, events_of(child))
            of_all |= own

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
        span, stage, source = outcome.span, outcome.rule.waits, outcome.rule.source
        _, host, resource = self._resource(place)
        consumer = Consumer(span.trace_id, span.span_id, span.start_time_unix_nano, host, resource, stage, source)
        origins = [(span.trace_id, span.parent_span_id)] if span.parent_span_id else []
        origins += [(link.trace_id, link.span_id) for link in span.links[:MAX_LINKS]]
        for origin in dict.fromkeys(origins):
            producer = self._memory.producers.get(origin)
            if producer is None:
                self._memory.wait(origin, consumer)
                producer = self._memory.producers.get(origin)  # in another thread, just now
            if producer is not None and (wait := _wait(origin, producer, consumer)):
                outcome.derived.append(wait)
        if not outcome.derived:
            outcome.why_not = "what produced it has not come yet, or is from another host"

    def _derive_late_waits(self, place: int, outcome: Outcome) -> None:
        """Derive the same for consumers that have come before their producer."""
        span = outcome.span
        origin = span.trace_id, span.span_id
        _, host, _ = self._resource(place)
        producer = Producer(span.end_time_unix_nano, host)
        for consumer in self._memory.consumers(origin):
            if wait := _wait(origin, producer, consumer):
                outcome.late.append((consumer.resource, wait))

    def _resource(self, place: int) -> tuple[bytes, str, bytes]:
        """Return a digest of the resource, its host, and itself, encoded."""
        if place not in self._resources:
            resource = self._request.resource_spans[place].resource
            host = next((pair.value.string_value for pair in resource.attributes if pair.key == "host.name"), "")
            encoded = resource.SerializeToString(deterministic=True)
            self._resources[place] = sha256(encoded).digest(), host, encoded
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


def _wait(origin: Ids, producer: Producer, consumer: Consumer) -> Span | None:
    """Make the span between a producer's end and a consumer's start; None if their clocks differ, or in no order."""
    if producer.host != consumer.host or not 0 < producer.end_ns < consumer.start_ns:
        return None
    # a CONSUMER: nobody who produces waits for it
    wait = _derived(consumer.stage, Span.SPAN_KIND_CONSUMER, consumer.source, consumer.stage, WAIT)
    wait.trace_id, wait.parent_span_id = origin
    wait.span_id = derived_id(*origin, f"{consumer.stage} {consumer.span_id.hex()}")
    wait.start_time_unix_nano, wait.end_time_unix_nano = producer.end_ns, consumer.start_ns
    wait.links.add(trace_id=consumer.trace_id, span_id=consumer.span_id)
    return wait


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
