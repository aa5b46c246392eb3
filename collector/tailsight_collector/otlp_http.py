"""OTLP over HTTP: `POST /v1/traces` and `POST /v1/metrics` in protobuf or JSON, and `GET /healthz`.

A request is decoded and checked, journaled with fsync, and only then answered 200. What is written down is the message
as it was understood, encoded again: duplicated fields, odd wire types and unknown fields would be read by the database
in another way than by the check, and the client must be told what really happens.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import zstandard
from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import BadRequestError, JournalError, JournalFullError
from tailsight_collector.journal import Journal
from tailsight_collector.records import encode_record
from tailsight_collector.signals import JSON, METRICS, PROTOBUF, TRACES, Outcome, Signal

T = TypeVar("T")

RETRY_AFTER_S = 5
# Above this, decoding would hold up everybody else on the event loop.
INLINE_BYTES = 256 * 1024
PACKED_WEIGHT = 16
DECODERS = 2
_PLAIN = ("", "identity")
_SLICE_BYTES = 1024
MAX_MEMBERS = 100
_ZSTD_MAX_WINDOW_BYTES = 128 * 1024 * 1024
# google.rpc.Code by HTTP status, for the body of an error.
_RPC_CODES = {400: 3, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


@dataclass(slots=True)
class Counts:
    """What came in of one signal since the start: spans of traces, data points of metrics."""

    requests: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    refused_requests: Counter[int] = field(default_factory=Counter)


class OtlpReceiver:
    """The handlers of the OTLP port: one intake a signal, each with a journal of its own."""

    def __init__(
        self, traces: Journal, metrics: Journal, *, max_request_bytes: int, health: Callable[[], dict[str, object]]
    ) -> None:
        self._threads = ThreadPoolExecutor(DECODERS, thread_name_prefix="tailsight-decode")
        self._traces = _Intake(TRACES, traces, self._threads, max_request_bytes)
        self._metrics = _Intake(METRICS, metrics, self._threads, max_request_bytes)
        self._health = health

    @property
    def traces(self) -> Counts:
        """What came in of spans."""
        return self._traces.counts

    @property
    def metrics(self) -> Counts:
        """What came in of data points."""
        return self._metrics.counts

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                Route(TRACES.path, self._traces.answer, methods=["POST"]),
                Route(METRICS.path, self._metrics.answer, methods=["POST"]),
                Route("/healthz", self._healthz, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _no_route, Exception: _defect},
        )

    def close(self) -> None:
        """End the decoding threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _healthz(self, _: Request) -> Response:
        health = self._health()
        return JSONResponse(health, 503 if health["status"] == "failed" else 200)


class _Intake:
    """One signal's way from a request into its journal."""

    def __init__(self, signal: Signal, journal: Journal, threads: Executor, max_request_bytes: int) -> None:
        self.counts = Counts()
        self._signal = signal
        self._journal = journal
        self._threads = threads
        self._max_request_bytes = max_request_bytes

    async def answer(self, request: Request) -> Response:
        """Take a request: decoded and checked, in the journal, answered."""
        self.counts.requests += 1
        encoding = _encoding_of(request)
        try:
            if encoding is None:
                shown = request.headers.get("content-type", "")
                raise BadRequestError(f"Content-Type {shown!r} is not OTLP; send {PROTOBUF} or {JSON}", 415)
            body = await self._body(request)
            received = await self._maybe_elsewhere(len(body), lambda: self._signal.decode(body, encoding))
            answer = Response(self._signal.success(received.outcome, encoding), media_type=encoding)
            if received.outcome.is_worth_storing:
                record = encode_record(received.encoded, received.received_ns)
                await asyncio.wrap_future(self._journal.append(record))
        except BadRequestError as error:
            return self._refusal(encoding or PROTOBUF, error.status, str(error))
        except JournalFullError as error:
            return self._refusal(encoding or PROTOBUF, 503, f"try again later: {error}")
        except (JournalError, OSError) as error:
            return self._refusal(encoding or PROTOBUF, 503, f"nothing can be written now, try again later: {error}")
        except ClientDisconnect:
            return self._refusal(encoding or PROTOBUF, 400, "the client left before its request was whole")
        self._count(received.outcome)
        return answer

    def _count(self, outcome: Outcome) -> None:
        self.counts.accepted += outcome.total - outcome.rejected.total()
        self.counts.rejected.update(outcome.rejected)

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
        # packed bodies count for more: what a kilobyte unpacks to is not known yet
        weight = 0 if coding in _PLAIN else size * PACKED_WEIGHT
        return await self._maybe_elsewhere(weight, lambda: _decompress(b"".join(parts), coding, limit))

    async def _maybe_elsewhere(self, size: int, work: Callable[[], T]) -> T:
        """Do small work here and large work in a thread of the receiver's own."""
        if size <= INLINE_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _refusal(self, encoding: str, status: int, message: str) -> Response:
        self.counts.refused_requests[status] += 1
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return _status_response(encoding, status, message, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    there = f"POST {TRACES.path}, POST {METRICS.path} and GET /healthz"
    message = f"{request.method} {request.url.path}: there is {there} here"
    headers = dict(error.headers) if isinstance(error, HTTPException) and error.headers else None
    return _status_response(_encoding_of(request) or JSON, status, message, headers)


async def _defect(request: Request, _: Exception) -> Response:
    return _status_response(_encoding_of(request) or JSON, 500, "the collector failed; its log says why", None)


def _encoding_of(request: Request) -> str | None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return JSON
    return PROTOBUF if kind in (PROTOBUF, "application/protobuf") else None


def _decompress(body: bytes, coding: str, limit: int) -> bytes:
    if coding in _PLAIN:
        return body
    if coding == "gzip":
        return _gunzip(body, limit)
    if coding == "zstd":
        return _unzstd(body, limit)
    raise BadRequestError(f"Content-Encoding {coding!r} is not supported; send identity, gzip or zstd", 415)


def _gunzip(body: bytes, limit: int) -> bytes:
    return _unpack(body, limit, "gzip", lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 16), zlib.error)


def _unzstd(body: bytes, limit: int) -> bytes:
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW_BYTES)
    return _unpack(body, limit, "zstd", unpacker.decompressobj, zstandard.ZstdError)


class _Member(Protocol):
    """What zlib and zstandard have in common: one member (gzip) or frame (zstd) being unpacked."""

    eof: bool
    unused_data: bytes

    def decompress(self, data: bytes, /) -> bytes: ...


def _unpack(body: bytes, limit: int, coding: str, new_member: Callable[[], Any], failure: type[Exception]) -> bytes:
    """Unpack a body of one or several members, in small slices: a bomb's kilobyte unpacks to many megabytes."""
    out: list[bytes] = []
    left = limit
    position = 0
    for _ in range(MAX_MEMBERS):
        member: _Member = new_member()
        while not member.eof and position < len(body):
            piece = body[position : position + _SLICE_BYTES]
            try:
                part = member.decompress(piece)
            except failure as error:
                raise BadRequestError(f"the body is not {coding}: {error}") from None
            position += len(piece) - len(member.unused_data)
            left -= len(part)
            if left < 0:
                raise BadRequestError(f"the body is larger than {limit} bytes unpacked; send smaller batches", 413)
            out.append(part)
        if not member.eof:
            raise BadRequestError(f"the {coding} body is cut off")
        if position == len(body):
            return b"".join(out)
    raise BadRequestError(f"the {coding} body has more than {MAX_MEMBERS} members")


def _status_response(encoding: str, status: int, message: str, headers: dict[str, str] | None) -> Response:
    """Build an error's body: a google.rpc.Status in the request's own encoding, as OTLP asks for."""
    code = _RPC_CODES.get(status, 2)
    if encoding == JSON:
        return Response(json.dumps({"code": code, "message": message}), status, headers, JSON)
    return Response(Status(code=code, message=message).SerializeToString(), status, headers, PROTOBUF)
