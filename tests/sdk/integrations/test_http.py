"""What holds for every HTTP client against every HTTP server."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import trace as trace_api
from sdk.integrations.http_apps import PARTS, ZIPPED, asgi_app, wsgi_app
from sdk.integrations.http_clients import CLIENTS, Client
from sdk.integrations.servers import asgi_server, check_halves, client_half, server_half, servers, wsgi_server

import tailsight
from tailsight.testing import Capture, capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")

Serve = Callable[[], AbstractContextManager[str]]


@pytest.fixture(params=list(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    return CLIENTS[request.param]


@pytest.fixture(params=["asgi", "wsgi"])
def serve(request: pytest.FixtureRequest) -> Serve:
    if request.param == "asgi":
        return lambda: asgi_server(asgi_app())
    return lambda: wsgi_server(wsgi_app())


def test_both_halves_are_recorded_with_their_bytes(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url, tailsight.request("caller") as caller:
        answer = client("POST", f"{url}/echo?token=secret", b"x" * 70_000)
    assert answer == (200, b"x" * 70_000)
    ours, theirs = check_halves(captured)
    assert ours.parent_span_id == caller.span_id
    host, port = url.removeprefix("http://").split(":")
    for half in (ours, theirs):
        assert half.attributes["http.request.method"] == "POST"
        assert half.attributes["http.response.status_code"] == 200
        assert half.attributes["http.request.body.size"] == 70_000
        assert half.attributes["http.response.body.size"] == 70_000
        assert half.attributes["url.path"] == "/echo"
        assert half.attributes["server.port"] == int(port)
        assert half.status == "UNSET"
    assert ours.attributes["server.address"] == host
    assert ours.name == f"POST {host}:{port}"
    compute = captured.one(stage="compute")
    assert compute.parent_span_id == theirs.span_id
    assert "secret" not in repr(captured.spans)


def test_a_streamed_response_is_measured_to_its_end(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url:
        answer = client("GET", f"{url}/parts")
    assert answer == (200, b"".join(PARTS))
    ours, theirs = check_halves(captured)
    assert ours.attributes["http.response.body.size"] == 5000
    assert theirs.attributes["http.response.body.size"] == 5000
    assert ours.attributes["http.request.body.size"] == 0
    assert theirs.attributes["http.request.body.size"] == 0
    # What the application does while it streams is inside its request.
    computes = captured.find(stage="compute")
    assert [span.parent_span_id for span in computes] == [theirs.span_id] * len(PARTS)
    assert computes[-1].start_unix_ns <= theirs.start_unix_ns + theirs.duration_ns


def test_the_bytes_are_those_on_the_wire(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url:
        answer = client("GET", f"{url}/zipped")
    assert answer == (200, b"a" * 10_000)
    ours, theirs = check_halves(captured)
    assert ours.attributes["http.response.body.size"] == len(ZIPPED)
    assert theirs.attributes["http.response.body.size"] == len(ZIPPED)


def test_a_request_without_content_length_is_counted(captured: Capture, client: Client) -> None:
    def body() -> Iterator[bytes]:
        yield from PARTS

    with asgi_server(asgi_app()) as url:
        answer = client("POST", f"{url}/echo", body())
    assert answer == (200, b"".join(PARTS))
    ours, theirs = check_halves(captured)
    assert ours.attributes["http.request.body.size"] == 5000
    assert theirs.attributes["http.request.body.size"] == 5000


@pytest.mark.parametrize(("code", "theirs_is", "ours_is"), [(404, "UNSET", "ERROR"), (503, "ERROR", "ERROR"), (202, "UNSET", "UNSET")])  # fmt: skip
def test_a_status_is_an_error_of_the_side_that_it_blames(
    captured: Capture, client: Client, serve: Serve, code: int, theirs_is: str, ours_is: str
) -> None:
    with serve() as url:
        assert client("GET", f"{url}/status/{code}")[0] == code
    ours, theirs = client_half(captured), server_half(captured)
    assert theirs.parent_span_id == ours.span_id
    assert (theirs.status, ours.status) == (theirs_is, ours_is)
    for half in (ours, theirs):
        assert half.attributes["http.response.status_code"] == code
        assert half.attributes.get("error.type") == (str(code) if half.status == "ERROR" else None)


def test_an_exception_of_the_application_is_an_error_on_both_sides(
    captured: Capture, client: Client, serve: Serve
) -> None:
    with serve() as url:
        assert client("GET", f"{url}/boom")[0] == 500
    ours, theirs = client_half(captured), server_half(captured)
    assert theirs.trace_id == ours.trace_id
    assert (theirs.status, ours.status) == ("ERROR", "ERROR")
    assert theirs.attributes["error.type"] == "LookupError"
    (event,) = theirs.events
    assert event.attributes["exception.message"] == "no such model"


def test_a_redirect_is_an_exchange_of_its_own(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url, tailsight.request("caller"):
        answer = client("POST", f"{url}/moved", b"here")
    assert answer == (200, b"here")
    ours, theirs = captured.find(stage="network"), servers(captured)
    assert [span.attributes["http.response.status_code"] for span in ours] == [307, 200]
    assert [span.attributes["url.path"] for span in ours] == ["/moved", "/echo"]
    assert [span.parent_span_id for span in theirs] == [span.span_id for span in ours]
    assert len({span.parent_span_id for span in ours}) == 1
    assert ours[0].start_unix_ns + ours[0].duration_ns <= ours[1].start_unix_ns


def test_a_failed_connection_is_an_error_and_the_exception_is_unchanged(captured: Capture, client: Client) -> None:
    with wsgi_server(wsgi_app()) as url:
        pass  # nobody listens there any more
    with pytest.raises(Exception, match="onnect") as raised:
        client("GET", f"{url}/echo?token=secret")
    assert type(raised.value).__module__.partition(".")[0] in ("httpx", "requests", "aiohttp")
    ours = client_half(captured)
    assert ours.status == "ERROR"
    assert ours.attributes["error.type"].endswith(type(raised.value).__name__)
    assert "http.response.status_code" not in ours.attributes
    (event,) = ours.events
    assert event.attributes["exception.type"].endswith(type(raised.value).__name__)
    assert "secret" not in repr(captured.spans)


def test_the_context_of_the_caller_stays_as_it_was(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url, tailsight.request("caller") as caller:
        client("GET", f"{url}/parts")
        assert trace_api.get_current_span() is caller
        with pytest.raises(Exception, match=r"onnect|refused"):
            client("GET", "http://127.0.0.1:1/")
        assert trace_api.get_current_span() is caller
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_requests_at_the_same_time_keep_to_their_traces(captured: Capture, client: Client, serve: Serve) -> None:
    count = 8
    together = threading.Barrier(count)

    def call(url: str, number: int) -> None:
        together.wait()
        with tailsight.request(f"caller {number}"):
            client("POST", f"{url}/echo", b"x" * number)

    with serve() as url:
        threads = [threading.Thread(target=call, args=(url, number)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(servers(captured)) == count
    for number in range(count):
        caller = captured.one(name=f"caller {number}")
        (ours,) = captured.children_of(caller)
        (theirs,) = captured.children_of(ours)
        (compute,) = captured.children_of(theirs)
        assert compute.stage == "compute"
        assert [half.attributes["http.request.body.size"] for half in (ours, theirs)] == [number, number]


def test_a_caller_that_does_not_sample_is_obeyed(captured: Capture, client: Client, serve: Serve) -> None:
    headers = {"traceparent": "00-12345678901234567890123456789012-1234567890123456-00"}
    with serve() as url, tailsight.request("front", context=tailsight.extract(headers)):
        assert client("POST", f"{url}/echo", b"x")[0] == 200
    assert captured.spans == []


def test_the_hooks_of_a_disabled_sdk_do_nothing(client: Client, serve: Serve) -> None:
    with capture(enabled=False) as captured:
        with serve() as url:
            assert client("POST", f"{url}/echo", b"x" * 100) == (200, b"x" * 100)
            assert client("GET", f"{url}/parts") == (200, b"".join(PARTS))
        assert captured.spans == []


@pytest.mark.parametrize("traceparent", ["", "00-zz", "00-" + "0" * 32 + "-1234567890123456-01", "x" * 4000])
def test_a_malformed_traceparent_begins_a_new_trace(captured: Capture, serve: Serve, traceparent: str) -> None:
    import requests

    with serve() as url:
        assert requests.get(f"{url}/echo", headers={"traceparent": traceparent}, timeout=20).status_code == 200
    (served,) = [span for span in captured.spans if span.stage is None]
    assert served.parent_span_id is None
    assert served.kind == "INTERNAL"


def test_a_traceparent_of_the_caller_is_replaced(captured: Capture, client: Client) -> None:
    """As OpenTelemetry does it: a header copied from another request would tear the trace apart."""
    copied = {"traceparent": "00-12345678901234567890123456789012-1234567890123456-01"}
    with asgi_server(asgi_app()) as url:
        client("POST", f"{url}/echo", b"", copied)
    check_halves(captured)


def test_nothing_is_recorded_of_headers(captured: Capture, client: Client, serve: Serve) -> None:
    with serve() as url:
        client("GET", f"{url}/echo", None, {"authorization": "Bearer secret", "cookie": "id=secret"})
    assert len(captured.spans) == 3
    assert "secret" not in repr(captured.spans)


def test_unknown_methods_do_not_make_new_names(captured: Capture, serve: Serve) -> None:
    import requests

    session: Any = tailsight.integrations.requests.instrument(requests.Session())
    with serve() as url:
        session.request("PURGE", f"{url}/status/200", timeout=20)
    ours, theirs = check_halves(captured)
    assert ours.attributes["http.request.method"] == "_OTHER"
    assert theirs.attributes["http.request.method"] == "_OTHER"
    assert ours.name.startswith("HTTP 127.0.0.1:")
    assert theirs.name.partition(" ")[0] == "HTTP"
