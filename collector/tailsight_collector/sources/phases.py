"""The phases of a span that carries them in itself: which they are, and when. Nothing here is guessed.

A phase that is not there, is negative or not finite, or whose events are in the wrong order is left out. Phases in
attributes follow each other from the span's start; what goes beyond its end is cut off. Where one alone is longer than
the span, the numbers are not in the unit that the rule says: then none is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_storage.source_rules import Phase, Rule, Texts

# By how much a phase may be longer than its span: it is measured by another clock, and rounded.
TOLERANCE = 1.05
TOLERANCE_NS = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A phase of a span, in Unix nanoseconds."""

    phase: Phase
    start_ns: int
    end_ns: int


EventTime = Callable[[Texts, bool], int | None]
"""When the first of these events was, in the span (or, where False, in its children too); None where there is none."""


def parts(span: Span, rule: Rule, values: Mapping[str, AnyValue], event_ns: EventTime) -> tuple[list[Part], str]:
    """Return the phases of a span, and why there is none though its rule has some; '' otherwise."""
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    longest_ns = (end_ns - start_ns) * TOLERANCE + TOLERANCE_NS
    found: list[Part] = []
    at_ns = start_ns
    for phase in rule.phases:
        if any(key in values for key in phase.unless):
            continue
        if phase.keys:
            length_ns = _length_ns(phase, values)
            if length_ns is None:
                continue
            if length_ns > longest_ns:
                return [], f"{phase.name} would be longer than the span: {length_ns / 1e6:.3g} ms"
            until_ns = min(at_ns + round(length_ns), end_ns)
            if until_ns > at_ns:
                found.append(Part(phase, at_ns, until_ns))
            at_ns = until_ns
        else:
            first, last = event_ns(phase.begin, phase.own), event_ns(phase.end, phase.own)
            if first is not None and last is not None and start_ns <= first < min(last, end_ns):
                found.append(Part(phase, first, min(last, end_ns)))
    return found, "" if found or not rule.phases else "none of its phases is there"


def derived_id(trace_id: bytes, span_id: bytes, name: str) -> bytes:
    """Return the id of a derived span: the same whenever the same span comes."""
    digest = blake2b(b"\0".join((trace_id, span_id, name.encode())), digest_size=8, person=b"tailsight-phase").digest()
    return digest if any(digest) else b"\0" * 7 + b"\1"


def number_of(value: AnyValue) -> float | None:
    """Return a number that can be a length of time; None for any other value."""
    kind = value.WhichOneof("value")
    if kind == "double_value":
        return value.double_value if math.isfinite(value.double_value) and value.double_value >= 0 else None
    return float(value.int_value) if kind == "int_value" and value.int_value >= 0 else None


def events_of(spans: Iterator[Span]) -> dict[str, int]:
    """Return the time of the first event of each name, in the order of the spans."""
    found: dict[str, int] = {}
    for span in spans:
        for event in span.events:
            found.setdefault(event.name, event.time_unix_nano)
    return found


def _length_ns(phase: Phase, values: Mapping[str, AnyValue]) -> float | None:
    numbers = (number_of(values[key]) for key in phase.keys if key in values)
    length = next((number for number in numbers if number is not None), None)
    if length is None:
        return None
    for key in phase.minus:
        less = number_of(values[key]) if key in values else None
        if less is None:
            return None
        length -= less
    return length * phase.unit_ns if length > 0 else None
