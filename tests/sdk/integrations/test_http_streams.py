"""Responses that are read in parts, in part, or not at all."""

import asyncio
import gc
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import pytest
import requests
from opentelemetry import trace as trace_api
from sdk.integrations.http_apps import PARTS, asgi_app, wsgi_app
from sdk.integrations.http_clients import CLIENTS, Client
from sdk.integrations.servers import asgi_server, check_halves, client_half, server_half, wsgi_server
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

import tailsight
import tailsight.integrations.aiohttp
import tailsight.integrations.asgi
import tailsight.integrations.httpx
import tailsight.integrations.requests
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def endless_app() -> Any:
    async def endless(request: Any) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)

        return StreamingResponse(body())

    return tailsight.integrations.asgi.TailsightMiddleware(Starlette(routes=[Route("/endless", endless)]))


def some_of_httpx(url: str) -> None:
    with tailsight.integrations.httpx.instrument(httpx.Client()) as client, client.stream("GET", url) as response:
        next(response.iter_raw())


def some_of_async_httpx(url: str) -> None:
    async def call() -> None:
        async with (
            tailsight.integrations.httpx.instrument(httpx.AsyncClient()) as client,
            client.stream("GET", url) as response,
        ):
            async for _ in response.aiter_raw():
                break

    asyncio.run(call())


def some_of_requests(url: str) -> None:
    with tailsight.integrations.requests.instrument(requests.Session()) as session, session.get(url, stream=True, timeout=20) as response:  # fmt: skip
        next(response.iter_content(1000))


def some_of_aiohttp(url: str) -> None:
    async def call() -> None:
        config = tailsight.integrations.aiohttp.trace_config()
        async with aiohttp.ClientSession(trace_configs=[config]) as session, session.get(url) as response:
            await response.content.readany()

    asyncio.run(call())


@pytest.mark.parametrize("read_some", [some_of_httpx, some_of_async_httpx, some_of_requests, some_of_aiohttp])
def test_a_response_that_is_closed_early_is_abandoned_on_both_sides(
    captured: Capture, read_some: Callable[[str], None]
) -> None:
    with asgi_server(endless_app()) as url:
        read_some(f"{url}/endless")
    ours, theirs = client_half(captured), server_half(captured)
    assert theirs.parent_span_id == ours.span_id
    for half in (ours, theirs):
        assert half.attributes["tailsight.stream.abandoned"] is True
        assert half.status == "UNSET"
        assert half.events == ()
        assert half.attributes["http.response.status_code"] == 200
        assert half.attributes["http.response.body.size"] > 0


def test_a_response_of_httpx_that_is_dropped_ends_its_stage(captured: Capture) -> None:
    with asgi_server(endless_app()) as url, tailsight.integrations.httpx.instrument(httpx.Client()) as client:
        response = client.send(client.build_request("GET", f"{url}/endless"), stream=True)
        assert captured.spans == []
        del response
        gc.collect()
        assert client_half(captured).attributes["tailsight.stream.abandoned"] is True


def test_a_response_of_requests_that_is_dropped_ends_its_stage(captured: Capture) -> None:
    with asgi_server(endless_app()) as url, tailsight.integrations.requests.instrument(requests.Session()) as session:
        response = session.get(f"{url}/endless", stream=True, timeout=20)
        assert captured.spans == []
        response.raw._connection.sock.close()  # which warns otherwise, with and without us
        del response
        gc.collect()
        assert client_half(captured).attributes["tailsight.stream.abandoned"] is True


@pytest.mark.parametrize("serve", [lambda: asgi_server(asgi_app()), lambda: wsgi_server(wsgi_app())])
def test_requests_read_by_hand_is_measured_to_the_end_of_its_body(captured: Capture, serve: Any) -> None:
    with serve() as url, tailsight.integrations.requests.instrument(requests.Session()) as session:
        response = session.get(f"{url}/parts", stream=True, timeout=20)
        response.raw.read(10)
        assert captured.find(stage="network") == []
        assert len(response.raw.read()) == 4990
        response.close()
    ours, _ = check_halves(captured)
    assert ours.attributes["http.response.body.size"] == 5000
    assert "tailsight.stream.abandoned" not in ours.attributes


def test_what_a_caller_does_while_it_reads_is_not_inside_the_stage(captured: Capture) -> None:
    received = 0
    with (
        asgi_server(asgi_app()) as url,
        tailsight.request("caller") as caller,
        tailsight.integrations.httpx.instrument(httpx.Client()) as client,
        client.stream("GET", f"{url}/parts") as response,
    ):
        for part in response.iter_raw():
            received += len(part)
            assert trace_api.get_current_span() is caller
            with tailsight.stage("postprocess"):
                pass
    assert received == 5000
    assert {span.parent_span_id for span in captured.find(stage="postprocess")} == {caller.span_id}
    assert client_half(captured).parent_span_id == caller.span_id


@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_an_async_caller_is_never_inside_the_stage(captured: Capture, library: str) -> None:
    async def call(url: str) -> None:
        with tailsight.request("caller") as caller:
            if library == "httpx":
                client = tailsight.integrations.httpx.instrument(httpx.AsyncClient())
                async with client, client.stream("GET", url) as response:
                    assert trace_api.get_current_span() is caller
                    await anext(response.aiter_raw())
                    assert trace_api.get_current_span() is caller
            else:
                config = tailsight.integrations.aiohttp.trace_config()
                async with aiohttp.ClientSession(trace_configs=[config]) as session, session.get(url) as answer:
                    assert trace_api.get_current_span() is caller
                    await answer.content.readany()
                    assert trace_api.get_current_span() is caller
            assert trace_api.get_current_span() is caller

    with asgi_server(endless_app()) as url:
        asyncio.run(call(f"{url}/endless"))
    assert client_half(captured).parent_span_id == captured.one(name="caller").span_id


def test_a_response_may_be_read_by_another_thread(captured: Capture) -> None:
    with asgi_server(asgi_app()) as url, tailsight.integrations.httpx.instrument(httpx.Client()) as client:
        seen: list[Any] = []
        with tailsight.request("caller"):
            response = client.send(client.build_request("GET", f"{url}/parts"), stream=True)

        def read() -> None:
            seen.extend((response.read(), trace_api.get_current_span()))

        reader = threading.Thread(target=read)
        reader.start()
        reader.join()
    assert seen == [b"".join(PARTS), trace_api.INVALID_SPAN]
    ours, _ = check_halves(captured)
    assert ours.attributes["http.response.body.size"] == 5000


@contextmanager
def server_that_hangs_up() -> Iterator[str]:
    """Promises 100 bytes, sends 10 and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("client", list(CLIENTS.values()), ids=list(CLIENTS))
def test_a_connection_that_breaks_in_the_body_is_an_error(captured: Capture, client: Client) -> None:
    with (
        server_that_hangs_up() as url,
        pytest.raises((httpx.HTTPError, requests.RequestException, aiohttp.ClientError)),
    ):
        client("GET", url)
    ours = client_half(captured)
    assert ours.status == "ERROR"
    assert ours.attributes["http.response.status_code"] == 200
    assert ours.attributes["http.response.body.size"] == 10
    assert ours.events[0].name == "exception"


def test_cancelling_a_call_is_no_error(captured: Capture) -> None:
    """As with every stage: the caller did not want the answer any more."""
    arrived = threading.Event()

    async def never(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    async def call(url: str, get: Callable[[], Any]) -> None:
        task = asyncio.ensure_future(get())
        await asyncio.to_thread(arrived.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main(url: str) -> None:
        async with tailsight.integrations.httpx.instrument(httpx.AsyncClient(timeout=20)) as client:
            await call(url, lambda: client.get(url))
        arrived.clear()
        config = tailsight.integrations.aiohttp.trace_config()
        async with aiohttp.ClientSession(trace_configs=[config]) as session:
            await call(url, lambda: session.get(url))

    with asgi_server(tailsight.integrations.asgi.TailsightMiddleware(never)) as url:
        asyncio.run(main(url))
    ours = captured.find(stage="network")
    assert [span.status for span in ours] == ["UNSET", "UNSET"]
    assert [span.attributes["tailsight.cancelled"] for span in ours] == [True, True]
    theirs = [span for span in captured.spans if span.kind == "SERVER"]
    assert [span.attributes["tailsight.stream.abandoned"] for span in theirs] == [True, True]


def test_raise_for_status_of_aiohttp_is_recorded_with_the_status(captured: Capture) -> None:
    async def call(url: str) -> None:
        config = tailsight.integrations.aiohttp.trace_config()
        async with aiohttp.ClientSession(trace_configs=[config], raise_for_status=True) as session:
            with pytest.raises(aiohttp.ClientResponseError):
                await session.get(f"{url}/status/404")

    with asgi_server(asgi_app()) as url:
        asyncio.run(call(url))
    ours = client_half(captured)
    assert ours.status == "ERROR"
    assert ours.attributes["http.response.status_code"] == 404


def test_instrumenting_twice_records_once(captured: Capture) -> None:
    with asgi_server(asgi_app()) as url:
        with httpx.Client() as client:
            tailsight.integrations.httpx.instrument(tailsight.integrations.httpx.instrument(client)).get(f"{url}/echo")
        with requests.Session() as session:
            once = tailsight.integrations.requests.instrument(session)
            tailsight.integrations.requests.instrument(once).get(f"{url}/echo", timeout=20)
    assert len(captured.find(stage="network")) == 2


def test_a_transport_or_adapter_of_your_own_keeps_its_options(captured: Capture) -> None:
    transport = tailsight.integrations.httpx.TailsightTransport(httpx.HTTPTransport(retries=1))
    adapter = tailsight.integrations.requests.TailsightAdapter(requests.adapters.HTTPAdapter(max_retries=3))
    with asgi_server(asgi_app()) as url, requests.Session() as session:
        with httpx.Client(transport=transport) as client:
            assert client.get(f"{url}/echo").status_code == 200
        session.mount("http://", adapter)
        assert session.get(f"{url}/echo", timeout=20).status_code == 200
        assert session.get_adapter(url).max_retries.total == 3  # type: ignore[attr-defined]
    assert [span.name.split()[0] for span in captured.find(stage="network")] == ["GET", "GET"]
