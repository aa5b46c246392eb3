"""OTLP over HTTP: `POST /v1/traces` and `POST /v1/metrics` in protobuf or JSON, `GET /healthz` and `GET /metrics`.

Beside OTLP, reports of gates and profiles (kept_documents.py).

A request is unpacked, decoded and checked, journaled with fsync, and only then answered 200.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.rpc.status_pb2 import Status
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tailsight_collector.errors import (
    AccessError,
    BadRequestError,
    BusyError,
    JournalError,
    JournalFullError,
    UnauthenticatedError,
)
from tailsight_collector.guard.access import Access, Caller
from tailsight_collector.guard.guarded import Guarded, caller_of
from tailsight_collector.guard.names import check_own_name
from tailsight_collector.guard.tokens import INGEST, READ
from tailsight_collector.receive.in_flight import Held, InFlight
from tailsight_collector.receive.intake import Intake
from tailsight_collector.receive.kept_documents import KeptDocuments
from tailsight_collector.receive.packing import PACKED_WEIGHT, PLAIN, unpack
from tailsight_collector.receive.signals import JSON, PROTOBUF

RETRY_AFTER_S = 5
PROTOCOL = "http"
# What nobody was there to be told: nginx's word for a client that left.
CLIENT_LEFT = 499
# google.rpc.Code by HTTP status, for the body of an error.
_RPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14}


class OtlpHttp:
    """The handlers of the OTLP/HTTP port, one route an intake."""

    def __init__(
        self,
        *intakes: Intake,
        health: Callable[[Caller], dict[str, object]],
        metrics: Callable[[str], tuple[bytes, str]],
        access: Access | None = None,
        only_name: str = "",
        kept: Sequence[KeptDocuments] = (),
    ) -> None:
        """`metrics` makes the page of `/metrics` and its content type, by what the client accepts.

        `only_name`: beside addresses, the one host name that requests may be for; any, where there is none.
        """
        self._intakes = intakes
        self._health = health
        self._metrics = metrics
        self.in_flight = InFlight(max(intake.max_request_bytes for intake in intakes))
        self._access = access or Access()
        self._only_name = only_name
        self._kept = kept

    def app(self) -> Guarded:
        """Return the ASGI application, behind its door."""
        return Guarded(
            self._app(), self._access, scopes_of=_scopes_of, refuse=self._refuse, check_name=self._check_name
        )

    def _check_name(self, request: Request) -> None:
        if self._only_name:
            check_own_name(request, self._only_name)

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                *(
                    Route(intake.signal.path, _Endpoint(intake, self.in_flight).answer, methods=["POST"])
                    for intake in self._intakes
                ),
                *(documents.route(self.in_flight) for documents in self._kept),
                Route("/healthz", self._healthz, methods=["GET"]),
                Route("/metrics", self._page, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._no_route, Exception: _defect},
        )

    async def _healthz(self, request: Request) -> Response:
        health = self._health(caller_of(request))
        return JSONResponse(health, 503 if health["status"] == "failed" else 200)

    async def _page(self, request: Request) -> Response:
        page, kind = self._metrics(request.headers.get("accept", ""))
        return Response(page, headers={"Content-Type": kind})

    def _refuse(self, request: Request, error: AccessError) -> Response:
        """Answer who may not send; the body is not looked at."""
        for intake in self._intakes:
            if intake.signal.path == request.scope["path"]:
                intake.counts.requests += 1
                intake.counts.refused_requests[error.status] += 1
                intake.counts.answer(PROTOCOL, error.status, 0, 0.0)
        headers = {"WWW-Authenticate": 'Bearer realm="tailsight"'} if isinstance(error, UnauthenticatedError) else None
        return _status_response(_encoding_of(request) or JSON, error.status, str(error), headers)

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        there = ", ".join(f"POST {intake.signal.path}" for intake in self._intakes)
        message = f"{request.method} {request.scope['path']}: there is {there}, GET /healthz and GET /metrics here"
        headers = dict(error.headers) if isinstance(error, HTTPException) and error.headers else None
        return _status_response(_encoding_of(request) or JSON, status, message, headers)


class _Endpoint:
    """One signal's route: HTTP in front of its intake."""

    def __init__(self, intake: Intake, in_flight: InFlight) -> None:
        self._intake = intake
        self._in_flight = in_flight

    async def answer(self, request: Request) -> Response:
        """Take a request and answer it, a refusal with a google.rpc.Status in the request's own encoding."""
        began_s = time.perf_counter()
        counts = self._intake.counts
        counts.requests += 1
        arrived = _Arrived()
        status = 500
        try:
            with self._in_flight.request(is_there=False) as held:
                answer = await self._answer(request, held, arrived)
                status = answer.status_code
                return answer
        except BusyError as error:
            answer = self._refusal(_encoding_of(request) or PROTOBUF, 503, f"try again later: {error}")
            status = 503
            return answer
        finally:
            counts.answer(PROTOCOL, status, arrived.size_bytes, time.perf_counter() - began_s)

    async def _answer(self, request: Request, held: Held, arrived: _Arrived) -> Response:
        encoding = _encoding_of(request)
        try:
            if encoding is None:
                shown = request.headers.get("content-type", "")
                raise BadRequestError(f"Content-Type {shown!r} is not OTLP; send {PROTOBUF} or {JSON}", 415)
            body = await self._body(request, held, arrived)
            return Response(await self._intake.take(body, encoding), media_type=encoding)
        except BadRequestError as error:
            return self._refusal(encoding or PROTOBUF, error.status, str(error))
        except JournalFullError as error:
            return self._refusal(encoding or PROTOBUF, 503, f"try again later: {error}")
        except (JournalError, OSError) as error:
            return self._refusal(encoding or PROTOBUF, 503, f"nothing can be written now, try again later: {error}")
        except ClientDisconnect:
            return self._refusal(encoding or PROTOBUF, CLIENT_LEFT, "the client left before its request was whole")

    async def _body(self, request: Request, held: Held, arrived: _Arrived) -> bytes:
        """Read and decompress a body; neither form may be larger than the limit, nor than there is room for."""
        limit = self._intake.max_request_bytes
        length = request.headers.get("content-length", "")
        announced = int(length) if length.isdecimal() else 0  # a lie is found out as the body comes
        self._check_size(announced)
        self._in_flight.check_room(announced)
        arriving = io.BytesIO()  # which gives its bytes without another copy of them
        async with held.arriving():
            async for part in request.stream():
                arrived.size_bytes += len(part)
                self._check_size(arrived.size_bytes)
                held.add(len(part))
                arriving.write(part)
        held.arrive()
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding in PLAIN:
            return arriving.getvalue()
        weight = arrived.size_bytes * PACKED_WEIGHT
        body = await self._intake.maybe_elsewhere(weight, lambda: unpack(arriving.getvalue(), coding, limit))
        held.add(len(body))  # before it is decoded: while it waits for that, others are unpacked
        return body

    def _check_size(self, size_bytes: int) -> None:
        limit = self._intake.max_request_bytes
        if size_bytes > limit:
            raise BadRequestError(f"the body is larger than {limit} bytes; send smaller batches", 413)

    def _refusal(self, encoding: str, status: int, message: str) -> Response:
        self._intake.counts.refused_requests[status] += 1
        headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
        return _status_response(encoding, status, message, headers)


@dataclass(slots=True)
class _Arrived:
    """How much of a request has come."""

    size_bytes: int = 0


def _scopes_of(path: str) -> tuple[str, ...]:
    if path == "/healthz":
        return ()
    return (INGEST, READ) if path == "/metrics" else (INGEST,)


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
