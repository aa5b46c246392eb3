"""A gRPC client that shows everything of an answer, and one that writes HTTP/2 frames by hand."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc  # type: ignore[import-untyped]
import h2.config
import h2.connection
import h2.events
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
GZIP = grpc.Compression.Gzip
PATIENCE_S = 30


@dataclass(frozen=True)
class GrpcAnswer:
    """What a call came to."""

    code: str
    body: bytes = b""
    details: str = ""
    status: Status | None = None

    @property
    def retry_delay_s(self) -> float | None:
        """The delay of a RetryInfo in `grpc-status-details-bin`; None without one."""
        for detail in self.status.details if self.status else ():
            info = RetryInfo()
            if detail.Unpack(info):
                return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
        return None


class GrpcClient:
    """A channel to a collector; bytes in, bytes out."""

    def __init__(self, target: str, **options: int) -> None:
        limits = {"grpc.max_send_message_length": -1, "grpc.enable_retries": 0, **options}
        self.channel = grpc.insecure_channel(target, options=tuple(limits.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def export(
        self,
        body: bytes,
        method: str = TRACES,
        *,
        compression: Any = None,
        metadata: Iterable[tuple[str, str]] = (),
        timeout_s: float = PATIENCE_S,
    ) -> GrpcAnswer:
        call = self.channel.unary_unary(method)
        try:
            return GrpcAnswer("OK", call(body, timeout=timeout_s, compression=compression, metadata=tuple(metadata)))
        except grpc.RpcError as error:
            trailers = dict(error.trailing_metadata() or ())
            packed = trailers.get("grpc-status-details-bin")
            status = Status.FromString(packed) if packed is not None else None
            return GrpcAnswer(error.code().name, b"", error.details() or "", status)


def framed(message: bytes, *, is_packed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message as it stands in DATA frames; `length` may lie."""
    return struct.pack(">BI", is_packed, len(message) if length is None else length) + message


class RawCall:
    """One call on a connection of its own, frame by frame."""

    def __init__(self, target: str, method: str = TRACES, headers: Iterable[tuple[str, str]] = ()) -> None:
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        self._http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        pseudo = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", target)]
        plain = [("content-type", "application/grpc"), ("te", "trailers"), *headers]
        self._http.send_headers(1, [*pseudo, *plain])
        self._flush()

    def send(self, data: bytes, *, ends: bool = False) -> None:
        """Send what the flow control allows at once; more than that is a mistake of the test."""
        self._http.send_data(1, data, end_stream=ends)
        self._flush()

    def end(self) -> None:
        self._http.end_stream(1)
        self._flush()

    def answer(self) -> dict[str, str]:
        """Wait for the end of the call and return the answer's headers and trailers; `reset` where it was cut off."""
        found: dict[str, str] = {}
        while True:
            data = self._socket.recv(65536)
            if not data:
                return found | {"reset": "connection"}
            for event in self._http.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found.update(event.headers)
                if isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return found | {"reset": str(event.error_code)}
                if isinstance(event, h2.events.StreamEnded):
                    return found
            self._flush()

    def close(self) -> None:
        self._socket.close()

    def _flush(self) -> None:
        self._socket.sendall(self._http.data_to_send())


@contextmanager
def raw_call(target: str, method: str = TRACES, headers: Iterable[tuple[str, str]] = ()) -> Iterator[RawCall]:
    """Open a call and close its connection afterwards."""
    call = RawCall(target, method, headers)
    try:
        yield call
    finally:
        call.close()
