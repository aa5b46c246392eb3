"""The kinds of telemetry that come in, and where they differ: the message, its check, and the words of the answer."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tailsight_collector.errors import BadRequestError
from tailsight_collector.receive.checks import check, look
from tailsight_collector.receive.density import UNSUSPICIOUS_BYTES, check_json, check_protobuf
from tailsight_collector.receive.otlp_json import parse_traces
from tailsight_collector.receive.otlp_json_metrics import parse_metrics
from tailsight_collector.receive.points import check_points
from tailsight_storage import Batch

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
# What large requests take in memory while they are decoded, they take one after the other.
_large_request = threading.Lock()


class Outcome(Protocol):
    """What the check of a request has found: so many spans or data points, and some that are not stored."""

    rejected: Counter[str]

    @property
    def batch(self) -> Batch | None:
        """Which numbered batch it is; None where it is none."""

    @property
    def total(self) -> int:
        """How many there are."""

    @property
    def message(self) -> str:
        """Why some are rejected, in one line; empty where none is."""

    @property
    def is_worth_storing(self) -> bool:
        """Whether the store would keep anything of the request."""


@dataclass(frozen=True, slots=True)
class Received:
    """A request that can be stored, in protobuf, with what was found out about it."""

    encoded: bytes
    outcome: Outcome
    received_ns: int


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of telemetry. `counted` is the answer's field that counts what was rejected, here and in JSON.

    `look` checks a protobuf body without decoding it, where that can be done; a body that is odd gets None.
    """

    path: str
    message: type[Message]
    from_json: Callable[[bytes], Message]
    check: Callable[[Any, int], Outcome]
    answer: type[Message]
    counted: tuple[str, str]
    look: Callable[[bytes, int], Outcome | None] = lambda _body, _received_ns: None

    def decode(self, body: bytes, encoding: str) -> Received:
        """Decode and check a body; raises BadRequestError.

        A body that every reader reads alike is kept as it came; any other is encoded again as it was understood here.
        """
        with _large_request if len(body) > UNSUSPICIOUS_BYTES else contextlib.nullcontext():
            return self._decode(body, encoding)

    def _decode(self, body: bytes, encoding: str) -> Received:
        received_ns = time.time_ns()
        if encoding == JSON:
            check_json(body)
            message = self.from_json(body)
        else:
            check_protobuf(body, self.message)
            if outcome := self.look(body, received_ns):
                return Received(body, outcome, received_ns)
            try:
                message = self.message.FromString(body)
            except DecodeError:
                raise BadRequestError(f"the body is not a protobuf {self.message.__name__}") from None
            message.DiscardUnknownFields()
        return Received(message.SerializeToString(), self.check(message, received_ns), received_ns)

    def success(self, outcome: Outcome, encoding: str) -> bytes:
        """Encode the answer's body: empty, or with `partial_success`."""
        rejected = outcome.rejected.total()
        name, json_name = self.counted
        if encoding == JSON:
            partial = {json_name: str(rejected), "errorMessage": outcome.message}
            return json.dumps({"partialSuccess": partial} if rejected else {}).encode()
        answer: Any = self.answer()
        if rejected:
            setattr(answer.partial_success, name, rejected)
            answer.partial_success.error_message = outcome.message
        encoded: bytes = answer.SerializeToString()
        return encoded


TRACES = Signal(
    path="/v1/traces",
    message=ExportTraceServiceRequest,
    from_json=parse_traces,
    check=check,
    answer=ExportTraceServiceResponse,
    counted=("rejected_spans", "rejectedSpans"),
    look=look,
)
METRICS = Signal(
    path="/v1/metrics",
    message=ExportMetricsServiceRequest,
    from_json=parse_metrics,
    check=check_points,
    answer=ExportMetricsServiceResponse,
    counted=("rejected_data_points", "rejectedDataPoints"),
)
