"""One gRPC call to the collector, over a channel that is kept open. For the sidecar only, and only with grpcio there.

A service never imports this: a child that is forked while grpcio works hangs (measured), and a service may fork
(_collectors.py keeps it out). Messages are bytes here; grpcio has nothing to encode.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]

from ._answer import Answer, Unreachable
from ._guard import warn_once
from ._resource import SDK_NAME, sdk_version
from ._wire import fields

TRACES_METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS_METHOD = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"

RETRYABLE_CODES = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
RETRYABLE_WITH_RETRY_INFO = "RESOURCE_EXHAUSTED"

# grpcio says these itself where there is no answer, and does not say that it was the one who said it.
_NO_ANSWER_CODES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED"})

_STATUS_TRAILER = "grpc-status-details-bin"
_RETRY_INFO = b"google.rpc.RetryInfo"

_METADATA_KEY = re.compile(r"[0-9a-z_.-]+")
_METADATA_VALUE = re.compile(r"[ -~]*")
_OWN_KEYS = frozenset({"connection", "content-encoding", "content-length", "content-type", "host", "te", "user-agent"})

_OPTIONS = (
    ("grpc.primary_user_agent", f"{SDK_NAME}-python/{sdk_version()}"),
    ("grpc.enable_retries", 0),  # when to try again is decided by whoever counts the attempts
    ("grpc.enable_http_proxy", 0),  # as with HTTP
)


class GrpcCollector:
    """A gRPC service of the collector. Used by one thread at a time."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        compression: str,
        timeout_s: float,
        method: str = TRACES_METHOD,
    ) -> None:
        parts = urlsplit(url)
        self.url = url
        self._secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if self._secure else 80)
        self._target = f"ipv6:[{host}]:{port}" if ":" in host else f"dns:///{host}:{port}"
        self._timeout_s = timeout_s
        self._method = method
        self._metadata = _metadata(headers)
        self._compression = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        self._channel: Any = None
        self._call: Any = None

    def post(self, body: bytes, *, timeout_s: float | None = None) -> Answer:
        """Send an encoded Export…ServiceRequest. Raises Unreachable where there was no answer.

        `timeout_s` shortens the wait for this request.
        """
        timeout = self._timeout_s if timeout_s is None else max(0.001, min(timeout_s, self._timeout_s))
        if self._call is None:
            self._open()
        try:
            said = self._call(body, timeout=timeout, metadata=self._metadata, compression=self._compression)
        except grpc.RpcError as error:
            return self._refusal(error)
        return Answer(status="OK", accepted=True, body=said)

    def close(self) -> None:
        """Close the channel; the next post() opens another."""
        channel, self._channel, self._call = self._channel, None, None
        if channel is not None:
            channel.close()

    def _open(self) -> None:
        if self._secure:
            self._channel = grpc.secure_channel(self._target, grpc.ssl_channel_credentials(_roots()), options=_OPTIONS)
        else:
            self._channel = grpc.insecure_channel(self._target, options=_OPTIONS)
        self._call = self._channel.unary_unary(self._method)

    def _refusal(self, error: Any) -> Answer:
        code, details = error.code().name, error.details() or ""
        trailers = dict(error.trailing_metadata() or ())
        if code in _NO_ANSWER_CODES and not trailers:
            # A channel that failed waits, for up to two minutes, before it connects again. A new one does so at once.
            self.close()
            raise Unreachable(f"{code}: {details}") from error
        retry_after_s = retry_info_s(trailers.get(_STATUS_TRAILER))
        return Answer(
            status=code,
            accepted=False,
            retryable=code in RETRYABLE_CODES or (code == RETRYABLE_WITH_RETRY_INFO and retry_after_s is not None),
            retry_after_s=retry_after_s,
            body=details.encode(errors="replace"),
        )


def retry_info_s(status: object) -> float | None:
    """Read the delay from a google.rpc.Status with a RetryInfo among its details. None if it has none."""
    if not isinstance(status, bytes):
        return None
    try:
        for number, detail in fields(status):
            if number == 3 and isinstance(detail, bytes):
                packed = dict(fields(detail))
                name, content = packed.get(1), packed.get(2, b"")
                if isinstance(name, bytes) and name.rpartition(b"/")[2] == _RETRY_INFO and isinstance(content, bytes):
                    return _duration_s(dict(fields(content)).get(1, b""))
    except (IndexError, ValueError):
        pass
    return None


def _duration_s(duration: int | bytes) -> float:
    """Read a google.protobuf.Duration. One in the past is none."""
    if not isinstance(duration, bytes):
        return 0.0
    parts = dict(fields(duration))
    whole, nanos = (value if isinstance(value, int) else 0 for value in (parts.get(1, 0), parts.get(2, 0)))
    return 0.0 if max(whole, nanos) >= 2**63 else whole + nanos / 1e9


def _metadata(headers: Mapping[str, str]) -> tuple[tuple[str, str | bytes], ...]:
    """Turn headers into metadata. What gRPC does not allow is left out: grpcio would refuse every call."""
    allowed: list[tuple[str, str | bytes]] = []
    for name, content in headers.items():
        if name in _OWN_KEYS:
            continue
        if not _METADATA_KEY.fullmatch(name) or not _METADATA_VALUE.fullmatch(content):
            warn_once(("metadata", name), "header %s is not sent: gRPC does not allow its name or its value", name)
            continue
        allowed.append((name, content.encode() if name.endswith("-bin") else content))
    return tuple(allowed)


def _roots() -> bytes | None:
    """Return the certificates that HTTPS trusts here, so that both protocols agree. None: grpcio's own."""
    if "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in os.environ:
        return None
    file = ssl.get_default_verify_paths().cafile
    try:
        return Path(file).read_bytes() if file else None
    except OSError:
        return None
