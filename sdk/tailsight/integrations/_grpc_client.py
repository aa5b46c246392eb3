"""gRPC's client with threads: an interceptor for all four kinds of calls."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import grpc  # type: ignore[import-untyped]

from .._guard import caught
from ._grpc import ClientCall, status_number, trace_metadata


class _Fields(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Details(_Fields, grpc.ClientCallDetails):  # type: ignore[misc]
    """What grpc.ClientCallDetails declares: it has no constructor of its own."""


class ClientInterceptor(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.UnaryStreamClientInterceptor,  # type: ignore[misc]
    grpc.StreamUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Record each call of a channel as a stage `network`."""

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = ClientCall(details.method).begin()
        call.sent(request)
        return _one_response(call, continuation, details, request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Iterator[Any]) -> Any:
        call = ClientCall(details.method).begin()
        return _one_response(call, continuation, details, map(call.sent, requests))

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        call = ClientCall(details.method).begin()
        call.sent(request)
        return _many_responses(call, continuation, details, request)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Iterator[Any]) -> Any:
        call = ClientCall(details.method).begin()
        return _many_responses(call, continuation, details, map(call.sent, requests))


def _one_response(call: ClientCall, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
    try:
        outcome = continuation(_with_trace(details), request)
    except BaseException as error:
        call.fail_with(error)
        raise
    call.pause()
    try:
        outcome.add_done_callback(partial(_done, call))  # at once, unless the caller asked for a future
    except Exception as error:
        caught("watching a gRPC call", error)
        call.end()
    return outcome


def _many_responses(call: ClientCall, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
    call.responses = 0
    try:
        responses = continuation(_with_trace(details), request)
    except BaseException as error:
        call.fail_with(error)
        raise
    call.pause()
    return _Responses(responses, call)


def _done(call: ClientCall, outcome: Any) -> None:
    try:
        if outcome.cancelled():
            call.code = status_number(grpc.StatusCode.CANCELLED)
            call.cancelled()
            return
        error = outcome.exception()
        if error is None:
            call.received(outcome.result())
            call.succeed()
        else:
            call.fail_with(error)
    except Exception as internal:
        caught("ending a gRPC call", internal)
        call.end()


def _with_trace(details: Any) -> Any:
    metadata = trace_metadata(details.metadata)
    if metadata is None:
        return details
    return _Details(
        details.method,
        details.timeout,
        metadata,
        details.credentials,
        getattr(details, "wait_for_ready", None),
        getattr(details, "compression", None),
    )


class _Responses:
    """A stream of responses, and the call itself as it was for everything else."""

    def __init__(self, inner: Any, call: ClientCall) -> None:
        self._inner = inner
        self._call = call

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            response = next(self._inner)
        except StopIteration:
            self._call.succeed()
            raise
        except BaseException as error:
            self._call.fail_with(error)
            raise
        return self._call.received(response)

    def next(self) -> Any:
        return self.__next__()

    def cancel(self) -> Any:
        try:
            return self._inner.cancel()
        finally:
            self._call.cancelled()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
