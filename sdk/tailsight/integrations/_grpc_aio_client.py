"""gRPC's client with asyncio: an interceptor for each of the four kinds of calls, because grpc.aio tells them apart."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

import grpc.aio  # type: ignore[import-untyped]

from .._guard import caught
from ._grpc import ClientCall, trace_metadata

_finishing: set[asyncio.Task[None]] = set()
"""asyncio itself refers to its tasks weakly."""


class UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Record each call with one request and one response."""

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = ClientCall(details.method).begin()
        call.sent(request)
        outcome = await _called(call, continuation, details, request)
        try:
            call.received(await outcome)
        except grpc.aio.AioRpcError as error:
            call.fail_with(error)  # raised again where the caller awaits
        except BaseException as error:
            call.fail_with(error)
            raise
        call.succeed()
        return outcome


class StreamUnary(grpc.aio.StreamUnaryClientInterceptor):  # type: ignore[misc]
    """Record each call with many requests and one response."""

    async def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        call = ClientCall(details.method).begin()
        outcome = await _called(call, continuation, details, _counted(call, requests))
        call.pause()
        try:
            # Not awaited here: a caller that writes its requests one by one can begin only when this has returned.
            outcome.add_done_callback(lambda _: _finish_soon(call, outcome))
        except Exception as error:
            caught("watching a gRPC call", error)
            call.end()
        return outcome


class UnaryStream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    """Record each call with one request and many responses."""

    async def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = ClientCall(details.method).begin()
        call.sent(request)
        call.responses = 0
        responses = await _called(call, continuation, details, request)
        call.pause()
        return _Responses(responses, call)


class StreamStream(grpc.aio.StreamStreamClientInterceptor):  # type: ignore[misc]
    """Record each call with many requests and many responses."""

    async def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        call = ClientCall(details.method).begin()
        call.responses = 0
        responses = await _called(call, continuation, details, _counted(call, requests))
        call.pause()
        return _Responses(responses, call)


async def _called(call: ClientCall, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
    metadata = trace_metadata(details.metadata)
    try:
        if metadata is not None:
            details = details._replace(metadata=grpc.aio.Metadata(*metadata))
        return await continuation(details, request)
    except BaseException as error:
        call.fail_with(error)
        raise


def _finish_soon(call: ClientCall, outcome: Any) -> None:
    try:
        task = asyncio.get_running_loop().create_task(_finish(call, outcome))
        _finishing.add(task)
        task.add_done_callback(_finishing.discard)
    except Exception as error:
        caught("ending a gRPC call", error)
        call.end()


async def _finish(call: ClientCall, outcome: Any) -> None:
    """Read the response that has come: the status is there a moment before it."""
    try:
        call.received(await outcome)
    except asyncio.CancelledError:
        call.cancelled()
    except BaseException as error:
        call.fail_with(error)
        if not isinstance(error, Exception):
            raise
    call.succeed()


def _counted(call: ClientCall, requests: Any) -> AsyncIterable[Any] | Iterable[Any]:
    if hasattr(requests, "__aiter__"):
        return (call.sent(request) async for request in requests)
    return map(call.sent, requests)


class _Responses:
    """A stream of responses. grpc.aio puts the call around it again."""

    def __init__(self, inner: Any, call: ClientCall) -> None:
        self._inner = inner.__aiter__()
        self._call = call

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            response = await self._inner.__anext__()
        except StopAsyncIteration:
            self._call.succeed()
            raise
        except BaseException as error:
            self._call.fail_with(error)
            raise
        return self._call.received(response)
