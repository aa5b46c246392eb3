"""gRPC with threads: all four kinds of calls, over a real channel."""

import gc
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from opentelemetry import trace as trace_api
from sdk.integrations.servers import check_halves, client_half, grpc_server, server_half, servers

import tailsight
from tailsight.integrations._grpc import trace_metadata
from tailsight.integrations.grpc import instrument, server_interceptor
from tailsight.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

REQUEST, RESPONSE = "tailsight.rpc.request.size", "tailsight.rpc.response.size"


def echo(request: bytes, context: Any) -> bytes:
    with tailsight.stage("compute"):
        return request * 2


def collect(requests: Iterator[bytes], context: Any) -> bytes:
    with tailsight.stage("compute"):
        return b"".join(requests)


def split(request: bytes, context: Any) -> Iterator[bytes]:
    for i in range(len(request)):
        with tailsight.stage("compute"):
            pass
        yield request[i : i + 1]


def each(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    for request in requests:
        yield request * 2


def boom(request: bytes, context: Any) -> bytes:
    raise LookupError("no such model")


def boom_later(request: bytes, context: Any) -> Iterator[bytes]:
    yield b"abc"
    raise LookupError("no such model")


def abort(request: bytes, context: Any) -> bytes:
    code = getattr(grpc.StatusCode, request.decode())
    context.abort(code, "as you wish")
    raise AssertionError("abort() raises")


def set_code(request: bytes, context: Any) -> bytes:
    context.set_code(getattr(grpc.StatusCode, request.decode()))
    return b""


def endless(request: bytes, context: Any) -> Iterator[bytes]:
    while context.is_active():
        yield b"x" * 1000


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Split": grpc.unary_stream_rpc_method_handler(split),
    "Each": grpc.stream_stream_rpc_method_handler(each),
    "Boom": grpc.unary_unary_rpc_method_handler(boom),
    "BoomLater": grpc.unary_stream_rpc_method_handler(boom_later),
    "Abort": grpc.unary_unary_rpc_method_handler(abort),
    "SetCode": grpc.unary_unary_rpc_method_handler(set_code),
    "Endless": grpc.unary_stream_rpc_method_handler(endless),
    "Text": grpc.unary_unary_rpc_method_handler(
        lambda request, context: request.upper(),
        request_deserializer=bytes.decode,
        response_serializer=lambda text: text.encode("utf-16"),
    ),
    "Unreadable": grpc.unary_unary_rpc_method_handler(echo, request_deserializer=int),
}


@pytest.fixture
def target() -> Iterator[str]:
    with grpc_server(HANDLERS, [server_interceptor()]) as address:
        yield address


class Serving:
    """A server with the interceptor; leaving it waits for what it does, so that all spans are there."""

    def __init__(self, **options: Any) -> None:
        self._server = grpc_server(HANDLERS, [server_interceptor()], **options)

    def __enter__(self) -> grpc.Channel:
        self._channel = grpc.insecure_channel(self._server.__enter__())
        return instrument(self._channel)

    def __exit__(self, *exc: Any) -> None:
        self._channel.close()
        self._server.__exit__(*exc)


def test_one_request_and_one_response(captured: Capture) -> None:
    with Serving() as channel, tailsight.request("caller") as caller:
        assert channel.unary_unary("/test.Echo/Echo")(b"x" * 500) == b"x" * 1000
        assert trace_api.get_current_span() is caller
    ours, theirs = check_halves(captured)
    assert ours.parent_span_id == caller.span_id
    assert captured.one(stage="compute").parent_span_id == theirs.span_id
    for half in (ours, theirs):
        assert half.name == "test.Echo/Echo"
        assert half.attributes["rpc.system"] == "grpc"
        assert half.attributes["rpc.service"] == "test.Echo"
        assert half.attributes["rpc.method"] == "Echo"
        assert half.attributes["rpc.grpc.status_code"] == 0
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (500, 1000)
        assert half.status == "UNSET"


def test_many_requests_and_one_response(captured: Capture) -> None:
    with Serving() as channel, tailsight.request("caller"):
        assert channel.stream_unary("/test.Echo/Collect")(iter([b"ab", b"c"])) == b"abc"
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (3, 3)
        assert half.attributes["rpc.grpc.status_code"] == 0


def test_one_request_and_many_responses(captured: Capture) -> None:
    with Serving() as channel, tailsight.request("caller") as caller:
        received = []
        for response in channel.unary_stream("/test.Echo/Split")(b"abc"):
            received.append(response)
            assert trace_api.get_current_span() is caller
    assert received == [b"a", b"b", b"c"]
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (3, 3)
        assert half.attributes["tailsight.stream.items"] == 3
        assert half.attributes["rpc.grpc.status_code"] == 0
    assert {span.parent_span_id for span in captured.find(stage="compute")} == {theirs.span_id}


def test_what_grpc_does_between_two_responses_is_not_inside_the_request(captured: Capture) -> None:
    seen: list[Any] = []

    def serialize(response: bytes) -> bytes:
        seen.append(trace_api.get_current_span())
        return response

    handlers = {"Split": grpc.unary_stream_rpc_method_handler(split, response_serializer=serialize)}
    server = grpc_server(handlers, [server_interceptor()])
    with server as address, grpc.insecure_channel(address) as channel:
        assert list(channel.unary_stream("/test.Echo/Split")(b"ab")) == [b"a", b"b"]
    assert seen == [trace_api.INVALID_SPAN] * 2
    assert captured.one(name="test.Echo/Split").attributes[RESPONSE] == 2


def test_many_requests_and_many_responses(captured: Capture) -> None:
    with Serving() as channel, tailsight.request("caller"):
        assert list(channel.stream_stream("/test.Echo/Each")(iter([b"a", b"b"]))) == [b"aa", b"bb"]
    ours, theirs = check_halves(captured)
    for half in (ours, theirs):
        assert (half.attributes[REQUEST], half.attributes[RESPONSE]) == (2, 4)
        assert half.attributes["tailsight.stream.items"] == 2


def test_a_future_ends_with_its_response(captured: Capture) -> None:
    with Serving() as channel, tailsight.request("caller") as caller:
        future = channel.unary_unary("/test.Echo/Echo").future(b"x")
        assert trace_api.get_current_span() is caller
        assert future.result(20) == b"xx"
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())  # called after ours
        assert ended.wait(20)
    ours, _ = check_halves(captured)
    assert (ours.attributes[REQUEST], ours.attributes[RESPONSE]) == (1, 2)


def test_with_call_and_metadata_of_the_caller_work_as_before(captured: Capture) -> None:
    with Serving() as channel:
        copied = [("key", "value"), ("traceparent", "00-12345678901234567890123456789012-1234567890123456-01")]
        response, call = channel.unary_unary("/test.Echo/Echo").with_call(b"x", metadata=copied, timeout=20)
        assert (response, call.code()) == (b"xx", grpc.StatusCode.OK)
    check_halves(captured)


def test_the_metadata_has_one_traceparent(captured: Capture) -> None:
    """gRPC's own core lets the last one win; others take two for none."""
    with tailsight.request("caller") as caller:
        metadata = trace_metadata([("key", "1"), ("traceparent", "copied"), ("key", "2")])
    assert metadata == [("key", "1"), ("key", "2"), ("traceparent", f"00-{caller.trace_id}-{caller.span_id}-01")]


def test_the_bytes_are_those_on_the_wire(captured: Capture) -> None:
    with Serving() as channel:
        text = channel.unary_unary(
            "/test.Echo/Text", request_serializer=str.encode, response_deserializer=lambda data: data.decode("utf-16")
        )
        assert text("grüße") == "GRÜSSE"
    ours, theirs = check_halves(captured)
    assert (theirs.attributes[REQUEST], theirs.attributes[RESPONSE]) == (7, 14)
    # The client's hook sees messages only; of those that do not know their size none is recorded.
    assert REQUEST not in ours.attributes
    assert RESPONSE not in ours.attributes


def test_messages_of_protobuf_know_their_size(captured: Capture) -> None:
    from google.rpc.status_pb2 import Status

    message = Status(code=7, message="hello")
    with Serving() as channel:
        call = channel.unary_unary("/test.Echo/Echo", request_serializer=Status.SerializeToString, response_deserializer=Status.FromString)  # fmt: skip
        assert call(message).code == 7
    ours, theirs = check_halves(captured)
    assert ours.attributes[REQUEST] == theirs.attributes[REQUEST] == message.ByteSize()
    assert theirs.attributes[RESPONSE] == 2 * message.ByteSize()


def test_an_exception_of_the_handler_is_an_error_on_both_sides(captured: Capture) -> None:
    with Serving() as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/test.Echo/Boom")(b"x")
    assert raised.value.code() == grpc.StatusCode.UNKNOWN
    assert raised.value.details() == "Exception calling application: no such model"
    ours, theirs = client_half(captured), server_half(captured)
    assert theirs.parent_span_id == ours.span_id
    for half in (ours, theirs):
        assert half.status == "ERROR"
        assert half.attributes["rpc.grpc.status_code"] == 2
    assert theirs.events[0].attributes["exception.message"] == "no such model"
    assert theirs.attributes["error.type"] == "LookupError"


def test_an_exception_in_a_stream_is_an_error_on_both_sides(captured: Capture) -> None:
    received = []
    with Serving() as channel, pytest.raises(grpc.RpcError, match="no such model"):
        received.extend(channel.unary_stream("/test.Echo/BoomLater")(b"x"))
    ours, theirs = client_half(captured), server_half(captured)
    for half in (ours, theirs):
        assert half.status == "ERROR"
        assert half.attributes["tailsight.stream.items"] == 1
        assert half.attributes["rpc.grpc.status_code"] == 2


@pytest.mark.parametrize(("code", "theirs_is"), [("NOT_FOUND", "UNSET"), ("UNAVAILABLE", "ERROR")])
@pytest.mark.parametrize("method", ["Abort", "SetCode"])
def test_a_status_is_an_error_of_the_side_that_it_blames(
    captured: Capture, method: str, code: str, theirs_is: str
) -> None:
    with Serving() as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(f"/test.Echo/{method}")(code.encode())
    assert raised.value.code() == getattr(grpc.StatusCode, code)
    ours, theirs = client_half(captured), server_half(captured)
    assert (ours.status, theirs.status) == ("ERROR", theirs_is)
    number = getattr(grpc.StatusCode, code).value[0]
    assert [half.attributes["rpc.grpc.status_code"] for half in (ours, theirs)] == [number, number]
    assert theirs.events == ()  # the exception that abort() raises says nothing


def test_an_unreadable_request_is_an_error_of_the_server(captured: Capture) -> None:
    with Serving() as channel, pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/test.Echo/Unreadable")(b"x")
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert server_half(captured).attributes["error.type"] == "ValueError"


def test_an_unknown_method_is_an_error_of_the_client(captured: Capture) -> None:
    with Serving() as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary("/test.Echo/Nothing")(b"x")
    ours = client_half(captured)
    assert ours.status == "ERROR"
    assert ours.attributes["error.type"].endswith("_InactiveRpcError")
    assert servers(captured) == []


def test_nobody_there_is_an_error_of_the_client(captured: Capture) -> None:
    with grpc_server({}) as address:
        pass
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
        instrument(channel).unary_unary("/test.Echo/Echo")(b"x", timeout=20)
    assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
    assert client_half(captured).attributes["rpc.grpc.status_code"] == 14


@pytest.mark.parametrize("how", ["cancelled", "dropped"])
def test_a_stream_that_is_left_ends_on_both_sides(captured: Capture, how: str) -> None:
    with Serving() as channel:
        responses: Any = channel.unary_stream("/test.Echo/Endless")(b"x")
        assert next(responses) == b"x" * 1000
        assert captured.find(stage="network") == []
        if how == "cancelled":
            assert responses.cancel()
        del responses
        gc.collect()
        ours = client_half(captured)
    mark = "tailsight.cancelled" if how == "cancelled" else "tailsight.stream.abandoned"
    assert ours.attributes[mark] is True
    assert ours.status == "UNSET"
    assert ours.attributes[RESPONSE] == 1000
    theirs = server_half(captured)
    assert theirs.parent_span_id == ours.span_id
    assert theirs.status == "UNSET"


def test_the_call_behind_a_stream_can_still_be_asked(captured: Capture) -> None:
    with Serving() as channel:
        responses: Any = channel.unary_stream("/test.Echo/Split")(b"ab", timeout=20)
        assert responses.time_remaining() > 0
        assert list(responses) == [b"a", b"b"]
        assert responses.code() == grpc.StatusCode.OK


def test_waiting_for_a_thread_is_the_servers_time(captured: Capture) -> None:
    """With one worker the second call waits in the server: its request begins before the first one has ended."""
    working, go_on = threading.Event(), threading.Event()

    def slow(request: bytes, context: Any) -> bytes:
        working.set()
        assert go_on.wait(20)
        return request

    class Arrived(grpc.ServerInterceptor):  # type: ignore[misc]
        """Lets the first call go on once the second has come."""

        calls = 0

        def intercept_service(self, continuation: Any, details: Any) -> Any:
            handler = continuation(details)
            self.calls += 1
            if self.calls == 2:
                go_on.set()
            return handler

    handlers = {"Slow": grpc.unary_unary_rpc_method_handler(slow)}
    server = grpc_server(handlers, [Arrived(), server_interceptor()], workers=1)
    with server as address, grpc.insecure_channel(address) as plain:
        call = instrument(plain).unary_unary("/test.Echo/Slow")
        first = call.future(b"1")
        assert working.wait(20)
        second = call.future(b"2")
        assert (first.result(20), second.result(20)) == (b"1", b"2")
    one, two = servers(captured)
    assert two.start_unix_ns < one.start_unix_ns + one.duration_ns
    assert two.start_unix_ns + two.duration_ns > one.start_unix_ns + one.duration_ns


def test_calls_at_the_same_time_keep_to_their_traces(captured: Capture) -> None:
    count = 8
    together = threading.Barrier(count)

    with Serving() as channel:

        def call(number: int) -> None:
            together.wait()
            with tailsight.request(f"caller {number}"):
                channel.unary_unary("/test.Echo/Echo")(b"x" * number)

        threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in range(count):
        (ours,) = captured.children_of(captured.one(name=f"caller {number}"))
        (theirs,) = captured.children_of(ours)
        (compute,) = captured.children_of(theirs)
        assert compute.stage == "compute"
        assert [half.attributes[REQUEST] for half in (ours, theirs)] == [number, number]


def test_a_caller_that_does_not_sample_is_obeyed(captured: Capture) -> None:
    headers = {"traceparent": "00-12345678901234567890123456789012-1234567890123456-00"}
    with Serving() as channel, tailsight.request("front", context=tailsight.extract(headers)):
        assert channel.unary_unary("/test.Echo/Echo")(b"x") == b"xx"
        assert list(channel.unary_stream("/test.Echo/Split")(b"ab")) == [b"a", b"b"]
    assert captured.spans == []


def test_the_hooks_of_a_disabled_sdk_do_nothing() -> None:
    with capture(enabled=False) as captured:
        with Serving() as channel:
            assert channel.unary_unary("/test.Echo/Echo")(b"x") == b"xx"
            assert list(channel.stream_stream("/test.Echo/Each")(iter([b"a"]))) == [b"aa"]
        assert captured.spans == []


@pytest.mark.parametrize("traceparent", ["00-zz", "x" * 4000])
def test_a_malformed_traceparent_begins_a_new_trace(captured: Capture, target: str, traceparent: str) -> None:
    with grpc.insecure_channel(target) as channel:
        assert channel.unary_unary("/test.Echo/Echo")(b"x", metadata=[("traceparent", traceparent)]) == b"xx"
    served = captured.one(name="test.Echo/Echo")
    assert served.parent_span_id is None
