import io
import sys
from collections.abc import Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
import requests
from opentelemetry import trace as trace_api
from sdk.integrations.servers import wsgi_server

import tailsight
from tailsight.integrations.wsgi import TailsightMiddleware
from tailsight.testing import Capture

pytestmark = pytest.mark.usefixtures("no_internal_errors")


def environ(**more: Any) -> dict[str, Any]:
    made: dict[str, Any] = dict(more)
    setup_testing_defaults(made)
    return made


def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
    return lambda data: None


class Parts:
    def __init__(self, parts: list[bytes], error: Exception | None = None) -> None:
        self._parts = parts
        self._error = error
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in self._parts:
            with tailsight.stage("compute"):
                pass
            yield part
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed += 1


def serving(body: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return body

    return TailsightMiddleware(app)


def test_it_keeps_to_the_specification(captured: Capture) -> None:
    with wsgi_server(validator(TailsightMiddleware(validator(serving([b"abc"]).app)))) as url:
        assert requests.get(url, timeout=20).content == b"abc"
    assert captured.one().attributes["http.response.body.size"] == 3


def test_a_body_of_one_part_still_gets_its_content_length(captured: Capture) -> None:
    with wsgi_server(serving([b"abc"])) as url:
        assert requests.get(url, timeout=20).headers["Content-Length"] == "3"
    assert len(captured.spans) == 1


def test_the_request_ends_when_the_server_closes_the_body(captured: Capture) -> None:
    body = Parts([b"ab", b"cd", b"ef"])
    parts = serving(body)(environ(), start_response)
    iterator = iter(parts)
    assert next(iterator) == b"ab"
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN
    assert captured.spans == []
    parts.close()
    assert body.closed == 1
    span = captured.one(name="GET")
    assert span.attributes["tailsight.stream.abandoned"] is True
    assert span.attributes["http.response.body.size"] == 2
    assert span.status == "UNSET"
    assert captured.one(stage="compute").parent_span_id == span.span_id


def test_a_body_that_is_read_to_its_end_is_complete(captured: Capture) -> None:
    body = Parts([b"ab", b"cd"])
    parts = serving(body)(environ(), start_response)
    assert list(parts) == [b"ab", b"cd"]
    parts.close()
    assert body.closed == 1
    span = captured.one(name="GET")
    assert "tailsight.stream.abandoned" not in span.attributes
    assert span.attributes["http.response.body.size"] == 4


def test_the_request_ends_with_the_last_part_of_a_list(captured: Capture) -> None:
    """The client may have it all, and end its own half, before the server asks for more."""
    iterator = iter(serving([b"ab", b"cd"])(environ(), start_response))
    next(iterator)
    assert captured.spans == []
    next(iterator)
    assert captured.one().attributes["http.response.body.size"] == 4


def test_the_request_ends_with_the_last_byte_of_the_content_length(captured: Capture) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "4")])
        return iter([b"ab", b"cd"])

    iterator = iter(TailsightMiddleware(app)(environ(), start_response))
    next(iterator)
    assert captured.spans == []
    next(iterator)
    assert captured.one().attributes["http.response.body.size"] == 4


def test_an_exception_in_the_body_is_recorded_and_raised_on(captured: Capture) -> None:
    error = LookupError("no such model")
    parts = serving(Parts([b"ab"], error))(environ(), start_response)
    with pytest.raises(LookupError) as raised:
        list(parts)
    assert raised.value is error
    assert captured.one(name="GET").status == "ERROR"
    assert trace_api.get_current_span() is trace_api.INVALID_SPAN


def test_an_exception_of_the_application_is_the_same_object(captured: Capture) -> None:
    error = LookupError("no such model")

    def app(environ: Any, start_response: Any) -> Any:
        raise error

    with pytest.raises(LookupError) as raised:
        TailsightMiddleware(app)(environ(), start_response)
    assert raised.value is error
    assert captured.one().attributes["error.type"] == "LookupError"


def test_an_error_that_the_application_answers_itself_is_recorded(captured: Capture) -> None:
    given: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        try:
            raise LookupError("no such model")
        except LookupError:
            start_response("500 Sorry", [], sys.exc_info())
        return [b"sorry"]

    def server_start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        given.append((status, exc_info))
        return lambda data: None

    assert list(TailsightMiddleware(app)(environ(), server_start_response)) == [b"sorry"]
    assert given[0][1][0] is LookupError
    span = captured.one()
    assert span.status == "ERROR"
    assert span.attributes["http.response.status_code"] == 500
    assert span.events[0].attributes["exception.type"] == "LookupError"


def test_what_is_written_the_old_way_is_counted(captured: Capture) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"abc")
        return [b"de"]

    with wsgi_server(TailsightMiddleware(app)) as url:
        assert requests.get(url, timeout=20).content == b"abcde"
    assert captured.one().attributes["http.response.body.size"] == 5


def test_a_body_in_chunks_is_counted_as_it_is_read(captured: Capture) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        stream = environ["wsgi.input"]
        got = [stream.read(2), stream.readline(), *stream.readlines()]
        start_response("200 OK", [])
        return [b"|".join(got)]

    made = environ(HTTP_TRANSFER_ENCODING="chunked", REQUEST_METHOD="POST")
    made["wsgi.input"] = io.BytesIO(b"abc\ndef\ngh")
    assert list(TailsightMiddleware(app)(made, start_response)) == [b"ab|c\n|def\n|gh"]
    assert captured.one().attributes["http.request.body.size"] == 10


def test_a_body_that_nobody_closes_ends_when_it_is_dropped(captured: Capture) -> None:
    parts = serving(Parts([b"ab"]))(environ(), start_response)
    assert captured.spans == []
    del parts
    assert captured.one(name="GET").attributes["tailsight.stream.abandoned"] is True
