"""Which collector the settings mean: over HTTP, over gRPC, or a file in its place."""

import dataclasses
import os
from urllib.parse import urlsplit

from ._delivery import Collector
from ._file import FileCollector
from ._guard import warn_once
from ._http import Collector as HttpCollector
from ._options import GRPC, HTTP, TRACES_PATH, Settings

METRICS_PATH = "/v1/metrics"
RECORDINGS_PATH = "/tailsight/recordings"

_GRPC_PORT, _HTTP_PORT = 4317, 4318


def usable(settings: Settings, *, in_sidecar: bool) -> Settings:
    """Return the settings as this process can follow them: with HTTP where gRPC is not to be had.

    grpcio runs threads that a forked child waits for in vain, so it never gets into a service: only into its sidecar.
    """
    if settings.protocol != GRPC or settings.transport == "file":
        return settings
    problem = _no_grpcio() if in_sidecar else "it takes transport=sidecar, since grpcio may hang a service that forks"
    if not problem:
        return settings
    endpoint = _http_endpoint(settings.endpoint)
    warn_once(
        ("protocol", endpoint),
        "protocol=grpc is not possible: %s. Spans go to %s by http/protobuf instead; TAILSIGHT_PROTOCOL=http/protobuf "
        "chooses it without this line",
        problem,
        endpoint,
    )
    return dataclasses.replace(settings, protocol=HTTP, endpoint=endpoint)


def for_traces(settings: Settings, *, pid: int | None = None) -> Collector:
    """Make what takes spans. `pid` is the service's, where another process asks on its behalf."""
    if settings.transport == "file":
        return FileCollector(settings.file, pid=os.getpid() if pid is None else pid)
    return _collector(settings, settings.endpoint, "TRACES_METHOD", settings.timeout_s)


def for_metrics(settings: Settings, *, timeout_s: float) -> Collector | None:
    """Make what takes metrics; None where there is nowhere to send them to."""
    traces = settings.endpoint
    if settings.transport == "file" or (settings.protocol == HTTP and not traces.endswith(TRACES_PATH)):
        return None
    url = traces if settings.protocol == GRPC else traces.removesuffix(TRACES_PATH) + METRICS_PATH
    return _collector(settings, url, "METRICS_METHOD", min(timeout_s, settings.timeout_s))


def for_recordings(settings: Settings, *, timeout_s: float) -> HttpCollector | None:
    """Make what takes recordings, which go over HTTP in any case; None where there is nowhere to send them to."""
    traces = _http_endpoint(settings.endpoint) if settings.protocol == GRPC else settings.endpoint
    if settings.transport == "file" or not traces.endswith(TRACES_PATH):
        return None
    return HttpCollector(
        traces.removesuffix(TRACES_PATH) + RECORDINGS_PATH,
        headers=settings.headers,
        compression="none",
        timeout_s=timeout_s,
        content_type="application/json",
    )


def _collector(settings: Settings, url: str, grpc_method: str, timeout_s: float) -> Collector:
    if settings.protocol == GRPC:
        from . import _grpc

        return _grpc.GrpcCollector(
            url,
            headers=settings.headers,
            compression=settings.compression,
            timeout_s=timeout_s,
            method=getattr(_grpc, grpc_method),
        )
    return HttpCollector(url, headers=settings.headers, compression=settings.compression, timeout_s=timeout_s)


def _no_grpcio() -> str:
    """Return why there is no grpcio, or nothing if there is."""
    try:
        from . import _grpc  # noqa: F401
    except Exception as error:  # a broken installation raises what it likes
        return f"grpcio cannot be imported ({error}); pip install 'tailsight[grpc]'"
    return ""


def _http_endpoint(grpc_endpoint: str) -> str:
    """Guess where the collector takes HTTP: beside the usual port for gRPC there is the usual one for HTTP."""
    parts = urlsplit(grpc_endpoint)
    netloc = parts.netloc
    if parts.port == _GRPC_PORT:
        netloc = netloc.removesuffix(str(_GRPC_PORT)) + str(_HTTP_PORT)
    return f"{parts.scheme}://{netloc}{TRACES_PATH}"
