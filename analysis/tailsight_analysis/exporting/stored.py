"""A span as the store has it: every column, values still as text with their types beside them.

Named tuples and not dataclasses: a million of them are made, and these take a fifth of the time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tailsight_storage import AttributeValue, decode_attributes

STRING = "string"


class StoredAttributes(NamedTuple):
    """Attributes as two maps of the store: all keys with their texts, and the types of those that are no strings.

    A key may be there twice, as its sender gave it.
    """

    keys: tuple[str, ...]
    texts: tuple[str, ...]
    typed_keys: tuple[str, ...] = ()
    types: tuple[str, ...] = ()

    def decoded(self) -> dict[str, AttributeValue]:
        """Give them as they were sent; of a key that is there twice the last one.

        Where a value is nested too deeply for that, all are text, as the store has them.
        """
        texts = dict(zip(self.keys, self.texts, strict=True))
        try:
            return decode_attributes(texts, dict(zip(self.typed_keys, self.types, strict=True)))
        except RecursionError:
            return {**texts}


class StoredScope(NamedTuple):
    """Who made the span. The types of its attributes are not stored: all are strings."""

    name: str
    version: str
    attributes: StoredAttributes


class StoredEvent(NamedTuple):
    """An event; its time in nanoseconds since 1970, negative where its sender gave one beyond 2262."""

    time_ns: int
    name: str
    attributes: StoredAttributes


class StoredLink(NamedTuple):
    """A link; ids in hex, zeros where its sender's had a wrong length."""

    trace_id: str
    span_id: str
    attributes: StoredAttributes


class StoredSpan(NamedTuple):
    """A span; ids in hex, `parent_span_id` empty where there is none. Columns are those of the table `spans`.

    Spans of one resource, or one scope, that are read together share the object.
    """

    trace_id: str
    span_id: str
    parent_span_id: str
    received_ms: int
    start_ns: int
    duration_ns: int
    service: str
    stage: str
    name: str
    kind: str
    status: str
    status_message: str
    hardware: str
    host: str
    region: str
    environment: str
    version: str
    run: str
    model: str
    thread_id: int
    trace_state: str
    weight: float
    sampling_reason: str
    intended_start_ns: int
    attributes: StoredAttributes
    resource: StoredAttributes
    scope: StoredScope
    events: tuple[StoredEvent, ...]
    links: tuple[StoredLink, ...]
    size_bytes: int

    @property
    def content(self) -> tuple[Any, ...]:
        """What makes it that span: all but when it arrived."""
        return (*self[:3], *self[4:-1])
