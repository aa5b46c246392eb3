"""OTLP over gRPC: `TraceService/Export` and `MetricsService/Export`, bytes in and bytes out.

grpcio carries messages and never looks into them. It does not unpack them either (`per_message_decompression` is off):
older versions of it unpack a bomb whole before they compare its size, and what it refuses by itself nobody counts.
A handler is called before its message is read, so that who may not send, or comes too often, costs no memory.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

# What strangers send is no news of ours: grpcio's core writes a line about every odd frame to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # type: ignore[import-untyped]

from tailsight_collector.errors import (
    AccessError,
    BadRequestError,
    BusyError,
    JournalError,
    JournalFullError,
    RateLimitError,
)
from tailsight_collector.guard.access import Access, Caller
from tailsight_collector.guard.tokens import INGEST
from tailsight_collector.receive.in_flight import Held, InFlight
from tailsight_collector.receive.intake import Intake
from tailsight_collector.receive.packing import PACKED_WEIGHT, unpack
from tailsight_collector.receive.signals import PROTOBUF, Signal

log = logging.getLogger(__name__)

PROTOCOL = "grpc"
# As with HTTP: nobody was there to be told.
CLIENT_LEFT = 499
RETRY_AFTER_S = 5
GRACE_S = 5.0
QUICK_S = 1.0
"""How long a message may take to arrive before it needs one of the places for slow ones."""
SLOW_S = 30.0
"""How long it may take at all."""
MAX_CONNECTIONS = 12_000
MAX_STREAMS = 128
"""Calls at once on one connection; a client's further ones wait on its own side."""
MAX_METADATA_BYTES = 16 * 1024
_MAX_DETAILS = 1000
_GZIP_MAGIC = b"\x1f\x8b"  # no protobuf message begins so: 0x1f is field 3 of wire type 7, which there is not
_IDENTITY_AND_GZIP = 0b101

# The code that stands for an HTTP status; those with a RetryInfo tell the client to keep its data.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_RETRYABLE = (429, 503)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not answered with OK, by the HTTP status that stands for it."""

    status: int
    message: str
    retry_after_s: float = RETRY_AFTER_S

    async def abort(self, context: Any) -> None:
        """End the call; raises always, as grpcio wants it."""
        code = _CODES.get(self.status, grpc.StatusCode.UNKNOWN)
        details = self.message[:_MAX_DETAILS]
        trailers: tuple[tuple[str, bytes], ...] = ()
        if self.status in _RETRYABLE:
            delay = AnyMessage()
            delay.Pack(
                RetryInfo(
                    retry_delay=Duration(seconds=int(self.retry_after_s), nanos=int(self.retry_after_s % 1 * 1e9))
                )
            )
            status = Status(code=code.value[0], message=details, details=[delay])
            trailers = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(code, details, trailers)


class OtlpGrpc(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no type information
    """The gRPC port: one method an intake. `start` and `close` belong into one running event loop."""

    def __init__(self, *intakes: Intake, access: Access, max_connections: int = MAX_CONNECTIONS) -> None:
        max_request_bytes = max(intake.max_request_bytes for intake in intakes)
        self.in_flight = InFlight(max_request_bytes)
        self._taking: set[asyncio.Task[bytes]] = set()
        self._methods = {
            method_of(intake.signal): grpc.stream_unary_rpc_method_handler(
                _Export(intake, access, self.in_flight, self._taking).answer
            )
            for intake in intakes
        }
        self._unknown = grpc.stream_unary_rpc_method_handler(self._no_method)
        self._server = grpc.aio.server(handlers=(self,), options=_options(max_request_bytes, max_connections))

    async def start(self, host: str, port: int, credentials: Any = None) -> int:
        """Listen and return the port; `credentials` are grpc.ServerCredentials. Raises OSError if that fails."""
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            if credentials is None:
                bound = self._server.add_insecure_port(address)
            else:
                bound = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"{address} cannot be bound: {error}") from None
        await self._server.start()
        return int(bound)

    async def close(self) -> None:
        """Take no more calls, and return when those that were taken are answered, or have had their time for it."""
        await self._server.stop(GRACE_S)
        if self._taking:  # whose client has left: they are written down all the same
            await asyncio.wait(self._taking)

    def service(self, handler_call_details: Any) -> Any:
        """Find a method's handler, as grpcio asks for it."""
        return self._methods.get(handler_call_details.method, self._unknown)

    async def _no_method(self, _: Any, context: Any) -> None:
        await Refusal(501, f"there is {' and '.join(method.lstrip('/') for method in self._methods)} here").abort(
            context
        )


class _Export:
    """One signal's method: gRPC in front of its intake."""

    def __init__(self, intake: Intake, access: Access, in_flight: InFlight, taking: set[asyncio.Task[bytes]]) -> None:
        self._intake = intake
        self._access = access
        self._in_flight = in_flight
        self._taking = taking

    async def answer(self, _: Any, context: Any) -> bytes:
        """Take a call and answer it."""
        counts = self._intake.counts
        counts.requests += 1
        began_s = time.perf_counter()
        status = CLIENT_LEFT
        try:
            outcome = await self._outcome(context)
            status = 200 if isinstance(outcome, bytes) else outcome.status
        finally:
            counts.answer(PROTOCOL, status, 0, time.perf_counter() - began_s)
        if isinstance(outcome, bytes):
            return outcome
        counts.refused_requests[outcome.status] += 1
        await outcome.abort(context)
        raise AssertionError("abort has returned")

    async def _outcome(self, context: Any) -> bytes | Refusal:
        try:
            caller = self._caller(context)
            with ExitStack() as holding:
                held = holding.enter_context(self._in_flight.request())
                message = await self._message(context)
                self._intake.counts.received_bytes[PROTOCOL] += len(message)
                caller.charge(len(message))
                held.add(len(message))
                # from here on it is finished also where the client leaves, and held until then
                return await self._uncancelled(self._take(message, held, holding.pop_all()))
        except RateLimitError as error:
            return Refusal(error.status, str(error), error.retry_after_s)
        except (AccessError, BadRequestError) as error:
            return Refusal(error.status, str(error))
        except (BusyError, JournalFullError) as error:
            return Refusal(503, f"try again later: {error}")
        except (JournalError, OSError) as error:
            return Refusal(503, f"nothing can be written now, try again later: {error}")
        except Exception:
            log.exception("%s failed", self._intake.signal.path)
            return Refusal(500, "the collector failed; its log says why")

    def _caller(self, context: Any) -> Caller:
        """Find out who calls, before anything of the message is read; raises AccessError or BadRequestError."""
        metadata = context.invocation_metadata() or ()
        size_bytes = sum(len(key) + len(value) for key, value in metadata)
        if size_bytes > MAX_METADATA_BYTES:  # grpcio's own limit lets megabytes through (1.85): it trusts its clients
            raise BadRequestError(f"the metadata is {size_bytes} bytes long, of {MAX_METADATA_BYTES} at most", 431)
        caller = self._access.caller(dict(metadata))
        caller.require(INGEST)
        caller.admit()
        return caller

    async def _message(self, context: Any) -> bytes:
        """Read the one message of a call, as it came."""
        reading: asyncio.Future[Any] = asyncio.ensure_future(context.read())
        try:
            await asyncio.wait((reading,), timeout=QUICK_S)
            if not reading.done():
                with self._in_flight.slowly():
                    await asyncio.wait((reading,), timeout=SLOW_S - QUICK_S)
            if not reading.done():
                raise BusyError(f"the request did not arrive within {SLOW_S:g} s")
        finally:
            reading.cancel()
        message = reading.result()
        if not isinstance(message, bytes):  # EOF: grpcio itself has refused it, the client has left, or sent none
            raise BadRequestError("the call came without a whole message")
        return message

    async def _take(self, message: bytes, held: Held, holding: ExitStack) -> bytes:
        with holding:
            return await self._intake.take(await self._unpacked(message, held), PROTOBUF)

    async def _unpacked(self, message: bytes, held: Held) -> bytes:
        if not message.startswith(_GZIP_MAGIC):
            return message
        limit = self._intake.max_request_bytes
        body = await self._intake.maybe_elsewhere(len(message) * PACKED_WEIGHT, lambda: unpack(message, "gzip", limit))
        held.add(len(body))  # before it is decoded: while it waits for that, others are unpacked
        return body

    async def _uncancelled(self, work: Coroutine[Any, Any, bytes]) -> bytes:
        """Finish what was begun whatever becomes of the call: it is counted as what became of it."""
        task = asyncio.ensure_future(work)
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        return await asyncio.shield(task)


def method_of(signal: Signal) -> str:
    """Name the gRPC method that takes a signal: its message is declared beside the one service that takes it."""
    [service] = signal.message.DESCRIPTOR.file.services_by_name.values()
    return f"/{service.full_name}/Export"


def _options(max_request_bytes: int, max_connections: int) -> tuple[tuple[str, int], ...]:
    return (
        ("grpc.max_receive_message_length", max_request_bytes),
        ("grpc.per_message_decompression", 0),
        ("grpc.compression_enabled_algorithms_bitset", _IDENTITY_AND_GZIP),
        ("grpc.so_reuseport", 0),  # else two collectors listen on one port, and neither knows
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", 10 * 60_000),
        # who has gone without a word is noticed; who asks often whether we live is not sent away for it
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    )
