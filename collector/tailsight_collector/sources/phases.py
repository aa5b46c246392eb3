"""The phases of a span that carries them in itself: which they are, and when. Nothing here is guessed.

A phase that is not there, is negative or not finite, or whose events are in the wrong order is left out, and so is one
whose events lie beyond the span: their clock is another. Phases in attributes follow each other from the span's start.
What goes beyond the span by little is cut off: it is rounded. Where one alone is longer than the span, the numbers are
not in the unit that the rule says: then none is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tailsight_storage.source_rules import Phase, Rule, Texts

# By how much a phase may be longer than its span: it is measured by another clock, and rounded.
TOLERANCE = 1.05
TOLERANCE_NS = 1_000_000
"""By so much an event may lie beyond its span, too."""


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
                return [], f"{phase.name} would be longer than the span: {in_words(length_ns)}"
            until_ns = min(at_ns + round(length_ns), end_ns)
            if until_ns > at_ns:
                found.append(Part(phase, at_ns, until_ns))
            at_ns = until_ns
        else:
            first, last = event_ns(phase.begin, phase.own), event_ns(phase.end, phase.own)
            if first is None or last is None:
                continue
            if first < start_ns - TOLERANCE_NS or last > end_ns + TOLERANCE_NS:
                continue
            first, last = max(first, start_ns), min(last, end_ns)
            if first < last:
                found.append(Part(phase, first, last))
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


def in_words(length_ns: float) -> str:
    """Say a length of time as one reads it, however long."""
    if length_ns < 1e9:
        return f"{length_ns / 1e6:.3g} ms"
    seconds = length_ns / 1e9
    return f"{seconds:,.3g} s" if seconds < 1_000 else f"{seconds:,.0f} s" if seconds < 1e12 else "over 30,000 years"


def events_of(span: Span) -> dict[str, int]:
    """Return the time of the first event of each name."""
    found: dict[str, int] = {}
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
