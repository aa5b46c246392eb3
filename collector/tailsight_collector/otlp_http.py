"""OTLP over HTTP: `POST /v1/traces` and `POST /v1/metrics` in protobuf or JSON, and `GET /healthz`.

A request is unpacked, decoded and checked, journaled with fsync, and only then answered 200.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import BadRequestError, JournalError, JournalFullError
from tailsight_collector.intake import Intake
from tailsight_collector.packing import PACKED_WEIGHT, PLAIN, unpack
from tailsight_collector.signals import JSON, PROTOBUF

RETRY_AFTER_S = 5
# google.rpc.Code by HTTP status, for the body of an error.
_RPC_CODES = {400: 3, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


class OtlpHttp:
    """The handlers of the OTLP/HTTP port, one route an intake."""

    def __init__(self, *intakes: Intake, health: Callable[[], dict[str, object]]) -> None:
        self._intakes = intakes
        self._health = health

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                *(Route(intake.signal.path, _Endpoint(intake).answer, methods=["POST"]) for intake in self._intakes),
                Route("/healthz", self._healthz, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._no_route, Exception: _defect},
        )

    async def _healthz(self, _: Request) -> Response:
        health = self._health()
        return JSONResponse(health, 503 if health["status"] == "failed" else 200)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        there = ", ".join(f"POST {intake.signal.path}" for intake in self._intakes)
        message = f"{request.method} {request.url.path}: there is {there} and GET /healthz here"
        headers = dict(error.headers) if isinstance(error, HTTPException) and error.headers else None
        return _status_response(_encoding_of(request) or JSON, status, message, headers)


class _Endpoint:
    """One signal's route: HTTP in front of its intake."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def answer(self, request: Request) -> Response:
        """Take a request and answer it, a refusal with a google.rpc.Status in the request's own encoding."""
        self._intake.counts.requests += 1
        encoding = _encoding_of(request)
        try:
            if encoding is None:
                shown = request.headers.get("content-type", "")
                raise BadRequestError(f"Content-Type {shown!r} is not OTLP; send {PROTOBUF} or {JSON}", 415)
            return Response(await self._intake.take(await self._body(request), encoding), media_type=encoding)
        except BadRequestError as error:
            return self._refusal(encoding or PROTOBUF, error.status, str(error))
        except JournalFullError as error:
            return self._refusal(encoding or PROTOBUF, 503, f"try again later: {error}")
        except (JournalError, OSError) as error:
            return self._refusal(encoding or PROTOBUF, 503, f"nothing can be written now, try again later: {error}")
        except ClientDisconnect:
            return self._refusal(encoding or PROTOBUF, 400, "the client left before its request was whole")

    async def _body(self, request: Request) -> bytes:
        """Read and decompress a body; neither form may be larger than the limit."""
        limit = self._intake.max_request_bytes
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise BadRequestError(f"the body is larger than {limit} bytes; send smaller batches", 413)
            parts.append(part)
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        weight = 0 if coding in PLAIN else size * PACKED_WEIGHT
        return await self._intake.maybe_elsewhere(weight, lambda: unpack(b"".join(parts), coding, limit))

    def _refusal(self, encoding: str, status: int, message: str) -> Response:
        self._intake.counts.refused_requests[status] += 1
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return _status_response(encoding, status, message, headers)


async def _defect(request: Request, _: Exception) -> Response:
    return _status_response(_encoding_of(request) or JSON, 500, "the collector failed; its log says why", None)


def _encoding_of(request: Request) -> str | None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return JSON
    return PROTOBUF if kind in (PROTOBUF, "application/protobuf") else None


def _status_response(encoding: str, status: int, message: str, headers: dict[str, str] | None) -> Response:
    """Build an error's body: a google.rpc.Status in the request's own encoding, as OTLP asks for."""
    code = _RPC_CODES.get(status, 2)
    if encoding == JSON:
        return Response(json.dumps({"code": code, "message": message}), status, headers, JSON)
    return Response(Status(code=code, message=message).SerializeToString(), status, headers, PROTOBUF)
