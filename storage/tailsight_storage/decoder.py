"""OTLP in C: spans as columns that ClickHouse takes as they are, and what a request holds.

The database can decode OTLP itself, and does where this module is not built (docs/decisions/0012): a segment then costs
twice as much. Both ways store the same, which tests hold together. Whatever is not written as every encoder writes it
is left to the other way: `scan` returns None, `columns` raises ValueError.
"""

from __future__ import annotations

import os
import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from tailsight_storage.attributes import AttributeValue, attributes_of

BUILD = "b85bee58ffff"
"""The beginning of the SHA-256 of storage/native/*.[ch]: a module that was compiled from others is not used."""

# Our sidecars' are 16 hexadecimal digits; `recent_batches.sql` has the same limit.
MAX_SENDER_CHARS = 128
_POWERS = range(-292, 325)
_RESOURCE_ATTRIBUTES, _SCOPE_ATTRIBUTES = 1, 3

Batch = tuple[str, int, int, int, int]
"""A numbered batch: its sender and number, and what tells it from one that took the same number after a crash of the
sender's: how many spans it has, and how many its sender had recorded and sent by then."""

# received_ns, resource, scope, spans of the scope, rejected of these, spans of the resource, rejected of these
Numbered = tuple[int, bytes, bytes, int, int, int, int]


class Decoder(Protocol):
    """The C module."""

    BUILD: str

    def scan(self, body: bytes, received_ns: int, /) -> tuple[int, tuple[int, ...], int, bool, int, bytes] | None:
        """Look through a request.

        Returns (spans, rejected for each reason in their order, bytes that its resources and scopes have when each span
        carries its own, whether a numbered scope has no spans, how many scopes are numbered, the last of these); None
        where the request is odd or broken.
        """

    def columns(self, segment: bytes | memoryview, now_ns: int, max_bytes: int, /) -> tuple[bytes, int, list[Numbered]]:
        """Return (blocks of the table span_arrivals in format Native, rows, numbered scopes) of a segment.

        Raises ValueError where a record is odd or broken, OverflowError beyond `max_bytes`.
        """

    def match(self, body: bytes, rules: bytes, /) -> bytes | None:
        """Return which spans of a request the rules concern (`source_rules.Rules.compiled`).

        Four 32-bit numbers each: the places of its ResourceSpans, of its ScopeSpans in that and of the span in this,
        and the rule's number. None where the request is odd.
        """

    def double_text(self, number: float, /) -> str:
        """Write a double as ClickHouse's toString does."""

    def set_up(self, powers_of_10: bytes, seed: int, /) -> None:
        """Give it what it cannot make itself, before anything else is called."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What a request holds. `rejected` counts by reason, in the order of `tailsight_rejection`.

    `batch` is the sender and the number of the one numbered scope; None where there is none, or several.
    """

    spans: int
    rejected: tuple[int, ...]
    unfolded_bytes: int
    is_report: bool
    batch: Batch | None


def scan(body: bytes, received_ns: int) -> Scan | None:
    """Look through a request; None where the careful way must, or the module is not here."""
    found = decoder.scan(body, received_ns) if decoder else None
    if found is None:
        return None
    spans, rejected, unfolded_bytes, is_report, numbered, scope = found
    return Scan(spans, rejected, unfolded_bytes, is_report, batch_of(scope) if numbered == 1 else None)


def batch_of(scope: bytes) -> Batch | None:
    """Return which batch an encoded InstrumentationScope names; None where it has no sender and number that are right.

    Nor for a sender whose name is not worth remembering: many of them are remembered.
    """
    said = attributes_of(scope, _SCOPE_ATTRIBUTES)
    batch = _batch(said)
    if batch is None or len(batch[0]) > MAX_SENDER_CHARS:
        return None
    spans, recorded, sent = (
        _int(said.get(f"tailsight.{key}")) for key in ("batch.spans", "sender.recorded", "sender.spans")
    )
    return *batch, spans, recorded, sent


def _batch(scope: dict[str, AttributeValue]) -> tuple[str, int] | None:
    sender, number = scope.get("tailsight.sender.id"), _int(scope.get("tailsight.batch.number"))
    return (sender, number) if isinstance(sender, str) and sender and number else None


def sender_rows(numbered: list[Numbered]) -> Iterator[dict[str, object]]:
    """Make the rows of sender_batches, as the view of sql/migrations/0010 does."""
    its_bytes: bytes | None = None
    resource: dict[str, AttributeValue] = {}
    for received_ns, resource_bytes, scope_bytes, own, own_rejected, all_spans, all_rejected in numbered:
        if resource_bytes is not its_bytes:  # scopes of one resource share them
            its_bytes, resource = resource_bytes, attributes_of(resource_bytes, _RESOURCE_ATTRIBUTES)
        scope = attributes_of(scope_bytes, _SCOPE_ATTRIBUTES)
        if (batch := _batch(scope)) is None:
            continue
        sender, number = batch
        spans = _int(scope.get("tailsight.batch.spans"))
        arrived = own or min(spans, all_spans)
        yield {
            "received_at": f"{received_ns // 10**9}.{received_ns % 10**9 // 10**6:03}",
            "sender": sender,
            "number": number,
            "priority": _text(scope.get("tailsight.batch.priority")),
            "service": _text(resource.get("service.name")),
            "host": _text(resource.get("host.name")),
            "region": _text(resource.get("cloud.region")),
            "hardware": _text(resource.get("tailsight.hardware")),
            "version": _text(resource.get("service.version")),
            "run": _text(resource.get("tailsight.run")),
            "spans": spans,
            "arrived": arrived,
            "rejected": min(arrived, own_rejected if own else all_rejected),
            "recorded": _int(scope.get("tailsight.sender.recorded")),
            "sent_total": _int(scope.get("tailsight.sender.spans")),
            "dropped": _counts(scope.get("tailsight.sender.dropped")),
            "sampled_out": _counts(scope.get("tailsight.sender.sampled_out")),
            "kept": _counts(scope.get("tailsight.sender.kept")),
            "last": scope.get("tailsight.sender.last") is True,
        }


def _text(value: AttributeValue) -> str:
    return value if isinstance(value, str) else ""


def _int(value: AttributeValue) -> int:
    return max(0, value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _counts(value: AttributeValue) -> dict[str, int]:
    return {key: _int(count) for key, count in value.items()} if isinstance(value, dict) else {}


def _power_of_10(exponent: int) -> tuple[int, int]:
    """Return 10^exponent as the upper and lower half of a significand of 128 bits, rounded up."""
    if exponent >= 0:
        power = 10**exponent
        shift = power.bit_length() - 128
        significand = -(-power >> shift) if shift > 0 else power << -shift
    else:
        power = 10**-exponent
        significand = -(-(1 << 127 + power.bit_length()) // power)
    return significand >> 64, significand & 0xFFFF_FFFF_FFFF_FFFF


def _load() -> tuple[Decoder | None, str]:
    if os.environ.get("TAILSIGHT_NATIVE") == "0":
        return None, "TAILSIGHT_NATIVE=0"
    try:
        module = cast("Decoder", import_module("._otlp", __package__))
    except Exception as error:  # not built, or for another Python
        return None, str(error)
    if getattr(module, "BUILD", None) != BUILD:
        return None, "it was built from another version: run pip install again"
    module.set_up(b"".join(struct.pack("<QQ", *_power_of_10(each)) for each in _POWERS), secrets.randbits(64) | 1)
    return module, ""


decoder, why_not = _load()
"""The C module, or None and the reason."""
