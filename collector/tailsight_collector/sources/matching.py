"""Which spans of a request does which rule concern? In C; the same in Python where the C module is not built.

`tests/collector/test_source_matching.py` holds the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from tailsight_storage import decoder
from tailsight_storage.source_rules import KINDS, Conditions, Rule, Rules, Texts, Where

_FOUR = struct.Struct("=4I")
_OWN_FACTS = 0b11  # as in match.c: spans with these attributes are nobody's


class Found(NamedTuple):
    """A span that a rule concerns: its place in the request, and the rule's among the rules."""

    resource: int
    scope: int
    span: int
    rule: int


def find(body: bytes, rules: Rules, most: int | None = None) -> list[Found]:
    """Find the spans of an encoded request that rules concern, in their order; the first `most`.

    Raises google.protobuf.message.DecodeError where the bytes are no request.
    """
    found = decoder.decoder.match(body, rules.compiled) if decoder.decoder else None
    if found is None:
        return find_in(ExportTraceServiceRequest.FromString(body), rules)[:most]
    return [Found(*each) for each in islice(_FOUR.iter_unpack(found), most)]


def find_in(request: ExportTraceServiceRequest, rules: Rules) -> list[Found]:
    """Find the same in a decoded request, without the C module."""
    keys: dict[tuple[Where, str], list[tuple[str | None, int]]] = {}
    for number, fact in enumerate(rules.facts):
        keys.setdefault((fact.where, fact.key), []).append((fact.value, 1 << number))
    found = []
    for resource_number, resource_spans in enumerate(request.resource_spans):
        of_resource = _bits(resource_spans.resource.attributes, Where.RESOURCE, keys)
        for scope_number, scope_spans in enumerate(resource_spans.scope_spans):
            candidates = _candidates(scope_spans, rules)
            for span_number, span in enumerate(scope_spans.spans):
                bits = of_resource | _bits(span.attributes, Where.ATTRIBUTE, keys)
                for event in span.events:
                    for _, bit in keys.get((Where.EVENT, event.name), ()):
                        bits |= bit
                if bits & _OWN_FACTS:
                    continue
                kind = span.kind if 0 <= span.kind < len(KINDS) else 0
                for number, rule, conditions in candidates:
                    if _holds(conditions, kind, bits) and fits(rule.match.name, span.name):
                        found.append(Found(resource_number, scope_number, span_number, number))
                        break
    return found


def fits(patterns: Texts, text: str) -> bool:
    """Whether a text is one of the patterns, or begins with one that ends with `*`; without patterns any does."""
    return not patterns or any(
        text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern for pattern in patterns
    )


def _candidates(scope_spans: ScopeSpans, rules: Rules) -> Sequence[tuple[int, Rule, Conditions]]:
    scope = scope_spans.scope
    return [
        (number, rule, conditions)
        for number, (rule, conditions) in enumerate(zip(rules.rules, rules.conditions, strict=True))
        if fits(rule.match.scope, scope.name) and fits(rule.match.version, scope.version)
    ]


def _bits(pairs: Iterable[KeyValue], where: Where, keys: dict[tuple[Where, str], list[tuple[str | None, int]]]) -> int:
    bits = 0
    for pair in pairs:
        for text, bit in keys.get((where, pair.key), ()):
            value = pair.value
            if text is None or (value.WhichOneof("value") == "string_value" and value.string_value == text):
                bits |= bit
    return bits


def _holds(conditions: Conditions, kind: int, bits: int) -> bool:
    return (
        (not conditions.kinds or bool(conditions.kinds >> kind & 1))
        and bits & conditions.all_of == conditions.all_of
        and not bits & conditions.none_of
        and all(bits & group for group in conditions.groups)
    )
