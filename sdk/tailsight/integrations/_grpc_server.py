"""gRPC's server: the interceptors for threads and for asyncio, and the handlers that they put around yours."""

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]

from .._guard import caught
from ._grpc import ServerCall

Behavior = Callable[..., Any]


class ServerInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Record each call as a request, from its arrival: waiting for a free thread is a part of it."""

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        return _recorded(continuation(details), details)


class AioServerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Record each call as a request."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        return _recorded(await continuation(details), details)


def _recorded(handler: Any, details: Any) -> Any:
    """Return a handler that does as `handler` does, for this call only; None if there is no such method."""
    if handler is None:
        return None
    try:
        kind = "stream" if handler.response_streaming else "unary"
        name = f"{'stream' if handler.request_streaming else 'unary'}_{kind}"
        behavior = getattr(handler, name)
        if getattr(behavior, "experimental_non_blocking", False):  # it is given a callback, not a context alone
            return handler
        call = ServerCall(details.method, details.invocation_metadata)
        if not call.begin().active:
            return handler
        call.pause()
        wrapped = _behavior(call, behavior, streaming=handler.response_streaming)
        return getattr(grpc, f"{name}_rpc_method_handler")(
            wrapped,
            request_deserializer=call.deserializer(handler.request_deserializer),
            response_serializer=call.serializer(handler.response_serializer),
        )
    except Exception as error:
        caught("intercepting a gRPC call", error)
        return handler


def _behavior(call: ServerCall, behavior: Behavior, *, streaming: bool) -> Behavior:
    if inspect.isasyncgenfunction(behavior):
        wrap: Callable[[ServerCall, Behavior], Behavior] = _async_generator
    elif inspect.iscoroutinefunction(behavior):
        wrap = functools.partial(_coroutine, writes=streaming)
    else:
        wrap = _iterator if streaming else _function
    return wrap(call, behavior)


def _function(call: ServerCall, behavior: Behavior) -> Behavior:
    @functools.wraps(behavior)
    def handle(request: Any, context: Any) -> Any:
        call.resume()
        try:
            response = behavior(request, context)
        except BaseException as error:
            call.failed(error, context)
            raise
        call.answer(context)
        return response

    return handle


def _coroutine(call: ServerCall, behavior: Behavior, *, writes: bool) -> Behavior:
    @functools.wraps(behavior)
    async def handle(request: Any, context: Any) -> Any:
        call.resume()
        try:
            response = await behavior(request, context)
        except BaseException as error:
            call.failed(error, context)
            raise
        if writes:  # it wrote its responses itself
            call.finish(context)
        else:
            call.answer(context)
        return response

    return handle


def _iterator(call: ServerCall, behavior: Behavior) -> Behavior:
    @functools.wraps(behavior)
    def handle(request: Any, context: Any) -> Iterator[Any]:
        call.resume()
        try:
            responses = iter(behavior(request, context))
        except BaseException as error:
            call.failed(error, context)
            raise
        call.pause()
        return _steps(call, responses, context)

    return handle


def _steps(call: ServerCall, responses: Iterator[Any], context: Any) -> Iterator[Any]:
    """Make the responses. The call is current while the handler works, and not while gRPC sends."""
    call.responses = 0
    call.resume()
    try:
        for response in responses:
            call.responses += 1
            call.pause()
            yield response
            call.resume()
    except GeneratorExit:
        call.abandon()
        raise
    except BaseException as error:
        call.failed(error, context)
        raise
    call.finish(context)


def _async_generator(call: ServerCall, behavior: Behavior) -> Behavior:
    @functools.wraps(behavior)
    async def handle(request: Any, context: Any) -> AsyncIterator[Any]:
        call.responses = 0
        call.resume()
        try:
            async for response in behavior(request, context):
                call.responses += 1
                call.pause()
                yield response
                call.resume()
        except GeneratorExit:
            call.abandon()
            raise
        except BaseException as error:
            call.failed(error, context)
            raise
        call.finish(context)

    return handle
