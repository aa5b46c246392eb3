import asyncio
import threading
from typing import Any

import pytest
import requests
from opentelemetry import trace as trace_api
from sdk.integrations.servers import asgi_server
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.routing import Mount, Route

import tailsight
from tailsight.integrations.asgi import TailsightMiddleware
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


async def item(request: Any) -> Response:
    return Response(b"")


def http_scope(**more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "server": ("127.0.0.1", 80), **more}


class Server:
    """What a server gives an application, by hand: for what a real one does rarely."""

    def __init__(self, *incoming: dict[str, Any]) -> None:
        self.incoming = list(incoming)
        self.sent: list[dict[str, Any]] = []
        self.broken: Exception | None = None

    async def receive(self) -> dict[str, Any]:
        return self.incoming.pop(0)

    async def send(self, message: Any) -> None:
        if self.broken is not None:
            raise self.broken
        self.sent.append(message)


OK = {"type": "http.response.start", "status": 200, "headers": []}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.mark.parametrize("kind", ["websocket", "lifespan"])
def test_websockets_and_the_lifespan_pass_through_untouched(captured: Capture, kind: str) -> None:
    got: list[Any] = []

    async def app(*args: Any) -> None:
        got.extend(args)

    given = ({"type": kind}, object(), object())
    asyncio.run(TailsightMiddleware(app)(*given))  # type: ignore[arg-type]
    assert all(a is b for a, b in zip(got, given, strict=True))
    assert captured.spans == []


def test_the_name_is_the_route_and_never_the_path(captured: Capture) -> None:
    routes = [Route("/items/{id}", item), Mount("/below/{id}", routes=[Route("/leaf", item)])]
    app = Starlette(routes=routes)
    app.add_middleware(TailsightMiddleware)
    with asgi_server(app) as url:
        for path in ("/items/7", "/below/7/leaf", "/nowhere/7"):
            requests.get(url + path, timeout=20)
    assert [span.name for span in captured.spans] == ["GET /items/{id}", "GET", "GET"]
    assert [span.attributes["url.path"] for span in captured.spans] == ["/items/7", "/below/7/leaf", "/nowhere/7"]
    assert [span.attributes.get("http.route") for span in captured.spans] == ["/items/{id}", None, None]
    assert captured.spans[2].attributes["http.response.status_code"] == 404


def test_inside_starlette_an_exception_is_recorded_and_raised_on(captured: Capture) -> None:
    async def boom(request: Any) -> Response:
        raise LookupError("no such model")

    app = Starlette(routes=[Route("/boom", boom)])
    app.add_middleware(TailsightMiddleware)
    with asgi_server(app) as url:
        assert requests.get(f"{url}/boom", timeout=20).status_code == 500
    (span,) = captured.spans
    assert span.status == "ERROR"
    assert span.attributes["error.type"] == "LookupError"
    assert span.name == "GET /boom"


def test_the_exception_of_the_application_is_the_same_object(captured: Capture) -> None:
    error = LookupError("no such model")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise error

    async def main() -> None:
        server = Server()
        with pytest.raises(LookupError) as raised:
            await TailsightMiddleware(app)(http_scope(), server.receive, server.send)
        assert raised.value is error
        assert trace_api.get_current_span() is trace_api.INVALID_SPAN

    asyncio.run(main())
    assert captured.one().status == "ERROR"


def test_work_in_the_background_comes_after_the_request_and_belongs_to_its_trace(captured: Capture) -> None:
    answered = threading.Event()

    def work() -> None:
        answered.wait(20)
        with tailsight.stage("postprocess"):
            pass

    async def endpoint(request: Any) -> Response:
        return Response(b"done", background=BackgroundTask(work))

    with asgi_server(TailsightMiddleware(Starlette(routes=[Route("/", endpoint)]))) as url:
        assert requests.get(url, timeout=20).content == b"done"
        answered.set()
    served = captured.one(name="GET /")
    later = captured.one(stage="postprocess")
    assert later.trace_id == served.trace_id
    assert later.parent_span_id == served.span_id
    assert later.start_unix_ns >= served.start_unix_ns + served.duration_ns


def test_a_client_that_goes_away_is_no_error(captured: Capture) -> None:
    server = Server({"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.disconnect"})

    class ClientDisconnect(Exception):  # noqa: N818  Starlette's name
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if (await receive())["type"] == "http.disconnect":
            raise ClientDisconnect

    with pytest.raises(ClientDisconnect):
        asyncio.run(TailsightMiddleware(app)(http_scope(), server.receive, server.send))
    span = captured.one()
    assert span.status == "UNSET"
    assert span.events == ()
    assert span.attributes["tailsight.stream.abandoned"] is True
    assert span.attributes["http.request.body.size"] == 2


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_answer_that_nobody_takes_is_no_error(captured: Capture, wrapped: bool) -> None:
    server = Server()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send(body(b"abc", more=True))
        server.broken = OSError("gone")
        try:
            await send(body(b"def", more=True))
        except OSError as error:
            if wrapped:
                raise RuntimeError("cannot go on") from error
            raise

    with pytest.raises(RuntimeError if wrapped else OSError):
        asyncio.run(TailsightMiddleware(app)(http_scope(), server.receive, server.send))
    span = captured.one()
    assert span.status == "UNSET"
    assert span.attributes["tailsight.stream.abandoned"] is True


def test_an_error_of_the_application_stays_one_though_the_client_is_gone(captured: Capture) -> None:
    server = Server({"type": "http.disconnect"})

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no such model")

    with pytest.raises(LookupError):
        asyncio.run(TailsightMiddleware(app)(http_scope(), server.receive, server.send))
    assert captured.one().status == "ERROR"


def test_a_body_that_was_not_read_has_its_announced_size(captured: Capture) -> None:
    server = Server()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send(body(b"no thanks"))

    scope = http_scope(headers=[(b"content-length", b"12345")])
    asyncio.run(TailsightMiddleware(app)(scope, server.receive, server.send))
    span = captured.one()
    assert span.attributes["http.request.body.size"] == 12345
    assert span.attributes["http.response.body.size"] == 9


def test_a_file_that_the_server_sends_itself_has_no_size(captured: Capture) -> None:
    server = Server()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send({"type": "http.response.pathsend", "path": "/dev/null"})

    asyncio.run(TailsightMiddleware(app)(http_scope(), server.receive, server.send))
    assert "http.response.body.size" not in captured.one().attributes


def test_messages_reach_both_sides_unchanged(captured: Capture) -> None:
    incoming = {"type": "http.request", "body": b"ab", "more_body": False}
    server = Server(incoming)
    outgoing = [OK, body(b"abc", more=True), body(b"")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() is incoming
        for message in outgoing:
            await send(message)

    asyncio.run(TailsightMiddleware(app)(http_scope(), server.receive, server.send))
    assert all(a is b for a, b in zip(server.sent, outgoing, strict=True))
    assert len(captured.spans) == 1


def test_another_instrumentation_that_continued_the_trace_stays_the_parent(captured: Capture) -> None:
    headers = {"traceparent": "00-12345678901234567890123456789012-1234567890123456-01"}
    server = Server()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(OK)
        await send(body(b""))

    async def instrumented(scope: Any, receive: Any, send: Any) -> None:
        with tailsight.request("theirs", context=tailsight.extract(headers)):
            await TailsightMiddleware(app)(scope, receive, send)

    scope = http_scope(headers=[(b"traceparent", headers["traceparent"].encode())])
    asyncio.run(instrumented(scope, server.receive, server.send))
    assert captured.one(name="GET").parent_span_id == captured.one(name="theirs").span_id
