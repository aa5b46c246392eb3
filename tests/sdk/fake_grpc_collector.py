"""A real gRPC server on loopback that answers as it is told and remembers what it got. Bytes in, bytes out."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import DebugInfo, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass(frozen=True)
class GrpcReply:
    """What the server answers."""

    code: str = "OK"
    details: str = ""
    retry_info_s: float | None = None
    body: bytes = b""

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        if self.retry_info_s is None:
            return ()
        packed = [AnyMessage(), AnyMessage()]
        packed[0].Pack(DebugInfo(detail="not what is looked for"))
        whole = int(self.retry_info_s)
        delay = Duration(seconds=whole, nanos=round((self.retry_info_s - whole) * 1e9))
        packed[1].Pack(RetryInfo(retry_delay=delay))
        status = Status(code=getattr(grpc.StatusCode, self.code).value[0], message=self.details, details=packed)
        return (("grpc-status-details-bin", status.SerializeToString()),)


@dataclass(frozen=True)
class GrpcReceived:
    """One call as it arrived."""

    at: float  # monotonic seconds
    method: str
    metadata: dict[str, str | bytes]
    body: bytes
    connection: str

    @property
    def spans(self) -> list[Span]:
        message = ExportTraceServiceRequest.FromString(self.body)
        return [span for each in message.resource_spans for scope in each.scope_spans for span in scope.spans]


class FakeGrpcCollector(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no type information
    """Replies with what is queued, then with OK."""

    def __init__(self, address: str = "127.0.0.1:0", credentials: Any = None) -> None:
        self.calls: list[GrpcReceived] = []
        self.replies: list[GrpcReply] = []
        self.metrics_reply = GrpcReply()
        self.gate: threading.Event | None = None  # if set: answers wait for it
        self._changed = threading.Condition()
        self._workers = ThreadPoolExecutor(8)
        self._server = grpc.server(self._workers, [self], options=[("grpc.so_reuseport", 0)])
        if credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, credentials)
        self._server.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def service(self, handler_call_details: Any) -> Any:
        method, metadata = handler_call_details.method, dict(handler_call_details.invocation_metadata)

        def answer(body: bytes, context: Any) -> bytes:
            reply = self._take(GrpcReceived(time.monotonic(), method, metadata, body, context.peer()))
            if self.gate is not None:
                self.gate.wait(30)
            context.set_trailing_metadata(reply.trailers())
            if reply.code != "OK":
                context.abort(getattr(grpc.StatusCode, reply.code), reply.details)
            return reply.body

        return grpc.unary_unary_rpc_method_handler(answer)

    def _take(self, call: GrpcReceived) -> GrpcReply:
        with self._changed:
            self.calls.append(call)
            self._changed.notify_all()
            if call.method != TRACES:
                return self.metrics_reply
            return self.replies.pop(0) if self.replies else GrpcReply()

    def wait_for(self, calls: int, method: str = TRACES, timeout: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.of(method)) >= calls, timeout), self.calls

    def of(self, method: str) -> list[GrpcReceived]:
        return [call for call in self.calls if call.method == method]

    @property
    def received(self) -> list[GrpcReceived]:
        return self.of(TRACES)

    @property
    def spans(self) -> list[Span]:
        return [span for call in self.received for span in call.spans]

    def close(self) -> None:
        """Stop, and cut off whoever is connected. A second time does nothing."""
        if self.gate is not None:
            self.gate.set()
        self._server.stop(0).wait()
        self._workers.shutdown()


@contextmanager
def fake_grpc_collector(address: str = "127.0.0.1:0", credentials: Any = None) -> Iterator[FakeGrpcCollector]:
    collector = FakeGrpcCollector(address, credentials)
    try:
        yield collector
    finally:
        collector.close()
