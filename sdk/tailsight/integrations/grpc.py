"""gRPC, both sides, with threads and with asyncio.

channel = tailsight.integrations.grpc.instrument(grpc.insecure_channel("ranker:50051"))
channel = grpc.aio.insecure_channel("ranker:50051", interceptors=tailsight.integrations.grpc.aio_client_interceptors())
server = grpc.server(pool, interceptors=[tailsight.integrations.grpc.server_interceptor()])
server = grpc.aio.server(interceptors=[tailsight.integrations.grpc.aio_server_interceptor()])
"""

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from .._guard import caught
from ._grpc_aio_client import StreamStream, StreamUnary, UnaryStream, UnaryUnary
from ._grpc_client import ClientInterceptor
from ._grpc_server import AioServerInterceptor, ServerInterceptor

__all__ = [
    "aio_client_interceptors",
    "aio_server_interceptor",
    "client_interceptor",
    "instrument",
    "server_interceptor",
]


def instrument(channel: grpc.Channel) -> grpc.Channel:
    """Return a channel that records each call of this one as a stage `network`."""
    try:
        return grpc.intercept_channel(channel, ClientInterceptor())
    except Exception as error:
        caught("instrumenting a gRPC channel", error)
        return channel


def client_interceptor() -> grpc.UnaryUnaryClientInterceptor:
    """Return what instrument() uses, for `grpc.intercept_channel(channel, …)` together with others."""
    return ClientInterceptor()


def aio_client_interceptors() -> list[grpc.aio.ClientInterceptor]:
    """Return the interceptors for `grpc.aio.insecure_channel(target, interceptors=…)`."""
    return [UnaryUnary(), UnaryStream(), StreamUnary(), StreamStream()]


def server_interceptor() -> grpc.ServerInterceptor:
    """Return the interceptor for `grpc.server(pool, interceptors=[…])`. Put it first."""
    return ServerInterceptor()


def aio_server_interceptor() -> grpc.aio.ServerInterceptor:
    """Return the interceptor for `grpc.aio.server(interceptors=[…])`. Put it first."""
    return AioServerInterceptor()
