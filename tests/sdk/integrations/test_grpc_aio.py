"""gRPC with asyncio: all four kinds of calls, over a real channel."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace as trace_api
from sdk.integrations.servers import check_halves, client_half, server_half, servers

import tailsight
from tailsight.integrations.grpc import aio_client_interceptors, aio_server_interceptor
from tailsight.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

REQUEST, RESPONSE = "tailsight.rpc.request.size", "tailsight.rpc.response.size"


async def echo(request: bytes, context: Any) -> bytes:
    with tailsight.stage("compute"):
        await asyncio.sleep(0)
        return request * 2


def echo_in_a_thread(request: bytes, context: Any) -> bytes:
    with tailsight.stage("compute"):
        return request * 2


async def collect(requests: AsyncIterator[bytes], context: Any) -> bytes:
    with tailsight.stage("compute"):
        return b"".join([request async for request in requests])


async def split(request: bytes, context: Any) -> AsyncIterator[bytes]:
    for i in range(len(request)):
        with tailsight.stage("compute"):
            await asyncio.sleep(0)
        yield request[i : i + 1]


async def split_by_writing(request: bytes, context: Any) -> None:
    for i in range(len(request)):
        with tailsight.stage("compute"):
            await context.write(request[i : i + 1])


async def each(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request * 2


async def boom(request: bytes, context: Any) -> bytes:
    raise LookupError("no such model")


async def boom_later(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield b"abc"
    raise LookupError("no such model")


async def abort(request: bytes, context: Any) -> bytes:
    await context.abort(getattr(grpc.StatusCode, request.decode()), "as you wish")
    raise AssertionError("abort() raises")


async def set_code(request: bytes, context: Any) -> bytes:
    context.set_code(getattr(grpc.StatusCode, request.decode()))
    return b""


async def endless(request: bytes, context: Any) -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 1000
        await asyncio.sleep(0)


def abort_in_a_thread(request: bytes, context: Any) -> bytes:
    context.abort(getattr(grpc.StatusCode, request.decode()), "as you wish")
    raise AssertionError("abort() raises")


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "EchoInAThread": grpc.unary_unary_rpc_method_handler(echo_in_a_thread),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Split": grpc.unary_stream_rpc_method_handler(split),
    "SplitByWriting": grpc.unary_stream_rpc_method_handler(split_by_writing),
    "Each": grpc.stream_stream_rpc_method_handler(each),
    "Boom": grpc.unary_unary_rpc_method_handler(boom),
    "BoomLater": grpc.unary_stream_rpc_method_handler(boom_later),
    "Abort": grpc.unary_unary_rpc_method_handler(abort),
    "AbortInAThread": grpc.unary_unary_rpc_method_handler(abort_in_a_thread),
    "SetCode": grpc.unary_unary_rpc_method_handler(set_code),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
}


@asynccontextmanager
async def serving() -> AsyncIterator[grpc.aio.Channel]:
    """Leaving it stops the server and waits for what it is doing, so that all spans are there."""
    server = grpc.aio.server(interceptors=[aio_server_interceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", HANDLERS)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", interceptors=aio_client_interceptors()) as channel:
        yield channel
    await server.stop(5)


def run(work: Callable[[grpc.aio.Channel], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving() as channel:
            await work(channel)
            assert trace_api.get_current_span() is trace_api.INVALID_SPAN

    asyncio.run(main())


@pytest.mark.parametrize("method", ["Echo", "EchoInAThread"])
def test_one_request_and_one_response(captured: Capture, method: str) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        with tailsight.request("caller") as caller:
            assert await channel.unary_unary(f"/test.Echo/{method}")(b"x" * 500) == b"x" * 1000
            assert trace_api.get_current_span() is caller

    run(work)
    ours, theirs = check_halves(captured)
    assert ours.parent_span_id == captured.one(name="caller").span_id
    assert captured.one(stage="compute").parent_span_id == theirs.span_id
    for half in (ours, theirs):
        assert half.name == f"test.Echo/{method}"
        assert half.attributes["rpc.grpc.status_code"] == 0
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (500, 1000)
        assert half.status == "UNSET"


@pytest.mark.parametrize("style", ["iterable", "async iterable", "write"])
def test_many_requests_and_one_response(captured: Capture, style: str) -> None:
    async def requests() -> AsyncIterator[bytes]:
        yield b"ab"
        yield b"c"

    async def work(channel: grpc.aio.Channel) -> None:
        method = channel.stream_unary("/test.Echo/Collect")
        if style == "write":
            call = method()
            await call.write(b"ab")
            await call.write(b"c")
            await call.done_writing()
            assert await call == b"abc"
        else:
            assert await method(requests() if style == "async iterable" else [b"ab", b"c"]) == b"abc"

    run(work)
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (3, 3)
        assert half.attributes["rpc.grpc.status_code"] == 0


@pytest.mark.parametrize("style", ["iterate", "read"])
@pytest.mark.parametrize("method", ["Split", "SplitByWriting"])
def test_one_request_and_many_responses(captured: Capture, method: str, style: str) -> None:
    received: list[bytes] = []

    async def work(channel: grpc.aio.Channel) -> None:
        with tailsight.request("caller") as caller:
            call = channel.unary_stream(f"/test.Echo/{method}")(b"abc")
            if style == "iterate":
                async for response in call:
                    received.append(response)
                    assert trace_api.get_current_span() is caller
            else:
                while (response := await call.read()) is not grpc.aio.EOF:
                    received.append(response)
            assert await call.code() == grpc.StatusCode.OK

    run(work)
    assert received == [b"a", b"b", b"c"]
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (3, 3)
    assert ours.attributes["tailsight.stream.items"] == 3
    assert {span.parent_span_id for span in captured.find(stage="compute")} == {theirs.span_id}


@pytest.mark.parametrize("style", ["iterable", "write"])
def test_many_requests_and_many_responses(captured: Capture, style: str) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        method = channel.stream_stream("/test.Echo/Each")
        if style == "write":
            call = method()
            for request in (b"a", b"b"):
                await call.write(request)
                assert await call.read() == request * 2
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
        else:
            assert [response async for response in method([b"a", b"b"])] == [b"aa", b"bb"]

    run(work)
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (2, 4)
        assert half.attributes["tailsight.stream.items"] == 2


def test_an_exception_of_the_handler_is_an_error_on_both_sides(captured: Capture) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test.Echo/Boom")(b"x")
        assert raised.value.code() == grpc.StatusCode.UNKNOWN

    run(work)
    ours, theirs = client_half(captured), server_half(captured)
    assert theirs.parent_span_id == ours.span_id
    for half in (ours, theirs):
        assert half.status == "ERROR"
        assert half.attributes["rpc.grpc.status_code"] == 2
    assert theirs.events[0].attributes["exception.message"] == "no such model"


def test_an_exception_in_a_stream_is_an_error_on_both_sides(captured: Capture) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        responses = channel.unary_stream("/test.Echo/BoomLater")(b"x").__aiter__()
        assert await anext(responses) == b"abc"
        with pytest.raises(grpc.aio.AioRpcError):
            await anext(responses)

    run(work)
    for half in (client_half(captured), server_half(captured)):
        assert half.status == "ERROR"
        assert half.attributes["tailsight.stream.items"] == 1


@pytest.mark.parametrize(("code", "theirs_is"), [("NOT_FOUND", "UNSET"), ("UNAVAILABLE", "ERROR")])
@pytest.mark.parametrize("method", ["Abort", "SetCode"])
def test_a_status_is_an_error_of_the_side_that_it_blames(
    captured: Capture, method: str, code: str, theirs_is: str
) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(f"/test.Echo/{method}")(code.encode())
        assert raised.value.code() == getattr(grpc.StatusCode, code)

    run(work)
    ours, theirs = client_half(captured), server_half(captured)
    assert (ours.status, theirs.status) == ("ERROR", theirs_is)
    number = getattr(grpc.StatusCode, code).value[0]
    assert [half.attributes["rpc.grpc.status_code"] for half in (ours, theirs)] == [number, number]
    assert theirs.events == ()


def test_a_handler_without_async_cannot_be_asked_for_its_status(captured: Capture) -> None:
    """grpc.aio does not show it; that it failed is seen by what abort() raises."""

    async def work(channel: grpc.aio.Channel) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test.Echo/AbortInAThread")(b"NOT_FOUND")
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND

    run(work)
    ours, theirs = client_half(captured), server_half(captured)
    assert ours.attributes["rpc.grpc.status_code"] == 5
    assert "rpc.grpc.status_code" not in theirs.attributes
    assert theirs.status == "ERROR"


@pytest.mark.parametrize("how", ["cancelled", "dropped"])
def test_a_stream_that_is_left_ends_on_both_sides(captured: Capture, how: str) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream("/test.Echo/Endless")(b"x")
        responses = call.__aiter__()
        assert await anext(responses) == b"x" * 1000
        assert captured.find(stage="network") == []
        if how == "cancelled":
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await anext(responses)
        del call, responses
        gc.collect()

    run(work)
    ours, theirs = client_half(captured), server_half(captured)
    mark = "tailsight.cancelled" if how == "cancelled" else "tailsight.stream.abandoned"
    assert ours.attributes[mark] is True
    assert ours.attributes[RESPONSE] >= 1000
    assert theirs.parent_span_id == ours.span_id
    assert (ours.status, theirs.status) == ("UNSET", "UNSET")


def test_calls_at_the_same_time_keep_to_their_traces(captured: Capture) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        async def call(number: int) -> None:
            with tailsight.request(f"caller {number}"):
                assert await channel.unary_unary("/test.Echo/Echo")(b"x" * number) == b"x" * 2 * number

        await asyncio.gather(*(call(number) for number in range(8)))

    run(work)
    for number in range(8):
        (ours,) = captured.children_of(captured.one(name=f"caller {number}"))
        (theirs,) = captured.children_of(ours)
        (compute,) = captured.children_of(theirs)
        assert compute.stage == "compute"
        assert [half.attributes[REQUEST] for half in (ours, theirs)] == [number, number]


def test_a_caller_that_does_not_sample_is_obeyed(captured: Capture) -> None:
    headers = {"traceparent": "00-12345678901234567890123456789012-1234567890123456-00"}

    async def work(channel: grpc.aio.Channel) -> None:
        with tailsight.request("front", context=tailsight.extract(headers)):
            assert await channel.unary_unary("/test.Echo/Echo")(b"x") == b"xx"
            assert [r async for r in channel.unary_stream("/test.Echo/Split")(b"ab")] == [b"a", b"b"]

    run(work)
    assert captured.spans == []


def test_the_hooks_of_a_disabled_sdk_do_nothing() -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        assert await channel.unary_unary("/test.Echo/Echo")(b"x") == b"xx"
        assert [r async for r in channel.stream_stream("/test.Echo/Each")([b"a"])] == [b"aa"]

    with capture(enabled=False) as captured:
        run(work)
        assert captured.spans == []


def test_a_copied_traceparent_is_replaced(captured: Capture) -> None:
    async def work(channel: grpc.aio.Channel) -> None:
        copied = (("key", "value"), ("traceparent", "00-12345678901234567890123456789012-1234567890123456-01"))
        assert await channel.unary_unary("/test.Echo/Echo")(b"x", metadata=copied) == b"xx"

    run(work)
    check_halves(captured)
    assert len(servers(captured)) == 1
