"""What one file becomes, kept aside until all of it is read: then it is known that it can be read, and what it is.

A file's content has an identity, the SHA-256 of its requests; its batches are numbered under it, as our SDK numbers its
own (docs/analysis/delivery.md). So a collector, which remembers such numbers, stores a file once however often it is
sent, and an import that was cut off goes on where it was. Requests that a file brings with numbers of their own (our
SDK wrote it) keep those.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from types import TracebackType
from typing import Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tailsight.attributes import BATCH_NUMBER, BATCH_SPANS, SENDER_ID, SENDER_RECORDED, SENDER_SPANS
from tailsight_collector.importing.source import room_needed
from tailsight_collector.importing.values import put
from tailsight_collector.keep.records import encode_varint
from tailsight_collector.receive.checks import MAX_UNFOLDED_BYTES

IN_MEMORY_BYTES = 16 * 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_SPANS_MOST = 5_000
# A request that is larger is taken apart; a collector takes 64 MiB, but a request of that size needs much memory there.
WHOLE_BYTES = 8 * 1024 * 1024
# And so does one whose resources, as often as they have spans, are more: a collector takes four times as much.
UNFOLDED_BYTES = MAX_UNFOLDED_BYTES // 4
SENDER_PREFIX = "import-"


@dataclass(frozen=True, slots=True)
class Batch:
    """An encoded request and its spans. `numbering`: a request that says its number; behind `body` both are one.

    Empty where the body says a number itself.
    """

    body: bytes
    spans: int
    numbering: bytes


class Spool:
    """Takes a file's requests, and gives them back as numbered batches."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="tailsight-import-")  # noqa: SIM115 - __exit__
        self._digest = sha256()
        self._parts: list[bytes] = []
        self._part_bytes = 0
        self._part_spans = 0
        self._part_unfolded = 0
        self.spans = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, request: ExportTraceServiceRequest) -> None:
        """Keep a request."""
        for piece in pieces(request):
            body = piece.SerializeToString(deterministic=True)
            spans = spans_in(piece)
            self.spans += spans
            if senders_in(piece):
                self._flush()
                self._write(b"\x01", spans, body)
                continue
            unfolded = unfolded_bytes(piece)
            if self._parts and self._part_unfolded + unfolded > 2 * UNFOLDED_BYTES:
                self._flush()
            self._part_unfolded += unfolded
            self._parts.append(body)  # repeated fields: requests behind each other are one request
            self._part_bytes += len(body)
            self._part_spans += spans
            if self._part_bytes >= BATCH_BYTES or self._part_spans >= BATCH_SPANS_MOST:
                self._flush()

    @property
    def sender(self) -> str:
        """Under which name its batches are numbered: the same content has the same."""
        self._flush()
        return SENDER_PREFIX + self._digest.hexdigest()[:32]

    def batches(self) -> Iterator[Batch]:
        """Yield what was kept; the same each time."""
        sender = self.sender
        self._file.seek(0)
        number = sent = 0
        while head := self._file.read(13):
            spans, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
            body = self._file.read(size)
            numbering = b""
            if head[:1] == b"\x00":
                number += 1
                sent += spans
                numbering = _numbered(sender, number, spans, sent, self.spans)
            yield Batch(body, spans, numbering)

    def _flush(self) -> None:
        if self._parts:
            self._write(b"\x00", self._part_spans, b"".join(self._parts))
            self._parts, self._part_bytes, self._part_spans, self._part_unfolded = [], 0, 0, 0

    def _write(self, kind: bytes, spans: int, body: bytes) -> None:
        self._digest.update(encode_varint(len(body)))
        self._digest.update(body)
        with room_needed():
            self._file.write(kind + spans.to_bytes(4, "little") + len(body).to_bytes(8, "little"))
            self._file.write(body)


def spans_in(request: ExportTraceServiceRequest) -> int:
    """Count a request's spans."""
    return sum(len(scoped.spans) for of_resource in request.resource_spans for scoped in of_resource.scope_spans)


def unfolded_bytes(request: ExportTraceServiceRequest) -> int:
    """Count its resources and scopes as often as they have spans."""
    return sum(
        len(scoped.spans) * (of_resource.resource.ByteSize() + scoped.scope.ByteSize())
        for of_resource in request.resource_spans
        for scoped in of_resource.scope_spans
    )


def senders_in(request: ExportTraceServiceRequest) -> int:
    """Count the scopes in which a sender numbers its batch."""
    return sum(
        any(pair.key == BATCH_NUMBER for pair in scoped.scope.attributes)
        for of_resource in request.resource_spans
        for scoped in of_resource.scope_spans
    )


def pieces(request: ExportTraceServiceRequest) -> Iterator[ExportTraceServiceRequest]:
    """Take a request apart that is very large, here or in the store, or is several numbered batches."""
    numbered = senders_in(request)
    is_small = request.ByteSize() <= WHOLE_BYTES and unfolded_bytes(request) <= UNFOLDED_BYTES
    if numbered <= 1 and (numbered or is_small):
        yield request
        return
    for of_resource in request.resource_spans:
        for scoped in of_resource.scope_spans:
            remaining = list(scoped.spans)
            most = max(1, UNFOLDED_BYTES // max(1, of_resource.resource.ByteSize() + scoped.scope.ByteSize()))
            while True:
                piece = ExportTraceServiceRequest()
                target = piece.resource_spans.add(schema_url=of_resource.schema_url)
                target.resource.CopyFrom(of_resource.resource)
                part = target.scope_spans.add(schema_url=scoped.schema_url)
                part.scope.CopyFrom(scoped.scope)
                size = count = 0
                while count < len(remaining) and (not count or (size < BATCH_BYTES and count < most) or numbered):
                    size += remaining[count].ByteSize()
                    count += 1
                part.spans.extend(remaining[:count])
                del remaining[:count]
                yield piece
                if not remaining:
                    break


def _numbered(sender: str, number: int, spans: int, sent: int, recorded: int) -> bytes:
    """Say which batch this is, in a scope of its own without spans: spans that carry it too would be larger for it."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add().scope
    scope.name = "tailsight import"
    for key, value in (
        (SENDER_ID, sender),
        (BATCH_NUMBER, number),
        (BATCH_SPANS, spans),
        (SENDER_RECORDED, recorded),
        (SENDER_SPANS, sent),
    ):
        put(scope.attributes, key, value)
    return request.SerializeToString(deterministic=True)
