"""OTLP over HTTP: `POST /v1/traces` in protobuf or JSON, and `GET /healthz`.

A request is decoded and checked, journaled with fsync, and only then answered 200. What was received is written down as
it came where it came as protobuf; JSON becomes the same protobuf message first.
"""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import zstandard
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector import otlp_json
from tailsight_collector.checks import Checked, check
from tailsight_collector.errors import BadRequestError, JournalError, JournalFullError
from tailsight_collector.journal import Journal
from tailsight_collector.records import encode_record

T = TypeVar("T")

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
RETRY_AFTER_S = 5
# Above this, decoding would hold up everybody else on the event loop.
INLINE_BYTES = 256 * 1024
_ZSTD_SLICE_BYTES = 1024
_ZSTD_MAX_WINDOW_BYTES = 128 * 1024 * 1024
# google.rpc.Code by HTTP status, for the body of an error.
_RPC_CODES = {400: 3, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


@dataclass(slots=True)
class Counts:
    """What came in since the start."""

    requests: int = 0
    accepted_spans: int = 0
    rejected_spans: Counter[str] = field(default_factory=Counter)
    refused_requests: Counter[int] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class _Received:
    """A request that can be stored, in protobuf, with what was found out about it."""

    encoded: bytes
    checked: Checked
    received_ns: int


class TraceReceiver:
    """The handlers of the OTLP port."""

    def __init__(self, journal: Journal, *, max_request_bytes: int, health: Callable[[], dict[str, object]]) -> None:
        self.counts = Counts()
        self._journal = journal
        self._max_request_bytes = max_request_bytes
        self._health = health

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/traces", self._traces, methods=["POST"]),
                Route("/healthz", self._healthz, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._no_route, Exception: self._defect},
        )

    async def _healthz(self, _: Request) -> Response:
        return JSONResponse(self._health())

    async def _traces(self, request: Request) -> Response:
        self.counts.requests += 1
        encoding = _encoding_of(request)
        try:
            if encoding is None:
                shown = request.headers.get("content-type", "")
                raise BadRequestError(f"Content-Type {shown!r} is not OTLP; send {PROTOBUF} or {JSON}", 415)
            body = await self._body(request)
            received = await _maybe_elsewhere(len(body), lambda: _decode(body, encoding))
            if received.checked.spans:
                record = encode_record(received.encoded, received.received_ns)
                await asyncio.wrap_future(self._journal.append(record))
        except BadRequestError as error:
            return self._refusal(encoding or PROTOBUF, error.status, str(error))
        except JournalFullError as error:
            return self._refusal(encoding or PROTOBUF, 503, f"try again later: {error}")
        except (JournalError, OSError) as error:
            return self._refusal(encoding or PROTOBUF, 503, f"nothing can be written now, try again later: {error}")
        except ClientDisconnect:
            return Response(status_code=400)
        self._count(received.checked)
        return _success(encoding, received.checked)

    def _count(self, checked: Checked) -> None:
        self.counts.accepted_spans += checked.spans - checked.rejected.total()
        self.counts.rejected_spans.update(checked.rejected)

    async def _body(self, request: Request) -> bytes:
        """Read and decompress a body; neither form may be larger than the limit."""
        limit = self._max_request_bytes
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise BadRequestError(f"the body is larger than {limit} bytes; send smaller batches", 413)
            parts.append(part)
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        return await _maybe_elsewhere(size, lambda: _decompress(b"".join(parts), coding, limit))

    def _refusal(self, encoding: str, status: int, message: str) -> Response:
        self.counts.refused_requests[status] += 1
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return _status_response(encoding, status, message, headers)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = f"{request.method} {request.url.path}: there is POST /v1/traces and GET /healthz here"
        headers = dict(error.headers) if isinstance(error, HTTPException) and error.headers else None
        return _status_response(_encoding_of(request) or JSON, status, message, headers)

    async def _defect(self, request: Request, _: Exception) -> Response:
        return _status_response(_encoding_of(request) or JSON, 500, "the collector failed; its log says why", None)


def _encoding_of(request: Request) -> str | None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return JSON
    return PROTOBUF if kind in (PROTOBUF, "application/protobuf") else None


async def _maybe_elsewhere(size: int, work: Callable[[], T]) -> T:
    return work() if size <= INLINE_BYTES else await asyncio.to_thread(work)


def _decode(body: bytes, encoding: str) -> _Received:
    received_ns = time.time_ns()
    if encoding == JSON:
        message = otlp_json.parse_traces(body)
        return _Received(message.SerializeToString(), check(message, received_ns), received_ns)
    try:
        message = ExportTraceServiceRequest.FromString(body)
    except DecodeError:
        raise BadRequestError("the body is not a protobuf ExportTraceServiceRequest") from None
    return _Received(body, check(message, received_ns), received_ns)


def _decompress(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("", "identity"):
        return body
    if coding == "gzip":
        return _gunzip(body, limit)
    if coding == "zstd":
        return _unzstd(body, limit)
    raise BadRequestError(f"Content-Encoding {coding!r} is not supported; send identity, gzip or zstd", 415)


def _gunzip(body: bytes, limit: int) -> bytes:
    out: list[bytes] = []
    left = limit
    while body:
        member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error as error:
            raise BadRequestError(f"the body is not gzip: {error}") from None
        if len(part) > left:
            raise BadRequestError(f"the body is larger than {limit} bytes unpacked; send smaller batches", 413)
        if not member.eof:
            raise BadRequestError("the gzip body is cut off")
        left -= len(part)
        out.append(part)
        body = member.unused_data
    return b"".join(out)


def _unzstd(body: bytes, limit: int) -> bytes:
    out: list[bytes] = []
    left = limit
    view = memoryview(body)
    while view:
        frame = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES).decompressobj()
        # In small slices: the library unpacks all that it is given at once, and a bomb's kilobyte is many megabytes.
        while view and not frame.eof:
            piece, view = view[:_ZSTD_SLICE_BYTES], view[_ZSTD_SLICE_BYTES:]
            try:
                part = frame.decompress(piece)
            except zstandard.ZstdError as error:
                raise BadRequestError(f"the body is not zstd: {error}") from None
            left -= len(part)
            if left < 0:
                raise BadRequestError(f"the body is larger than {limit} bytes unpacked; send smaller batches", 413)
            out.append(part)
        if not frame.eof:
            raise BadRequestError("the zstd body is cut off")
        if frame.unused_data:
            view = memoryview(frame.unused_data + bytes(view))
    return b"".join(out)


def _success(encoding: str, checked: Checked) -> Response:
    rejected = checked.rejected.total()
    if encoding == JSON:
        partial = {"rejectedSpans": str(rejected), "errorMessage": checked.message}
        return Response(json.dumps({"partialSuccess": partial} if rejected else {}), media_type=JSON)
    answer = ExportTraceServiceResponse()
    if rejected:
        answer.partial_success.rejected_spans = rejected
        answer.partial_success.error_message = checked.message
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def _status_response(encoding: str, status: int, message: str, headers: dict[str, str] | None) -> Response:
    """Build an error's body: a google.rpc.Status in the request's own encoding, as OTLP asks for."""
    code = _RPC_CODES.get(status, 2)
    if encoding == JSON:
        return Response(json.dumps({"code": code, "message": message}), status, headers, JSON)
    return Response(Status(code=code, message=message).SerializeToString(), status, headers, PROTOBUF)
